"""One warm process from which the servers of all tests have their zygotes.

To import CrewAI and to warm it up takes eight seconds of a processor, and the tests start some seventy
servers. Here it is done once for all of them: where a server would start a zygote with its warden, both are
forked from a process that is warm already, and do what they always do. Who starts one is told its true pid;
only its parent is another. `OWN` is for tests of just that, and nothing is shared where what the environment
says could matter to the warming up, or where there is no Linux.

Scripts that load CrewAI for themselves can be run in a fork, too: those whose command lines have the word
that `WARM` names in their environment.

A Python that tests start comes here by `tests/everywhere/sitecustomize.py`. The process begins and ends with
the tests, and is warm from when the first wants something of it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from kasal_jupyter.executions.backends.child import worker_environment
from kasal_jupyter.hiding import CERTIFICATES, PROXIES

VARIABLE = "KASAL_TESTS_ZYGOTE"
"""Names the folder of the process in which zygotes are shared."""

WARM = "KASAL_TESTS_WARM"
"""Names a word: of the Pythons that are started, those are forked whose command lines have it."""

OWN = {VARIABLE: ""}
"""What the environment of a server says that starts a zygote of its own."""

LIGHT = OWN | {"KASAL_TESTS_LIGHT": "1"}
"""The same, but of a zygote that is there at once, as its runs are no crews; see `tests.light_zygote`."""

LENT = ("kasal_jupyter.worker.process.zygote", "tests.worker.faulty_zygote")
"""The programs that are lent; another has to be started."""

ROOT = Path(__file__).parent.parent

_LARGE = 1 << 18
_TIMEOUT = 170


# -- whoever wants one ------------------------------------------------------------------------------------


class Borrowed:
    """A process that a shared one has forked, e.g. a warden, as `subprocess.Popen` would give it."""

    def __init__(self, line: socket.socket, pid: int) -> None:
        self._line = line
        self.pid = pid
        self.returncode: int | None = None

        self.stdin = self.stdout = self.stderr = None

    def send_signal(self, number: int) -> None:
        """Send it a signal, while it is there."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def poll(self) -> int | None:
        """Give its exit status, once it has one."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        if self._ended(timeout) is None:
            raise subprocess.TimeoutExpired("a borrowed process", timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def _ended(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._line], [], [], seconds)[0]:
            told = self._line.recv(_LARGE)
            self.returncode = json.loads(told)["status"] if told else -signal.SIGKILL
            self._line.close()
        return self.returncode


def lend_to(module: Any) -> None:
    """Have the module that starts zygotes borrow them."""
    module.Zygote._popen = borrowing(module.Zygote._popen)


def borrowing(start: Callable[..., Any]) -> Callable[..., Any]:
    """Make of what starts a zygote something that borrows one, where it can."""

    def popen(zygote: Any, theirs: socket.socket, log: Any) -> Any:
        folder = zygote._folder
        environment = worker_environment(os.environ, folder, zygote._passed)
        shares = os.environ.get(VARIABLE)
        if (
            zygote.program not in LENT
            or not shares
            or _ways(environment) != json.loads((Path(shares) / "ways").read_text())
        ):
            return start(zygote, theirs, log)
        from kasal_jupyter.warden import MARK

        storage = folder / "crewai"
        storage.mkdir(parents=True, exist_ok=True)
        wish = {
            "program": zygote.program,
            "storage": str(storage.absolute()),
            "memory": zygote._memory,
            "folder": str(Path.cwd()),
            "environment": environment | {MARK: zygote._mark},
        }
        return borrow(wish, [theirs.fileno(), log.fileno()])

    return popen


def borrow(wish: Mapping[str, Any], descriptors: list[int], of: str = "zygote") -> Borrowed:
    """Have a shared process fork what is wished."""
    line = _line(of)
    line.settimeout(_TIMEOUT)
    socket.send_fds(line, [json.dumps(wish).encode()], descriptors)
    told = line.recv(_LARGE)
    if not told:
        line.close()
        raise OSError(f"the tests' shared process has died: {_last_words(Path(os.environ[VARIABLE]))}")
    return Borrowed(line, json.loads(told)["pid"])


def _ways(environment: Mapping[str, str]) -> dict[str, str]:
    """Give what an environment says of how others are reached, which matters to the warming up."""
    names = {*PROXIES, *CERTIFICATES} - {"NO_PROXY"}
    return {name.upper(): value for name, value in environment.items() if name.upper() in names}


def lent_to(pid: int) -> list[int]:
    """Give the wardens that are there for a process, which may be gone."""
    if not os.environ.get(VARIABLE):
        return []
    with _line() as line:
        line.send(json.dumps({"lent_to": pid}).encode())
        found: list[int] = json.loads(line.recv(_LARGE))
        return found


def _line(of: str = "zygote") -> socket.socket:
    """Give a connection to a shared process."""
    folder = Path(os.environ[VARIABLE])
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        line.connect(str(folder / of))
    except OSError as error:
        line.close()
        raise OSError(f"the tests' shared process has died: {_last_words(folder)}") from error
    return line


def _last_words(folder: Path) -> str:
    return (folder / "log").read_text()[-3_000:]


# -- where tests begin and end ----------------------------------------------------------------------------


@contextlib.contextmanager
def shared() -> Iterator[None]:
    """Have zygotes shared by what is started below this process; at the end, none may be left."""
    if not hasattr(os, "pidfd_open") or os.environ.get(VARIABLE):
        yield
        return
    everywhere = str(ROOT / "tests" / "everywhere")
    kept = {name: os.environ.get(name) for name in (VARIABLE, "PYTHONPATH")}
    with tempfile.TemporaryDirectory(prefix="kasal-tests-") as folder:
        (Path(folder) / "ways").write_text(json.dumps(_ways(os.environ)))
        lenders = [_begun(Path(folder), what) for what in ("zygote", "servers", "programs")]
        os.environ[VARIABLE] = folder
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [everywhere, kept["PYTHONPATH"]]))
        try:
            yield
            for what in ("zygote", "servers"):
                with _line(what) as line:
                    line.send(b'{"end": true}')
                    left = json.loads(line.recv(_LARGE))
                assert not left, f"{what} were left behind: {left}"
        finally:
            for each in lenders:
                each.terminate()
                each.wait()
            for name, value in kept.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _begun(folder: Path, what: str) -> subprocess.Popen[bytes]:
    """Start who lends zygotes, servers and kernels, or other programs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door, (folder / "log").open("ab") as log:
        door.bind(str(folder / what))
        door.listen(64)
        who = [str(door.fileno()), str(folder), str(os.getpid())]
        programs = {
            "zygote": ("-m", "tests.shared_zygote", *who),
            "servers": ("-m", "tests.shared_servers", *who),
            "programs": ("-c", f"from tests.shared_programs import lend; lend({who[0]}, {who[2]})"),
        }
        return subprocess.Popen(
            [sys.executable, *programs[what]],
            pass_fds=[door.fileno()],
            cwd=ROOT,
            env=worker_environment(os.environ, folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


# -- the process itself -----------------------------------------------------------------------------------


class Lender:
    """Forks wardens with their zygotes, and tells of their ends.

    Parameters
    ----------
    door
        Where whoever wants one comes.
    owner
        A handle of the process with which all of this ends.
    folder
        Where CrewAI may keep files.
    """

    def __init__(self, door: socket.socket, owner: int, folder: Path) -> None:
        self._door = door
        self._owner = owner
        self._folder = folder
        self._warm = False
        self._lines: dict[int, socket.socket] = {}
        self._lent: dict[int, tuple[int, int, socket.socket]] = {}
        """By the handle of a warden: its pid, for whom it is there, and on which line that is told."""

    def run(self) -> NoReturn:
        """Serve until the tests are over."""
        while True:
            for handle in select.select([self._door, self._owner, *self._lines, *self._lent], [], [])[0]:
                if handle == self._owner:
                    os._exit(0)
                elif handle in self._lent:
                    self._has_ended(handle)
                elif handle in self._lines:
                    self._hear(self._lines.pop(handle))
                else:
                    line, _ = self._door.accept()
                    self._lines[line.fileno()] = line

    def _hear(self, line: socket.socket) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(line, _LARGE, 3)
        except ConnectionError:
            data, fds = b"", []
        if not data:  # It is gone.
            line.close()
            return
        wish = json.loads(data)
        if "program" in wish or "command" in wish:
            if not self._warm:
                self.warm_up(self._folder)
                self._warm = True
            self._lend(line, wish, fds)
        elif "end" in wish:
            self._end(line)
        else:
            found = [pid for pid, who, _ in self._lent.values() if who == wish["lent_to"]]
            with contextlib.suppress(OSError), line:
                line.send(json.dumps(found).encode())

    def warm_up(self, folder: Path) -> None:
        """Import what whoever is forked needs, when the first is wanted."""
        warm_up(folder)

    def become(self, wish: dict[str, Any], descriptors: list[int]) -> NoReturn:
        """Be what was wished, in a fork."""
        os.chdir(wish["folder"])
        os.environ.clear()
        os.environ.update(wish["environment"])
        tempfile.tempdir = None  # It knows where the former environment said.
        if "command" in wish:
            _run_script(wish["command"], descriptors)
        _become(wish, *descriptors)

    def _lend(self, line: socket.socket, wish: dict[str, Any], descriptors: list[int]) -> None:
        who, _, _ = struct.unpack("3i", line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        pid = os.fork()
        if pid == 0:
            for each in (
                self._door,
                *self._lines.values(),
                *(lent for _, _, lent in self._lent.values()),
            ):
                each.close()
            for handle in (self._owner, *self._lent):
                os.close(handle)
            # Only then may others know of it, and send its group signals.
            os.setsid()
            with contextlib.suppress(OSError), line:  # They may not want to know.
                if "program" in wish:
                    line.send(json.dumps({"pid": os.getpid()}).encode())
            self.become(wish, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self._lent[os.pidfd_open(pid)] = (pid, who, line)

    def _has_ended(self, handle: int) -> None:
        pid, _, line = self._lent.pop(handle)
        os.close(handle)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(OSError):
            line.send(json.dumps({"status": status}).encode())
        line.close()

    def _end(self, line: socket.socket) -> NoReturn:
        end = time.monotonic() + _TIMEOUT
        while self._lent and time.monotonic() < end:
            for handle in select.select(list(self._lent), [], [], 0.5)[0]:
                self._has_ended(handle)
        line.send(json.dumps([pid for pid, _, _ in self._lent.values()]).encode())
        os._exit(0)


def _become(wish: dict[str, Any], control: int, log: int) -> NoReturn:
    """Be the warden that a server would have started, and below it its zygote."""
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    from kasal_jupyter.worker.process import zygote
    from kasal_jupyter.worker.process.zygote import fostered

    sock = socket.socket(fileno=control)
    births = fostered(sock)
    if wish["program"] != zygote.__name__:
        importlib.import_module(wish["program"]).adapt()
    zygote.main(sock, Path(wish["storage"]), births, wish["memory"])


def _run_script(command: list[str], fds: list[int]) -> NoReturn:
    """Be a Python that was told to run a text or a file."""
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    lend_to(importlib.import_module("kasal_jupyter.executions.backends.zygote"))
    warm = importlib.import_module("kasal_jupyter.worker.process.warm")
    warm.warm_up = warm.really_warm_up
    status: Any = 0
    try:
        if command[0] == "-c":
            sys.argv = ["-c", *command[2:]]
            exec(command[1], {"__name__": "__main__"})
        else:
            sys.argv = command
            sys.path.insert(0, str(Path(command[0]).parent))
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        status = end.code or 0
    except BaseException:  # noqa: BLE001 - told as it would be
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)


def main(door: socket.socket, folder: Path, owner: int) -> NoReturn:
    """Lend, until the owner is gone."""
    Lender(door, os.pidfd_open(owner), folder).run()


def warm_up(folder: Path) -> None:
    """Do what each zygote would do, and have it not done again."""
    from kasal_jupyter.worker.process.setup import import_crewai

    import_crewai(folder)  # Before anything else imports it.
    warm: Any = importlib.import_module("kasal_jupyter.worker.process.warm")
    warm.warm_up()
    warm.really_warm_up, warm.warm_up = warm.warm_up, lambda: None
    # Otherwise each zygote would load it for itself once nothing is to do, and each run before.
    for name in ("mcp", "anthropic", "gemini", "azure", "bedrock"):
        warm.load_rest(name)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3]))
