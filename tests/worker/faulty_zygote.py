"""A zygote whose children have faults: what a run's topic names fails in its process.

A topic is ``fault SEAM ERROR FIRST LAST``: the calls of the seam with these numbers fail.
"""

from __future__ import annotations

import errno
import functools
import importlib
import itertools
import re
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from kasal_jupyter.worker.process import zygote
from kasal_jupyter.worker.process.setup import import_crewai
from kasal_jupyter.worker.process.zygote import fostered

ERRORS = {
    "ENOSPC": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "EIO": lambda: OSError(errno.EIO, "Input/output error"),
    "EMFILE": lambda: OSError(errno.EMFILE, "Too many open files"),
    "EPIPE": lambda: BrokenPipeError(errno.EPIPE, "Broken pipe"),
    "any": lambda: RuntimeError("of whatever type"),
    "memory": MemoryError,
}

PROCESS, CREW = "kasal_jupyter.worker.process", "kasal_jupyter.worker.crew"

SEAMS = {
    # What its socket is asked to do, and what comes on it.
    "send": (),
    "recv": (),
    "line": (),
    # Everything else by where it is, and what it is called there.
    "Hider.split": ("kasal_jupyter.hiding", "Hider"),
    "Hider.found": ("kasal_jupyter.hiding", "Hider"),
    "Outbox.emit": (f"{PROCESS}.outbox", "Outbox"),
    "Outbox.mute": (f"{PROCESS}.outbox", "Outbox"),
    "Outbox.close": (f"{PROCESS}.outbox", "Outbox"),
    "encode": (f"{PROCESS}.outbox",),
    "fitted": (f"{PROCESS}.outbox",),
    "describe": (f"{PROCESS}.run",),
    "Report.__call__": (f"{CREW}.report", "Report"),
    "Report.run_failed": (f"{CREW}.report", "Report"),
    "Spans.open": (f"{CREW}.spans", "Spans"),
    "Spans.end": (f"{CREW}.spans", "Spans"),
    "ClientCalls.answer": (f"{CREW}.client_tool", "ClientCalls"),
    "StopSignal.stop": (f"{PROCESS}.stop", "StopSignal"),
    "StopSignal.fail": (f"{PROCESS}.stop", "StopSignal"),
    "Keepsakes.event": (f"{CREW}.remembering", "Keepsakes"),
    "McpServers.close": (f"{CREW}.mcp_sessions", "McpServers"),
    "build_crew": (f"{PROCESS}.run",),
    "hold_own_addresses": (f"{PROCESS}.run",),
    "_told": (f"{PROCESS}.run",),
    "RunLog.close": (f"{PROCESS}.setup", "RunLog"),
    "_HalvedFile.write": (f"{PROCESS}.setup", "_HalvedFile"),
    "open": ("os",),
    "pipe": ("os",),
    "write": ("os",),
    "Thread.start": ("threading", "Thread"),
}

STUMBLES = (
    "json.loads('{')",
    "b'\\xff'.decode()",
    "raise errors.Unavailable('It is away')",
    "raise ValueError('too many tokens')",
    "raise type('ReadError', (Exception,), {'status_code': 503})('It broke off')",
    "int('x')",
    "__import__('kasal_jupyter.schemas.spec').schemas.spec.RunMessage.model_validate({'stop': []})",
)
"""Code of ours that fails with what a provider's SDK might raise, or might say."""


class Faults:
    """Counts the calls of a seam, and has some of them fail."""

    def __init__(self, error: str, first: int, last: int) -> None:
        self.calls = 0
        self._error = ERRORS[error]
        self._failing = range(first, last + 1)

    def pass_by(self) -> None:
        self.calls += 1
        if self.calls in self._failing:
            raise self._error()

    def into(self, seam: str) -> None:
        module, *inside = SEAMS[seam]
        owner: Any = importlib.import_module(module)
        for name in inside:
            owner = getattr(owner, name)
        name = seam.rpartition(".")[2]
        real = getattr(owner, name)

        @functools.wraps(real)
        def faulty(*args: Any, **options: Any) -> Any:
            self.pass_by()
            return real(*args, **options)

        setattr(owner, name, faulty)


class FaultySocket(socket.socket):
    """The run's socket."""

    faults: Faults
    seam: str

    def send(self, *args: Any) -> int:
        if self.seam == "send":
            self.faults.pass_by()
        return super().send(*args)

    def recv(self, *args: Any) -> bytes:
        if self.seam == "recv":
            self.faults.pass_by()
        data = super().recv(*args)
        if self.seam == "line":
            try:
                self.faults.pass_by()
            except RuntimeError:
                return b'{"type": "\xff\n'
        return data


def left_behind(kind: str) -> None:
    """Leave a thread behind that never ends, and holds the interpreter's lock once the run's end is told."""
    from kasal_jupyter.worker.process import run
    from kasal_jupyter.worker.process.outbox import Outbox

    tell, send, close = run._told, Outbox._send, run.McpServers.close
    ended, both_told = threading.Event(), threading.Event()
    done = itertools.count(1)

    def forever() -> None:
        ended.wait()
        if kind == "asleep":
            threading.Event().wait()
        re.fullmatch("(a|aa)+b", "a" * 200)

    def tell_late(*args: Any) -> Any:
        if kind == "before the end":
            # From then on nobody sends anything, nor that the tasks are done.
            both_told.wait()
            ended.set()
            forever()
        threading.Thread(target=forever, daemon=False).start()
        return tell(*args)

    def sent(outbox: Outbox, batch: bytes) -> None:
        send(outbox, batch)
        if any(next(done) == 2 for _ in range(batch.count(b'"type":"task_complete"'))):
            both_told.set()
        if b'"completed"' in batch:
            ended.set()

    def close_late(servers: Any) -> None:
        close(servers)
        ended.wait()
        if kind == "behind the end":
            threading.Event().wait()  # For the other to have the lock.

    run._told, Outbox._send, run.McpServers.close = tell_late, sent, close_late  # type: ignore[method-assign]


def stumble(code: str) -> None:
    """Have our own reading of any model's answer fail."""
    from kasal_jupyter.worker.models.llm import ReportedLLM

    there: dict[str, Any] = {"__name__": ReportedLLM.__module__}
    exec(f"import json\nfrom kasal_jupyter import errors\ndef ending(llm, event):\n    {code}", there)
    ReportedLLM.ending = there["ending"]  # type: ignore[method-assign]


def served(real: Any) -> Any:
    def serve(sock: socket.socket) -> None:
        head = b""
        while b"\n" not in head and b'"topic"' not in head:
            head = sock.recv(10_000_000, socket.MSG_PEEK)
        match re.search(rb'"topic": ?"([^"]*)"', head)[1].decode().split():  # type: ignore[index]
            case ["fault", seam, error, first, last]:
                faults = Faults(error, int(first), int(last))
                if SEAMS[seam]:
                    faults.into(seam)
                else:
                    sock = FaultySocket(fileno=sock.detach())
                    sock.faults, sock.seam = faults, seam
            case ["stumble", number]:
                stumble(STUMBLES[int(number)])
            case ["left", *words]:
                left_behind(" ".join(words))
            case _:
                pass
        real(sock)

    return serve


def adapt() -> None:
    """Have what would be a plain zygote be this one."""
    from kasal_jupyter.worker.process import run

    run.serve_run = served(run.serve_run)


if __name__ == "__main__":
    _control = socket.socket(fileno=int(sys.argv[1]))
    _births = fostered(_control)
    import_crewai(Path(sys.argv[2]))
    adapt()
    zygote.main(_control, Path(sys.argv[2]), _births, int(sys.argv[3]))
