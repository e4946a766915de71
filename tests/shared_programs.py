"""One warm process from which the servers of all tests have the processes that read for others.

What users send, and what MCP servers say, is read in a process each (`kasal_jupyter.confined`,
`kasal_jupyter.tools.mcp_probe`). To import what such a process needs takes it longer than all it does, and
the tests start some hundreds. Where a server would start one, it starts this file instead, without anything
that is installed: it passes its pipes to a process that has all of it imported already, which forks, and ends
as the fork does. What is true of processes alone is looked at where pytest's own processes start them.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys

NAME = "programs"
"""The socket's, in the folder that is shared."""

NEEDED = {
    "kasal_jupyter.confined": (
        *("kasal_jupyter.formats.limited", "kasal_jupyter.memory.parse"),
        *("kasal_jupyter.tools.confined_sql", "duckdb"),
    ),
    "kasal_jupyter.tools.mcp_probe": ("anyio", "httpx", "mcp", "kasal_jupyter.tools.mcp_session"),
}
"""What a program imports besides itself, sooner or later."""

_LARGE = 1 << 18


def lend_to(module):
    """Have a module that starts one of the programs borrow it."""
    path = f"{os.environ['KASAL_TESTS_ZYGOTE']}/{NAME}"
    module.COMMAND = (sys.executable, "-I", "-S", __file__, path, module.__name__)


def borrow(path, *command):
    """Be whom a server has started: have the work done by a fork, and end as it does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.connect(path)
        wish = {"command": command, "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109 - pathlib takes long
        socket.send_fds(line, [json.dumps(wish).encode()], [0, 1, 2])
        told = line.recv(_LARGE)
    status = json.loads(told)["status"] if told else 1
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


class Lender:
    """Forks programs, and tells of their ends; whoever goes away has its own ended."""

    def __init__(self, door, owner):
        self._door, self._owner = door, owner
        self._lines = {}
        """Lines to whoever has been started, by their descriptors."""
        self._forked = {}
        """Programs by their handles: the pid, and the descriptor of the line on which the end is told."""

    def run(self):
        """Serve until the tests are over."""
        while True:
            ready = select.select([self._door, self._owner, *self._lines, *self._forked], [], [])[0]
            if self._owner in ready:
                os._exit(0)
            for each in ready:
                if each is self._door:
                    line, _ = self._door.accept()
                    self._lines[line.fileno()] = line
                elif each in self._forked:
                    self._has_ended(each)
                elif each in self._lines:
                    self._hear(each)

    def _hear(self, at):
        try:
            data, fds, _, _ = socket.recv_fds(self._lines[at], _LARGE, 3)
        except ConnectionError:
            data, fds = b"", []
        if data:
            wish = json.loads(data)
            for name in (wish["command"][0], *NEEDED[wish["command"][0]]):
                importlib.import_module(name)
            self._fork(at, wish, fds)
            return
        self._lines.pop(at).close()
        for handle, (pid, line) in self._forked.items():
            if line == at:
                # Nobody waits for it any more.
                self._forked[handle] = (pid, None)
                os.kill(pid, signal.SIGTERM)

    def _fork(self, at, wish, fds):
        pid = os.fork()
        if pid == 0:
            for each in (self._door, *self._lines.values()):
                each.close()
            for handle in (self._owner, *self._forked):
                os.close(handle)
            become(wish, fds)
        for fd in fds:
            os.close(fd)
        self._forked[os.pidfd_open(pid)] = (pid, at)

    def _has_ended(self, handle):
        pid, at = self._forked.pop(handle)
        os.close(handle)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if at is not None:
            with contextlib.suppress(OSError), self._lines.pop(at) as line:
                line.send(json.dumps({"status": status}).encode())


def become(wish, fds):
    """Be the program, as if it had been started."""
    os.setpgid(0, 0)
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    os.chdir(wish["folder"])
    os.environ.clear()
    os.environ.update(wish["environment"])
    name, *arguments = wish["command"]
    try:
        sys.modules[name].main(*arguments[:1], *map(int, arguments[1:]))
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code or 0)
    except BaseException:  # noqa: BLE001 - told as it would be
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


def lend(door, owner):
    """Lend, until the owner is gone."""
    sys.modules["rfc3987_syntax"] = None  # See `tests/everywhere`.
    gc.freeze()
    Lender(socket.socket(fileno=int(door)), os.pidfd_open(int(owner))).run()


if __name__ == "__main__":
    borrow(*sys.argv[1:])
