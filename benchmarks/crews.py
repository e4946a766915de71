"""Many crews at once, three ways side by side: `python benchmarks/crews.py`.

Crews of three tasks and three agents ask an OpenAI-compatible server on loopback, in a process of its own,
that takes 200 ms for each answer. So many run at once, and three times as many in all:

- *ours*: started over REST on a server of its own, each a run with its journal;
- *threads*: bare CrewAI, each crew in a thread of one process that is warm;
- *processes*: bare CrewAI, a new process for each crew.

Printed are the crews a second; the processor time of a crew, with that of all processes; the time from
`POST /v1/executions` to the first request at the model's server; and the memory that a run has for itself
(USS), and with its share of what all have (PSS), while all wait for their model.

`--profile` tells where the time of one run goes, by its process's own time and by what it calls.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from kasal_jupyter.cli.demo import ServerProcess
from kasal_jupyter.client.client import Client
from kasal_jupyter.schemas.agents import CrewAgent
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.spec import RunMessage, RunSpec
from kasal_jupyter.schemas.tasks import CrewTask

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.engine import spec  # noqa: E402 - a program as well as a module

SECONDS = 0.2
"""What the model takes for an answer."""

SLOW = "slow"
"""The name of a model that takes a minute: so that all wait at the same time."""

ROLES = ("Researcher", "Analyst", "Writer")
KEY = "sk-proj-" + "aB3_x9-Qz7" * 15 + "aB3_x9"
TEXT = "There is more to say about solar power than fits into one paragraph. " * 6

TARGETS = "targets: 25 crews/s at 64, 2.5 times threads, 70 ms, 40 ms, 12 MB"


# -- the model -----------------------------------------------------------------------------------------


def _answer(*, streamed: bool) -> bytes:
    usage = {"prompt_tokens": 200, "completion_tokens": 90, "total_tokens": 290}
    about = {"id": "1", "created": 0, "model": "m"}
    if not streamed:
        message = {"role": "assistant", "content": TEXT}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {**about, "object": "chat.completion", "choices": [choice], "usage": usage}
        return _http("application/json", json.dumps(body).encode())
    pieces = [TEXT[at : at + 60] for at in range(0, len(TEXT), 60)]
    said: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": piece}, "finish_reason": None}]}
        for piece in pieces
    ]
    said.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    said.append({"choices": [], "usage": usage})
    chunks = [json.dumps({**about, "object": "chat.completion.chunk", **each}) for each in said]
    return _http("text/event-stream", "".join(f"data: {chunk}\n\n" for chunk in [*chunks, "[DONE]"]).encode())


def _http(kind: str, body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        kind.encode(),
        len(body),
        body,
    )


async def serve_model() -> None:
    """Serve the model until the process is ended, and say on which port; GET gives when it was asked."""
    answers = {streamed: _answer(streamed=streamed) for streamed in (False, True)}
    asked: list[float] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while head := (await reader.readuntil(b"\r\n\r\n")).lower():
                if head.startswith(b"get"):
                    writer.write(_http("application/json", json.dumps(asked).encode()))
                    asked.clear()
                    continue
                asked.append(time.monotonic())
                length = head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]
                body = json.loads(await reader.readexactly(int(length)))
                await asyncio.sleep(60 if body["model"] == SLOW else SECONDS)
                writer.write(answers[bool(body.get("stream"))])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1_000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def model() -> Iterator[str]:
    """Have the model served in a process of its own; give its address."""
    command = [sys.executable, __file__, "--serve-model"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


# -- bare CrewAI ---------------------------------------------------------------------------------------


def bare_crew(name: str) -> Any:
    """Make the crew, as its users write it."""
    from crewai import Agent, Crew, Task

    agents = [
        Agent(
            role=role,
            goal=f"Do the best {role.lower()} work on {{topic}}",
            backstory="You know your trade.",
            llm=f"openai/{name}",
        )
        for role in ROLES
    ]
    tasks: list[Any] = []
    for agent in agents:
        tasks.append(
            Task(
                description=f"As {agent.role.lower()}, work on {{topic}}",
                expected_output="Three paragraphs",
                agent=agent,
                context=tasks[-1:],
            )
        )
    return Crew(agents=agents, tasks=tasks)


def bare(at_once: int, total: int) -> None:
    """Run crews in threads of this process, and print what that took; with none at once, a single crew."""
    from kasal_jupyter.worker.process.setup import import_crewai

    with tempfile.TemporaryDirectory() as folder:
        import_crewai(Path(folder))
        bare_crew("gpt-4o-mini").kickoff({"topic": "solar power"})
        if not at_once:
            return
        before, began = time.process_time(), time.monotonic()
        with ThreadPoolExecutor(at_once) as pool:
            list(
                pool.map(lambda _at: bare_crew("gpt-4o-mini").kickoff({"topic": "solar power"}), range(total))
            )
        took, cpu = time.monotonic() - began, time.process_time() - before
        print(json.dumps({"rate": total / took, "cpu": 1000 * cpu / total}), file=sys.stderr)
        os._exit(0)  # CrewAI's own way out takes seconds.


def threads(at_once: int, total: int) -> Figures:
    """Run crews in threads of one process."""
    command = [sys.executable, __file__, "--bare", str(at_once), str(total)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return Figures(**json.loads(done.stderr.splitlines()[-1]))


def processes(at_once: int, total: int) -> Figures:
    """Run each crew in a new process."""
    command = [sys.executable, __file__, "--bare", "0", "0"]

    def one(_at: int) -> None:
        subprocess.run(command, capture_output=True, check=True)

    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(one, range(total)))
    took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Figures(total / took, 1000 * cpu / total)


# -- ours ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """What crews took: how many a second, and the processor's milliseconds of one."""

    rate: float
    cpu: float


class Ours:
    """Our server, and its crew.

    Parameters
    ----------
    client
        Its client.
    address
        The model's.
    """

    def __init__(self, client: Client, address: str) -> None:
        self.client = client
        self.address = address
        self.crew = client.create_crew(_crew("gpt-4o-mini")).id
        self.slow = client.create_crew(_crew(SLOW)).id
        # The first waits for the engine to load.
        self.end_of(self.start(self.crew))

    def start(self, crew: str) -> str:
        """Start a run."""
        return self.client.start(crew, {"topic": "solar power"}).job_id

    def end_of(self, job_id: str) -> None:
        """Wait for a run's end."""
        assert list(self.client.follow(job_id))[-1].get("status") == "completed"

    def at_once(self, total: int) -> Figures:
        """Start many runs, and wait for the end of all; none may be lost."""
        server = _server_process()
        before, began = _cpu(server), time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            jobs = list(pool.map(self.start, [self.crew] * total))
        while any(self.client.executions(1, status=status) for status in ("queued", "running")):
            time.sleep(0.05)
        took = time.monotonic() - began
        cpu = _cpu(server) - before
        ends = [self.client.execution(job_id).status for job_id in jobs]
        assert ends == ["completed"] * total, ends
        return Figures(total / took, 1000 * cpu / total)

    def first_calls(self, rounds: int) -> list[float]:
        """Give the milliseconds from each request to the model's first."""
        took = []
        for _ in range(rounds):
            httpx.get(self.address)
            began = time.monotonic()
            self.end_of(self.start(self.crew))
            took.append(1000 * (httpx.get(self.address).json()[0] - began))
        return took

    def memory(self, count: int) -> tuple[float, float]:
        """Give the megabytes that a run has for itself, and with its share of what all have."""
        httpx.get(self.address)
        jobs = [self.start(self.slow) for _ in range(count)]
        waiting = 0
        while waiting < count:
            time.sleep(0.1)
            waiting += len(httpx.get(self.address).json())
        below = _server_process().children(recursive=True)
        # The runs' parent has most children. Where tests lend a server its processes, there are none.
        runs = max((each.children() for each in below), key=len, default=[])
        sizes = [each.memory_full_info() for each in runs]
        for job_id in jobs:
            self.client.stop(job_id)
        return (
            sum(size.uss for size in sizes) / count / 1e6,
            sum(size.pss for size in sizes) / count / 1e6,
        )


def _crew(name: str) -> CrewCreate:
    def agent(role: str) -> CrewAgent:
        return CrewAgent(
            name=role.lower(),
            role=role,
            goal=f"Do the best {role.lower()} work on {{topic}}",
            backstory="You know your trade.",
            model=f"openai/{name}",
        )

    def task(at: int, role: str) -> CrewTask:
        return CrewTask(
            name=f"task {at}",
            description=f"As {role.lower()}, work on {{topic}}",
            expected_output="Three paragraphs",
            agent=role.lower(),
            context=[f"task {at - 1}"] if at else [],
        )

    tasks = [task(at, role) for at, role in enumerate(ROLES)]
    return CrewCreate(name=f"Crew of {name}", agents=[agent(role) for role in ROLES], tasks=tasks)


def _server_process() -> psutil.Process:
    return next(each for each in psutil.Process().children() if "kasal_jupyter.cli" in each.cmdline())


def _cpu(server: psutil.Process) -> float:
    """Give the processor seconds of a server with all its processes, those that are gone included."""
    spent = 0.0
    for each in [server, *server.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            spent += sum(each.cpu_times()[:4])
    return spent


@contextmanager
def ours(address: str, at_once: int) -> Iterator[Ours]:
    """Have a server of ours up."""
    limits = [f"--KasalApp.max_running{which}={at_once}" for which in ("", "_per_user")]
    with tempfile.TemporaryDirectory() as folder, ServerProcess(Path(folder), *limits) as server:
        client = Client(server.connect())
        yield Ours(client, address)
        client.close()


# -- where the time of a run goes ------------------------------------------------------------------------


PROFILE = """
import cProfile, gc, json, os, pstats, resource, socket, sys, threading, time
from pathlib import Path
folder, line = Path(sys.argv[1]), sys.stdin.buffer.read()
from kasal_jupyter.worker.process.setup import import_crewai
import_crewai(folder)
from kasal_jupyter.worker.process import run
from kasal_jupyter.worker.process.warm import warm_up
warm_up()
gc.collect(), gc.disable(), gc.freeze()

def child(theirs, marks, profiled):
    began = time.process_time()
    def marked(module, name):
        made = getattr(module, name)
        def around(*args, **options):
            before = time.process_time()
            try:
                return made(*args, **options)
            finally:
                marks.append((name, before - began, time.process_time() - began))
        setattr(module, name, around)
    for name in ("_Process", "_built", "_kickoff", "execute"):
        marked(run, name)
    profiles = []
    def profile():
        profiles.append(cProfile.Profile(time.thread_time))
        profiles[-1].enable()
    end, work = os._exit, threading.Thread.run
    def leave(status):
        if profiled:
            profiles[0].disable()
            told = pstats.Stats(*profiles, stream=sys.stdout)
            told.sort_stats("tottime").print_stats(25)
        else:
            marks.append(("all", 0, time.process_time() - began))
            for name, at, until in sorted(marks, key=lambda mark: mark[1]):
                print(f"{name:<10} from {1000 * at:5.1f} to {1000 * until:5.1f} ms")
        sys.stdout.flush()
        end(status)
    def in_thread(thread):
        profile()
        mine = profiles[-1]
        try:
            work(thread)
        finally:
            mine.disable()
    printed = os.dup(1)
    def to_us(*args):
        os.dup2(printed, 1)
        leave(*args)
    os._exit = to_us
    if profiled:
        threading.Thread.run = in_thread
        profile()
    run.serve_run(theirs)

for profiled in (False, False, True):
    ours, theirs = socket.socketpair()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    pid = os.fork()
    if not pid:
        ours.close()
        gc.enable()
        child(theirs, [], profiled)
    theirs.close()
    ours.sendall(line)
    while ours.recv(65_536):
        pass
    os.waitpid(pid, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = {name: 1000 * (getattr(after, name) - getattr(before, name)) for name in ("ru_utime", "ru_stime")}
    times = ", ".join(f"{name[3]}time {spent:.1f} ms" for name, spent in used.items())
    pages = after.ru_minflt - before.ru_minflt
    print(f"as the system counts: {times}, {pages} pages made its own", flush=True)
"""


def profile(address: str) -> None:
    """Print where the time of a run's process goes, from its fork to its end."""
    with tempfile.TemporaryDirectory() as folder:
        described = spec(Path(folder) / "run").model_dump(mode="json")
        for agent in described["agents"]:
            agent["tools"] = []
        asked = {"name": "sandbox", "provider": "openai", "model": "m", "api_key": KEY, "base_url": address}
        message = RunMessage(
            type="run", spec=RunSpec.model_validate({**described, "models": {"sandbox": asked}})
        )
        line = message.model_dump_json().encode() + b"\n"
        subprocess.run(
            [sys.executable, "-c", PROFILE, folder], input=line, check=True, stderr=subprocess.DEVNULL
        )


# -- all of it -------------------------------------------------------------------------------------------


def our_way(address: str, at_once: int, times: int, rounds: int) -> dict[str, Any]:
    """Run crews on a server of ours, and give what that took."""
    total = times * at_once
    with ours(address, at_once) as server:
        # The first fills caches, and lets the window of the model's key grow.
        server.at_once(min(at_once, 32))
        figures: dict[str, Any] = {"ours": server.at_once(total)}
        if rounds:
            figures["first"] = server.first_calls(rounds)
            figures["memory"] = server.memory(min(at_once, 48))
    return figures


def table(at_once: int, figures: dict[str, Any]) -> str:
    """Write what was measured."""
    lines = [f"{at_once} at once          crews/s   CPU ms a crew"]
    ways = [way for way in ("ours", "threads", "processes") if way in figures]
    lines += [f"{way:<18} {figures[way].rate:>9.1f} {figures[way].cpu:>12.0f}" for way in ways]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--at-once", type=int, nargs="*", default=[64, 200], help="how many crews at once")
    parser.add_argument("--rounds", type=int, default=40, help="runs one after the other")
    parser.add_argument("--only-ours", action="store_true", help="without what it is compared with")
    parser.add_argument("--profile", action="store_true", help="tell where the time of one run goes")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: to see that it runs")
    parser.add_argument("--serve-model", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--bare", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_model:
        asyncio.run(serve_model())
        return
    if options.bare:
        bare(*options.bare)
        return
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with model() as address:
        os.environ |= {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": address}
        if options.profile:
            profile(address)
            return
        compared = not (options.tiny or options.only_ours)
        found = {}
        for at_once in [2] if options.tiny else options.at_once:
            first = not found
            times, rounds = (1, 1) if options.tiny else (3, options.rounds if first else 0)
            figures = our_way(address, at_once, times, rounds)
            if compared and first:
                figures["threads"] = threads(at_once, 3 * at_once)
                # Of them, two cores would take minutes for all.
                figures["processes"] = processes(8, 8)
            found[at_once] = figures
            print(table(at_once, figures), flush=True)
    report(found)


def report(found: dict[int, dict[str, Any]]) -> None:
    """Print the README's rows."""
    first = next(iter(found.values()))
    uss, pss = first["memory"]
    mine = first["ours"]
    beside = ""
    if "threads" in first:
        bare_threads, single = first["threads"], first["processes"]
        beside = (
            f"; bare CrewAI in threads {bare_threads.rate:.1f} and {bare_threads.cpu:.0f} ms, a process each "
            f"{single.rate:.1f}"
        )
    rates = " and ".join(f"{each['ours'].rate:.0f}" for each in found.values())
    print(f"\n{TARGETS}")
    print(
        "| crews of 3 tasks a second, 64 and 200 at once, on a model that takes 200 ms (`crews.py`) "
        f"| {rates}, {mine.cpu:.0f} ms of CPU each{beside} |"
    )
    print(
        "| `POST /v1/executions` to the request at a model's HTTP server (`crews.py`) "
        f"| {statistics.median(first['first']):.0f} ms p50 |"
    )
    print(
        "| memory of a run that waits for such a model (`crews.py`) "
        f"| {uss:.0f} MB of its own, {pss:.0f} MB PSS |"
    )


if __name__ == "__main__":
    main()
