"""Servers that are killed, and what is left of them: shared by the benchmarks that break things."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import httpx
import psutil

ENDED = {"completed", "failed", "stopped", "interrupted"}
TOKEN = "faults"
END_SECONDS = 60.0
"""How long a run may go on once all is well again: the slow ones take two seconds."""

CLOSE_SECONDS = 12.0


class Server:
    """A standalone server on a folder; it can be started again after its end."""

    def __init__(
        self,
        room: Path,
        data: Path,
        environ: dict[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self.room, self.data = room, data
        self.environ = environ or {}
        self.options = options
        self.log = room / "server.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.below: dict[int, psutil.Process] = {}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.look_below()
            self.process.kill()
            self.process.wait()
            psutil.wait_procs(self.below.values(), timeout=10)

    def start(self) -> None:
        """Start it, and wait until it answers and its engine is warm."""
        self.room.mkdir(parents=True, exist_ok=True)
        places = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "kasal_jupyter.cli", "--ServerApp.ip=127.0.0.1"),
                    *(f"--ServerApp.port={self.port}", "--allow-root", "--no-browser"),
                    *("--KasalApp.allowed_hosts=127.0.0.1", f"--ServerApp.root_dir={self.room}"),
                    *self.options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    **{f"JUPYTER_{name}": str(self.room / name.lower()) for name in places},
                    "JUPYTER_TOKEN": TOKEN,
                    "KASAL_DATA_DIR": str(self.data),
                    **self.environ,
                },
                start_new_session=True,
            )
        with self.client() as api:
            until(lambda: api.get("/health").status_code == 200, 60, "the server answers", self.alive)
        self.below = {}

    def alive(self) -> None:
        """See that it has not ended."""
        assert self.process is not None
        assert self.process.poll() is None, (
            f"the server ended with {self.process.returncode}:\n{self.log.read_text()[-2000:]}"
        )

    def client(self) -> httpx.Client:
        """Give a client with its token."""
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.port}/v1",
            headers={"Authorization": f"token {TOKEN}"},
            timeout=30,
            trust_env=False,
        )

    def look_below(self) -> list[psutil.Process]:
        """Note what processes it has, so that their end can be seen after its own."""
        assert self.process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.process.pid).children(recursive=True)
            self.below |= {each.pid: each for each in found}
        return [each for each in self.below.values() if each.is_running()]

    def zygote(self) -> psutil.Process | None:
        """Give the process that runs are forked from; the server's child is its warden."""
        for each in self.look_below():
            with contextlib.suppress(psutil.Error):
                if (
                    "kasal_jupyter.worker.process.zygote" in each.cmdline()
                    and each.ppid() == self.process.pid
                ):
                    return min(each.children(), key=psutil.Process.create_time, default=None)
        return None

    def runs(self) -> list[psutil.Process]:
        """Give the processes of runs."""
        zygote = self.zygote()
        if zygote is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            return zygote.children()
        return []

    def kill(self) -> None:
        """Kill it, and see that nothing of it is left."""
        assert self.process is not None
        self.look_below()
        self.process.kill()
        self.process.wait()
        self.nothing_left()

    def end(self, how: int = signal.SIGTERM) -> None:
        """Ask it to end, and see that it does, with all it has started."""
        assert self.process is not None
        self.look_below()
        began = time.monotonic()
        self.process.send_signal(how)
        try:
            self.process.wait(CLOSE_SECONDS + 20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Broken(f"{signal.Signals(how).name} did not end the server") from None
        if (took := time.monotonic() - began) > CLOSE_SECONDS:
            raise Broken(f"{signal.Signals(how).name} took {took:.1f} s")
        self.nothing_left()

    def nothing_left(self) -> None:
        """See that the processes it had are gone."""
        _, left = psutil.wait_procs([each for each in self.below.values() if each.is_running()], timeout=5)
        names = [f"{each.pid} {' '.join(each.cmdline())[:80]}" for each in left if each.status() != "zombie"]
        for each in left:
            each.kill()
        if names:
            raise Broken(f"processes were left behind: {names}")


class Broken(AssertionError):
    """Something does not hold."""


def until(
    holds: Callable[[], bool], seconds: float, what: str, meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(httpx.TransportError):
            if holds():
                return
        meanwhile()
        time.sleep(0.05)
    raise Broken(f"not within {seconds:g} s: {what}")
