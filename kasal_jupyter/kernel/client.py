"""A synchronous client of the Kasal API, for notebooks and the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast
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
    CrewCheck,
    CrewChecked,
    ExecutionAccepted,
    ExecutionCreate,
    ExecutionList,
    ExecutionStatus,
    ExecutionStopped,
    ToolAnswer,
    ToolAnswered,
    TraceRow,
    TraceRows,
)
from kasal_jupyter.schemas.memory import CrewMemory
from kasal_jupyter.schemas.models import ModelInfo, ModelList
from kasal_jupyter.schemas.tools import ClientTool, ToolInfo, ToolList

if TYPE_CHECKING:
    import httpx

M = TypeVar("M", bound=BaseModel)

REQUEST_SECONDS = 30.0

MOST = 500
"""The longest page that the API gives."""


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
        query: dict[str, str | int] = {"per_page": MOST} | ({"name": name} if name else {})
        return CrewList.model_validate_json(
            self._request("GET", "/crews", query=query, seconds=seconds)
        ).crews

    def crew(self, crew_id: str) -> CrewDetails:
        """Give a crew whole."""
        return self._get(CrewDetails, f"/crews/{quote(crew_id, safe='')}")

    def create_crew(self, crew: CrewCreate) -> CrewCreated:
        """Create a crew."""
        return self._send(CrewCreated, "POST", "/crews", crew)

    def update_crew(
        self, crew_id: str, crew: CrewCreate | CrewUpdate, *, version: int | None = None
    ) -> Updated:
        """Change a crew; given lists of agents and tasks replace the old ones.

        A :class:`CrewCreate` is the whole crew: what it leaves out gets its default again.

        Parameters
        ----------
        crew_id
            The crew.
        crew
            What it shall be.
        version
            The version it must still have, as :class:`CrewDetails` gives it; any, by default.

        Raises
        ------
        PreconditionFailed
            Somebody has changed it since.
        """
        path = f"/crews/{quote(crew_id, safe='')}"
        body = crew.model_dump_json(exclude_unset=not isinstance(crew, CrewCreate)).encode()
        headers = {"If-Match": f'"{version}"'} if version is not None else {}
        return Updated.model_validate_json(self._request("PUT", path, body, headers=headers))

    def check(
        self, crew_id: str, inputs: dict[str, Any] | None = None, tools: Sequence[ClientTool] = ()
    ) -> CrewChecked:
        """Check whether a crew could run now, and say what keeps it from that."""
        body = CrewCheck(inputs=inputs or {}, tools=list(tools))
        return self._send(CrewChecked, "POST", f"/crews/{quote(crew_id, safe='')}/check", body)

    def delete_crew(self, crew_id: str) -> None:
        """Delete a crew with its agents and tasks."""
        self._request("DELETE", f"/crews/{quote(crew_id, safe='')}")

    def start(
        self, crew_id: str, inputs: dict[str, Any] | None = None, tools: Sequence[ClientTool] = ()
    ) -> ExecutionAccepted:
        """Start an execution; the given tools are this client's to answer for."""
        body = ExecutionCreate(crew_id=crew_id, inputs=inputs or {}, tools=list(tools))
        return self._send(ExecutionAccepted, "POST", "/executions", body)

    def answer_tool(self, job_id: str, call_id: str, answer: ToolAnswer) -> None:
        """Answer a ``tool_request`` of a run that was started with tools of this client's."""
        path = f"/executions/{quote(job_id, safe='')}/tool_calls/{quote(call_id, safe='')}"
        self._send(ToolAnswered, "POST", path, answer)

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

    def tools(self) -> list[ToolInfo]:
        """Give the tools that the server's agents can use."""
        return self._get(ToolList, "/tools", {"per_page": MOST}).tools

    def models(self, *, seconds: float = REQUEST_SECONDS) -> list[ModelInfo]:
        """Give the models that the server knows, with whether they can run."""
        return ModelList.model_validate_json(
            self._request("GET", "/models", query={"per_page": MOST}, seconds=seconds)
        ).models

    def memory(self, crew_id: str) -> CrewMemory:
        """Give what a crew remembers."""
        return self._get(CrewMemory, f"/memory/{quote(crew_id, safe='')}")

    def health(self) -> dict[str, Any]:
        """Give the server's state."""
        return cast("dict[str, Any]", orjson.loads(self._request("GET", "/health")))

    def close(self) -> None:
        """Let go of the connections."""
        if self._http is not None:
            self._http.close()

    def _get(self, model: type[M], path: str, query: dict[str, Any] | None = None) -> M:
        return model.model_validate_json(self._request("GET", path, query=query))

    def _send(self, model: type[M], method: str, path: str, body: BaseModel) -> M:
        data = body.model_dump_json(exclude_unset=True).encode()
        return model.model_validate_json(self._request(method, path, data))

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        query: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
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
                headers=({"Content-Type": "application/json"} if body is not None else {}) | (headers or {}),
                timeout=seconds,
            )
        except httpx.HTTPError as error:
            raise errors.Unavailable(
                f"The server at {self.url} does not answer: {error or type(error).__name__}"
            ) from None
        if answer.status_code >= 400:
            raise refusal_of(answer.status_code, answer.content)
        return answer.content
