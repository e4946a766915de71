"""The zygote's warden: takes over the runs of a zygote that has died, and ends what a run has left behind.

What a run has started and lost sight of comes to the run's own process while that lives, and to this one
afterwards. The zygote tells of each run that it forks; whatever else comes here has escaped from a run
that is over.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import time
from typing import NoReturn

import orjson

from kasal_jupyter.warden import Warden, adopt_orphans, be_ward, children, kill, on_parents_end

MAX_LOG = 5_000_000
"""Bytes of the log of the zygote and its runs' first moments; a longer one begins anew."""

_PID = struct.Struct("i")

_ROUNDS = 200
"""How often what has escaped is looked for in a row: some of it may have a child faster than it is killed."""


def fostered(control: socket.socket) -> Births:
    """Go on in a new process below this one, which becomes its warden; give what tells it of the runs."""
    parent = os.getppid()
    adopt_orphans()
    on_parents_end(signal.SIGCONT)  # See `under_warden`.
    source, births = os.pipe()
    warden = os.getpid()
    zygote = os.fork()
    if zygote:
        os.close(births)
        Foster(zygote, control, source, parent=parent).watch()
    be_ward(warden)
    os.close(source)
    return Births(births)


class Births:
    """Tells the warden which processes are runs."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def tell(self, pid: int) -> None:
        """Tell of a run, before anybody else hears of it."""
        self._write(pid)

    def tell_of_end(self, pid: int) -> None:
        """Tell that a run is over: for systems where the warden does not see that for itself."""
        self._write(-pid)

    def _write(self, number: int) -> None:
        with contextlib.suppress(OSError):
            os.write(self._handle, _PID.pack(number))

    def close(self) -> None:
        """Let go of it: in a run."""
        os.close(self._handle)


class Foster(Warden):
    """The zygote's warden.

    Parameters
    ----------
    zygote
        Its pid.
    control
        The socket to the server. The zygote speaks on it; this process only does when the zygote is dead.
    births
        A pipe on which the zygote tells of its runs.
    parent
        The server's pid.
    """

    def __init__(self, zygote: int, control: socket.socket, births: int, *, parent: int) -> None:
        super().__init__(zygote, [control.fileno()], parent=parent)
        self._control = control
        self._births = births
        self._runs: dict[int, int | None] = {}
        """Those that are not over, and what tells of their ends."""
        self._untold: set[int] = set()
        """Those that are over, whose status their parent may not have taken."""
        self._lost = False
        self._births_over = False
        self.poll.register(births, select.POLLIN)

    def heard(self, handle: int) -> None:
        """Hear of a run's birth, or of its end."""
        if handle == self._births:
            self._hear_of_births()
        else:
            for pid in [pid for pid, other in self._runs.items() if other == handle]:
                self._forget(pid)
                self._untold.add(pid)
        self._end_the_escaped()
        with contextlib.suppress(OSError):
            if os.fstat(1).st_size > MAX_LOG:
                os.ftruncate(1, 0)

    def ended(self, pid: int, status: int) -> None:
        """Hear that the zygote is dead, or a run that was the zygote's."""
        if pid == self.ward:
            self._hear_of_births()
            self._lost = True
            self._say(type="lost")
        elif pid in self._runs or pid in self._untold:
            self._forget(pid)
            _kill_group(pid)
            self._say(type="exited", pid=pid, status=status)

    def finish(self, status: int = 0) -> NoReturn:
        """End all runs with their groups, which is faster than one after the other, and everything else."""
        for pid in self._runs:
            _kill_group(pid)
        super().finish(status)

    def reap(self) -> None:
        """Take the statuses of what has ended; end what has come here by that."""
        super().reap()
        self._end_the_escaped()
        if self._lost and not self._runs:
            self.finish()

    def _hear_of_births(self) -> None:
        while select.select([self._births], [], [], 0)[0]:
            told = os.read(self._births, _PID.size)
            if not told:
                if not self._births_over:
                    self.poll.unregister(self._births)  # The zygote is dead; its end is heard of as well.
                    self._births_over = True
                return
            (pid,) = _PID.unpack(told)
            if pid > 0:
                self._take(pid)
            else:
                self._forget(-pid)

    def _take(self, pid: int) -> None:
        handle = None
        if hasattr(os, "pidfd_open"):
            try:
                handle = os.pidfd_open(pid)
            except ProcessLookupError:
                return  # It is over.
            except OSError:  # Too many are open. The zygote will tell.
                handle = None
        self._runs[pid] = handle
        if handle is not None:
            self.poll.register(handle, select.POLLIN)

    def _forget(self, pid: int) -> None:
        self._untold.discard(pid)
        handle = self._runs.pop(pid, None)
        if handle is not None:
            self.poll.unregister(handle)
            os.close(handle)

    def _end_the_escaped(self) -> None:
        for _ in range(_ROUNDS):
            here = children()
            # Only now: of a run that has come here with the zygote's death, the zygote has told before.
            self._hear_of_births()
            escaped = [pid for pid in here if pid != self.ward and pid not in self._runs]
            if not escaped:
                return
            for pid in escaped:
                kill(pid)
            time.sleep(0)
            super().reap()

    def _say(self, **message: object) -> None:
        with contextlib.suppress(OSError):
            self._control.sendall(orjson.dumps(message) + b"\n")


def _kill_group(pid: int) -> None:
    # macOS answers PermissionError for a group of which only a zombie is left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
