"""A process above another, which sees to it that nothing is left of it.

A program that calls ``setsid`` leaves its group, and one whose parent ends leaves its parent's sight: neither
the end of a group nor a walk from parent to child finds it. On Linux an orphan comes to the nearest process
above that has declared itself a *subreaper*. A :class:`Warden` is one, and has nothing else to do: when what
is below it has ended, or nobody waits for it any more, it kills what has come to it until nothing does.

Nothing but the standard library is used here, since a process has its warden from its first moment.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

END_SECONDS = 2.0
"""How long killed processes may take to be gone; one that hangs in the kernel may take for ever."""

MARK = "KASAL_RUN"
"""A variable in the environment of whatever a run starts: what it is found by where there is no warden."""

_PAUSE = 0.0005
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def under_warden(*lines: int) -> None:
    """Go on in a new process below this one, which becomes its warden and ends as the new one ends.

    The new process leads a session of its own, and keeps the orphans of what it starts while it lives.
    Nothing happens where there is no fork.

    Parameters
    ----------
    lines
        Sockets or pipes to whoever waits for it. When the other end of one is closed, everything ends.
    """
    if not hasattr(os, "fork"):
        return
    parent = os.getppid()
    adopt_orphans()
    # The end of the thread that has started this process is told as its parent's, which is why the signal is
    # one that does no harm. It wakes a warden that was stopped: it then looks who is there.
    on_parents_end(signal.SIGCONT)
    warden = os.getpid()
    ward = os.fork()
    if ward:
        Warden(ward, lines, parent=parent).watch()
    be_ward(warden)
    adopt_orphans()


def be_ward(warden: int) -> None:
    """Be a process that ends with its warden, which has just forked it."""
    os.setsid()
    stand_back(0)
    on_parents_end(signal.SIGKILL)
    if os.getppid() not in {warden, 0}:  # It is 0 for the first process of a namespace.
        os._exit(1)  # It was too fast for the line above.


def stand_back(steps: int, pid: int = 0) -> None:
    """Have a process wait for others where they want a processor.

    A nice value counts within a session only, see :func:`session_stands_back`. A process that leads a session
    calls this behind ``setsid``, which has begun at 0 again.

    Parameters
    ----------
    steps
        By how many steps its nice value is above this process's.
    pid
        The process, which is this one's child; 0: this one.
    """
    if not hasattr(os, "setpriority"):  # Windows
        return
    nice = min(19, os.getpriority(os.PRIO_PROCESS, 0) + steps)
    with contextlib.suppress(ProcessLookupError):  # It has ended already.
        os.setpriority(os.PRIO_PROCESS, pid, nice)
    if not pid:
        session_stands_back(nice)


def session_stands_back(nice: int) -> None:
    """Give the session that this process leads a nice value; without one of its own, nothing happens.

    Linux shares processors between sessions first, see *autogroup* in ``sched(7)``.
    """
    if os.getsid(0) != os.getpid():
        return
    with contextlib.suppress(OSError):  # Another system, or one without it.
        Path("/proc/self/autogroup").write_text(str(nice), encoding="ascii")


class Warden:
    """What a warden does from its fork to its end.

    Parameters
    ----------
    ward
        The process below.
    lines
        See :func:`under_warden`.
    parent
        The process that has started this one.
    """

    def __init__(self, ward: int, lines: Sequence[int], *, parent: int) -> None:
        self.ward = ward
        self.poll = select.poll()
        self._lines = frozenset(lines)
        self._parent = parent
        self._told_to_end = False
        for line in lines:
            self.poll.register(line, 0)  # Its end is told without being asked for.
        self._woken, wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(wake, False)
        self.poll.register(self._woken, select.POLLIN)
        # A handler has to be there for the wake-up byte to be written.
        for number in (signal.SIGCHLD, signal.SIGCONT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGTERM, self._tell_to_end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def watch(self) -> NoReturn:
        """Wait for the end of the ward, or of whoever waits for it; then end everything."""
        while True:
            self.reap()
            for handle, _ in self.poll.poll():
                if handle in self._lines:
                    self.finish()
                elif handle == self._woken:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._woken, 4096)
                else:
                    self.heard(handle)
            if self._told_to_end or os.getppid() != self._parent:
                self.finish()

    def reap(self) -> None:
        """Take the statuses of all children that have ended."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self.ended(ended[0], os.waitstatus_to_exitcode(ended[1]))

    def ended(self, pid: int, status: int) -> None:
        """Hear of a child's end."""
        if pid == self.ward:
            self.finish(status)

    def heard(self, handle: int) -> None:
        """Hear that something can be read that was registered beside the lines."""

    def finish(self, status: int = 0) -> NoReturn:
        """End everything below, and end: as the ward has, where it has."""
        end_children()
        if status < 0:
            _die_of(-status)
        os._exit(status)

    def _tell_to_end(self, *_: Any) -> None:
        self._told_to_end = True


def _die_of(number: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def end_children(seconds: float = END_SECONDS) -> None:
    """Kill this process's children, and theirs, which come to it as their parents end, until none is left."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        for pid in children():
            kill(pid)
        time.sleep(_PAUSE)


def children() -> list[int]:
    """Give this process's children, the orphans that have come to it included."""
    try:
        threads = Path("/proc/self/task").iterdir()
        texts = [(thread / "children").read_text() for thread in threads]
    except OSError:  # Not Linux, or one that does not tell.
        import psutil  # type: ignore[import-untyped]

        return [each.pid for each in psutil.Process().children()]
    return [int(pid) for text in texts for pid in text.split()]


def kill(pid: int) -> None:
    """Kill a process, unless it is gone or somebody else's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def mark() -> dict[str, str]:
    """Give what the environment of a process needs that a run starts with few variables."""
    return {MARK: os.environ[MARK]} if MARK in os.environ else {}


def adopt_orphans() -> None:
    """Have what is below this process come to it when its parent ends. On Linux only."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def on_parents_end(number: int) -> None:
    """Have this process sent a signal when its parent ends; also when it is stopped. On Linux only."""
    _prctl(_PR_SET_PDEATHSIG, number)


def _prctl(option: int, value: int) -> None:
    if sys.platform.startswith("linux"):
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def kill_group(pid: int) -> None:
    """End a process's group at once, if there is anything left of it."""
    # macOS answers PermissionError for a group of which only a zombie is left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
