"""Work on what others have written, done in a process that can hurt nobody.

Parsers have no end in sight for some inputs, and hold the interpreter's lock meanwhile. What is not linear by
construction is called by :func:`confined`: a process with limited memory and one clock over all it does,
without this one's environment, that ends with whoever waits for it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.hiding import plain_environment
from kasal_jupyter.places import WAITING, Places
from kasal_jupyter.warden import kill_group, stand_back

T = TypeVar("T")

MEMORY = 1_500_000_000
"""Bytes of address space that a process may have, where nothing else is said."""

OUTPUT = 64_000_000
"""Most bytes that an answer may have."""

SECONDS = 40.0
"""How long something may take that the server reads for somebody."""

NICE = 10
"""How far a process stands behind the server, and behind runs, where they want a processor."""

COMMAND: Sequence[str] = (sys.executable, "-I", "-m", "kasal_jupyter.confined")
"""What a process is started by."""

_REFUSED, _TOO_MUCH, _INVALID = 3, 4, 5
"""Exit statuses: the function raised ValueError, found no more memory, or raised InvalidRequest."""


class TooMuch(Exception):
    """The work took more time or memory than it may."""


def confined(
    function: str,
    data: bytes,
    *,
    seconds: float,
    memory: int = MEMORY,
    folder: Path | None = None,
    nice: int = 0,
) -> bytes:
    """Call a function of bytes that gives bytes, in a process of its own. It blocks: call it in a thread.

    Parameters
    ----------
    function
        ``package.module:function``; it may raise ValueError with a sentence for whoever sent the data.
    data
        What it is given.
    seconds
        How long it may take, the start of its process included.
    memory
        Bytes of address space it may have, where the system can limit that.
    folder
        Where it runs; a place without meaning, where nothing is given.
    nice
        How far it stands behind other processes.

    Raises
    ------
    ValueError
        The function raised one; the sentence is the same.
    InvalidRequest
        The function raised one; message and faults are the same.
    TooMuch
        It took too long, or too much memory.
    """
    command = [*COMMAND, function, str(memory), str(int(seconds) + 1)]
    with subprocess.Popen(  # noqa: S603 - our own program
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder or Path(sys.executable).parent,
        env=plain_environment(),
        process_group=0,
    ) as process:
        # Not by itself, later: it takes a tenth of a second of a processor to start.
        stand_back(nice, process.pid)
        try:
            answer, told = process.communicate(data, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise TooMuch(f"It took longer than {seconds:g} seconds") from None
        finally:
            _kill(process)
    if process.returncode == 0:
        return answer
    if process.returncode == _REFUSED:
        raise ValueError(told.decode(errors="replace").strip())
    if process.returncode == _INVALID:
        raise _read_invalid(told)
    # Killed by a limit, or ended by a fault of its own: a parser in C may crash where it finds no memory.
    raise TooMuch("It took more memory or time than it may")


class ConfinedPool:
    """Limited processes for what a server's users send: a few at the same time, in turn by owner.

    Parameters
    ----------
    places
        Processes at the same time; 0 for as many as there are processors, and two at least.
    waiting
        How much may wait for one.
    """

    def __init__(self, places: int = 0, waiting: int = WAITING) -> None:
        self._places = Places(places or max(2, os.cpu_count() or 2), each_owner=1, waiting=waiting)

    async def call(
        self,
        owner: str,
        function: str,
        given: Callable[[], bytes],
        read: Callable[[bytes], T],
        *,
        seconds: float = SECONDS,
    ) -> T:
        """Call a function as :func:`confined` does, when it is the owner's turn.

        Parameters
        ----------
        owner
            For whom.
        function
            The function.
        given
            Writes what it is given, and
        read
            reads what it gives: both in a thread, since it may be much.
        seconds
            How long it may take.

        Raises
        ------
        ValueError, InvalidRequest, TooMuch
            As :func:`confined` does.
        TooManyRequests, Unavailable
            Too much waits already, of this owner or of all.
        """
        return await self._places.do(
            lambda: read(confined(function, given(), seconds=seconds, nice=NICE)), owner=owner
        )


def _read_invalid(told: bytes) -> InvalidRequest:
    message, faults = json.loads(told)
    return InvalidRequest(message, faults=[Fault(field, reason) for field, reason in faults])


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it has started, whether or not it has ended itself."""
    if sys.platform == "win32":
        process.kill()
        return
    kill_group(process.pid)


def _limit(memory: int, seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: the time alone is limited.
        return
    for kind, most in (
        ("RLIMIT_AS", memory),
        ("RLIMIT_CPU", seconds),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_FSIZE", OUTPUT),
    ):
        # macOS knows some of them and refuses to set them.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(getattr(resource, kind), (most, most))


def _die_with_parent() -> None:
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main(function: str, memory: int, seconds: int) -> None:
    """Be the process: read the data, call the function, write its answer."""
    _die_with_parent()
    _limit(memory, seconds)
    module, _, name = function.partition(":")
    try:
        answer = getattr(importlib.import_module(module), name)(sys.stdin.buffer.read())
    except ValueError as error:
        sys.stderr.write(str(error))
        sys.exit(_REFUSED)
    except InvalidRequest as error:
        json.dump([error.message, [[fault.field, fault.reason] for fault in error.faults]], sys.stderr)
        sys.exit(_INVALID)
    except (MemoryError, RecursionError):
        sys.exit(_TOO_MUCH)
    if len(answer) > OUTPUT:
        sys.exit(_TOO_MUCH)
    sys.stdout.buffer.write(answer)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
