"""Sessions with MCP servers, and what is made of their tools and results."""

import asyncio
import sys
import time
from urllib.parse import urlsplit

import psutil
import pytest
from mcp.types import (
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from kasal_jupyter.schemas.mcp import RunMcpServer
from kasal_jupyter.tools.guard import HostGuard
from kasal_jupyter.tools.mcp_listing import McpFailed
from kasal_jupyter.tools.mcp_probe import probe
from kasal_jupyter.tools.mcp_session import McpSession, text_of
from kasal_jupyter.tools.mcp_streams import _Events
from tests.servers.mcp_server import McpNotes, http_mcp_server, stdio


def test_a_server_that_was_started_anew_gets_a_new_session(tmp_path):
    async def add(session):
        return text_of(await session.call("add", {"a": 2, "b": 3}))

    async def go():
        with http_mcp_server(tmp_path / "first") as first:
            server = RunMcpServer(name="web", transport="http", url=first.url, timeout=30, tools=[])
            session = McpSession(server, HostGuard(["127.0.0.1"]), str(tmp_path))
            assert await add(session) == "5"
            assert await add(session) == "5"
            # What the server says of its tools: that one only reads, and the others may do anything.
            assert [tool.name for tool in await session.tools() if tool.idempotent] == ["add"]
        assert len(first.notes.lines("session")) == 1
        # While it is away, calls fail in words; one is not made up for later.
        with pytest.raises(McpFailed, match=r"The connection to 127\.0\.0\.1 failed"):
            await add(session)
        with http_mcp_server(tmp_path / "second", urlsplit(first.url).port) as second:
            assert await add(session) == "5"
            assert second.notes.lines("call add") == ["2 3 None"]
            await session.close()

    asyncio.run(go())


def test_what_is_no_text_is_told_in_words():
    content = [
        TextContent(type="text", text="Two files:"),
        EmbeddedResource(
            type="resource", resource=TextResourceContents(uri="file:///a.txt", text="the text of a")
        ),
        EmbeddedResource(
            type="resource",
            resource=BlobResourceContents(uri="file:///b.bin", blob="AAAA", mimeType="application/zip"),
        ),
        ResourceLink(type="resource_link", uri="file:///c", name="c", description="what\nc is"),
    ]
    assert text_of(CallToolResult(content=content)) == (
        "Two files:\n[The resource file:///a.txt:]\nthe text of a\n"
        "[The resource file:///b.bin: 3 bytes of application/zip.]\n[A resource at file:///c: c, what c is]"
    )
    assert text_of(CallToolResult(content=[])) == "[Nothing.]"
    assert text_of(CallToolResult(content=[], structuredContent={"a": [1]})) == '{"a": [1]}'
    # Given as text as well, it is not told twice.
    told = CallToolResult(content=[TextContent(type="text", text="1")], structuredContent={"a": 1})
    assert text_of(told) == "1"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="orphans come back to nobody here")
def test_a_look_at_a_program_leaves_nothing_that_has_detached_itself(tmp_path):
    notes = McpNotes(tmp_path / "notes")
    server = RunMcpServer(name="calc", tools=[], **stdio(notes.path, "detaching"))
    assert "add" in {tool.name for tool in probe(server, []).tools}
    end = time.monotonic() + 120
    while psutil.pid_exists(int(notes.wait_for("detached"))):
        assert time.monotonic() < end
        time.sleep(0.02)


HALVES = r"""
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    if asked["method"] == "initialize":
        result = json.dumps({"protocolVersion": asked["params"]["protocolVersion"], "capabilities": {},
                             "serverInfo": {"name": "halves", "version": "1"}})
    else:
        result = '{"content": [{"type": "text", "text": "tea \\ud800 HOT"}]}'
    answer = '{"jsonrpc": "2.0", "id": %d, "result": %s}\n' % (asked["id"], result)
    sys.stdout.buffer.write(answer.encode().replace(b"HOT", b"\xff"))
    sys.stdout.buffer.flush()
"""


def test_what_no_utf_8_can_hold_in_a_servers_answer_is_replaced(tmp_path):
    script = tmp_path / "halves.py"
    script.write_text(HALVES)

    async def go():
        server = RunMcpServer(
            name="halves", transport="stdio", command=sys.executable, args=[str(script)], timeout=30, tools=[]
        )
        session = McpSession(server, HostGuard([]), str(tmp_path))
        try:
            return text_of(await session.call("say", {}))
        finally:
            await session.close()

    assert asyncio.run(go()) == "tea \ufffd \ufffd"


def test_a_stream_of_events_is_mended_although_it_comes_in_pieces():
    async def stream():
        for piece in (b'data: {"a": "\\ud8', b'00 \\ud83d\\ude00"', b"}\nid: 1\n", b"\n"):
            yield piece

    async def go():
        return b"".join([piece async for piece in _Events(stream(), 1, "host")])

    assert asyncio.run(go()) == b'data: {"a": "\\ufffd \\ud83d\\ude00"}\nid: 1\n\n'
