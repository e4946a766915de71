"""The ways to an MCP server: over HTTP, and over a program's standard input and output."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import httpcore
import httpx
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCError, JSONRPCMessage, JSONRPCResponse
from pydantic import ValidationError

from kasal_jupyter.hiding import Hider, beginning, plain_environment
from kasal_jupyter.outward import NoWayOut, authorities_for
from kasal_jupyter.schemas.mcp import RunMcpServer
from kasal_jupyter.tools.guard import HostGuard, origin_of
from kasal_jupyter.tools.guarded_transport import AsyncGuardedTransport
from kasal_jupyter.tools.mcp_listing import McpFailed
from kasal_jupyter.tools.tool import IDEMPOTENCY_KEY, status_text
from kasal_jupyter.version import __version__
from kasal_jupyter.warden import mark
from kasal_jupyter.wellformed import well_formed_json

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    Streams = tuple[
        MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]
    ]

MAX_MESSAGE = 10_000_000
"""Bytes of one message; a server that sends more is given up."""

CALL_KEY = "idempotencyKey"
"""Under which name a request's ``_meta`` has the key of the call."""

LEAVE_SECONDS = 1.0
"""How long a program may take to end once its input has."""

log = logging.getLogger(__name__)


@asynccontextmanager
async def stdio_streams(server: RunMcpServer, folder: str) -> AsyncIterator[Streams]:
    """Start a server's program, and end it at last.

    It has few of this process's variables, prints its errors where this process does, and stays in this
    process's group.

    Parameters
    ----------
    server
        The server.
    folder
        Where it is started.

    Raises
    ------
    McpFailed
        It cannot be started.
    """
    process = await _started_program(server, folder)
    into, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, out = anyio.create_memory_object_stream[SessionMessage](0)
    reading = asyncio.create_task(_read_lines(process, into))
    writing = asyncio.create_task(_write_lines(process, out))
    try:
        yield incoming, outgoing
    finally:
        writing.cancel()
        await _end_program(process)
        reading.cancel()
        await asyncio.wait([reading, writing])
        for stream in (into, incoming, outgoing, out):
            stream.close()


async def _started_program(server: RunMcpServer, folder: str) -> asyncio.subprocess.Process:
    environment = {**plain_environment(), **server.env, **mark()}
    assert server.command is not None, "a stdio server has a command"
    # Looked up with the program's own PATH, which may be among its variables.
    program = shutil.which(server.command, path=environment.get("PATH"))
    if program is None:
        raise McpFailed(f"There is no program {server.command!r} to start", field="command")
    try:
        return await asyncio.create_subprocess_exec(
            program,
            *server.args,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            cwd=folder,
            limit=MAX_MESSAGE,
        )
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise McpFailed(f"{server.command!r} cannot be started: {reason}", field="command") from error


async def _read_lines(
    process: asyncio.subprocess.Process, into: MemoryObjectSendStream[SessionMessage | Exception]
) -> None:
    """Hand on what the program says; when it has ended, or said too much, the stream ends."""
    assert process.stdout is not None
    async with into:
        while True:
            try:
                line = await process.stdout.readuntil(b"\n")
            except asyncio.IncompleteReadError:
                return
            except asyncio.LimitOverrunError:
                log.warning("A message of more than %d bytes; the server is given up.", MAX_MESSAGE)
                return
            with suppress(ValidationError):
                message = JSONRPCMessage.model_validate_json(well_formed_json(line, any_bytes=True))
                try:
                    await into.send(SessionMessage(message))
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    return


async def _write_lines(
    process: asyncio.subprocess.Process, out: MemoryObjectReceiveStream[SessionMessage]
) -> None:
    """Tell the program what the session says."""
    assert process.stdin is not None
    async with out:
        async for each in out:
            line = each.message.model_dump_json(by_alias=True, exclude_none=True)
            process.stdin.write(f"{line}\n".encode())
            with suppress(ConnectionError):
                await process.stdin.drain()


async def _end_program(process: asyncio.subprocess.Process) -> None:
    """End the program as the protocol says: close its input, wait a little, and kill it."""
    assert process.stdin is not None
    process.stdin.close()
    for end in (process.terminate, process.kill):
        # What the program has started may hold its output open, for which asyncio waits as well.
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), LEAVE_SECONDS)
            return
        with suppress(ProcessLookupError):
            end()
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), LEAVE_SECONDS)


# MCP over HTTP: every request gets an answer, whatever the server does.
#
# The ``mcp`` package's transport takes a failed request for the session's end, which ends the calls of
# others, too, and waits for ever where a server answers nothing it understands. So what goes wrong with a
# request is made its answer here, a JSON-RPC error, before that transport sees it.

MAX_BYTES = 10_000_000
"""Most of an answer that is read."""

CONNECT_SECONDS = 10.0
"""How long a connection may take."""

SLACK_SECONDS = 10.0
"""How much longer than a call its request waits for the next bytes: the call is the first to be given up."""

UNREACHED = -32_098
"""The code of the errors that are made here, one of those that JSON-RPC leaves to implementations."""

_MAX_REFUSAL_BYTES = 65_536


@asynccontextmanager
async def http_streams(server: RunMcpServer, guard: HostGuard) -> AsyncIterator[Streams]:
    """Open the way to a server.

    Parameters
    ----------
    server
        The server. Its headers go to it and nowhere else.
    guard
        Which hosts may be called.
    """
    assert server.url is not None, "an http server has an address"
    if not server.guarded:
        guard = guard.allowing(origin_of(server.url)[1])
    try:
        network = AsyncGuardedTransport(guard, authorities_for(server.url))
    except NoWayOut as error:
        raise McpFailed(f"It cannot be asked: {error}", field="url") from None
    client = httpx.AsyncClient(
        transport=_AnsweringTransport(network, server.url, Hider(server.secrets())),
        headers={
            "User-Agent": f"kasal-jupyter/{__version__}",
            # A few packed bytes may unpack to gigabytes.
            "Accept-Encoding": "identity",
            **server.headers,
        },
        timeout=httpx.Timeout(CONNECT_SECONDS, read=server.timeout + SLACK_SECONDS),
        trust_env=False,
    )
    async with client, streamable_http_client(server.url, http_client=client) as (incoming, outgoing, _):
        yield incoming, outgoing


_NOT_SENT = (
    *(ValueError, httpcore.TimeoutException, httpcore.NetworkError),
    *(httpcore.ProtocolError, httpcore.ProxyError),
)
"""What a request fails by: a host that may not be called is a ValueError."""


class _AnsweringTransport(httpx.AsyncBaseTransport):
    def __init__(self, network: AsyncGuardedTransport, url: str, hider: Hider) -> None:
        self._network = network
        self._hider = hider
        self._origin = origin_of(url)
        self._host = self._origin[1]

    async def aclose(self) -> None:
        await self._network.aclose()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return await self._posted(request)
        if request.method == "GET" and "last-event-id" not in request.headers:
            # What a server says unasked is not listened to: a connection for each run would do nothing else.
            return httpx.Response(405, request=request)
        try:
            return await self._network.handle_async_request(request)
        except _NOT_SENT as error:
            raise httpx.ConnectError(self._words(error), request=request) from error

    async def _posted(self, request: httpx.Request) -> httpx.Response:
        message = json.loads(await request.aread())
        asked = message.get("id")
        if key := ((message.get("params") or {}).get("_meta") or {}).get(CALL_KEY):
            # For what stands before the server, too.
            request.headers[IDEMPOTENCY_KEY] = key
        try:
            response = await self._network.handle_async_request(request)
        except _NOT_SENT as error:
            return self._refused(request, asked, self._words(error))
        if response.status_code in {307, 308} and self._is_home(response):
            return response
        if response.status_code == 404 and "mcp-session-id" in request.headers and asked is not None:
            # The protocol's way to say that the session is over.
            return response
        refusal = await self._refusal(response, wants_answer=asked is not None)
        if refusal is not None:
            await response.aclose()
            return self._refused(request, asked, refusal)
        if asked is None:
            await response.aclose()
            return httpx.Response(202, request=request)
        if _kind(response) == "text/event-stream":
            response.stream = _Events(response.stream, asked, self._host)
            return response
        return await self._whole(request, response, asked)

    async def _whole(self, request: httpx.Request, response: httpx.Response, asked: Any) -> httpx.Response:
        """Give an answer of JSON, read and looked at."""
        try:
            body = await _read(response, MAX_BYTES + 1)
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            return self._refused(request, asked, self._words(error))
        finally:
            await response.aclose()
        if len(body) > MAX_BYTES:
            return self._refused(request, asked, f"{self._host} answers with more than {MAX_BYTES:,} bytes")
        body = well_formed_json(body, any_bytes=True)
        with suppress(ValidationError):
            if isinstance(JSONRPCMessage.model_validate_json(body).root, JSONRPCResponse | JSONRPCError):
                kept = {
                    name: value
                    for name, value in response.headers.items()
                    if name in {"content-type", "mcp-session-id"}
                }
                return httpx.Response(200, headers=kept, content=body, request=request)
        return self._refused(
            request,
            asked,
            f"{self._host} answers with JSON that is no MCP: {self._said(body)}",
        )

    def _said(self, body: bytes) -> str:
        """Give the beginning of what the server says, without secrets, nor the beginning of one at a cut."""
        shown, rest = self._hider.split(body.decode(errors="replace"))
        return beginning(shown + ("" if len(body) >= _MAX_REFUSAL_BYTES else rest))

    async def _refusal(self, response: httpx.Response, *, wants_answer: bool) -> str | None:
        """Say why an answer is none; None for one that is."""
        status = response.status_code
        if 300 <= status < 400:
            where = response.headers.get("location", "")
            return (
                f"{self._host} redirects to {_host_of(where)}, which is not followed; register that address"
            )
        if not 200 <= status < 300:
            said = ""
            with suppress(httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
                said = self._said(await _read(response, _MAX_REFUSAL_BYTES))
            return f"{self._host} answers {status_text(status)}" + (f": {said}" if said else "")
        if not wants_answer:
            return None
        if status == 202:
            return f"{self._host} takes the request without an answer, so that it is no MCP server"
        if (packed := response.headers.get("content-encoding", "identity")) != "identity":
            return f"{self._host} answers in an encoding nobody asked for, {packed!r}"
        if (kind := _kind(response)) not in {"application/json", "text/event-stream"}:
            return f"{self._host} answers with {kind or 'something unnamed'}, so that it is no MCP server"
        return None

    def _is_home(self, response: httpx.Response) -> bool:
        """Say whether a redirect stays on the server that was named."""
        following = response.request.url.join(response.headers.get("location", ""))
        return origin_of(str(following)) == self._origin and not following.userinfo

    def _refused(self, request: httpx.Request, asked: Any, reason: str) -> httpx.Response:
        if asked is None:
            # A note that nobody waits for; the next request will tell.
            log.warning("A notification was not taken: %s", reason)
            return httpx.Response(202, request=request)
        return httpx.Response(200, json=_error(asked, reason), request=request)

    def _words(self, error: Exception) -> str:
        if isinstance(error, httpcore.TimeoutException):
            return f"{self._host} did not answer in time"
        if isinstance(error, ValueError):  # The guard's own words.
            return str(error)
        return f"The connection to {self._host} failed: {str(error) or 'it broke off'}"


class _Events(httpx.AsyncByteStream):
    """A stream of events that ends with an error where it ends without an answer.

    Nobody reads on once the answer is there. A stream whose events are numbered is taken up again by the
    ``mcp`` package, and is left to it.
    """

    def __init__(self, stream: Any, asked: Any, host: str) -> None:
        self._stream = stream
        self._asked = asked
        self._host = host

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size, tail, numbered, line = 0, b"\n", False, b""
        reason = f"{self._host} ended its answer before it was whole"
        try:
            async for chunk in self._stream:
                size += len(chunk)
                if size > MAX_BYTES:
                    reason, numbered = f"{self._host} answers with more than {MAX_BYTES:,} bytes", False
                    break
                numbered = numbered or b"\nid:" in tail + chunk
                tail = (tail + chunk)[-4:]
                # Line by line: an escape may be cut in two, and the package knows no halves of pairs.
                whole, newline, line = (line + chunk).rpartition(b"\n")
                yield well_formed_json(whole + newline, any_bytes=True)
            yield well_formed_json(line, any_bytes=True)
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
            if numbered:
                raise
        if not numbered:
            yield b"\n\nevent: message\ndata: " + json.dumps(_error(self._asked, reason)).encode() + b"\n\n"

    async def aclose(self) -> None:
        await self._stream.aclose()


def _error(asked: Any, reason: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": asked, "error": {"code": UNREACHED, "message": reason}}


async def _read(response: httpx.Response, most: int) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) >= most:
            break
    return bytes(body[:most])


def _kind(response: httpx.Response) -> str:
    kind: str = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return kind


def _host_of(location: str) -> str:
    try:
        return httpx.URL(location).host or "another path"
    except httpx.InvalidURL:
        return "something that is no address"
