"""A synchronous client of the Kasal API, for notebooks and the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import orjson
from pydantic import BaseModel

from kasal_jupyter import errors
from kasal_jupyter.kernel.connection import Connection
from kasal_jupyter.kernel.refusal import refusal_of
from kasal_jupyter.schemas.base import Updated
from kasal_jupyter.schemas.crews import (
    CrewCreate,
    CrewCreated,
    CrewDetails,
    CrewList,
    CrewSummary,
    CrewUpdate,
)
from kasal_jupyter.schemas.events import Event
from kasal_jupyter.schemas.executions import (
    ExecutionAccepted,
    ExecutionList,
    ExecutionStatus,
    ExecutionStopped,
    TraceRow,
    TraceRows,
)

if TYPE_CHECKING:
    import httpx

M = TypeVar("M", bound=BaseModel)

REQUEST_SECONDS = 30.0


class Client:
    """A server's crews and executions.

    Parameters
    ----------
    connection
        Where the server is.

    Notes
    -----
    Every method raises a :class:`~kasal_jupyter.errors.KasalError` that says what the server refused, or
    that it cannot be reached.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._http: httpx.Client | None = None

    @property
    def url(self) -> str:
        """The Jupyter server's base URL."""
        return self._connection.url

    def crews(self, name: str | None = None, *, seconds: float = REQUEST_SECONDS) -> list[CrewSummary]:
        """Give the crews, newest first; with ``name``, those of exactly that name.

        ``seconds`` is how long the answer may take.
        """
        query: dict[str, str | int] = {"per_page": 500} | ({"name": name} if name else {})
        return CrewList.model_validate_json(
            self._request("GET", "/crews", query=query, seconds=seconds)
        ).crews

    def crew(self, crew_id: str) -> CrewDetails:
        """Give a crew whole."""
        return self._get(CrewDetails, f"/crews/{quote(crew_id, safe='')}")

    def create_crew(self, crew: CrewCreate) -> CrewCreated:
        """Create a crew."""
        return self._send(CrewCreated, "POST", "/crews", crew)

    def update_crew(self, crew_id: str, crew: CrewCreate | CrewUpdate) -> Updated:
        """Change a crew; given lists of agents and tasks replace the old ones.

        A :class:`CrewCreate` is the whole crew: what it leaves out gets its default again.
        """
        path = f"/crews/{quote(crew_id, safe='')}"
        return self._send(Updated, "PUT", path, crew, whole=isinstance(crew, CrewCreate))

    def delete_crew(self, crew_id: str) -> None:
        """Delete a crew with its agents and tasks."""
        self._request("DELETE", f"/crews/{quote(crew_id, safe='')}")

    def start(self, crew_id: str, inputs: dict[str, Any] | None = None) -> ExecutionAccepted:
        """Start an execution."""
        body = {"crew_id": crew_id, "inputs": inputs or {}}
        return ExecutionAccepted.model_validate_json(self._request("POST", "/executions", orjson.dumps(body)))

    def execution(self, job_id: str) -> ExecutionStatus:
        """Give an execution's state."""
        return self._get(ExecutionStatus, f"/executions/{quote(job_id, safe='')}")

    def executions(self, per_page: int = 20) -> list[ExecutionStatus]:
        """Give the latest executions, newest first."""
        return self._get(ExecutionList, "/executions", {"per_page": per_page}).executions

    def traces(self, job_id: str) -> list[TraceRow]:
        """Give what an execution's agents did, a row a step."""
        return self._get(TraceRows, f"/executions/{quote(job_id, safe='')}/traces").traces

    def stop(self, job_id: str) -> ExecutionStopped:
        """Stop an execution; its processes are gone when this returns."""
        path = f"/executions/{quote(job_id, safe='')}/stop"
        return ExecutionStopped.model_validate_json(self._request("POST", path))

    def follow(
        self, job_id: str, after: int = 0, on_idle: Callable[[], None] | None = None
    ) -> Iterator[Event]:
        """Give an execution's events as they come, to its end: in order, without a gap, each once.

        A lost connection is made again, and goes on where it broke off.

        Parameters
        ----------
        job_id
            The execution.
        after
            The ``seq`` of the last event already known.
        on_idle
            Called some times a second while no event comes.

        Raises
        ------
        Unavailable
            The connection was lost, and did not come back in half a minute.
        """
        from kasal_jupyter.kernel.stream import follow_events

        return follow_events(self._connection, job_id, after, on_idle)

    def close(self) -> None:
        """Let go of the connections."""
        if self._http is not None:
            self._http.close()

    def _get(self, model: type[M], path: str, query: dict[str, Any] | None = None) -> M:
        return model.model_validate_json(self._request("GET", path, query=query))

    def _send(self, model: type[M], method: str, path: str, body: BaseModel, *, whole: bool = False) -> M:
        data = body.model_dump_json(exclude_unset=not whole).encode()
        return model.model_validate_json(self._request(method, path, data))

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        query: dict[str, Any] | None = None,
        seconds: float = REQUEST_SECONDS,
    ) -> bytes:
        import httpx

        if self._http is None:
            # A proxy of the environment is not for a server on this machine.
            self._http = httpx.Client(
                headers=self._connection.headers, trust_env=not self._connection.is_local
            )
        try:
            answer = self._http.request(
                method,
                f"{self.url}/v1{path}",
                content=body,
                params=query,
                headers={"Content-Type": "application/json"} if body is not None else None,
                timeout=seconds,
            )
        except httpx.HTTPError as error:
            raise errors.Unavailable(
                f"The server at {self.url} does not answer: {error or type(error).__name__}"
            ) from None
        if answer.status_code >= 400:
            raise refusal_of(answer.status_code, answer.content)
        return answer.content
