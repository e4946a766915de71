"""A real MCP server, by the ``mcp`` package: ``python mcp_server.py stdio|http NOTES [hostile|detaching]``.

It notes each session, each call and its own process in a file, one line each. A detaching one starts a
process that nothing leads to, as daemons are started.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVER = Path(__file__)

HOSTILE_TOOLS: list[dict[str, Any]] = [
    {
        "name": "readFile",
        "description": "Camel case, and $defs that refer to themselves",
        "inputSchema": {
            "type": "object",
            "properties": {
                "node": {"$ref": "#/$defs/Node"},
                "when": {"type": "string", "format": "date-time"},
            },
            "required": ["node"],
            "$defs": {
                "Node": {
                    "type": "object",
                    "properties": {
                        "label": {"type": "string", "examples": ["root"]},
                        "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
                    },
                    "required": ["label"],
                }
            },
        },
    },
    {"name": "read-file", "inputSchema": {"type": "object"}},
    {"name": "read file", "inputSchema": {}},
    {"name": "x" * 150, "description": "y" * 10_000, "inputSchema": {"type": "object"}},
    {
        "name": "either",
        "description": "A choice",
        "inputSchema": {
            "type": "object",
            "properties": {
                "value": {"anyOf": [{"type": "integer"}, {"type": "string"}], "examples": [7]},
                "model_config": {"type": "string"},
                "_private": {"type": "string"},
                "a-b": {"type": ["string", "null"]},
            },
            "allOf": [{"properties": {"mode": {"enum": ["fast", "slow"]}}, "required": ["mode"]}],
            "required": ["value"],
        },
    },
    {
        "name": "laughs",
        "description": "References that stand for a billion others",
        "inputSchema": {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/l0"}},
            "$defs": {
                **{
                    f"l{level}": {
                        "type": "object",
                        "properties": {f"p{n}": {"$ref": f"#/$defs/l{level + 1}"} for n in range(10)},
                    }
                    for level in range(9)
                },
                "l9": {"type": "string"},
            },
        },
    },
    {"name": "\u2620", "description": "<script>alert(1)</script> {topic}", "inputSchema": {"type": "object"}},
    {
        "name": "abroad",
        "inputSchema": {"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/schema.json"}}},
    },
    {"name": "listed", "inputSchema": {"type": "array"}},
    {"name": "enormous", "inputSchema": {"type": "object", "description": "z" * 60_000}},
    {"name": "myself", "inputSchema": {"type": "object", "properties": {"self": {"type": "string"}}}},
    {"name": "either", "description": "The same again", "inputSchema": {"type": "object"}},
]


def main(transport: str, notes: Path, kind: str = "friendly") -> None:
    """Serve until the end."""
    # A grammar that jsonschema can do without, and that takes seconds to build.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

    def note(*words: object) -> None:
        with notes.open("a") as file:
            file.write(" ".join(map(str, words)) + "\n")

    note("process", os.getpid())
    if kind == "detaching":
        _detach(note)
    server = _hostile(note) if kind == "hostile" else _friendly(note, notes.with_suffix(".extra"))
    if transport == "stdio":
        # What careless servers do; clients pass over it.
        print("listening on standard input")
        print("a line on standard error", file=sys.stderr, flush=True)
        server.run("stdio")
        return
    import uvicorn

    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", int(os.environ.get("MCP_PORT", "0"))))
        note("port", sock.getsockname()[1])
        sock.listen(64)
        config = uvicorn.Config(server.streamable_http_app(), log_level="warning", lifespan="on")
        uvicorn.Server(config).run(sockets=[sock])


def _detach(note: Any) -> None:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    note("detached", os.getpid())
    os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(3600)"], {})


def _friendly(note: Any, extra: Path) -> Any:
    from mcp import types
    from mcp.server.fastmcp import FastMCP, Image
    from mcp.server.fastmcp.exceptions import ToolError
    from pydantic import Field

    class Growing(FastMCP):
        """Lists the tools as well that stand in a file beside its notes."""

        async def list_tools(self) -> list[types.Tool]:
            more = await asyncio.to_thread(lambda: json.loads(extra.read_text()) if extra.exists() else [])
            return [*await super().list_tools(), *(types.Tool.model_validate(each) for each in more)]

    server = Growing("friendly", lifespan=_lifespan(note))

    @server.tool(annotations=types.ToolAnnotations(readOnlyHint=True))
    def add(
        a: int = Field(description="One", examples=[2]),
        b: int = Field(examples=[3]),
        note_it: str | None = None,
    ) -> int:
        """Add two numbers."""
        note("call add", a, b, note_it)
        return a + b

    @server.tool()
    def process() -> str:
        """Give the server's process."""
        note("call process")
        return str(os.getpid())

    @server.tool()
    async def slow(seconds: float = Field(examples=[600])) -> str:
        """Take a while."""
        import anyio

        note("call slow", seconds)
        await anyio.sleep(seconds)
        return "slowly done"

    waiting: list[Any] = []

    @server.tool()
    async def meet() -> str:
        """Wait for another call that is made at the same time."""
        import anyio

        here = anyio.Event()
        waiting.append(here)
        if len(waiting) == 2:
            for each in waiting:
                each.set()
        await here.wait()
        return "both are here"

    @server.tool()
    def die() -> str:
        """End the server in the midst of the call."""
        note("call die")
        os._exit(3)

    @server.tool()
    def refuse() -> str:
        """Fail."""
        raise ToolError("no such ticket")

    @server.tool()
    def huge() -> str:
        """Say a lot."""
        return "h" * 2_000_000

    @server.tool()
    def enormous() -> str:
        """Say more than anybody takes."""
        return "e" * 12_000_000

    @server.tool(structured_output=False)
    def picture() -> list[Any]:
        """Give a text and a picture."""
        return ["Here it is:", Image(data=b"\x89PNG" + b"0" * 996, format="png")]

    @server.tool()
    def nothing() -> None:
        """Give nothing."""

    @server.tool()
    def environment() -> str:
        """Give the whole environment."""
        return "\n".join(f"{name}={value}" for name, value in sorted(os.environ.items()))

    @server.tool()
    def keyed() -> str:
        """Give the key that the call came with."""
        context: Any = server.get_context().request_context
        key = context.meta and context.meta.model_extra.get("idempotencyKey")
        note("call keyed", key)
        if context.request is not None:
            assert context.request.headers["idempotency-key"] == key
        return "keyed"

    @server.tool()
    def headers() -> str:
        """Give the headers of the request."""
        request: Any = server.get_context().request_context.request
        return "\n".join(f"{name}: {value}" for name, value in request.headers.items()) if request else ""

    return server


def _hostile(note: Any) -> Any:
    import anyio
    from mcp import types
    from mcp.server.lowlevel import Server
    from mcp.server.stdio import stdio_server

    server: Any = Server("hostile")

    async def list_tools(_request: Any) -> Any:
        tools = [types.Tool.model_validate(each) for each in HOSTILE_TOOLS]
        return types.ServerResult(types.ListToolsResult(tools=tools))

    async def call_tool(request: Any) -> Any:
        note("call", json.dumps(request.params.name), json.dumps(request.params.arguments, sort_keys=True))
        text = types.TextContent(type="text", text="\x1b[31m<b>done</b> {topic}")
        return types.ServerResult(types.CallToolResult(content=[text]))

    server.request_handlers[types.ListToolsRequest] = list_tools
    server.request_handlers[types.CallToolRequest] = call_tool

    async def serve() -> None:
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    class Runner:
        def run(self, _transport: str) -> None:
            anyio.run(serve)

    return Runner()


def _lifespan(note: Any) -> Any:
    @asynccontextmanager
    async def lifespan(_server: Any) -> AsyncIterator[dict[str, Any]]:
        note("session", os.getpid())
        yield {}

    return lifespan


@dataclass
class McpNotes:
    """What a server has noted."""

    path: Path

    def lines(self, word: str) -> list[str]:
        """Give the lines that begin with a word, without it."""
        if not self.path.exists():
            return []
        return [
            line.removeprefix(f"{word} ")
            for line in self.path.read_text().splitlines()
            if line.startswith(f"{word} ") or line == word
        ]

    def wait_for(self, word: str) -> str:
        """Wait for such a line, and give the last."""
        end = time.monotonic() + 60
        while not (lines := self.lines(word)):
            assert time.monotonic() < end, f"no {word} in {self.path}"
            time.sleep(0.02)
        return lines[-1]


@dataclass
class HttpMcpServer:
    """A running server on loopback."""

    url: str
    notes: McpNotes
    process: subprocess.Popen[bytes]


def stdio(notes: Path, kind: str = "friendly") -> dict[str, Any]:
    """Give the fields that register the server as a program."""
    return {"transport": "stdio", "command": sys.executable, "args": [str(SERVER), "stdio", str(notes), kind]}


@contextmanager
def http_mcp_server(notes: Path, port: int = 0) -> Iterator[HttpMcpServer]:
    """Run the server on loopback."""
    process = subprocess.Popen(
        [sys.executable, str(SERVER), "http", str(notes)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "MCP_PORT": str(port)},
    )
    try:
        noted = McpNotes(notes)
        port = noted.wait_for("port")
        yield HttpMcpServer(f"http://127.0.0.1:{port}/mcp", noted, process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
