"""Looking at an MCP server before it is registered, in a process of its own.

A server's list may be long, hostile, or never come, and the ``mcp`` package takes a second to import: none of
that is for the process that serves others. ``python -m kasal_jupyter.tools.mcp_probe`` reads a
:class:`Question` on its input, writes a :class:`Finding` on its output, and ends with all it has started.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from typing import NoReturn

from pydantic import Field, ValidationError

from kasal_jupyter.confined import NICE
from kasal_jupyter.hiding import CERTIFICATES, Hider, beginning, plain_environment
from kasal_jupyter.schemas.base import Deferred
from kasal_jupyter.schemas.mcp import RunMcpServer
from kasal_jupyter.tools.mcp_listing import McpFailed, RemoteTool
from kasal_jupyter.warden import END_SECONDS, stand_back, under_warden

PROBE_SECONDS = 90.0
"""How long all of it may take. What waits for the server itself ends before that."""

LIST_SECONDS = 20.0
"""How long the server may take to list its tools."""

COMMAND: Sequence[str] = (sys.executable, "-m", "kasal_jupyter.tools.mcp_probe")
"""What a process is started by."""

_LAST_BYTES = 4_000
"""Bytes of what a program printed that are kept."""


class Question(Deferred):
    """Which server to look at."""

    server: RunMcpServer
    allowed_hosts: list[str] | None


class Finding(Deferred):
    """What the server has said, or why it has said nothing."""

    version: str | None = None
    tools: list[RemoteTool] = Field(default_factory=list)
    error: str | None = None
    field: str | None = None


def probe(server: RunMcpServer, allowed_hosts: list[str] | None) -> Finding:
    """Connect to a server, list its tools, and let go of it. Blocks: for a thread.

    Parameters
    ----------
    server
        The server.
    allowed_hosts
        Hosts besides the public ones that may be called; None: none at all.

    Returns
    -------
    Finding
        The tools. Nothing in it repeats the server's secrets.

    Raises
    ------
    McpFailed
        The server cannot be reached, or is none; its text does not repeat the server's secrets.
    """
    question = Question(server=server, allowed_hosts=allowed_hosts).model_dump_json().encode()
    with subprocess.Popen(  # noqa: S603 - our own program
        COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=plain_environment(also=CERTIFICATES),
        process_group=0,
    ) as process:
        stand_back(NICE, process.pid)
        try:
            written, _ = process.communicate(question, timeout=PROBE_SECONDS)
        except subprocess.TimeoutExpired:
            written = b""
        finally:
            _kill(process)
    try:
        finding = Finding.model_validate_json(written)
    except ValidationError:
        raise McpFailed(f"{server.name} has not listed its tools within {PROBE_SECONDS:g} seconds") from None
    if finding.error is not None:
        raise McpFailed(finding.error, field=finding.field)
    return finding


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and all it has started, where it has not done so itself."""
    if process.poll() is not None:
        return
    # Elsewhere than on Windows it is a warden, which ends everything before itself.
    process.terminate()
    try:
        process.wait(2 * END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class _LastWords:
    """Takes what this process's programs print as errors, and keeps the end of it."""

    def __init__(self, hider: Hider) -> None:
        self._hider = hider
        self._kept = bytearray()
        self._dropped = False
        self._source, into = os.pipe()
        os.dup2(into, 2)
        os.close(into)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while piece := os.read(self._source, 65_536):
            self._kept += piece
            self._dropped |= len(self._kept) > _LAST_BYTES
            del self._kept[:-_LAST_BYTES]

    def line(self) -> str:
        """Give the last line without secrets; nothing where its beginning, part of one maybe, was dropped."""
        said = self._hider.hide(bytes(self._kept)).decode(errors="replace")
        lines = said.strip().splitlines()[1 if self._dropped else 0 :]
        return beginning(lines[-1]) if lines else ""


def main() -> NoReturn:
    """Answer the question on the input."""
    under_warden(1)
    out = os.dup(1)
    question = Question.model_validate_json(sys.stdin.buffer.read())
    hider = Hider(question.server.secrets())
    printed = _LastWords(hider)
    # What a library prints must not stand in the answer, nor its notes among the program's last words.
    os.dup2(2, 1)
    logging.disable()
    with tempfile.TemporaryDirectory(prefix="kasal-mcp-") as folder:
        finding = _found(question, folder, printed)
    with os.fdopen(out, "wb") as answer:
        answer.write(hider.json(finding.model_dump_json().encode()))
    os._exit(0)


def _found(question: Question, folder: str, printed: _LastWords) -> Finding:
    import anyio

    # A grammar for IRIs that jsonschema only uses when it is there, and that takes seconds to build.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    try:
        return anyio.run(_look, question, folder)
    except McpFailed as error:
        said = printed.line() if question.server.transport == "stdio" else ""
        more = f". Its last words: {said}" if said else ""
        blamed = "command" if question.server.transport == "stdio" else "url"
        return Finding(error=f"{error}{more}", field=error.field or blamed)


async def _look(question: Question, folder: str) -> Finding:
    from kasal_jupyter.tools.guard import HostGuard
    from kasal_jupyter.tools.mcp_session import McpSession

    # The first question that is asked is a short one, however long a call may take.
    server = question.server.model_copy(update={"timeout": LIST_SECONDS})
    session = McpSession(server, HostGuard(question.allowed_hosts), folder)
    try:
        await session.open()
        return Finding(version=session.version, tools=await session.tools())
    finally:
        await session.close()


if __name__ == "__main__":
    main()
