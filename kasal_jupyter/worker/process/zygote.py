"""The zygote: a process that has CrewAI imported and warm, and forks a child for each run.

Started by the server as ``python -m kasal_jupyter.worker.process.zygote <fd> <storage> <memory>`` with one
end of a stream socket pair. The process that was started stays as its warden (see
:mod:`kasal_jupyter.worker.process.zygote`). On the socket, in lines of JSON:

- the zygote says ``ready`` once, with its pid and how long it took;
- the server sends ``fork`` and the providers of the run's models, with the run's socket beside it
  (SCM_RIGHTS), one at a time;
- the zygote answers ``forked`` with the child's pid, and later ``exited`` with its status;
  or ``refused`` with the reason, where the system has no room for another process;
- when the zygote has died, its warden says ``lost``, and goes on to say ``exited`` of its children.

When the server's end closes, for whatever reason, the zygote and all its children are gone, and what they
have started.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import orjson

from kasal_jupyter.schemas.spec import FAILED_TO_START
from kasal_jupyter.warden import (
    MARK,
    Warden,
    adopt_orphans,
    be_ward,
    children,
    kill,
    kill_group,
    on_parents_end,
    session_stands_back,
)
from kasal_jupyter.worker.process.setup import NICE, give_way, import_crewai, limit_memory

# The zygote's warden: takes over the runs of a zygote that has died, and ends what a run has left behind.
#
# What a run has started and lost sight of comes to the run's own process while that lives, and to this one
# afterwards. The zygote tells of each run that it forks; whatever else comes here has escaped from a run
# that is over.

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
            kill_group(pid)
            self._say(type="exited", pid=pid, status=status)

    def finish(self, status: int = 0) -> NoReturn:
        """End all runs with their groups, which is faster than one after the other, and everything else."""
        for pid in self._runs:
            kill_group(pid)
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


IDLE_SECONDS = 1.0
"""How long nothing was asked of the zygote before it loads what only some runs need."""


class Zygote:
    """Forks children and looks after them.

    Parameters
    ----------
    control
        The socket to the server.
    serve
        What a child does with its run's socket; it does not return.
    load
        Loads what some runs need: what is called ``mcp``, and each provider that a run has asked for; once,
        when nothing has been asked for a while. The first such run loads it for itself.
    births
        What tells the warden of the children.
    memory
        Bytes that a child may have beside what it shares; 0: any number.
    """

    def __init__(
        self,
        control: socket.socket,
        serve: Callable[[socket.socket], NoReturn],
        load: Callable[[str], None],
        *,
        births: Births,
        memory: int = 0,
    ) -> None:
        self._births = births
        self._memory = memory
        self._load = load
        self._wanted = ["mcp"]
        self._known = {"mcp"}
        self._control = control
        self._serve = serve
        self._children: set[int] = set()
        self._woken, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        # A handler has to be there for the wake-up byte to be written; it has nothing to do itself.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def run(self) -> NoReturn:
        """Fork on demand until the server is gone."""
        # All runs are one share of the processors, and however many there are, it is behind the server's.
        session_stands_back(os.nice(0) + NICE)
        while True:
            patience = IDLE_SECONDS if self._wanted else None
            readable, _, _ = select.select([self._control, self._woken], [], [], patience)
            if not readable:
                self._load_next()
            if self._woken in readable:
                with contextlib.suppress(BlockingIOError):
                    self._woken.recv(4096)
                self._reap()
            if self._control in readable:
                try:
                    data, fds, _, _ = socket.recv_fds(self._control, 4096, 1)
                except OSError:
                    data, fds = b"", []
                if not data:
                    self._end()
                if not fds:  # The system has taken it away.
                    self._say(type="refused", reason=os.strerror(errno.EMFILE))
                    continue
                self._want(data.decode().split()[1:])
                self._fork(socket.socket(fileno=fds[0]))

    def _load_next(self) -> None:
        try:
            self._load(self._wanted.pop(0))
        except Exception:  # noqa: BLE001 - a border: a run that needs it meets the fault itself, and tells
            traceback.print_exc()

    def _want(self, names: list[str]) -> None:
        new = [name for name in names if name not in self._known]
        self._wanted += new
        self._known.update(new)

    def _fork(self, run: socket.socket) -> None:
        run.set_inheritable(False)
        try:
            pid = os.fork()
        except (
            OSError
        ) as error:  # No more processes, or no memory: that is one run's misfortune, not all runs' end.
            run.close()
            self._say(type="refused", reason=str(error))
            return
        if pid == 0:
            self._become_child(run)
        run.close()
        self._births.tell(pid)
        self._children.add(pid)
        self._say(type="forked", pid=pid)

    def _become_child(self, run: socket.socket) -> NoReturn:
        try:
            os.setpgid(0, 0)
            give_way()
            adopt_orphans()
            # One that was stopped, by whomever, sees then that there is nobody left to work for.
            on_parents_end(signal.SIGCONT)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            for sock in (self._control, self._woken, self._wake):
                sock.close()
            self._births.close()
            os.environ[MARK] = f"{os.environ.get(MARK, '')}-{os.getpid()}"
            limit_memory(self._memory)
            gc.enable()
            self._serve(run)
        except BaseException:  # noqa: BLE001 - the border of the process
            traceback.print_exc()
        os._exit(FAILED_TO_START)

    def _reap(self) -> None:
        for pid in list(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._children.discard(pid)
                kill_group(pid)  # What a run has started must not outlive it; the warden sees to the rest.
                self._births.tell_of_end(pid)
                self._say(type="exited", pid=pid, status=os.waitstatus_to_exitcode(status))

    def _say(self, **message: Any) -> None:
        try:
            self._control.sendall(orjson.dumps(message) + b"\n")
        except OSError:
            self._end()

    def _end(self) -> NoReturn:
        for pid in self._children:
            kill_group(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # It may not have its group yet.
        os._exit(0)


def main(control: socket.socket, storage: Path, births: Births, memory: int) -> NoReturn:
    """Warm up and fork on demand.

    Parameters
    ----------
    control, births, memory
        See :class:`Zygote`.
    storage
        Where CrewAI may keep files.

    Raises
    ------
    RuntimeError
        The warm-up failed, or left a thread behind: a fork would copy its locks but not the thread.
    """
    began = time.monotonic()
    import_crewai(storage)
    from kasal_jupyter.worker.process.run import serve_run
    from kasal_jupyter.worker.process.warm import load_rest, warm_up

    warm_up()
    if len(left := threading.enumerate()) != 1:
        raise RuntimeError(f"Threads are left after the warm-up: {[thread.name for thread in left]}")
    # All of this is shared by the children: a collection in one of them must not touch, and so copy, it.
    gc.collect()
    gc.disable()
    gc.freeze()
    zygote = Zygote(control, serve_run, load_rest, births=births, memory=memory)
    seconds = round(time.monotonic() - began, 3)
    ready = {"type": "ready", "pid": os.getpid(), "threads": len(left), "seconds": seconds}
    control.sendall(orjson.dumps(ready) + b"\n")
    zygote.run()


if __name__ == "__main__":
    _control = socket.socket(fileno=int(sys.argv[1]))
    main(_control, Path(sys.argv[2]), fostered(_control), int(sys.argv[3]))
