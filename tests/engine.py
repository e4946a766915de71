"""Running crews in tests: a real backend on an event loop of its own, and specs written briefly."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from kasal_jupyter.events.prompts import Prompts
from kasal_jupyter.executions.backends.backend import Exit
from kasal_jupyter.executions.backends.local import LocalBackend, LocalRun, StartMethod
from kasal_jupyter.executions.backends.zygote import Zygote
from kasal_jupyter.schemas.allowances import Reserved, Wish
from kasal_jupyter.schemas.spec import NOTE, RESERVE, RunMessage, RunSpec
from tests.processes import PATIENCE
from tests.shared_zygote import borrowing

TIME = "2024-01-15T10:30:00Z"
TIMEOUT = PATIENCE

SECRETS = {
    "OPENAI_API_KEY": "sk-of-the-server-itself",
    "OPENAI_BASE_URL": "http://127.0.0.1:9/nowhere",
    "MY_SECRET": "of-the-server-itself",
    "JPY_API_TOKEN": "token-of-the-server-itself",
    "REDIS_URL": "redis://127.0.0.1:9/nowhere",
}
"""What the server's environment holds while the tests' backend starts its processes."""

_STAMPS = {"owner": "ada", "created_at": TIME, "updated_at": TIME}


def agent(role: str, **fields: Any) -> dict[str, Any]:
    """Describe an agent; its id is its role in lower case."""
    return {
        "id": role.lower(),
        "crew_id": "crew_1",
        "name": role,
        "position": 0,
        "role": role,
        "goal": f"Be a good {role.lower()}",
        "backstory": "You know your trade.",
        "model": "sandbox",
        **_STAMPS,
        **fields,
    }


def task(
    name: str, by: str | None, description: str, after: tuple[str, ...] = (), **fields: Any
) -> dict[str, Any]:
    """Describe a task, done by an agent after others whose results it gets."""
    return {
        "id": name,
        "crew_id": "crew_1",
        "agent_id": by,
        "position": 0,
        "description": description,
        "expected_output": "A short text",
        "context_tasks": list(after) or None,
        "context_texts": [],
        **_STAMPS,
        **fields,
    }


def crew(
    folder: Path,
    agents: list[dict[str, Any]],
    tasks: list[dict[str, Any]],
    *,
    inputs: dict[str, Any] | None = None,
    models: dict[str, dict[str, Any]] | None = None,
    process: str = "sequential",
    tools: list[dict[str, Any]] | None = None,
    allowed_hosts: list[str] | None = None,
    client_tools: list[dict[str, Any]] | None = None,
    **more: Any,
) -> RunSpec:
    """Describe a run; ``more`` are fields of the crew, e.g. ``manager_agent``."""
    folder.mkdir(parents=True, exist_ok=True)
    sandbox = {"name": "sandbox", "provider": "sandbox", "model": "sandbox"}
    return RunSpec.model_validate(
        {
            "job_id": "job_1",
            "crew": {"id": "crew_1", "name": "Tested", "process": process, **_STAMPS, **more},
            "agents": agents,
            "tasks": tasks,
            "inputs": inputs or {},
            "models": {"sandbox": sandbox, **(models or {})},
            "tools": tools or [],
            "allowed_hosts": allowed_hosts or [],
            "client_tools": client_tools or [],
            "manager_model": "sandbox" if process == "hierarchical" else None,
            "planning_model": more.get("planning_model", "sandbox") if more.get("planning") else None,
            "folder": str(folder),
        }
    )


def openai_model(url: str, key: str = "sk-test-1234567890abcdef") -> dict[str, dict[str, Any]]:
    """Describe a model that an OpenAI-compatible server serves, to be called *gpt*."""
    return {
        "gpt": {"name": "gpt", "provider": "openai", "model": "gpt-4o-mini", "api_key": key, "base_url": url}
    }


@dataclass
class Record:
    """A run as the server saw it: ``raw`` as it came, and its ``events`` with whole prompts."""

    events: list[dict[str, Any]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    exited: Future[int | None] = field(default_factory=Future)
    exit: Exit | None = None
    seen: threading.Condition = field(default_factory=threading.Condition)
    handle: LocalRun | None = None
    keeps: bool = True
    """Whether it is told at once that what it says is recorded."""
    unkept: list[bytes] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)
    """What it has used of shared budgets, and wanted."""
    refuses: Callable[[Wish], str | None] = lambda _wish: None
    """Says why it is not to have what it wants; None where it is."""

    def __post_init__(self) -> None:
        self._prompts = Prompts(self._call)

    def _call(self, span_id: int) -> dict[str, Any] | None:
        calls = (event for event in self.of("llm_call") if event["span_id"] == span_id)
        return next(calls, None)

    def take(self, lines: list[bytes]) -> None:
        events = [line for line in lines if not line.startswith((NOTE, RESERVE))]
        with self.seen:
            self.raw.extend(events)
            for line in events:
                self.events.append(self._prompts.event(orjson.loads(line)))
            self.unkept += [line for line in lines if line.startswith(NOTE)]
            self.seen.notify_all()
        if self.keeps:
            self.keep()
        for line in lines:
            if line.startswith(RESERVE):
                self._reserve(Wish.model_validate_json(line))

    def _reserve(self, wish: Wish) -> None:
        self.wishes.append(wish)
        if wish.reserve:
            assert self.handle is not None
            answer = Reserved(number=wish.reserve, refusal=self.refuses(wish))
            self.handle.send(RunMessage(type="reserved", reserved=answer))

    def keep(self) -> None:
        """Say that all it has told is recorded, as a server does: it waits for that before what is done once.

        On the loop of its engine.
        """
        for line in self.unkept:
            assert self.handle is not None
            self.handle.send(RunMessage(type="noted", **orjson.loads(line)))
        self.unkept = []

    def end_with(self, ended: Exit) -> None:
        self.exit = ended
        self.exited.set_result(ended.status)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Give the events of a type."""
        return [event for event in self.events if event["type"] == kind]

    def wait_for(self, kind: str) -> dict[str, Any]:
        """Wait for an event of a type."""
        with self.seen:
            assert self.seen.wait_for(lambda: self.of(kind), TIMEOUT), f"no {kind} came"
            return self.of(kind)[0]

    @property
    def end(self) -> dict[str, Any]:
        """The event that ended the run; what the crew learns of it may come after."""
        return self.of("execution_status")[-1]


class Engine:
    """A local backend that tests can call from where there is no event loop."""

    def __init__(self, folder: Path, start_method: StartMethod | None = None, *, max_memory: int = 0) -> None:
        self.folder = folder
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="engine")
        self._thread.start()
        self.backend = LocalBackend(folder, start_method=start_method, max_memory=max_memory)

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the backend's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT)

    def launch(self, spec: RunSpec, **options: Any) -> Record:
        """Start a run; the options are its record's."""
        record = Record(**options)

        async def launch() -> None:
            record.handle = await self.backend.launch(spec, record.take, record.end_with)

        self.call(launch())
        return record

    def run(self, spec: RunSpec, **options: Any) -> Record:
        """Start a run and wait for its end."""
        record = self.launch(spec, **options)
        record.exited.result(TIMEOUT)
        return record

    def send(self, record: Record, message: RunMessage) -> None:
        """Send a run a message."""
        assert record.handle is not None
        self._loop.call_soon_threadsafe(record.handle.send, message)

    def keep(self, record: Record) -> None:
        """Tell a run that what it has said is recorded."""
        self._loop.call_soon_threadsafe(record.keep)

    def stop(self, record: Record) -> None:
        """Stop a run."""
        assert record.handle is not None
        self.call(record.handle.stop())

    def close(self) -> None:
        """Leave nothing behind."""
        self.call(self.backend.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def borrowed_zygotes() -> Iterator[None]:
    """Have the zygotes that this process starts be borrowed, see `tests.shared_zygote`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Zygote, "_popen", borrowing(Zygote._popen))
        yield


@contextmanager
def warm_engine(folder: Path) -> Iterator[Engine]:
    """Give a backend that is warm, in an environment full of secrets."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        running = Engine(folder)
        running.call(running.backend.start())
        yield running
        running.close()
