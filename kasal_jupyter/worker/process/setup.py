"""How a run's process is set up: CrewAI's switches, its share of the machine, what it prints, whom it hears.

CrewAI reads its switches at import, so this module imports nothing of it at the top.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import sys
import threading
from pathlib import Path

from pydantic import ValidationError

from kasal_jupyter.hiding import Hider
from kasal_jupyter.outward import settle
from kasal_jupyter.schemas.spec import RunMessage
from kasal_jupyter.warden import stand_back

SWITCHES = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_DISABLE_VERSION_CHECK": "true",
    "CREWAI_TRACING_ENABLED": "false",
    # Keeps CrewAI from asking on the terminal whether to share a trace, and from noting down the last run.
    "CREWAI_TESTING": "true",
    "OTEL_SDK_DISABLED": "true",
    "ANONYMIZED_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
    # A thread a core would be started at import, and a process with threads must not fork.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""No telemetry, no questions, no threads."""


def import_crewai(storage: Path) -> None:
    """Import CrewAI with everything switched off.

    Parameters
    ----------
    storage
        Where CrewAI may keep files; absolute.
    """
    os.environ.update(SWITCHES)
    settle(os.environ)
    os.environ["CREWAI_STORAGE_DIR"] = str(storage.absolute())
    # CrewAI would take its locks from a Redis server it finds named here.
    os.environ.pop("REDIS_URL", None)
    # A grammar for IRIs that jsonschema only uses when it is there, and that takes a second to build.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
    from kasal_jupyter.worker.crewai_seams import keep_nothing

    keep_nothing()


_FIRST = "1000"
"""The highest of what Linux calls a process's badness."""


NICE = 5
"""How far a run stands behind the server where both want a processor: whoever asks it is answered first."""


def give_way() -> None:
    """Have the system take this process, and what it starts, last for a processor, and end it first.

    Where memory runs out, it would choose by size, and end the server for what one run has taken.
    """
    stand_back(NICE)
    with contextlib.suppress(OSError):  # Not Linux.
        Path("/proc/self/oom_score_adj").write_text(_FIRST, encoding="ascii")


def limit_memory(more: int) -> None:
    """Limit the memory of this process, and of each that it starts; beyond, there is a ``MemoryError``.

    The limit is on writable private memory. Address space, the other thing that can be limited, also counts
    what is only reserved (64 MB a thread) or mapped from files.

    Parameters
    ----------
    more
        Bytes beside those that it has, most of which it shares with the zygote; 0: no limit.
    """
    if not more:
        return
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
        limit = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    except (ImportError, OSError, ValueError):
        return  # Not Linux: nothing of the kind can be limited there.


# What a run's process prints, on its way to a file, without keys and without filling the disk.
#
# Libraries log what a provider answered, and providers answer with keys: "Incorrect API key provided: sk-…".

MAX_LOG = 20_000_000
"""Bytes that the file may have: its first half is how it began, the second begins anew when it is full."""

_PIECE = 65_536


class RunLog:
    """Takes the process's standard output and error, below Python too: what it starts prints there as well.

    Parameters
    ----------
    path
        The file.
    hider
        Knows the secrets that must not stand in it.
    """

    def __init__(self, path: Path, hider: Hider) -> None:
        self._file = _HalvedFile(path)
        self._hider = hider
        for stream in (sys.stdout, sys.stderr):
            # What no encoding takes is printed nevertheless: whoever prints must not fail of it.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        self._source, into = os.pipe()
        _stand_in(into)
        os.close(into)
        self._thread = threading.Thread(target=self._copy, name="run log", daemon=True)
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Write what was printed; at most so many seconds: what the run has started may print on."""
        # With the last one that could print, the pipe ends.
        nothing = os.open(os.devnull, os.O_WRONLY)
        _stand_in(nothing)
        os.close(nothing)
        self._thread.join(timeout)

    def _copy(self) -> None:
        try:
            self._copy_all()
        except BaseException as error:  # noqa: BLE001 - the border of the thread
            # Nobody else can be told: what is printed about it would come here.
            self._file.write(f"\n[What was printed is left out from here on: {error!r}]\n".encode())
        # Whoever prints would wait for ever if nobody read it.
        with contextlib.suppress(OSError):
            while os.read(self._source, _PIECE):
                pass

    def _copy_all(self) -> None:
        waiting = b""
        while piece := os.read(self._source, _PIECE):
            shown, waiting = self._hider.split(waiting + piece)
            self._file.write(shown)
        self._file.write(self._hider.hide(waiting))


class _HalvedFile:
    """A file that keeps its beginning, and of the rest the newest."""

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = self._half = self._newest = self._left_out = 0

    def write(self, data: bytes) -> None:
        """Write what comes next."""
        if self._size + len(data) > MAX_LOG:
            self._leave_out()
        self._append(data)
        if not self._half and self._size >= MAX_LOG // 2:
            self._half = self._newest = self._size

    def _leave_out(self) -> None:
        self._left_out += self._size - self._newest
        with contextlib.suppress(OSError):
            os.ftruncate(self._handle, self._half)
            self._size = self._half
        self._append(f"\n[{self._left_out:,} bytes of what was printed are left out here.]\n".encode())
        self._newest = self._size

    def _append(self, data: bytes) -> None:
        try:
            while data:
                written = os.write(self._handle, data)
                self._size += written
                data = data[written:]
        except OSError:
            return  # The disk is full, say. Whoever prints must not wait for it.


def _stand_in(descriptor: int) -> None:
    for stream in (1, 2):
        os.dup2(descriptor, stream)


# Lines on a run's socket, as its process reads them.

READ_SIZE = 65_536


class Garbled(ValueError):
    """A line of the server's is no message. The text does not quote it: there may be keys in it."""


class LineReader:
    """Reads the server's messages, one JSON line each.

    Parameters
    ----------
    sock
        A blocking stream socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()

    def read(self) -> RunMessage | None:
        """Wait for the next message; None when the server has gone.

        Raises
        ------
        Garbled
            A line is no message.
        OSError
            The system does not give what the server has sent.
        """
        while True:
            end = self._buffer.find(b"\n")
            if end >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                return _read(line)
            try:
                data = self._sock.recv(READ_SIZE)
            except ConnectionError:
                return None
            if not data:
                return None
            self._buffer += data


def _read(line: bytes) -> RunMessage:
    try:
        return RunMessage.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "the line"
        raise Garbled(f"The server's message cannot be read: {where}: {first['msg']}") from None
