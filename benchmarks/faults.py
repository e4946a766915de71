"""Whether every run ends, whatever happens to it: `python benchmarks/faults.py`.

Real servers on loopback, with runs of the sandbox model, to which things are done: the server, the process
that starts runs or a run's own are killed or stopped; the disk is full (a small tmpfs, mounted as root) or
gives errors (a library that is loaded before, where there is a C compiler); descriptors are few; journals are
damaged; a second server works on the folder. After each round the same is asked:

- each run that was acknowledged is there, has ended, and has one end in its journal;
- lists and books answer, and count each of them once;
- the next run completes, and the server ends when it is told to.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil

ENDED = {"completed", "failed", "stopped", "interrupted"}
SECONDS = 60.0
"""How long anything may take to come about on a loaded machine."""

FAILING_DISK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fails(int fd) {
    const char *flag = getenv("FAULTS_FLAG");
    char link[64], path[4096];
    ssize_t size;
    if (!flag || access(flag, F_OK)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if ((size = readlink(link, path, sizeof path - 1)) < 6) return 0;
    path[size] = 0;
    return !strcmp(path + size - 6, ".jsonl");
}
ssize_t write(int fd, const void *data, size_t size) {
    if (fails(fd)) { errno = EIO; return -1; }
    return ((ssize_t (*)(int, const void *, size_t)) dlsym(RTLD_NEXT, "write"))(fd, data, size);
}
int fsync(int fd) {
    if (fails(fd)) { errno = EIO; return -1; }
    return ((int (*)(int)) dlsym(RTLD_NEXT, "fsync"))(fd);
}
"""


def crew(seconds: float) -> dict[str, Any]:
    """Describe a crew of two tasks, each of which takes its model some seconds."""
    worker = {"role": "Writer", "goal": "Write", "backstory": "Writes", "model": "sandbox"}
    tasks = [
        {"name": name, "description": f"Write {name}", "expected_output": "A text", "agent": "Writer"}
        for name in ("one", "two")
    ]
    return {"name": "Faults", "agents": [worker | {"sandbox": {"latency": seconds}}], "tasks": tasks}


class Server:
    """A server on a data folder, which may be another one's as well."""

    def __init__(self, room: Path, data: Path, *, files: int | None = None, **environ: str) -> None:
        room.mkdir(parents=True)
        self._log = (room / "server.log").open("wb")
        self._log_path = room / "server.log"
        places = {f"JUPYTER_{name.upper()}_DIR": str(room / name) for name in ("config", "data", "runtime")}

        def few() -> None:
            if files is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "kasal_jupyter.cli", "--no-browser", "--allow-root"),
                *("--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", f"--ServerApp.root_dir={room}"),
                "--KasalApp.max_running=6",
            ],
            env={
                **os.environ,
                **places,
                "JUPYTER_TOKEN": "faults",
                "KASAL_DATA_DIR": str(data),
                "JUPYTER_NO_CONFIG": "1",
                **environ,
            },
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            preexec_fn=few,  # noqa: PLW1509 - there is one thread here
            start_new_session=True,
        )
        until(lambda: self._address(room) is not None, "the server is up")
        headers = {"Authorization": "token faults"}
        self.api = httpx.Client(base_url=f"{self._address(room)}v1", headers=headers, timeout=30)
        until(self._answers, "the server answers")

    def _address(self, room: Path) -> str | None:
        assert self.process.poll() is None, self._log_path.read_text()[-2_000:]
        with contextlib.suppress(OSError, ValueError, KeyError, StopIteration):
            return str(json.loads(next((room / "runtime").glob("jpserver-*.json")).read_bytes())["url"])
        return None

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return self.api.get("/crews").status_code == 200
        return False

    def crew(self, seconds: float) -> str:
        """Store a crew and give its id."""
        answer = self.api.post("/crews", json=crew(seconds))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def start(self, crew_id: str, **budget: float) -> str | None:
        """Start a run; None where it was refused with an error that the reference has."""
        body = {"crew_id": crew_id, "inputs": {}} | ({"budget": budget} if budget else {})
        answer = self.api.post("/executions", json=body)
        if answer.status_code == 202:
            return str(answer.json()["job_id"])
        assert answer.json()["error"]["code"] in {"STORE_ERROR", "SERVICE_UNAVAILABLE", "RATE_LIMIT"}, (
            answer.text
        )
        return None

    def state(self, job_id: str) -> dict[str, Any]:
        """Give a run as the API tells of it."""
        answer = self.api.get(f"/executions/{job_id}")
        assert answer.status_code == 200, f"{job_id}: {answer.text}"
        return dict(answer.json())

    def wait(self, job_id: str, *states: str) -> dict[str, Any]:
        """Wait until a run is in a state, or has ended."""
        until(
            lambda: self.state(job_id)["status"] in {*states, *ENDED}, f"{job_id} comes to {states or ENDED}"
        )
        return self.state(job_id)

    def children(self) -> list[psutil.Process]:
        """Give the process that starts runs, and those of runs behind it."""
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def kill(self) -> None:
        """End it as the kernel would."""
        self.process.kill()
        self.process.wait()
        self._let_go()

    def end(self, number: int = signal.SIGTERM) -> float:
        """End it with a signal, and give how many seconds that took."""
        began = time.monotonic()
        self.process.send_signal(number)
        try:
            self.process.wait(SECONDS)
        finally:
            self.process.kill()
            self._let_go()
        return time.monotonic() - began

    def _let_go(self) -> None:
        self.api.close()
        self._log.close()


def until(holds: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"after {seconds:.0f} s it does not hold that {what}"
        time.sleep(0.05)


class Round:
    """A data folder, the servers on it, and the runs that were acknowledged."""

    def __init__(self, room: Path, data: Path | None = None) -> None:
        self.room, self.data = room, data or room / "kasal"
        self.jobs: list[str] = []
        self.servers: list[Server] = []

    def server(self, **options: Any) -> Server:
        """Start a server."""
        server = Server(self.room / f"server{len(self.servers)}", self.data, **options)
        self.servers.append(server)
        return server

    def start(self, server: Server, count: int, seconds: float, **budget: float) -> list[str]:
        """Start runs, and give those that were acknowledged."""
        crew_id = server.crew(seconds)
        jobs = [job for _ in range(count) if (job := server.start(crew_id, **budget)) is not None]
        self.jobs += jobs
        return jobs

    def check(self, server: Server) -> None:
        """Check what holds after every round."""
        for job_id in self.jobs:
            server.wait(job_id)
        (after,) = self.start(server, 1, 0)
        assert server.wait(after)["status"] == "completed"
        until(lambda: self._stored(server), "everything is stored and booked")
        for job_id in self.jobs:
            # What the disk did not take at first is tried again every few seconds.
            until(lambda job_id=job_id: self._ends(job_id), f"{job_id} has an end in its journal")
            assert self._ends(job_id) == [server.state(job_id)["status"]]

    def _ends(self, job_id: str) -> list[str]:
        lines = (self.data / "runs" / f"{job_id}.jsonl").read_bytes().splitlines()
        found = [json.loads(line)["status"] for line in lines if b'"type":"execution_status"' in line]
        return [status for status in found if status in ENDED]

    def _stored(self, server: Server) -> bool:
        listed = server.api.get("/executions", params={"per_page": 500}).json()
        used = server.api.get("/usage", params={"group_by": "user"}).json()
        assert {each["status"] for each in listed["executions"]} <= ENDED
        return listed["total"] == used["whole"]["runs"] == len(self.jobs)


# -- what is done to them ------------------------------------------------------------------------------


def server_killed(here: Round, runs: int) -> None:
    """Kill the server while runs begin, go on and wait."""
    server = here.server()
    here.start(server, runs, 0.3)
    time.sleep(random.random())
    server.kill()
    here.check(here.server())


def run_killed(here: Round, runs: int) -> None:
    """Kill a run's process: it alone fails, with the reason."""
    server = here.server()
    first = here.start(server, min(runs, 4), 3)[0]
    server.wait(first, "running")
    leaves = [each for each in server.children() if not each.children()]
    random.choice(leaves).kill()
    here.check(server)
    states = [server.state(job_id) for job_id in here.jobs]
    assert sum(each["status"] == "failed" for each in states) <= 1, states


def zygote_killed(here: Round, runs: int) -> None:
    """Kill the process that starts runs: those that go on fail, those that wait run."""
    server = here.server()
    server.wait(here.start(server, runs, 1)[0], "running")
    psutil.Process(server.process.pid).children()[0].kill()
    here.check(server)


def run_stopped(here: Round, runs: int) -> None:
    """Suspend the runs' processes: the server ends them when their time is over."""
    server = here.server()
    jobs = here.start(server, min(runs, 3), 600, max_seconds=2)
    for job_id in jobs:
        server.wait(job_id, "running")
    for each in server.children():
        if not each.children() and each.pid != psutil.Process(server.process.pid).children()[0].pid:
            each.suspend()
    for job_id in jobs:
        assert server.wait(job_id)["error"]["code"] == "BUDGET_EXCEEDED"
    here.check(server)


def signals(here: Round, runs: int) -> None:
    """Tell the server to end while runs go on: it does, and tells of them."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        server = here.server()
        server.wait(here.start(server, runs, 600)[0], "running")
        took = server.end(number)
        assert took < 15, f"it took {took:.1f} s"
    here.check(here.server())


def two_servers(here: Round, runs: int) -> None:
    """Kill one of two servers: the other ends its runs, and stops those of a living one."""
    one, other = here.server(), here.server()
    lost = here.start(one, runs, 600)
    mine = here.start(other, 2, 600)
    one.kill()
    for job_id in lost:
        assert other.wait(job_id)["status"] == "interrupted"
    third = here.server()
    for job_id in mine:
        assert third.api.post(f"/executions/{job_id}/stop").json()["status"] == "stopped"
    here.check(third)


def damaged(here: Round, runs: int) -> None:
    """Damage journals while no server runs: what is left of them is read."""
    server = here.server()
    for job_id in here.start(server, runs, 0):
        server.wait(job_id)
    server.end()
    for job_id in here.jobs:
        path = here.data / "runs" / f"{job_id}.jsonl"
        lines = path.read_bytes().splitlines()
        place = random.randrange(1, len(lines) - 1)
        lines[place] = random.choice([b"\0" * len(lines[place]), b"[]", b'{"seq":1}', b"", lines[place][:20]])
        path.write_bytes(b"\n".join(lines) + b"\n")
    server = here.server()
    for job_id in here.jobs:
        events = server.api.get(f"/executions/{job_id}/events").json()["events"]
        assert [each["seq"] for each in events] == list(range(1, len(events) + 1))
        assert server.api.get(f"/executions/{job_id}/traces").status_code == 200
    here.check(server)


def few_descriptors(here: Round, runs: int) -> None:
    """Leave hardly any descriptors: what is accepted ends, the rest is refused."""
    server = here.server(files=72)
    crew_id = server.crew(0.2)
    for _ in range(3 * runs):
        with contextlib.suppress(httpx.HTTPError):
            if (job_id := server.start(crew_id)) is not None:
                here.jobs.append(job_id)
    for job_id in here.jobs:
        server.wait(job_id)
    server.end()
    here.check(here.server())


def disk_errors(here: Round, runs: int) -> None:
    """Have the disk give errors for a while (EIO), as runs are accepted, go on, and end."""
    if (compiler := shutil.which("gcc") or shutil.which("cc")) is None:
        raise NotPossible("there is no C compiler")
    library, flag = here.room / "failing.so", here.room / "failing"
    source = here.room / "failing.c"
    source.write_text(FAILING_DISK)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    server = here.server(LD_PRELOAD=str(library), FAULTS_FLAG=str(flag))
    crew_id = server.crew(0.2)
    for number in range(runs):
        if number % 3 == 1:
            flag.touch()
        if (job_id := server.start(crew_id)) is not None:
            here.jobs.append(job_id)
        time.sleep(0.1)
        if number % 3 == 2:
            assert server.api.get("/executions").status_code == 200
            flag.unlink()
    flag.unlink(missing_ok=True)
    here.check(server)


def disk_full(here: Round, runs: int) -> None:
    """Fill the disk for a while, as runs are accepted, go on, and end."""
    if os.geteuid() or not shutil.which("mount"):
        raise NotPossible("a small disk is mounted as root")
    here.data.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "faults", here.data],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        raise NotPossible("nothing can be mounted here")
    try:
        server = here.server()
        crew_id = server.crew(0.5)
        for _ in range(2):
            here.jobs += [job for _ in range(max(2, runs // 2)) if (job := server.start(crew_id)) is not None]
            filler = here.data / "filler"
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(b"\0" * 65_536)
            assert server.start(crew_id) is None, "it was accepted, and cannot be on the disk"
            for path in ("/executions", "/usage", "/crews"):
                assert server.api.get(path).status_code == 200, path
            for job_id in here.jobs:
                server.wait(job_id)
            filler.unlink()
        here.check(server)
    finally:
        for each in here.servers:
            each.kill()
        subprocess.run(["umount", "-l", here.data], check=True)


class NotPossible(Exception):
    """A round that this machine does not allow."""


ROUNDS: tuple[Callable[[Round, int], None], ...] = (
    server_killed,
    run_killed,
    zygote_killed,
    run_stopped,
    signals,
    two_servers,
    damaged,
    few_descriptors,
    disk_errors,
    disk_full,
)


@contextlib.contextmanager
def a_round() -> Iterator[Round]:
    """Give a folder of its own, and leave nothing of it."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        here = Round(Path(folder))
        try:
            yield here
        finally:
            for server in here.servers:
                server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="one small round of each, as for CI")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=[each.__name__ for each in ROUNDS])
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    random.seed(args.seed)
    failed = 0
    for act in ROUNDS:
        if args.only not in {None, act.__name__}:
            continue
        done, told, began = 0, "", time.monotonic()
        for _ in range(1 if args.tiny else args.rounds):
            try:
                with a_round() as here:
                    act(here, 3 if args.tiny else 16)
                done += 1
            except NotPossible as error:
                told = str(error)
            except (AssertionError, httpx.HTTPError) as error:
                failed += 1
                told = f"FAILED: {error!r}"
        print(f"{act.__name__:16} {done} rounds held, {time.monotonic() - began:.0f} s  {told}", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
