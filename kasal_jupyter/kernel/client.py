"""A synchronous client of the Kasal API, for notebooks and the command line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import quote

import orjson
from pydantic import BaseModel

from kasal_jupyter import errors
from kasal_jupyter.kernel.connection import Connection
from kasal_jupyter.schemas.crews import (
    CrewCreate,
    CrewCreated,
    CrewDetails,
    CrewList,
    CrewSummary,
    CrewUpdate,
    CrewUpdated,
)
from kasal_jupyter.schemas.events import Event
from kasal_jupyter.schemas.executions import (
    ENDED,
    ExecutionAccepted,
    ExecutionList,
    ExecutionStatus,
    ExecutionStopped,
    TraceRow,
    TraceRows,
)

if TYPE_CHECKING:
    import httpx
    import websocket

M = TypeVar("M", bound=BaseModel)

REQUEST_SECONDS = 30.0
RECEIVE_SECONDS = 0.2
"""How long a wait for the next event lasts before the interrupt of a notebook is looked at again."""

LOST_SECONDS = 30.0
"""How long a lost connection is tried again."""

_BY_STATUS: dict[int, type[errors.KasalError]] = {
    400: errors.InvalidRequest,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    409: errors.Conflict,
    412: errors.PreconditionFailed,
    429: errors.TooManyRequests,
    503: errors.Unavailable,
}


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

    def crews(self, name: str | None = None) -> list[CrewSummary]:
        """Give the crews, newest first; with ``name``, those of exactly that name."""
        query: dict[str, str | int] = {"per_page": 500} | ({"name": name} if name else {})
        return self._get(CrewList, "/crews", query).crews

    def crew(self, crew_id: str) -> CrewDetails:
        """Give a crew whole."""
        return self._get(CrewDetails, f"/crews/{quote(crew_id, safe='')}")

    def create_crew(self, crew: CrewCreate) -> CrewCreated:
        """Create a crew."""
        return self._send(CrewCreated, "POST", "/crews", crew)

    def update_crew(self, crew_id: str, crew: CrewCreate | CrewUpdate) -> CrewUpdated:
        """Change a crew; given lists of agents and tasks replace the old ones."""
        return self._send(CrewUpdated, "PUT", f"/crews/{quote(crew_id, safe='')}", crew)

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

    def follow(self, job_id: str, after: int = 0) -> Iterator[Event]:
        """Give an execution's events as they come, to its end.

        A lost connection is made again, and goes on where it broke off.

        Parameters
        ----------
        job_id
            The execution.
        after
            The ``seq`` of the last event already known.
        """
        lost_at: float | None = None
        while True:
            try:
                for event in self._stream(job_id, after):
                    lost_at = None
                    after = event["seq"]
                    yield event
                    if event["type"] == "execution_status" and event["status"] in ENDED:
                        return
            except OSError as error:
                lost_at = lost_at or time.monotonic()
                if time.monotonic() - lost_at > LOST_SECONDS:
                    raise errors.Unavailable(
                        f"The connection to {self.url} was lost and did not come back ({error}); "
                        f"{job_id} may still run: look again with its status"
                    ) from None
                time.sleep(RECEIVE_SECONDS)

    def close(self) -> None:
        """Let go of the connections."""
        if self._http is not None:
            self._http.close()

    def _stream(self, job_id: str, after: int) -> Iterator[Event]:
        """Give the events of one connection, until it breaks with an OSError."""
        import websocket

        try:
            socket = websocket.create_connection(
                self._connection.socket_url,
                header=[f"{name}: {value}" for name, value in self._connection.headers.items()],
                timeout=REQUEST_SECONDS,
                suppress_origin=True,
            )
        except websocket.WebSocketBadStatusException as error:
            # The server is there, and refuses: trying again would change nothing.
            raise _refusal(error.status_code, bytes(error.resp_body or b"")) from None
        except websocket.WebSocketException as error:
            raise ConnectionError(str(error)) from error
        try:
            socket.settimeout(RECEIVE_SECONDS)
            socket.send(orjson.dumps({"type": "subscribe", "job_id": job_id, "after": after}).decode())
            while True:
                event = _receive(socket)
                if event is None:
                    continue
                if "seq" not in event:
                    raise errors.KasalError(
                        str(event.get("message", "The server refused to send the run's events"))
                    )
                yield cast("Event", event)
        finally:
            socket.close(timeout=1)

    def _get(self, model: type[M], path: str, query: dict[str, Any] | None = None) -> M:
        return model.model_validate_json(self._request("GET", path, query=query))

    def _send(self, model: type[M], method: str, path: str, body: BaseModel) -> M:
        data = body.model_dump_json(exclude_unset=True).encode()
        return model.model_validate_json(self._request(method, path, data))

    def _request(
        self, method: str, path: str, body: bytes | None = None, query: dict[str, Any] | None = None
    ) -> bytes:
        import httpx

        if self._http is None:
            # The server is this user's own, mostly on loopback: a proxy of the environment is not for it.
            self._http = httpx.Client(
                headers=self._connection.headers, timeout=REQUEST_SECONDS, trust_env=False
            )
        try:
            answer = self._http.request(
                method,
                f"{self.url}/v1{path}",
                content=body,
                params=query,
                headers={"Content-Type": "application/json"} if body is not None else None,
            )
        except httpx.HTTPError as error:
            raise errors.Unavailable(
                f"The server at {self.url} does not answer: {error or type(error).__name__}"
            ) from None
        if answer.status_code >= 400:
            raise _refusal(answer.status_code, answer.content)
        return answer.content


def _receive(socket: websocket.WebSocket) -> dict[str, Any] | None:
    """Give the next message, or None where none came in time."""
    import websocket

    try:
        data = socket.recv()
    except websocket.WebSocketTimeoutException:
        return None
    except websocket.WebSocketException as error:
        raise ConnectionError(str(error)) from error
    if not data:
        raise ConnectionError("the server closed the connection")
    return cast("dict[str, Any]", orjson.loads(data))


def _refusal(status: int, content: bytes) -> errors.KasalError:
    kind = _BY_STATUS.get(status, errors.KasalError)
    try:
        error = orjson.loads(content)["error"]
        details = error["details"]
        listed = details.get("errors") or ([details] if details else [])
        faults = [errors.Fault(each["field"], each["reason"]) for each in listed]
        refusal = kind(error["message"], faults=faults)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return kind(f"The server answered {status}, and not as Kasal does; is the extension enabled there?")
    refusal.code = error["code"]  # type: ignore[misc]
    return refusal
