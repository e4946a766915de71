"""What tests of the commands share."""

import os
import subprocess
import sys
import threading

import pytest

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

    def run(self, *words, typed=None):
        """Carry a command out; give its exit status, its output, and what it says beside that."""
        ended = subprocess.run(
            [sys.executable, "-m", "kasal_jupyter.cli", *words],
            cwd=self.folder,
            env=lonely(self.folder),
            input=typed or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended.returncode, ended.stdout, ended.stderr

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


@pytest.fixture(scope="module")
def terminal(tmp_path_factory):
    """A terminal; the private server that its first command starts is ended after the module's tests."""
    folder = tmp_path_factory.mktemp("terminal")
    yield Terminal(folder)
    end_servers(folder)
