"""The zygote's process keeping, with children that do something simpler than a crew."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import orjson
import psutil
import pytest

from kasal_jupyter.worker.process.setup import NICE

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

SCRIPT = """
import os, socket, subprocess, sys
from kasal_jupyter.worker.process.zygote import fostered
from kasal_jupyter.worker.process.setup import NICE
from kasal_jupyter.worker.process.zygote import Zygote

def escape(run, order):
    told, tell = os.pipe()
    if os.fork() == 0:
        os.setsid()
        os.write(tell, b"%d" % os.getsid(0))
        if os.fork():
            os._exit(0)
        hops = 20_000 if order == b"hop" else 0
        while hops:
            hops -= 1
            if os.fork():
                os._exit(0)
        os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(3600)"], {})
    run.sendall(os.read(told, 16))
    run.recv(16)
    os._exit(3)

def serve(run):
    order = run.recv(16)
    if order == b"raise":
        raise RuntimeError("could not begin")
    if order == b"tell":
        run.sendall(" ".join(loaded).encode())
        os._exit(0)
    if order in {b"escape", b"hop"}:
        escape(run, order)
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    run.sendall(str(started.pid).encode())
    run.recv(16)
    os._exit(3)

loaded = []
control = socket.socket(fileno=int(sys.argv[1]))
births = fostered(control)
#prepare
control.sendall(b'{"type": "ready", "pid": %d}\\n' % os.getpid())
Zygote(control, serve, loaded.append, births=births).run()
"""


class Keeper:
    """The server's end of a zygote's socket."""

    def __init__(self, prepare=""):
        self.control, theirs = socket.socketpair()
        self.control.settimeout(30)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT.replace("#prepare", prepare), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE,
            )
        self.lines = self.control.makefile("rb")
        self.pid = self.heard()["pid"]

    def fork(self, order=b"start", wanting=""):
        ours, theirs = socket.socketpair()
        ours.settimeout(30)
        ours.sendall(order)
        with theirs:
            socket.send_fds(self.control, [f"fork {wanting}\n".encode()], [theirs.fileno()])
        forked = self.heard()
        assert forked["type"] == "forked"
        return forked["pid"], ours

    def heard(self):
        return orjson.loads(self.lines.readline())

    def close(self):
        self.lines.close()
        self.control.close()
        return self.process.wait(30)


@pytest.fixture
def zygote():
    keeper = Keeper()
    yield keeper
    keeper.close()
    keeper.process.stderr.close()


def wait_gone(pid):
    deadline = time.monotonic() + 120
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def in_session(session):
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(pid) == session and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
    return found


def wait_until(holds):
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_over(session):
    """Wait until nothing of a session is left."""
    wait_until(lambda: not in_session(session))


def test_what_a_run_asked_for_is_loaded_when_nothing_else_is_to_do(zygote):
    def loaded(wanting=""):
        _, ours = zygote.fork(b"tell", wanting)
        with ours:
            told = ours.recv(100).decode().split()
        assert zygote.heard()["type"] == "exited"
        return told

    assert loaded("gemini openai") == []
    deadline = time.monotonic() + 120
    while (names := loaded("gemini")) != ["mcp", "gemini", "openai"]:
        assert time.monotonic() < deadline, names
        # It has nothing to do meanwhile, for longer than it waits for anything else.
        time.sleep(2)


def test_a_child_leads_its_own_group_and_its_end_is_reported(zygote):
    pid, run = zygote.fork()
    with run:
        started = int(run.recv(16))
        assert os.getpgid(pid) == pid == os.getpgid(started)
        run.sendall(b"end")
        assert zygote.heard() == {"type": "exited", "pid": pid, "status": 3}
    wait_gone(started)


def test_a_child_that_cannot_begin_says_70(zygote):
    pid, run = zygote.fork(b"raise")
    with run:
        assert zygote.heard() == {"type": "exited", "pid": pid, "status": 70}
    zygote.close()
    assert b"could not begin" in zygote.process.stderr.read()


def test_a_system_without_room_for_a_process_refuses_one_run_and_no_more():
    keeper = Keeper(
        """
import os
fork, refusals = os.fork, [OSError("no more processes")]
def sometimes():
    if refusals:
        raise refusals.pop()
    return fork()
os.fork = sometimes
"""
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(keeper.control, [b"fork\n"], [theirs.fileno()])
        assert keeper.heard() == {"type": "refused", "reason": "no more processes"}
    pid, run = keeper.fork()
    with run:
        assert psutil.pid_exists(pid)
    keeper.close()
    keeper.process.stderr.close()


def test_nor_does_one_without_room_for_its_socket():
    keeper = Keeper(
        """
recv_fds, losses = socket.recv_fds, [True]
def sometimes(*arguments):
    data, handles, *rest = recv_fds(*arguments)
    if losses:
        losses.pop()
        os.close(handles.pop())
    return data, handles, *rest
socket.recv_fds = sometimes
"""
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(keeper.control, [b"fork\n"], [theirs.fileno()])
        assert keeper.heard() == {"type": "refused", "reason": "Too many open files"}
    _, run = keeper.fork()
    run.close()
    keeper.close()
    keeper.process.stderr.close()


def test_a_childs_socket_is_held_by_nobody_else(zygote):
    _, first = zygote.fork()
    second_pid, second = zygote.fork()
    with first, second:
        first.recv(16)
        second.recv(16)
        second.sendall(b"end")
        assert zygote.heard()["pid"] == second_pid
        assert second.recv(16) == b"", "the end of the child is the end of its socket"
        assert not select.select([first], [], [], 0)[0], "the other one lives"


def test_when_the_servers_end_closes_all_are_gone(zygote):
    pid, run = zygote.fork()
    with run:
        started = int(run.recv(16))
        assert zygote.close() == 0
        for one in (pid, started):
            wait_gone(one)


needs_subreapers = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="orphans come back to nobody here"
)


@needs_subreapers
@pytest.mark.parametrize("how", [b"escape", b"hop"], ids=["detached", "ever another"])
@pytest.mark.parametrize("end", ["by itself", "killed", "server gone", "zygote stopped", "zygote killed"])
def test_what_has_left_session_parent_and_environment_ends_with_its_run(zygote, how, end):
    pid, run = zygote.fork(how)
    with run:
        session = int(run.recv(16))
        if how == b"escape":  # The other one is too fast to be seen.
            wait_until(lambda: in_session(session))
        match end:
            case "by itself":
                run.sendall(b"end")
            case "killed":
                os.killpg(pid, signal.SIGKILL)
            case "server gone":
                assert zygote.close() == 0
            case "zygote stopped":
                os.kill(zygote.pid, signal.SIGSTOP)
                os.killpg(pid, signal.SIGKILL)
            case "zygote killed":
                os.kill(zygote.pid, signal.SIGKILL)
                assert zygote.heard() == {"type": "lost"}
                run.sendall(b"end")
        wait_over(session)


@needs_subreapers
def test_what_a_living_run_has_detached_is_let_live(zygote):
    _, other = zygote.fork(b"escape")
    _, run = zygote.fork(b"escape")
    with run, other:
        session, others = int(run.recv(16)), int(other.recv(16))
        other.sendall(b"end")
        wait_over(others)
        assert in_session(session)


@needs_subreapers
def test_runs_outlive_their_zygote_and_their_ends_are_told(zygote):
    pid, run = zygote.fork()
    with run:
        started = int(run.recv(16))
        os.kill(zygote.pid, signal.SIGKILL)
        assert zygote.heard() == {"type": "lost"}
        run.sendall(b"end")
        assert zygote.heard() == {"type": "exited", "pid": pid, "status": 3}
    wait_gone(started)
    assert zygote.lines.readline() == b"", "and then there is nothing to stay for"


@needs_subreapers
@pytest.mark.parametrize("stopped", ["zygote", "warden", "run", "all"])
def test_a_stopped_process_does_not_outlive_the_server(tmp_path, stopped):
    """The server is a process of its own here, for it to be killed."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, SCRIPT], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    with server:
        warden, zygote, run, started = map(int, server.stdout.readline().split())
        pids = {"zygote": [zygote], "warden": [warden], "run": [run], "all": [warden, zygote, run]}
        for pid in pids[stopped]:
            os.kill(pid, signal.SIGSTOP)
        server.kill()
    for pid in (warden, zygote, run, started):
        wait_gone(pid)


SERVER = """
import json, socket, subprocess, sys
control, theirs = socket.socketpair()
command = [sys.executable, "-c", sys.argv[1], str(theirs.fileno())]
warden = subprocess.Popen(command, pass_fds=[theirs.fileno()])
theirs.close()
lines = control.makefile("rb")
zygote = json.loads(lines.readline())["pid"]
ours, theirs = socket.socketpair()
ours.sendall(b"start")
socket.send_fds(control, [b"fork\\n"], [theirs.fileno()])
theirs.close()
run = json.loads(lines.readline())["pid"]
print(warden.pid, zygote, run, ours.recv(16).decode(), flush=True)
sys.stdin.read()
"""


@needs_subreapers
def test_a_run_is_the_first_to_go_when_memory_runs_out_and_the_last_where_processors_are_wanted(zygote):
    pid, run = zygote.fork()
    with run:
        started = int(run.recv(16))
        scores = [Path(f"/proc/{one}/oom_score_adj").read_text() for one in (pid, started, zygote.pid)]
        assert scores[:2] == ["1000\n"] * 2
        assert int(scores[2]) < 1000
        assert [os.getpriority(os.PRIO_PROCESS, one) for one in (pid, started)] == [os.nice(0) + NICE] * 2
        # Of two sessions the system looks at this alone; all runs are in one.
        session = Path(f"/proc/{pid}/autogroup")
        assert os.getsid(pid) == os.getsid(zygote.pid) != os.getsid(0)
        assert not session.exists() or session.read_text().endswith(f" nice {os.nice(0) + NICE}\n")
