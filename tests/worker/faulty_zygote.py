"""A zygote whose children have faults: what a run's topic names fails in its process.

A topic is ``fault SEAM ERROR FIRST LAST``: the calls of the seam with these numbers fail.
"""

from __future__ import annotations

import errno
import functools
import importlib
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

ROOM = "kasal_jupyter.worker"

SEAMS = {
    # What its socket is asked to do, and what comes on it.
    "send": (),
    "recv": (),
    "line": (),
    # Everything else by where it is, and what it is called there.
    "Hider.split": ("kasal_jupyter.hiding", "Hider"),
    "Hider.found": ("kasal_jupyter.hiding", "Hider"),
    "Outbox.emit": (f"{ROOM}.outbox", "Outbox"),
    "Outbox.mute": (f"{ROOM}.outbox", "Outbox"),
    "Outbox.close": (f"{ROOM}.outbox", "Outbox"),
    "encode": (f"{ROOM}.outbox",),
    "fitted": (f"{ROOM}.outbox",),
    "describe": (f"{ROOM}.run",),
    "Report.__call__": (f"{ROOM}.report", "Report"),
    "Report.run_failed": (f"{ROOM}.report", "Report"),
    "Spans.open": (f"{ROOM}.spans", "Spans"),
    "Spans.end": (f"{ROOM}.spans", "Spans"),
    "ClientCalls.answer": (f"{ROOM}.client_tool", "ClientCalls"),
    "StopSignal.stop": (f"{ROOM}.stop", "StopSignal"),
    "StopSignal.fail": (f"{ROOM}.stop", "StopSignal"),
    "Keepsakes.event": (f"{ROOM}.memory", "Keepsakes"),
    "McpServers.close": (f"{ROOM}.mcp", "McpServers"),
    "build_crew": (f"{ROOM}.run",),
    "hold_own_addresses": (f"{ROOM}.run",),
    "_told": (f"{ROOM}.run",),
    "RunLog.close": (f"{ROOM}.run_log", "RunLog"),
    "_HalvedFile.write": (f"{ROOM}.run_log", "_HalvedFile"),
    "open": ("os",),
    "pipe": ("os",),
    "write": ("os",),
    "Thread.start": ("threading", "Thread"),
}


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
    ended = threading.Event()

    def forever() -> None:
        ended.wait()
        if kind == "asleep":
            threading.Event().wait()
        re.fullmatch("(a|aa)+b", "a" * 200)

    def tell_late(*args: Any) -> Any:
        if kind == "before the end":
            ended.set()
            forever()
        threading.Thread(target=forever, daemon=False).start()
        return tell(*args)

    def sent(outbox: Outbox, batch: bytes) -> None:
        send(outbox, batch)
        if b'"completed"' in batch:
            ended.set()

    def close_late(servers: Any) -> None:
        close(servers)
        ended.wait()
        if kind == "behind the end":
            threading.Event().wait()  # For the other to have the lock.

    run._told, Outbox._send, run.McpServers.close = tell_late, sent, close_late  # type: ignore[method-assign]


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
