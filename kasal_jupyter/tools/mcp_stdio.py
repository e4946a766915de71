"""MCP over a program's standard input and output.

Not the ``mcp`` package's own transport: that puts the program into a process group of its own, where a run
that is killed would leave it behind, and reads lines of any length.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCMessage
from pydantic import ValidationError

from kasal_jupyter.environment import plain_environment
from kasal_jupyter.schemas.mcp import RunMcpServer
from kasal_jupyter.tools.mcp_failure import McpFailed
from kasal_jupyter.warden import mark
from kasal_jupyter.wellformed import well_formed_json

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    Streams = tuple[
        MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]
    ]

MAX_MESSAGE = 10_000_000
"""Bytes of one message; a server that sends more is given up."""

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
    process = await _started(server, folder)
    into, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, out = anyio.create_memory_object_stream[SessionMessage](0)
    reading = asyncio.create_task(_read(process, into))
    writing = asyncio.create_task(_write(process, out))
    try:
        yield incoming, outgoing
    finally:
        writing.cancel()
        await _end(process)
        reading.cancel()
        await asyncio.wait([reading, writing])
        for stream in (into, incoming, outgoing, out):
            stream.close()


async def _started(server: RunMcpServer, folder: str) -> asyncio.subprocess.Process:
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


async def _read(
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


async def _write(process: asyncio.subprocess.Process, out: MemoryObjectReceiveStream[SessionMessage]) -> None:
    """Tell the program what the session says."""
    assert process.stdin is not None
    async with out:
        async for each in out:
            line = each.message.model_dump_json(by_alias=True, exclude_none=True)
            process.stdin.write(f"{line}\n".encode())
            with suppress(ConnectionError):
                await process.stdin.drain()


async def _end(process: asyncio.subprocess.Process) -> None:
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
