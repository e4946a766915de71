"""A session with an MCP server: opened at the first need, kept, and opened anew where it has died."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
from mcp.client.session import ClientSession
from mcp.shared.exceptions import McpError
from mcp.types import (
    CONNECTION_CLOSED,
    AudioContent,
    BlobResourceContents,
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    ClientRequest,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    Implementation,
    ListToolsRequest,
    ListToolsResult,
    PaginatedRequestParams,
    RequestParams,
    ResourceLink,
    TextContent,
    ToolAnnotations,
)
from pydantic import ValidationError

from kasal_jupyter.hiding import Hider, beginning
from kasal_jupyter.schemas.mcp import RunMcpServer
from kasal_jupyter.tools.guard import HostGuard
from kasal_jupyter.tools.mcp_listing import McpFailed, RemoteTool
from kasal_jupyter.tools.mcp_streams import CALL_KEY, UNREACHED, http_streams, stdio_streams
from kasal_jupyter.tools.tool import MAX_CHARACTERS
from kasal_jupyter.version import __version__

OPEN_SECONDS = 30.0
"""How long a server may take until it has introduced itself."""

MAX_PAGES = 50
"""Pages of a list of tools that are read."""

SESSION_OVER = 32_600
"""The code by which the ``mcp`` package says that a server has forgotten the session."""

log = logging.getLogger(__name__)


class McpSession:
    """One server's session. All of it belongs to one event loop.

    Parameters
    ----------
    server
        The server.
    guard
        Which hosts may be called.
    folder
        Where a program is started.
    """

    def __init__(self, server: RunMcpServer, guard: HostGuard, folder: str) -> None:
        self._server = server
        self._guard = guard
        self._folder = folder
        self._hider = Hider(server.secrets())
        self._opening = asyncio.Lock()
        self._held: _Held | None = None
        self._first: asyncio.Task[None] | None = None
        self.version: str | None = None
        """What the server says it is, once the session was opened."""

    def begin(self) -> None:
        """Begin to open the session. Where it cannot be, the first call tries again and says why."""
        self._first = asyncio.create_task(self._try_to_open())

    async def _try_to_open(self) -> None:
        try:
            await self._opened()
        except McpFailed as error:
            log.warning("%s", error)

    async def open(self) -> None:
        """Open the session, where none is open.

        Raises
        ------
        McpFailed
            The server cannot be reached, or is none.
        """
        await self._opened()

    async def tools(self) -> list[RemoteTool]:
        """Ask what tools the server has.

        Raises
        ------
        McpFailed
            It does not say.
        """
        found: list[RemoteTool] = []
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            params = PaginatedRequestParams(cursor=cursor) if cursor is not None else None
            request = ClientRequest(ListToolsRequest(method="tools/list", params=params))
            page: ListToolsResult = await self._asked(request, ListToolsResult)
            found += [
                RemoteTool(
                    name=each.name,
                    description=each.description or "",
                    parameters=each.inputSchema,
                    idempotent=_is_idempotent(each.annotations),
                )
                for each in page.tools
            ]
            cursor = page.nextCursor
            if not cursor:
                return found
        raise McpFailed(f"{self._server.name} lists its tools on more than {MAX_PAGES} pages")

    async def call(
        self, remote_name: str, arguments: dict[str, Any], call_key: str | None = None
    ) -> CallToolResult:
        """Call a tool, once: what was sent is not sent again, whatever becomes of it.

        Parameters
        ----------
        remote_name, arguments
            The tool, as its server has it, and what it is given.
        call_key
            By which the server may know the call again. The protocol has no place of its own for it.

        Raises
        ------
        McpFailed
            There is no answer.
        """
        meta = RequestParams.Meta.model_validate({CALL_KEY: call_key}) if call_key is not None else None
        params = CallToolRequestParams(name=remote_name, arguments=arguments, _meta=meta)
        request = ClientRequest(CallToolRequest(method="tools/call", params=params))
        # Not the session's own call_tool: that lists all tools to look up what a result must be like.
        result: CallToolResult = await self._asked(request, CallToolResult)
        return result

    async def close(self) -> None:
        """End the session."""
        if self._first is not None:
            self._first.cancel()
            await asyncio.wait([self._first])
        if self._held is not None:
            await self._held.let_go()
            self._held = None

    async def _asked(self, request: ClientRequest, answer: type[Any]) -> Any:
        name, seconds = self._server.name, self._server.timeout
        for attempt in (1, 2):
            held = await self._opened()
            try:
                async with asyncio.timeout(seconds):
                    return await held.session.send_request(request, answer)
            except TimeoutError:
                raise McpFailed(f"{name} did not answer within {seconds:g} seconds") from None
            except ValidationError as error:
                raise McpFailed(
                    f"{name} answers with what the protocol does not know: {error.errors()[0]['msg']}"
                ) from None
            except (anyio.ClosedResourceError, anyio.BrokenResourceError):
                await self._forget(held)
                # The session had died before: nothing was sent.
                if attempt == 2:
                    raise McpFailed(f"{name} has ended, and again") from None
            except McpError as error:
                if error.error.code == CONNECTION_CLOSED and error.error.message == "Connection closed":
                    await self._forget(held)
                    raise McpFailed(
                        f"{name} has ended in the midst of the call; whether it was done is not known"
                    ) from None
                if error.error.code == SESSION_OVER and attempt == 1:
                    # Refused before it was looked at, as the protocol has it.
                    await self._forget(held)
                    continue
                raise _in_words(error, name, self._hider) from None
        raise McpFailed(f"{name} takes no session")

    async def _opened(self) -> _Held:
        async with self._opening:
            if self._held is None or self._held.over:
                held = _Held(self._streams(), self._server, self._hider)
                self.version = await held.open()
                self._held = held
            return self._held

    async def _forget(self, held: _Held) -> None:
        if self._held is held:
            self._held = None
        await held.let_go()

    def _streams(self) -> AbstractAsyncContextManager[Any]:
        if self._server.transport == "stdio":
            return stdio_streams(self._server, self._folder)
        return http_streams(self._server, self._guard)


class _Held:
    """An open session, held by a task of its own: it must be closed by whoever has opened it."""

    def __init__(self, streams: AbstractAsyncContextManager[Any], server: RunMcpServer, hider: Hider) -> None:
        self._streams = streams
        self._hider = hider
        self._server = server
        self._ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._leave = asyncio.Event()
        self._task = asyncio.create_task(self._hold())
        self.session: ClientSession

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._task.done()

    async def open(self) -> str:
        """Wait until the server has introduced itself; give what it says it is."""
        try:
            return await asyncio.shield(self._ready)
        except BaseException:
            await self.let_go()
            raise

    async def let_go(self) -> None:
        """Close the session."""
        self._leave.set()
        await asyncio.wait([self._task])

    async def _hold(self) -> None:
        blamed = "command" if self._server.transport == "stdio" else "url"
        try:
            async with (
                self._streams as (incoming, outgoing),
                ClientSession(
                    incoming, outgoing, client_info=Implementation(name="kasal-jupyter", version=__version__)
                ) as self.session,
            ):
                # Raised inside, an error would come out wrapped in groups, once for each of these.
                failure = await self._greeted(blamed)
                if failure is not None:
                    self._ready.set_exception(failure)
                    return
                await self._leave.wait()
        except McpFailed as error:
            if not self._ready.done():
                self._ready.set_exception(error)
        except Exception as error:
            # The border of a library's task groups; whoever waits for the session is told.
            log.exception("The session with %s broke.", self._server.name)
            if not self._ready.done():
                said = f"{self._server.name} cannot be spoken to: {type(error).__name__}"
                self._ready.set_exception(McpFailed(said, field=blamed))

    async def _greeted(self, blamed: str) -> McpFailed | None:
        name = self._server.name
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                said = await self.session.initialize()
        except TimeoutError:
            return McpFailed(
                f"{name} has not introduced itself within {OPEN_SECONDS:g} seconds", field=blamed
            )
        except McpError as error:
            if error.error.code == CONNECTION_CLOSED:
                return McpFailed(f"{name} has ended without a word of MCP", field=blamed)
            return McpFailed(str(_in_words(error, name, self._hider)), field=blamed)
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return McpFailed(f"{name} has ended without a word of MCP", field=blamed)
        except (RuntimeError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
            return McpFailed(f"{name} speaks no MCP that is known here: {self._said(reason)}", field=blamed)
        self._ready.set_result(f"{said.serverInfo.name} {said.serverInfo.version}"[:200])
        return None

    def _said(self, text: str) -> str:
        return beginning(self._hider.hide(text))


def _in_words(error: McpError, name: str, hider: Hider) -> McpFailed:
    if error.error.code == UNREACHED:
        return McpFailed(error.error.message)
    return McpFailed(f"{name} refuses: {beginning(hider.hide(error.error.message))}")


def _is_idempotent(annotations: ToolAnnotations | None) -> bool:
    return annotations is not None and bool(annotations.readOnlyHint or annotations.idempotentHint)


# -- what a tool has given, as text for a model -----------------------------------------------------------


def text_of(result: CallToolResult, hide: Callable[[str], str] = str) -> str:
    """Give a result as text: texts as they are, anything else in words, the beginning of what is long.

    Parameters
    ----------
    result
        The result.
    hide
        Takes secrets out. It comes before anything is cut: the beginning of one would be found no more.
    """
    parts = [text for text in _parts(result.content, hide) if text]
    has_text = any(isinstance(each, TextContent) and each.text for each in result.content)
    if result.structuredContent is not None and not has_text:
        # Servers give what is structured as text, too; those that do not mean the structure.
        parts.append(json.dumps(result.structuredContent, ensure_ascii=False))
    text = hide("\n".join(parts)) or "[Nothing.]"
    if len(text) > MAX_CHARACTERS:
        return f"{text[:MAX_CHARACTERS]}\n[The answer goes on; this is its beginning.]"
    return text


def _parts(content: list[ContentBlock], hide: Callable[[str], str]) -> Iterator[str]:
    def short(text: Any) -> str:
        return beginning(hide(str(text)), 200)

    for block in content:
        if isinstance(block, TextContent):
            yield block.text
        elif isinstance(block, ImageContent | AudioContent):
            what = "An image" if isinstance(block, ImageContent) else "A sound"
            kind = _kind(block.mimeType, short)
            yield f"[{what}, {_size(block.data)} bytes of {kind}, which is not shown.]"
        elif isinstance(block, EmbeddedResource):
            yield _resource(block, short)
        elif isinstance(block, ResourceLink):
            said = f", {beginning(hide(block.description))}" if block.description else ""
            yield f"[A resource at {short(block.uri)}: {short(block.name)}{said}]"


def _resource(block: EmbeddedResource, short: Callable[[Any], str]) -> str:
    resource = block.resource
    if isinstance(resource, BlobResourceContents):
        size, kind = _size(resource.blob), _kind(resource.mimeType, short)
        return f"[The resource {short(resource.uri)}: {size} bytes of {kind}.]"
    return f"[The resource {short(resource.uri)}:]\n{resource.text}"


def _kind(mime_type: str | None, short: Callable[[Any], str]) -> str:
    return short(mime_type) if mime_type else "an unknown kind"


def _size(encoded: str) -> str:
    """Count the bytes that base64 stands for, without decoding it."""
    return f"{len(encoded.rstrip('=')) * 3 // 4:,}"
