"""A backend that launches nothing: a run's life in milliseconds, with any fault at any step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson

from kasal_jupyter.executions.backends.backend import Exit, OnExit, OnLines
from kasal_jupyter.schemas.base import utc_now_precise
from kasal_jupyter.schemas.spec import RunMessage, RunSpec

Script = Callable[["FakeRun"], Awaitable[None]]
"""What a run's process does."""


def event(kind: str, **fields: Any) -> bytes:
    """Write an event as a run's process does."""
    return orjson.dumps({"time": utc_now_precise(), "type": kind, **fields})


def status(status: str, **fields: Any) -> bytes:
    """Write a change of the run's state."""
    return event("execution_status", status=status, **fields)


def span(kind: str, number: int = 1, **fields: Any) -> bytes:
    """Write an event of a span, of no task."""
    return event(kind, span_id=number, parent_id=None, task_id=None, task=None, agent="Ada", **fields)


def call(number: int, tokens: int) -> list[bytes]:
    """Write a model call with its answer."""
    usage = {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}
    answer = {"text": "Yes", "tool_calls": [], "usage": usage, "cost": 0.5, "finish_reason": "stop"}
    return [
        span("llm_call", number, model="m", messages=[], tools=[]),
        span("llm_response", number, model="m", **answer),
    ]


class FakeRun:
    """A run's process, which is none."""

    pid = 0

    def __init__(self, spec: RunSpec, on_lines: OnLines, on_exit: OnExit, script: Script) -> None:
        self.spec = spec
        self.sent: list[RunMessage] = []
        self.told = asyncio.Event()
        self.stopped = 0
        self._on_lines = on_lines
        self._on_exit = on_exit
        self._exited = False
        self._script = asyncio.ensure_future(script(self))
        self._script.add_done_callback(lambda done: None if done.cancelled() else done.exception())

    def say(self, *lines: bytes) -> None:
        """Have lines arrive at the server, together."""
        if not self._exited:
            self._on_lines(list(lines))

    def exit(self, status: int | None = 0) -> None:
        """End the process."""
        if not self._exited:
            self._exited = True
            self._on_exit(Exit(status))

    def send(self, message: RunMessage) -> None:
        self.sent.append(message)
        self.told.set()

    async def stop(self) -> None:
        self.stopped += 1
        self._script.cancel()
        await asyncio.sleep(0)
        self.exit(1)

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def completes(run: FakeRun) -> None:
    """Begin, ask a model, and complete."""
    run.say(status("running"))
    await asyncio.sleep(0)
    run.say(*call(1, 10), status("completed", result="Tea"))
    run.exit()


async def goes_on(run: FakeRun) -> None:
    """Begin, and run until it is stopped."""
    run.say(status("running"))
    await asyncio.Event().wait()


class FakeBackend:
    """Launches scripts in the place of processes.

    Parameters
    ----------
    scripts
        What the runs do, in the order of their launches; the last goes for all that come behind it.
    """

    warm = True
    places: int | None = None

    def __init__(self, *scripts: Script) -> None:
        self.scripts: Sequence[Script] = scripts or (completes,)
        self.runs: list[FakeRun] = []

    async def start(self) -> None: ...

    async def launch(self, spec: RunSpec, on_lines: OnLines, on_exit: OnExit) -> FakeRun:
        script = self.scripts[min(len(self.runs), len(self.scripts) - 1)]
        run = FakeRun(spec, on_lines, on_exit, script)
        self.runs.append(run)
        return run

    async def close(self) -> None: ...
