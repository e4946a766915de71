"""What ``GET /v1/crews`` costs, beside what others would build: ``python benchmarks/rest.py``.

A page of 20 crews of three agents, with a JWT that is checked and a rate that is counted, by wrk with 32
connections, each server one process on loopback:

- *bare*: a Tornado handler that writes the same bytes;
- *jupyter*: a minimal authenticated ``APIHandler`` of Jupyter Server that writes the same bytes;
- *fastapi*: ``fastapi_server.py``, on uvicorn with uvloop.

Then the same page with 100 and with 10,000 crews stored, a page far behind, a search, and a page that is
read right after a write. All servers run at the same time and are asked in turn, in many short rounds, of
which the median counts. An answer other than 200 makes it fail. It needs wrk and ``pip install -e .[bench]``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
from server import LAB

CONNECTIONS = 32
CREWS = 20
SIZES = (100, 10_000)
WRITES = 200
TOKEN = "benchmark"
PASSWORD = "benchmark's password"
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


@dataclass(frozen=True)
class Target:
    """A page to ask for: its address, the token to send, and the server's process."""

    url: str
    token: str
    pid: int


@dataclass(frozen=True)
class Measured:
    """Requests a second; their times in milliseconds; the server's CPU time for each, in microseconds.

    The last hardly depends on what else the machine does.
    """

    rate: float
    p50: float
    p99: float
    cpu: float


# -- the servers ---------------------------------------------------------------------------------------


def serve_bare(port: int, body: bytes) -> None:
    """Be a Tornado server that writes bytes."""
    from tornado.web import Application, RequestHandler

    class Bare(RequestHandler):
        def get(self) -> None:
            self.set_header("Content-Type", "application/json")
            self.finish(body)

    async def run() -> None:
        Application([("/v1/crews", Bare)]).listen(port, "127.0.0.1")
        await asyncio.Event().wait()

    asyncio.run(run())


def serve_jupyter(port: int, body: bytes) -> None:
    """Be a Jupyter server with one more handler."""
    from jupyter_server.base.handlers import APIHandler
    from jupyter_server.serverapp import ServerApp
    from tornado import web

    class Minimal(APIHandler):
        @web.authenticated
        def get(self) -> None:
            self.finish(body)

    server = ServerApp()
    server.initialize([f"--port={port}", f"--ServerApp.jpserver_extensions={OTHERS}", *OPTIONS])
    server.web_app.add_handlers(".*$", [("/v1/crews", Minimal)])
    server.start()


OPTIONS = ("--ServerApp.ip=127.0.0.1", "--no-browser", "--allow-root")

OTHERS = dict.fromkeys(LAB, False)
"""Extensions that have no part in what is measured."""


def started(command: list[str], port: int, folder: Path, **environ: str) -> subprocess.Popen[bytes]:
    """Start a server, in a folder of its own, and wait until it takes connections."""
    folder.mkdir()
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "KASAL_DATA_DIR")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=Path(__file__).parent,
            stdout=log,
            stderr=log,
            env={**os.environ, **dict.fromkeys(places, str(folder)), "JUPYTER_TOKEN": TOKEN, **environ},
        )
    while True:
        assert process.poll() is None, (folder / "log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return process
        time.sleep(0.05)


def free_port() -> int:
    """Give a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def call(url: str, token: str, method: str = "GET", body: Any = None) -> Any:
    """Make one request, and give what it answers."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=60)
    text = None if body is None else json.dumps(body)
    path = f"{address.path}?{address.query}"
    connection.request(method, path, text, {"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    data = answer.read()
    connection.close()
    assert 200 <= answer.status < 300, f"{method} {url}: {answer.status} {data!r}"
    return json.loads(data or b"null")


def kasal(folder: Path, crews: int) -> tuple[subprocess.Popen[bytes], Target]:
    """Start a Jupyter server with the extension and with crews of a user, whose rate is counted."""
    port = free_port()
    extension = f"--ServerApp.jpserver_extensions={ {'kasal_jupyter': True} | OTHERS }"
    options = (*OPTIONS, f"--port={port}", extension, "--KasalApp.enterprise_burst=100000000")
    process = started(["-m", "jupyter_server", *options], port, folder)
    url = f"http://127.0.0.1:{port}/v1"
    login = {"email": "user@example.com", "password": PASSWORD}
    user = call(f"{url}/users", TOKEN, "POST", login | {"tier": "enterprise", "role": "editor"})
    asyncio.run(fill(folder, user["id"], crews))
    token = call(f"{url}/auth/login", "", "POST", login)["access_token"]
    target = Target(f"{url}/crews", token, process.pid)
    assert call(target.url, target.token)["total"] == crews
    return process, target


async def fill(folder: Path, owner: str, count: int) -> None:
    """Store crews of three agents and a task, as another server on the same data folder does."""
    from kasal_jupyter.crews.crews import Crews
    from kasal_jupyter.memory.findable import SCHEMAS
    from kasal_jupyter.schemas.crews import CrewCreate
    from kasal_jupyter.store.store import Store

    roles = ("Writer", "Reader", "Critic")
    store = Store.open(folder, SCHEMAS)
    crews = Crews(store)
    for first in range(0, count, 500):
        made = [
            CrewCreate.model_validate(
                {
                    "name": f"Crew {number:05}",
                    "agents": [{"role": role, "goal": "Write", "model": "sandbox"} for role in roles],
                    "tasks": [{"description": "Write", "expected_output": "A line", "agent": "Writer"}],
                }
            )
            for number in range(first, min(first + 500, count))
        ]
        await asyncio.gather(*(crews.create(crew, owner) for crew in made))
    store.close()


# -- the measurements ----------------------------------------------------------------------------------


def wrk(target: Target, seconds: int) -> Measured:
    """Ask for a page as fast as it is given; for no time at all: once."""
    if not seconds:
        began = time.perf_counter()
        call(target.url, target.token)
        took = time.perf_counter() - began
        return Measured(1 / took, 1e3 * took, 1e3 * took, 1e6 * took)
    options = ("-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "--timeout", "30s")
    header = f"Authorization: Bearer {target.token}"
    before = cpu_seconds(target.pid)
    done = subprocess.run(
        ["wrk", *options, "-H", header, target.url], capture_output=True, text=True, check=True
    )
    assert "Non-2xx" not in done.stdout, done.stdout
    assert "Socket errors" not in done.stdout, done.stdout
    used = cpu_seconds(target.pid) - before
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    count = re.search(r"(\d+) requests in", done.stdout)
    assert rate is not None, done.stdout
    assert count is not None, done.stdout
    times = {
        int(percent): float(value) * _UNITS[unit]
        for percent, value, unit in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s)", done.stdout)
    }
    return Measured(float(rate[1]), times[50], times[99], 1e6 * used / int(count[1]))


def cpu_seconds(pid: int) -> float:
    """Give the CPU time that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def in_turn(targets: dict[str, Target], rounds: int, seconds: int) -> dict[str, list[Measured]]:
    """Measure each target in each round."""
    got: dict[str, list[Measured]] = {name: [] for name in targets}
    for target in targets.values():
        wrk(target, min(1, seconds))
    for _ in range(rounds):
        for name, target in targets.items():
            got[name].append(wrk(target, seconds))
    return got


def median(rounds: list[Measured]) -> Measured:
    """Give the median round."""
    return sorted(rounds, key=lambda one: one.rate)[len(rounds) // 2]


def times(one: list[Measured], other: list[Measured]) -> float:
    """Say how many times as many requests one has answered: the median of what each round says.

    What else a machine does makes one second twice as long as another; the seconds of a round less so.
    """
    return statistics.median(mine.rate / yours.rate for mine, yours in zip(one, other, strict=True))


def after_a_write(target: Target, writes: int) -> tuple[float, float]:
    """Give the medians, in milliseconds, of a page that was read before and of one right after a write."""
    address = urlsplit(target.url)
    connection = http.client.HTTPConnection(address.netloc, timeout=60)
    headers = {"Authorization": f"Bearer {target.token}"}
    crew_id = call(target.url, target.token)["crews"][0]["id"]

    def timed(method: str, path: str, body: str | None = None) -> float:
        begin = time.perf_counter()
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        assert answer.status == 200, data
        return 1e3 * (time.perf_counter() - begin)

    again, fresh = [], []
    for number in range(writes):
        timed("PUT", f"{address.path}/{crew_id}", json.dumps({"description": f"Written {number} times"}))
        fresh.append(timed("GET", address.path))
        again.append(timed("GET", address.path))
    connection.close()
    return statistics.median(again), statistics.median(fresh)


@contextlib.contextmanager
def all_servers(
    folder: Path, sizes: tuple[int, int]
) -> Iterator[tuple[dict[str, Target], dict[int, Target]]]:
    """Run all servers; give the pages to compare, and ours by the number of crews stored."""
    with contextlib.ExitStack() as stack:

        def end(process: subprocess.Popen[bytes]) -> None:
            process.terminate()
            process.wait()

        def run(name: str, token: str, port: int, *command: str, **environ: str) -> Target:
            process = started([*command], port, folder / name, **environ)
            stack.callback(end, process)
            return Target(f"http://127.0.0.1:{port}/v1/crews", token, process.pid)

        ours = {}
        for crews in {CREWS, *sizes}:
            process, ours[crews] = kasal(folder / f"kasal-{crews}", crews)
            stack.callback(end, process)
        page = folder / "page.json"
        page.write_text(json.dumps(call(ours[CREWS].url, ours[CREWS].token), separators=(",", ":")))
        bare, jupyter, fastapi = free_port(), free_port(), free_port()
        environ = {"BENCHMARK_DATABASE": f"sqlite:///{folder}/fastapi.sqlite"}
        os.environ.update(environ)
        import fastapi_server

        token = fastapi_server.fill(CREWS)
        part = (__file__, "--part")
        uvicorn = ("-m", "uvicorn", "fastapi_server:app", f"--port={fastapi}", "--no-access-log")
        compared = {
            "kasal": ours[CREWS],
            "bare": run("bare", "", bare, *part, "bare", str(bare), str(page)),
            "jupyter": run("jupyter", TOKEN, jupyter, *part, "jupyter", str(jupyter), str(page)),
            "fastapi": run("fastapi", token, fastapi, *uvicorn, **environ),
        }
        shown = call(compared["fastapi"].url, token)["crews"]
        assert [list(crew) for crew in shown] == [
            list(crew) for crew in json.loads(page.read_text())["crews"]
        ]
        yield compared, ours


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=1, help="of each measurement in a round")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: to see that it runs")
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        part, port, page = arguments.part
        {"bare": serve_bare, "jupyter": serve_jupyter}[part](int(port), Path(page).read_bytes())
        return
    # One server is all of them.
    sizes = (CREWS, CREWS) if arguments.tiny else SIZES
    rounds, seconds = (1, 0) if arguments.tiny else (arguments.rounds, arguments.seconds)
    with tempfile.TemporaryDirectory() as folder, all_servers(Path(folder), sizes) as (compared, ours):
        pages = {f"{size:,} crews stored": ours[size] for size in sizes}
        many = ours[sizes[-1]]
        pages["page 50"] = replace(many, url=f"{many.url}?page=50")
        pages["a search"] = replace(many, url=f"{many.url}?search=crew+0999")
        answered = in_turn(compared, rounds, seconds)
        if arguments.tiny:
            answered["kasal"] = [wrk(compared["kasal"], 1)]
        paged = in_turn(pages, rounds, seconds)
        written = {size: after_a_write(ours[size], 1 if arguments.tiny else WRITES) for size in sizes}
    measured = {name: median(each) for name, each in answered.items()}
    stored = {name: median(each) for name, each in paged.items()}
    rate = measured["kasal"].rate
    few, lot = (paged[f"{size:,} crews stored"] for size in sizes)
    figures = {
        "requests a second against FastAPI's (target: 5)": times(answered["kasal"], answered["fastapi"]),
        "against bare Tornado's (target: 0.6)": times(answered["kasal"], answered["bare"]),
        "against Jupyter's APIHandler's": times(answered["kasal"], answered["jupyter"]),
        "the cost with 10,000 crews against 100 (target: 1.2)": times(few, lot),
    }
    for size, (again, fresh) in written.items():
        figures[f"one request with {size:,} crews, ms"] = again
        figures[f"right after a write with {size:,}, ms"] = fresh
    if arguments.json:
        everything = {name: vars(each) for name, each in (measured | stored).items()}
        print(json.dumps({"pages": everything, "figures": figures}))
        return
    print(f"{'':<24} {'requests/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'CPU us':>8}")
    for name, each in (measured | stored).items():
        print(f"{name:<24} {each.rate:>10,.0f} {each.p50:>8.1f} {each.p99:>8.1f} {each.cpu:>8.0f}")
    print()
    for name, value in figures.items():
        print(f"{name:<54} {value:8.2f}")
    against_fastapi, against_bare, against_jupyter, cost, *_ = figures.values()
    print(
        f"\n| `GET /v1/crews`, 20 crews, JWT checked, rate counted (`rest.py`) | {rate:,.0f} requests/s, "
        f"{measured['kasal'].p99:.0f} ms p99 with {CONNECTIONS} connections |"
    )
    print(
        "| the same against FastAPI with SQLAlchemy, Jupyter's own handler, and bare Tornado "
        f"| {against_fastapi:.1f}, {against_jupyter:.2f} and {against_bare:.2f} times as many |"
    )
    print(f"| the same page with 10,000 crews stored against 100 | {cost:.2f} times the cost |")


if __name__ == "__main__":
    main()
