"""What becomes of runs when things break: ``python benchmarks/faults.py``.

A real server runs sandbox crews while something is done to it, round after round. Then this must hold:

- every acknowledged run is there, ends, and has one end: in its status, its journal, the books, its webhook;
- a status that was told once as final is told again;
- places are free: the next run completes; every list answers; nothing that a run has started is left;
- a server that is asked to end does so in time.

============= =====================================================================================
*kills*       ``kill -9`` of the server, of the process that runs are forked from, or of a run
*disk*        the disk is full for a while (a small tmpfs; needs root)
*eio*         reading and writing fail with EIO for a while (a preloaded library; needs a C compiler)
*descriptors* no more files, sockets or pipes can be opened for a while
*signals*     SIGTERM, SIGINT, SIGHUP to the server; SIGSTOP to the process that forks, or to a run
*damage*      journals, deliveries and stored documents are damaged while the server is down
*servers*     two servers on one folder: one stops the other's runs, and is left alone with them
*cutoffs*     the server, the process that forks, or a run is killed, and what was cut off is gone on with
*batches*     the server of a batch is killed, and another one, or the next, goes on with its rows
============= =====================================================================================

``--tiny`` is a round of each; ``--seed`` makes the same choices again. Its status is 1 where anything does
not hold, and names it.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from cut_batches import measure as measure_batches
from cut_offs import measure as measure_cut_offs
from mortal_server import END_SECONDS, ENDED, Broken, Server, until

STARTERS = 3
"""Who start runs, one after the other, while something breaks."""

LISTS = (
    "/crews",
    "/agents",
    "/tasks",
    "/tools",
    "/executions",
    "/usage",
    "/models",
    "/providers",
    "/tools/mcp",
)

LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(int fd) {
  const char *folder = getenv("FAULTS_FOLDER"), *trigger = getenv("FAULTS_TRIGGER");
  char link[64], path[4096];
  if (!folder || !trigger || access(trigger, F_OK) != 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  if (strncmp(path, folder, strlen(folder)) != 0) return 0;
  errno = EIO;
  return 1;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)
ssize_t write(int fd, const void *data, size_t n) { REAL(write); return fails(fd) ? -1 : real(fd, data, n); }
ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
  REAL(pwrite64); return fails(fd) ? -1 : real(fd, data, n, at); }
ssize_t read(int fd, void *data, size_t n) { REAL(read); return fails(fd) ? -1 : real(fd, data, n); }
ssize_t pread64(int fd, void *data, size_t n, off64_t at) {
  REAL(pread64); return fails(fd) ? -1 : real(fd, data, n, at); }
int fsync(int fd) { REAL(fsync); return fails(fd) ? -1 : real(fd); }
int fdatasync(int fd) { REAL(fdatasync); return fails(fd) ? -1 : real(fd); }
"""


# -- a receiver, and the runs ----------------------------------------------------------------------------


class Receiver:
    """A receiver of webhooks on loopback: which end it was told of each run, by the message's id."""

    def __init__(self) -> None:
        self.ends: dict[str, dict[str, str]] = defaultdict(dict)
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if event["type"] == "execution_status" and event["status"] in ENDED:
                    receiver.ends[event["job_id"]][self.headers["webhook-id"]] = event["status"]
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"


@dataclass
class World:
    """A server, its crews, and what it has acknowledged."""

    server: Server
    random: random.Random
    receiver: Receiver
    crews: dict[str, str] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)
    told: dict[str, str] = field(default_factory=dict)
    refused: Counter[int | str] = field(default_factory=Counter)

    def make_crews(self) -> None:
        """Store the crews: a quick one, a slow one, and one that writes much."""
        for name, latency in (("quick", 0.02), ("slow", 0.5)):
            agent = {"role": "Writer", "goal": "Write", "model": "sandbox", "tools": ["calculator"]}
            task = {"description": "Write about {topic}", "expected_output": "Text", "agent": "Writer"}
            body = {
                "name": name,
                "agents": [{**agent, "sandbox": {"latency": latency}}],
                "tasks": [{**task, "name": f"{name}{number}"} for number in range(3)],
                "webhook": {"url": self.receiver.url, "events": ["execution_status"]},
            }
            with self.server.client() as api:
                answer = api.post("/crews", json=body)
                assert answer.status_code == 201, answer.text
                self.crews[name] = answer.json()["id"]

    def start(self, name: str | None = None) -> str | None:
        """Ask for a run; give its id where it was accepted."""
        crew = self.crews[name or self.random.choice(sorted(self.crews))]
        try:
            with self.server.client() as api:
                answer = api.post("/executions", json={"crew_id": crew, "inputs": {"topic": "tea"}})
        except httpx.TransportError as error:
            self.refused[type(error).__name__] += 1
            return None
        if answer.status_code != 202:
            self.refused[answer.status_code] += 1
            return None
        job_id = str(answer.json()["job_id"])
        self.accepted.add(job_id)
        return job_id

    def look(self) -> None:
        """Read the states, as programs do all the time: a final one is remembered."""
        with contextlib.suppress(httpx.TransportError), self.server.client() as api:
            for job_id in sorted(self.accepted - self.told.keys()):
                answer = api.get(f"/executions/{job_id}")
                if answer.status_code == 200 and (status := answer.json()["status"]) in ENDED:
                    self.told[job_id] = status

    @contextlib.contextmanager
    def busy(self, seconds: float) -> Iterator[None]:
        """Start runs and read states while something is done inside, for at least some seconds."""
        over = threading.Event()

        def work(seed: int) -> None:
            chance = random.Random(seed)
            while not over.wait(chance.uniform(0, 0.1)):
                self.start()
                if chance.random() < 0.2:
                    self.look()

        threads = [threading.Thread(target=work, args=(self.random.random(),)) for _ in range(STARTERS)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + seconds
        try:
            yield
            time.sleep(max(0.0, end - time.monotonic()))
        finally:
            over.set()
            for thread in threads:
                thread.join()

    def holds(self) -> None:
        """See that everything holds, now that all is well again."""
        with self.server.client() as api:
            self._all_end(api)
            self._lists_answer(api)
            self._one_end_each(api)
            self._streams_end(api)
            self._books(api)
        self.next_run_completes()
        self._files()

    def next_run_completes(self) -> None:
        """See that there is room for a run, and that it completes."""
        until(lambda: (job := self.start("quick")) is not None and self._completes(job), 30, "the next run")

    def _completes(self, job_id: str) -> bool:
        with self.server.client() as api:
            until(lambda: self._status(api, job_id) in ENDED, END_SECONDS, f"the end of {job_id}")
            status = self._status(api, job_id)
            self.told[job_id] = status
            if status != "completed":
                raise Broken(
                    f"the next run {job_id} is {status}: {api.get(f'/executions/{job_id}').text[:300]}"
                )
        return True

    def _status(self, api: httpx.Client, job_id: str) -> str:
        answer = api.get(f"/executions/{job_id}")
        if answer.status_code != 200:
            raise Broken(
                f"GET /executions/{job_id}, which was accepted: {answer.status_code} {answer.text[:200]}"
            )
        return str(answer.json()["status"])

    def _all_end(self, api: httpx.Client) -> None:
        for job_id in sorted(self.accepted):
            until(lambda: self._status(api, job_id) in ENDED, END_SECONDS, f"the end of {job_id}")  # noqa: B023
            status = self._status(api, job_id)
            if (before := self.told.setdefault(job_id, status)) != status:
                raise Broken(f"{job_id} was {before}, and is {status} now")

    def _lists_answer(self, api: httpx.Client) -> None:
        for path in LISTS:
            answer = api.get(path)
            if answer.status_code != 200:
                raise Broken(f"GET {path}: {answer.status_code} {answer.text[:200]}")
        for job_id in sorted(self.accepted):
            for part in ("events", "traces", "webhooks"):
                answer = api.get(f"/executions/{job_id}/{part}")
                if answer.status_code != 200:
                    raise Broken(f"{part} of {job_id}: {answer.status_code} {answer.text[:200]}")

    def _one_end_each(self, api: httpx.Client) -> None:
        for job_id in sorted(self.accepted):
            events = api.get(f"/executions/{job_id}/events", params={"kind": "execution_status"}).json()[
                "events"
            ]
            ends = [event["status"] for event in events if event["status"] in ENDED]
            if ends != [self.told[job_id]]:
                raise Broken(f"{job_id} is {self.told[job_id]}; its journal's ends: {ends}")
            sent = self.receiver.ends.get(job_id, {})
            if len(sent) > 1 or set(sent.values()) - {self.told[job_id]}:
                raise Broken(f"{job_id} is {self.told[job_id]}; its receiver was told {sent}")

    def _streams_end(self, api: httpx.Client) -> None:
        for job_id in self.random.sample(sorted(self.accepted), min(5, len(self.accepted))):
            try:
                stream = api.get(
                    f"/executions/{job_id}/events", headers={"Accept": "text/event-stream"}, timeout=10
                ).text
            except httpx.TimeoutException:
                raise Broken(f"the stream of {job_id}, which is {self.told[job_id]}, does not end") from None
            if f'"status":"{self.told[job_id]}"' not in stream:
                raise Broken(f"the stream of {job_id} does not tell that it is {self.told[job_id]}")

    def _books(self, api: httpx.Client) -> None:
        listed = api.get("/executions", params={"per_page": 1}).json()["total"]
        booked = api.get("/usage").json()["whole"]["runs"]
        if booked != listed:
            raise Broken(f"{listed} runs, of which {booked} are in the books")
        if listed < len(self.accepted):
            raise Broken(f"{len(self.accepted)} runs were accepted, {listed} are there")

    def _files(self) -> None:
        runs = self.server.data / "runs"
        known: set[str] = set()
        with self.server.client() as api:
            page: list[dict[str, Any]] = [{}]
            number = 0
            while page:
                number += 1
                page = api.get("/executions", params={"per_page": 100, "page": number}).json()["executions"]
                known |= {run["job_id"] for run in page}
        left = {path.name.split(".")[0] for path in runs.iterdir() if path.name.startswith("job_")} - known
        if left:
            raise Broken(f"files of runs that were never accepted: {sorted(left)[:5]}")


# -- what is done to it ----------------------------------------------------------------------------------


def kills(world: World) -> None:
    """Kill the server, the zygote, or a run."""
    victim = world.random.choice(("server", "zygote", "run", "run"))
    with world.busy(1.0):
        time.sleep(world.random.uniform(0.2, 1.2))
        if victim == "server":
            world.server.kill()
        elif victim == "zygote" and (zygote := world.server.zygote()):
            zygote.kill()
        elif runs := world.server.runs():
            with contextlib.suppress(psutil.NoSuchProcess):
                world.random.choice(runs).kill()
    if victim == "server":
        world.server.start()


def disk(world: World) -> None:
    """Fill the disk, and free it again."""
    ballast = world.server.data / "ballast"
    with world.busy(2.5):
        time.sleep(world.random.uniform(0.1, 0.8))
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(65_536))
        time.sleep(world.random.uniform(0.3, 1.5))
        ballast.unlink()


def eio(world: World) -> None:
    """Have reading and writing fail for a while."""
    trigger = Path(world.server.environ["FAULTS_TRIGGER"])
    with world.busy(2.5):
        time.sleep(world.random.uniform(0.1, 0.8))
        trigger.touch()
        time.sleep(world.random.uniform(0.2, 1.5))
        trigger.unlink()


def descriptors(world: World) -> None:
    """Leave the server no descriptor to open."""
    assert world.server.process is not None
    pid = world.server.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    with world.busy(2.5):
        time.sleep(world.random.uniform(0.1, 0.8))
        used = psutil.Process(pid).num_fds()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + world.random.randrange(6), hard))
        time.sleep(world.random.uniform(0.3, 1.5))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def signals(world: World) -> None:
    """Ask the server to end, or stop one of its processes as a debugger does."""
    what = world.random.choice(("SIGTERM", "SIGINT", "SIGHUP", "zygote", "run"))
    with world.busy(1.0):
        time.sleep(world.random.uniform(0.2, 1.0))
        if what.startswith("SIG"):
            world.server.end(signal.Signals[what])
        elif what == "zygote" and (zygote := world.server.zygote()):
            zygote.suspend()
        elif what == "run" and (runs := world.server.runs()):
            victim = world.random.choice(runs)
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.suspend()
                time.sleep(0.5)
                victim.resume()
    if what.startswith("SIG"):
        world.server.start()
    elif what == "zygote" and zygote:
        # It is taken for dead, and replaced: a run that was asked for meanwhile has an end.
        until(lambda: world.start("quick") is not None, 30, "a run is accepted")


DAMAGE: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    lambda data, chance: data[: chance.randrange(len(data) + 1)],
    lambda data, chance: _line_replaced(data, chance, bytes(64)),
    lambda data, chance: _line_replaced(data, chance, b"[1, 2]"),
    lambda data, chance: _line_replaced(data, chance, b'{"seq": 3}'),
    lambda data, chance: _line_replaced(data, chance, b"\xff\xfe not JSON"),
)


def _line_replaced(data: bytes, chance: random.Random, line: bytes) -> bytes:
    lines = data.split(b"\n")
    # Not its end: what that was nobody could tell any more.
    lines[chance.randrange(max(1, len(lines) - 2))] = line
    return b"\n".join(lines)


def damage(world: World) -> None:
    """Damage what belongs to runs that are none of those looked at, and a stored document."""
    victims = [job for _ in range(4) if (job := world.start("quick"))]
    with world.server.client() as api:
        for job_id in victims:
            until(lambda: api.get(f"/executions/{job_id}").json()["status"] in ENDED, END_SECONDS, "ends")  # noqa: B023
        body = {"name": "victim", "agents": [{"role": "A", "goal": "B", "model": "sandbox"}]}
        crew = api.post("/crews", json=body).json()["id"]
    world.server.end()
    for job_id in victims:
        journal = world.server.data / "runs" / f"{job_id}.jsonl"
        journal.write_bytes(world.random.choice(DAMAGE)(journal.read_bytes(), world.random))
        hook = journal.with_suffix(world.random.choice((".hook", ".hooked")))
        hook.write_bytes(world.random.choice((b"", b"{}", bytes(100), b"[]")))
        world.accepted.discard(job_id)
    for path in world.server.data.glob("*.db"):
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            _damage_document(database, crew)
    world.server.start()
    with world.server.client() as api:
        for job_id in victims:
            for part in ("", "/events", "/traces", "/result", "/webhooks"):
                answer = api.get(f"/executions/{job_id}{part}")
                if answer.status_code not in {200, 404, 409}:
                    raise Broken(f"damaged {job_id}{part}: {answer.status_code} {answer.text[:200]}")


def _damage_document(database: sqlite3.Connection, name: str) -> None:
    """Take the name away from a stored document, wherever the store keeps documents."""
    tables = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
    for table in tables:
        for _, column, *_ in database.execute(f"pragma table_info({table})").fetchall():
            with contextlib.suppress(sqlite3.Error):
                database.execute(
                    f'update {table} set {column} = replace({column}, \'"name":"victim"\', \'"nome":7\') '
                    f"where typeof({column}) in ('text', 'blob') and instr({column}, ?) > 0",
                    (name,),
                )


def servers(world: World) -> None:
    """Have a second server on the folder stop the first one's runs, and outlive it."""
    second = Server(world.server.room / "second", world.server.data)
    with second:
        with world.busy(1.5), second.client() as api:
            for _ in range(10):
                if job_id := world.start("slow"):
                    answer = api.post(f"/executions/{job_id}/stop")
                    if answer.status_code not in {200, 409}:
                        raise Broken(f"stopping another's run: {answer.status_code} {answer.text[:200]}")
                    if answer.status_code == 200 and answer.json()["status"] != "stopped":
                        raise Broken(f"stopping another's run: 200 {answer.text[:200]}")
            if kill := world.random.random() < 0.5:
                world.server.kill()
        if kill:
            # The one that is left ends what the other had under way.
            with second.client() as api:
                for job_id in sorted(world.accepted):
                    until(
                        lambda: api.get(f"/executions/{job_id}").json()["status"] in ENDED,  # noqa: B023
                        END_SECONDS,
                        f"the other server ends {job_id}",
                    )
            world.server.start()
        second.end()


FAULTS: dict[str, Callable[[World], None]] = {
    each.__name__: each for each in (kills, disk, eio, descriptors, signals, damage, servers)
}


# -- rounds ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def place(kind: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """Give a data folder and an environment in which a fault can be made; it is gone after."""
    with tempfile.TemporaryDirectory(prefix="kasal-faults-") as name:
        room = Path(name)
        data = room / "data"
        data.mkdir(mode=0o700)
        environ: dict[str, str] = {}
        if kind == "eio":
            source, library = room / "faults.c", room / "faults.so"
            source.write_text(LIBRARY)
            subprocess.run(
                ["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"],
                check=True,
                capture_output=True,
            )
            environ = {
                "LD_PRELOAD": str(library),
                "FAULTS_FOLDER": str(data),
                "FAULTS_TRIGGER": str(room / "broken"),
            }
        if kind == "disk":
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "tmpfs", data], check=True)
        try:
            yield room, environ
        finally:
            if kind == "disk":
                subprocess.run(["umount", "--lazy", data], check=True)


def possible(kind: str) -> str | None:
    """Say why a fault can't be made here; None where it can."""
    if kind == "disk" and (sys.platform != "linux" or os.geteuid() != 0):
        return "mounting a small disk needs root"
    if kind == "eio" and (sys.platform != "linux" or shutil.which("cc") is None):
        return "no C compiler"
    if kind == "descriptors" and not hasattr(resource, "prlimit"):
        return "limits of another process can't be set here"
    return None


def measure(kind: str, rounds: int, seed: int) -> tuple[int, list[str]]:
    """Make a fault so many times; give how many runs were accepted, and what did not hold."""
    broken: list[str] = []
    with place(kind) as (room, environ), Server(room / "server", room / "data", environ) as server:
        world = World(server, random.Random(seed), Receiver())
        world.make_crews()
        # The engine takes seconds to load; a fault before that would meet a queue alone.
        world.next_run_completes()
        for number in range(1, rounds + 1):
            try:
                FAULTS[kind](world)
                world.holds()
            except Broken as error:
                broken.append(f"round {number}: {error}")
                break
        try:
            if not broken:
                server.end()
        except Broken as error:
            broken.append(f"at the end: {error}")
        if broken:
            kept = Path(tempfile.gettempdir()) / f"kasal-faults-{kind}.log"
            shutil.copyfile(server.log, kept)
            broken.append(f"the server's log is in {kept}")
        return len(world.accepted), broken


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = [*FAULTS, "cutoffs", "batches"]
    parser.add_argument("kinds", nargs="*", choices=[[], *kinds], help="which; all, where none is named")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tiny", action="store_true", help="one round of each")
    arguments = parser.parse_args()
    rounds = 1 if arguments.tiny else arguments.rounds
    failed = False
    print(f"{'fault':<12} {'rounds':>6} {'runs':>6} {'seconds':>8}")
    rows: list[str] = []
    for kind in arguments.kinds or kinds:
        if reason := possible(kind):
            print(f"{kind:<12} not made: {reason}")
            continue
        began = time.monotonic()
        if kind == "cutoffs":
            runs, broken, told = measure_cut_offs(rounds, arguments.seed, tiny=arguments.tiny)
            rows += told
        elif kind == "batches":
            runs, broken, told = measure_batches(rounds, arguments.seed, tiny=arguments.tiny)
            rows += told
        else:
            runs, broken = measure(kind, rounds, arguments.seed)
        failed = failed or bool(broken)
        took = time.monotonic() - began
        print(f"{kind:<12} {rounds:>6} {runs:>6} {took:>8.0f}  {'; '.join(broken) or 'holds'}")
    print("\n".join(rows))
    sys.exit(failed)


if __name__ == "__main__":
    main()
