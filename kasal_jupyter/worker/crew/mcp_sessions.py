"""A run's MCP servers: one session each, in one thread that is there for them."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from crewai.tools.tool_failure import ToolFailure

from kasal_jupyter.hiding import Hider
from kasal_jupyter.schemas.mcp import McpTool, RunMcpServer
from kasal_jupyter.schemas.spec import RunSpec
from kasal_jupyter.tools.guard import HostGuard
from kasal_jupyter.tools.tool import MAX_CHARACTERS
from kasal_jupyter.worker.crew.mcp_arguments import given
from kasal_jupyter.worker.process.stop import StopSignal

if TYPE_CHECKING:
    from kasal_jupyter.tools.mcp_session import McpSession

SLACK_SECONDS = 60.0
"""How much longer than its time limit a call is waited for: a server may first have to be started, twice."""

LEAVE_SECONDS = 2.0
"""How long the servers have to end when the run has."""


class McpServers:
    """The sessions with a run's MCP servers.

    They are opened at once, so that a server is up when a model has made up its mind to call it, and kept to
    the run's end. A run without such servers has no thread for them, and neither has a replay.

    Parameters
    ----------
    spec
        The run.
    signal
        Ends all waiting when the run must end.
    """

    def __init__(self, spec: RunSpec, signal: StopSignal) -> None:
        self._signal = signal
        self._servers = {tool.name: (server, tool) for server in spec.mcp_servers for tool in server.tools}
        self._hiders = {server.name: Hider(server.secrets()) for server in spec.mcp_servers}
        self._loop: asyncio.AbstractEventLoop | None = None
        if not self._servers or (spec.source is not None and spec.source.verb == "replay"):
            return
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mcp", daemon=True)
        self._thread.start()
        self._sessions = asyncio.run_coroutine_threadsafe(_begun(spec), self._loop)

    def find(self, name: str) -> McpTool | None:
        """Give the tool of that name, where one of the servers has it."""
        found = self._servers.get(name)
        return found[1] if found is not None else None

    def call(self, name: str, arguments: dict[str, Any], call_key: str | None = None) -> str | ToolFailure:
        """Call a tool, once.

        Parameters
        ----------
        name, arguments
            The tool, and what a model has given for it.
        call_key
            By which its server may know the call again.

        Returns
        -------
        str or ToolFailure
            The result, or why there is none.

        Raises
        ------
        RunStopped, RunFailed
            The run must end.
        """
        server, tool = self._servers[name]
        assert self._loop is not None, "there is a server"
        call = self._called(server.name, tool.remote_name, given(arguments, tool.parameters), call_key)
        text, failed = self._waited_for(asyncio.run_coroutine_threadsafe(call, self._loop), server)
        # Models are other people's: they get none of the server's secrets that it repeats.
        text = self._hiders[server.name].hide(text)[: MAX_CHARACTERS + 200]
        return ToolFailure(message=text) if failed else text

    def close(self) -> None:
        """End the sessions; what does not end in time is killed with the run's process."""
        if self._loop is None:
            return
        closing = asyncio.run_coroutine_threadsafe(self._close(), self._loop)
        closing.add_done_callback(self._wake)
        with self._signal.changed:
            self._signal.changed.wait_for(lambda: closing.done() or self._signal.stopped, LEAVE_SECONDS)

    async def _called(
        self, server: str, remote_name: str, arguments: dict[str, Any], call_key: str | None
    ) -> tuple[str, bool]:
        from kasal_jupyter.tools.mcp_session import text_of

        sessions = await asyncio.wrap_future(self._sessions)
        result = await sessions[server].call(remote_name, arguments, call_key)
        return text_of(result, self._hiders[server].hide), result.isError

    async def _close(self) -> None:
        sessions = await asyncio.wrap_future(self._sessions)
        await asyncio.gather(*(session.close() for session in sessions.values()))

    def _waited_for(self, future: Future[tuple[str, bool]], server: RunMcpServer) -> tuple[str, bool]:
        """Wait for a call's end, or the run's.

        Raises
        ------
        ValueError
            There is no result, in words for the agent.
        """
        future.add_done_callback(self._wake)
        try:
            self._signal.wait_for(future.done, server.timeout + SLACK_SECONDS)
        finally:
            future.cancel()
        if future.cancelled():
            raise ValueError(f"{server.name} did not answer")
        return future.result()

    def _wake(self, _future: Future[Any]) -> None:
        with self._signal.changed:
            self._signal.changed.notify_all()


async def _begun(spec: RunSpec) -> dict[str, McpSession]:
    """Make the sessions, and begin to open them."""
    # In the thread, and not at the top: it takes a third of a second, and most runs have no such servers.
    from kasal_jupyter.tools.mcp_session import McpSession

    guard = HostGuard(spec.allowed_hosts)
    sessions = {server.name: McpSession(server, guard, spec.folder) for server in spec.mcp_servers}
    for session in sessions.values():
        session.begin()
    return sessions
