"""What tests of the commands share."""

import io
import json
import os
import subprocess
import sys
import threading

import pytest

from kasal_jupyter.cli import main
from tests.private import end_servers, lonely
from tests.store.conftest import new_crew  # noqa: F401

TIMEOUT = 120

CREW = """\
agents:
  taster:
    role: Taster
    goal: Taste {topic}
    llm: sandbox
    tools: [calculator]
    sandbox: {answer_words: 6}
tasks:
  first_sip:
    description: Taste {topic}
    expected_output: A word
    agent: taster
  verdict:
    description: Say what {topic} is like
    expected_output: A sentence
    agent: taster
    context: [first_sip]
"""


# Ctrl-C is a signal only to those whose terminal it is.
ON_TERMINAL = """\
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from kasal_jupyter.cli import main
sys.exit(main())
"""


class Terminal:
    """A terminal without a Jupyter server, and a folder of files to work in."""

    def __init__(self, folder):
        self.folder = folder
        self.write("crew.yaml", CREW)
        self.write("failing.yaml", CREW.replace("answer_words: 6", "fail_at: 1"))
        self.write("slow.yaml", CREW.replace("answer_words: 6", "latency: 60"))

    def write(self, name, text):
        (self.folder / name).write_text(text)

    def start(self, *words):
        """Begin a command; give its process."""
        return subprocess.Popen(
            [sys.executable, "-m", "kasal_jupyter.cli", *words],
            cwd=self.folder,
            env=lonely(self.folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words, typed=""):
        """Carry a command out as its process would, but in this one: give its exit status, and both outputs.

        A process of its own takes half a second to begin, and there are hundreds of commands; what concerns
        processes is asked of `start`, `screen` and `apart`.
        """
        streams = {name: io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for name in ("stdout", "stderr")}
        with pytest.MonkeyPatch.context() as patch:
            environment = lonely(self.folder)
            for name in set(os.environ) - set(environment):
                patch.delenv(name)
            for name, value in environment.items():
                patch.setenv(name, value)
            patch.chdir(self.folder)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed.encode()), "utf-8"))
            for name, stream in streams.items():
                patch.setattr(sys, name, stream)
            try:
                status = main(words)
            except SystemExit as ended:
                status = ended.code
        for stream in streams.values():
            stream.flush()
        return status, *(stream.buffer.getvalue().decode() for stream in streams.values())

    def apart(self, *words):
        """Carry a command out in a process of its own; give the same."""
        process = self.start(*words)
        out, err = process.communicate(timeout=TIMEOUT)
        assert "Traceback" not in err, err
        return process.returncode, out, err

    def screen(self, *words, keys=None, **more):
        """Carry a command out on a real terminal; give its exit status and all that was written there.

        ``keys`` are pairs: what must have been written, and what is then typed.
        """
        import pty

        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", ON_TERMINAL, *words],
            cwd=self.folder,
            env=lonely(self.folder, **({"TERM": "xterm-256color", "COLUMNS": "100"} | more)),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        written, waiting = b"", list(keys or [])
        timer = threading.Timer(TIMEOUT, process.kill)
        timer.start()
        while True:
            try:
                data = os.read(ours, 65_536)
            except OSError:
                # Linux says so where the other end has been closed.
                break
            if not data:
                break
            written += data
            if waiting and waiting[0][0] in written.decode(errors="replace"):
                os.write(ours, waiting.pop(0)[1])
        os.close(ours)
        timer.cancel()
        assert not waiting, written.decode(errors="replace")
        return process.wait(TIMEOUT), written.decode(errors="replace")


@pytest.fixture(scope="session")
def shared_terminal(tmp_path_factory):
    """A terminal, one for all tests; the private server that its first command starts is ended with them."""
    folder = tmp_path_factory.mktemp("terminal")
    yield Terminal(folder)
    end_servers(folder)


@pytest.fixture(scope="module")
def terminal(shared_terminal):
    """The terminal, on whose server there is nothing that other modules have left."""
    run = shared_terminal.run
    jobs = json.loads(run("ps", "--json", "-n", "500")[1])
    for job in jobs:
        if job["status"] in {"queued", "running"}:
            run("stop", job["job_id"])
    names = [each["job_id"] for each in jobs] + [each["id"] for each in json.loads(run("crews", "--json")[1])]
    if names:
        status, _, err = run("rm", *names)
        assert status == 0, err
    for server in json.loads(run("mcp", "--json")[1]):
        assert run("mcp", "remove", server["name"])[0] == 0
    return shared_terminal
