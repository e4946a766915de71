"""An execution's events over the WebSocket, and a batch's changes, across lost connections."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

import orjson

from kasal_jupyter import errors
from kasal_jupyter.client.connection import Connection, read_refusal, refusal_of
from kasal_jupyter.events.event import Event
from kasal_jupyter.outward import NoWayOut, authorities, proxy_for
from kasal_jupyter.schemas.batches import Batch
from kasal_jupyter.schemas.executions import ENDED

if TYPE_CHECKING:
    import websocket


CONNECT_SECONDS = 10.0
RECEIVE_SECONDS = 0.05
"""How long a wait for the next event lasts before the caller gets its turn: redraws are due by then."""

FIRST_PAUSE = 0.2
"""Seconds between the loss of a connection and the first try to make it again."""

SILENCE_SECONDS = 90.0
"""After so long without a byte the connection is dead: the server pings every 30 seconds."""

LOST_SECONDS = 30.0
"""How long a lost connection is tried again."""

STEADY_SECONDS = 5.0
"""How long a connection must hold to count as one, where no event comes over it."""

LONGEST_PAUSE = 2.0
"""Most seconds between two tries."""


@dataclass(frozen=True, slots=True)
class Following:
    """What is followed, and how; see :meth:`Client.follow`."""

    job_id: str
    after: int = 0
    serve: bool = False
    on_idle: Callable[[], None] | None = None
    on_connect: Callable[[], None] | None = None

    def idle(self) -> None:
        """Give the caller its turn."""
        if self.on_idle is not None:
            self.on_idle()

    def subscription(self, after: int) -> dict[str, Any]:
        """Give the message that asks for the events behind one."""
        asked = {"type": "subscribe", "job_id": self.job_id, "after": after}
        return asked | ({"serve": True} if self.serve else {})


def follow_events(connection: Connection, following: Following) -> Iterator[Event]:
    """Give an execution's events in order, each once, to its end; see :meth:`Client.follow`."""
    after = following.after
    lost_at: float | None = None
    pause = FIRST_PAUSE
    while True:
        up_at: float | None = None
        try:
            socket = open_socket(connection)
            up_at = time.monotonic()
            if following.on_connect is not None:
                following.on_connect()
            for event in _events_of(socket, following, after):
                # What comes twice after a reconnection is passed over; what is missing is asked for again.
                if event["seq"] <= after:
                    continue
                if event["seq"] > after + 1:
                    raise ConnectionError(f"event {after + 1} is missing")
                lost_at, pause = None, FIRST_PAUSE
                after = event["seq"]
                yield event
                if event["type"] == "execution_status" and event["status"] in ENDED:
                    return
        except OSError as error:
            now = time.monotonic()
            # A connection that held for a while ended the outage, though the run had nothing to say.
            if lost_at is None or (up_at is not None and now - up_at > STEADY_SECONDS):
                lost_at, pause = now, FIRST_PAUSE
            if now - lost_at > LOST_SECONDS:
                raise errors.Unavailable(
                    f"The connection to {connection.url} was lost and did not come back ({error}); "
                    f"{following.job_id} may still run: look again with its status"
                ) from None
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            following.idle()


def _events_of(socket: websocket.WebSocket, following: Following, after: int) -> Iterator[Event]:
    """Give the events of one connection, until it breaks with an OSError."""
    try:
        socket.settimeout(RECEIVE_SECONDS)
        socket.send(orjson.dumps(following.subscription(after)).decode())
        heard_at = time.monotonic()
        while True:
            data = _receive(socket)
            if data is not None:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > SILENCE_SECONDS:
                raise ConnectionError("the server fell silent")
            if not data:
                following.idle()
                continue
            try:
                message = cast("dict[str, Any]", orjson.loads(data))
            except orjson.JSONDecodeError:
                raise ConnectionError("what the server sends cannot be read") from None
            if "seq" not in message:
                # No event of the run but the answer to the subscription: a refusal, to be told as it is.
                raise read_refusal(message)
            yield cast("Event", message)
    finally:
        socket.close(timeout=1)
        # Where the server has closed first, the library's close leaves the socket open.
        socket.shutdown()  # type: ignore[no-untyped-call]


def open_socket(connection: Connection) -> websocket.WebSocket:
    """Open a WebSocket to the server.

    Raises
    ------
    KasalError
        The server refuses it.
    OSError
        It cannot be reached at the moment.
    """
    import websocket

    try:
        return websocket.create_connection(
            connection.socket_url,
            header=[f"{name}: {value}" for name, value in connection.headers.items()],
            timeout=CONNECT_SECONDS,
            suppress_origin=True,
            **_way(connection),
            # In Python, for each byte: a large event took seconds. What is no UTF-8 is no JSON either.
            skip_utf8_validation=True,
        )
    except websocket.WebSocketBadStatusException as error:
        # A proxy whose server restarts answers 502 to 504; any other refusal would be repeated.
        if error.status_code >= 500:
            raise ConnectionError(f"the server answers {error.status_code}") from error
        raise refusal_of(error.status_code, bytes(error.resp_body or b"")) from None
    except _failures() as error:
        raise ConnectionError(str(error)) from error


def _failures() -> tuple[type[Exception], ...]:
    """Give what is raised where no connection is made: also by a SOCKS proxy, where one can be asked."""
    import websocket

    if find_spec("python_socks") is None:
        return (websocket.WebSocketException,)
    from python_socks import ProxyError

    return websocket.WebSocketException, ProxyError


def _way(connection: Connection) -> dict[str, Any]:
    """Give what the library takes to go the way of the requests; it would read the environment otherwise.

    Raises
    ------
    Unavailable
        The environment leaves none.
    """
    try:
        proxy = proxy_for(connection.socket_url)
        encrypted = {"sslopt": {"context": authorities()}} if connection.url.startswith("https:") else {}
    except NoWayOut as error:
        raise errors.Unavailable(f"The server at {connection.url} cannot be asked: {error}") from None
    if proxy is None:
        # Without a proxy's host the library takes the environment's, and looks at no list of exceptions.
        return {"http_proxy_host": "none", "http_no_proxy": ["*"], **encrypted}
    parts = urlsplit(proxy.url)
    socks = parts.scheme.startswith("socks")
    if parts.scheme == "https" or (socks and find_spec("python_socks") is None):
        why = "the package python-socks is needed" if socks else "its address has to begin with http"
        raise errors.Unavailable(
            f"The events of {connection.url} cannot be followed through the proxy {proxy.shown}: for a "
            f"WebSocket {why}; or name the server in NO_PROXY"
        )
    login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return {
        "http_proxy_host": parts.hostname,
        "http_proxy_port": parts.port or (1080 if socks else 80),
        "http_proxy_auth": login,
        "http_no_proxy": ["nobody.invalid"],
        # The proxy looks names up, as it does for the requests.
        "proxy_type": "socks5h" if socks else "http",
        "http_proxy_timeout": CONNECT_SECONDS,
        **encrypted,
    }


def _receive(socket: websocket.WebSocket) -> bytes | None:
    """Give the next message, ``b""`` for a ping or pong, None where nothing came in time."""
    import websocket

    try:
        opcode, data = socket.recv_data(control_frame=True)
    except websocket.WebSocketTimeoutException:
        return None
    except websocket.WebSocketException as error:
        raise ConnectionError(str(error)) from error
    if opcode == websocket.ABNF.OPCODE_CLOSE:
        raise ConnectionError("the server closed the connection")
    return bytes(data) if opcode == websocket.ABNF.OPCODE_TEXT else b""


# -- batches --------------------------------------------------------------------------------------------

IDLE_SECONDS = 0.1
"""How long a wait for a batch's next change lasts before the caller gets its turn."""


def follow_batch(
    look: Callable[[str], Batch],
    lines_of: Callable[[str, float], AbstractContextManager[Iterator[str]]],
    batch_id: str,
    on_idle: Callable[[], None] | None,
) -> Iterator[Batch]:
    """Give a batch whenever it has changed; see :meth:`Client.follow_batch`.

    Parameters
    ----------
    look
        Gives the batch of an id as it stands.
    lines_of
        Opens its stream of Server-Sent Events, on which so many seconds of silence end it.
    batch_id, on_idle
        See there.
    """
    lost_at: float | None = None
    pause = FIRST_PAUSE
    while True:
        try:
            # It is also what finds a private server that was started again.
            batch = look(batch_id)
            lost_at, pause = None, FIRST_PAUSE
            yield batch
            if batch.is_over:
                return
            for batch in _changes(lines_of, batch_id, on_idle):
                yield batch
                if batch.is_over:
                    return
        except errors.Unavailable as error:
            now = time.monotonic()
            lost_at = lost_at or now
            if now - lost_at > LOST_SECONDS:
                raise errors.Unavailable(
                    f"{error.message}; {batch_id} goes on as soon as its server does"
                ) from None
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
        if on_idle is not None:
            on_idle()


def _changes(
    lines_of: Callable[[str, float], AbstractContextManager[Iterator[str]]],
    batch_id: str,
    on_idle: Callable[[], None] | None,
) -> Iterator[Batch]:
    """Give what comes over one connection. A thread reads it: the caller has its turns meanwhile."""
    heard: queue.SimpleQueue[Batch | errors.KasalError | None] = queue.SimpleQueue()
    left = threading.Event()

    def read() -> None:
        try:
            with lines_of(batch_id, SILENCE_SECONDS) as lines:
                for line in lines:
                    if left.is_set():
                        return
                    if line.startswith("data: {"):
                        heard.put(Batch.model_validate_json(line.removeprefix("data: ")))
        except errors.KasalError as error:
            heard.put(error)
        except ValueError:
            heard.put(errors.Unavailable("What the server sends cannot be read"))
        finally:
            heard.put(None)

    threading.Thread(target=read, name=f"kasal-{batch_id}", daemon=True).start()
    try:
        while True:
            try:
                news = heard.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                if on_idle is not None:
                    on_idle()
                continue
            if news is None:
                return
            if isinstance(news, errors.KasalError):
                raise news
            yield news
    finally:
        left.set()
