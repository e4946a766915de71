"""One execution that this server runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson

from kasal_jupyter.errors import KasalError
from kasal_jupyter.runs.backend import Backend, Exit, RunHandle
from kasal_jupyter.runs.calls import ClientCalls
from kasal_jupyter.runs.feed import Feed
from kasal_jupyter.runs.keyed import KeyedRequest
from kasal_jupyter.runs.recovery import interrupted_event
from kasal_jupyter.schemas.base import utc_now, utc_now_precise
from kasal_jupyter.schemas.executions import Execution
from kasal_jupyter.schemas.spec import RunMessage, RunSpec, RunToolAnswer

_END_MARKS = (b'"execution_status"', b'"error"')
"""What a line must contain to be worth parsing while a run is being stopped."""


LAUNCH_SECONDS = 0.5
"""How long the end of a run waits for its process to come; with a warm engine it is there at once."""


class Run:
    """An execution from the queue to its end.

    Parameters
    ----------
    spec
        What is run.
    feed
        Where its events go.
    on_change
        Told when the run started and when it ended.
    """

    def __init__(self, spec: RunSpec, feed: Feed, on_change: Callable[[Run], None]) -> None:
        self.spec = spec
        self.feed = feed
        self.calls = ClientCalls(spec.client_tools, self._send_answer)
        """The calls that the run's client is to answer."""
        self._on_change = on_change
        self._handle: RunHandle | None = None
        self._stopping = False
        self._exited = asyncio.Event()
        self.put_away = asyncio.Event()
        """Set once the run has ended and the store knows it."""
        self._launching = False

    async def launch(self, backend: Backend) -> None:
        """Start the run's process; from then on its events come by themselves."""
        if self._stopping:
            return
        self._launching = True
        try:
            self._handle = await backend.launch(self.spec, self._on_lines, self._on_exit)
        except KasalError as error:
            if not self.feed.summary.ended:
                self._fail(error.code, error.message)
            self._exited.set()
            return
        if self._told_to_stop():
            await self._handle.stop()

    async def stop(self) -> None:
        """End the run as ``stopped``, its processes gone."""
        await self._end(_status("stopped"))

    async def interrupt(self) -> None:
        """End the run as ``interrupted``: the server is going down."""
        await self._end(interrupted_event())

    async def _end(self, last: bytes) -> None:
        if self.feed.summary.ended:
            return
        self._stopping = True
        if self._handle is not None:
            await self._handle.stop()
        if self._launching:
            # One that waits for the engine, which takes seconds to load, has no process yet: `launch` ends
            # it as it comes.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._exited.wait(), None if self._handle else LAUNCH_SECONDS)
        if not self.feed.summary.ended:
            self._write([last])

    def _told_to_stop(self) -> bool:
        # Asked anew: it may have been told while it was launched.
        return self._stopping

    def _on_lines(self, lines: list[bytes]) -> None:
        if self._stopping:
            lines = [line for line in lines if not _is_end(line)]
        if lines and not self.feed.summary.ended:
            self._write(lines)

    def _on_exit(self, ended: Exit) -> None:
        if not self.feed.summary.ended and not self._stopping:
            status = "ended without a word" if ended.status is None else f"ended with status {ended.status}"
            self._fail(
                ended.code, f"The run's process {ended.reason or status}; its log is {self.spec.folder}"
            )
        self._exited.set()

    def _send_answer(self, answer: RunToolAnswer) -> None:
        if self._handle is not None:
            self._handle.send(RunMessage(type="tool_answer", answer=answer))

    def _fail(self, code: str, message: str) -> None:
        error = {"code": code, "message": message}
        self._write([_event(type="error", **error), _status("failed", error=error)])

    def _write(self, lines: list[bytes]) -> None:
        before = self.feed.summary.status
        self.feed.append(lines)
        self.calls.take(lines)
        if self.feed.summary.ended:
            self.calls.end()
        if self.feed.summary.status != before:
            self._on_change(self)


def queued_event(spec: RunSpec) -> bytes:
    """Give the first event of a run: what will be done."""
    names = {agent.id: agent.name for agent in spec.agents}
    return _event(
        type="execution_status",
        status="queued",
        crew_id=spec.crew.id,
        crew_name=spec.crew.name,
        process=spec.crew.process,
        tasks=[
            {
                "id": task.id,
                "title": task.title(),
                "agent": names.get(task.agent_id) if task.agent_id else None,
                "context": task.context_tasks,
            }
            for task in spec.tasks
        ],
        inputs=spec.inputs,
    )


def queued_execution(
    spec: RunSpec,
    owner: str,
    server: str,
    *,
    expected: int,
    models: list[str],
    request: KeyedRequest | None,
) -> Execution:
    """Give what the store first knows of a run.

    Parameters
    ----------
    spec
        The run.
    owner
        Whose it is.
    server
        Which server runs it.
    expected
        How many seconds it may take.
    models
        Those that its crew names.
    request
        The key that the client sent along, if it sent one.
    """
    return Execution(
        id=spec.job_id,
        crew_id=spec.crew.id,
        crew_name=spec.crew.name,
        owner=owner,
        server=server,
        status="queued",
        progress=0,
        inputs=spec.inputs,
        created_at=utc_now(),
        estimated_duration=expected,
        budget=spec.budget,
        models=models,
        idempotency_key=request.key if request else None,
        request_digest=request.digest if request else None,
    )


def _status(status: str, **fields: Any) -> bytes:
    return _event(type="execution_status", status=status, **fields)


def _event(**fields: Any) -> bytes:
    return orjson.dumps({"time": utc_now_precise(), **fields})


def _is_end(line: bytes) -> bool:
    """Say whether a line says how the run ended: a run that was told to stop does not decide that itself."""
    if not any(mark in line for mark in _END_MARKS):
        return False
    event = orjson.loads(line)
    kind, status = event["type"], event.get("status")
    return bool(kind == "error" or (kind == "execution_status" and status != "running"))
