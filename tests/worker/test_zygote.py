"""The zygote's process keeping, with children that do something simpler than a crew."""

import os
import select
import socket
import subprocess
import sys
import time

import orjson
import psutil
import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

SCRIPT = """
import os, socket, subprocess, sys
from kasal_jupyter.worker.zygote import Zygote

def serve(run):
    order = run.recv(16)
    if order == b"raise":
        raise RuntimeError("could not begin")
    if order == b"tell":
        run.sendall(" ".join(loaded).encode())
        os._exit(0)
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    run.sendall(str(started.pid).encode())
    run.recv(16)
    os._exit(3)

loaded = []
Zygote(socket.socket(fileno=int(sys.argv[1])), serve, loaded.append).run()
"""


class Keeper:
    """The server's end of a zygote's socket."""

    def __init__(self, before=""):
        self.control, theirs = socket.socketpair()
        self.control.settimeout(30)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", before + SCRIPT, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stderr=subprocess.PIPE,
            )
        self.lines = self.control.makefile("rb")

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
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_a_run_asked_for_is_loaded_when_nothing_else_is_to_do(zygote):
    def loaded(wanting=""):
        _, ours = zygote.fork(b"tell", wanting)
        with ours:
            told = ours.recv(100).decode().split()
        assert zygote.heard()["type"] == "exited"
        return told

    assert loaded("gemini openai") == []
    deadline = time.monotonic() + 20
    while (names := loaded("gemini")) != ["mcp", "gemini", "openai"]:
        assert time.monotonic() < deadline, names
        time.sleep(2)


def test_no_sdk_starts_a_thread_that_a_fork_would_lose(tmp_path):
    program = """
import sys, threading
from pathlib import Path
from kasal_jupyter.worker.switches import import_crewai
import_crewai(Path(sys.argv[1]))
from kasal_jupyter.worker.warm import load_rest
for name in ("mcp", "openai", "anthropic", "gemini", "azure", "bedrock"):
    load_rest(name)
    assert len(threading.enumerate()) == 1, (name, threading.enumerate())
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=120)


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
