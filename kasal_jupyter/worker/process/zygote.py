"""The zygote: a process that has CrewAI imported and warm, and forks a child for each run.

Started by the server as ``python -m kasal_jupyter.worker.process.zygote <fd> <storage> <memory>`` with one
end of a stream socket pair. The process that was started stays as its warden (see
:mod:`kasal_jupyter.worker.process.zygote_warden`). On the socket, in lines of JSON:

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
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import orjson

from kasal_jupyter.schemas.spec import FAILED_TO_START
from kasal_jupyter.warden import MARK, adopt_orphans, on_parents_end, session_stands_back
from kasal_jupyter.worker.process.switches import NICE, give_way, import_crewai, limit_memory
from kasal_jupyter.worker.process.zygote_warden import Births, fostered

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
                _kill_group(pid)  # What a run has started must not outlive it; the warden sees to the rest.
                self._births.tell_of_end(pid)
                self._say(type="exited", pid=pid, status=os.waitstatus_to_exitcode(status))

    def _say(self, **message: Any) -> None:
        try:
            self._control.sendall(orjson.dumps(message) + b"\n")
        except OSError:
            self._end()

    def _end(self) -> NoReturn:
        for pid in self._children:
            _kill_group(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # It may not have its group yet.
        os._exit(0)


def _kill_group(pid: int) -> None:
    # macOS answers PermissionError for a group of which only a zombie is left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


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
