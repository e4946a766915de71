"""Runs that are cut off and gone on with: the fault *cutoffs* of ``benchmarks/faults.py``.

Each round, 16 runs are under way on one server, or on two that share a folder, and the server, the process
that runs are forked from, or a run is killed at a random moment. Servers go on with what was cut off of
themselves (``KasalApp.resume_on_start``); what else has failed is resumed over REST; whoever is asked whether
a call is to be made again says so. Then this must hold:

- each run that was acknowledged has come to its end, in it itself or in the one that goes on with it, with
  the very result that it gives undisturbed;
- no question came to the model once its answer was in a journal. One whose answer was sent when the process
  that waited for it was killed, or not recorded yet, has to be asked again: those are counted, and told;
- no call came to the tool a second time without a word; those that came with one had the first one's key, by
  which the tool knows them, so that each thing was done once.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
from mortal_server import END_SECONDS, ENDED, Broken, Server, until

RUNS, TINY = 16, 4
TASKS, CALLS = 2, 2
"""Tasks of a run, and calls of the tool in each."""

VICTIMS = ("server", "zygote", "child")

Question = tuple[str, int, int]
"""Of which run, in which of its tasks, and after how many calls."""


class Quiet(http.server.BaseHTTPRequestHandler):
    """What JSON comes to, and goes from."""

    protocol_version = "HTTP/1.1"

    def body(self) -> Any:
        """Give what was sent."""
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def give(self, said: Any) -> None:
        """Answer with JSON; whoever has asked may be dead."""
        data = json.dumps(said).encode()
        with contextlib.suppress(OSError):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(handler: type[Quiet]) -> str:
    """Serve many on loopback, as long as this program lives; give the address."""

    class Many(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            """Pass over those who have asked and are dead."""

    server = Many(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


class Outside:
    """A model and a tool on loopback, which count what comes to them."""

    def __init__(self, chance: random.Random) -> None:
        self.asked: dict[Question, list[float]] = defaultdict(list)
        """When each question came."""
        self.called: dict[tuple[str, str], list[str]] = defaultdict(list)
        """With which keys each thing was ordered."""
        self.done: Counter[tuple[str, str]] = Counter()
        """How often it was done: of two orders with one key, one is."""
        self._answers: dict[str, str] = {}
        self._lock = threading.Lock()
        outside = self

        class Handler(Quiet):
            def do_POST(self) -> None:
                body, pause = self.body(), chance.uniform(0.02, 0.25)
                if self.path == "/order":
                    time.sleep(pause / 2)
                    said = outside.order(body, self.headers.get("Idempotency-Key", ""))
                    time.sleep(pause / 2)
                    self.give(said)
                    return
                said = outside.answer(body)
                time.sleep(pause)
                self.give(said)

        self.url = serve(Handler)

    def order(self, order: dict[str, str], key: str) -> dict[str, str]:
        """Do what is ordered, unless it was done under this key."""
        what = order["run"], order["thing"]
        with self._lock:
            self.called[what].append(key)
            if key not in self._answers:
                self.done[what] += 1
                self._answers[key] = hashlib.sha256(order["thing"].encode()).hexdigest()[:8]
            return {"number": self._answers[key]}

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Have the tool called as often as it is to be, and then tell what it has given."""
        messages = asked["messages"]
        said = next(each["content"] for each in messages if "ORDER " in str(each["content"]))
        run, place = said.partition("ORDER ")[2].split()[:2]
        given = [each["content"] for each in messages if each["role"] == "tool"]
        with self._lock:
            self.asked[run, int(place), len(given)].append(time.time())
        if len(given) < CALLS:
            arguments = json.dumps({"run": run, "thing": f"{place}-{len(given)}"})
            call = {"name": "order_thing", "arguments": arguments}
            message: dict[str, Any] = {
                "tool_calls": [{"id": f"call_{len(given)}", "type": "function", "function": call}]
            }
        else:
            message = {"content": f"{run} has in part {place}: {'; '.join(given)}"}
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
        return {"id": "1", "model": "gpt-4o-mini", "choices": [choice], "usage": usage}


@dataclass
class Told:
    """What a number of rounds has come to."""

    rounds: int = 0
    runs: int = 0
    cut: int = 0
    """Runs that another had to go on with."""
    asked: int = 0
    asked_again: int = 0
    """Questions that came twice, none of them with an answer in a journal."""
    ordered: int = 0
    ordered_again: int = 0
    """Calls that came twice, on a word."""


@dataclass
class Round:
    """Servers on a folder, and the runs of a round by their inputs."""

    servers: list[Server]
    outside: Outside
    chance: random.Random
    crew: str = ""
    expected: str = ""
    agreed: Counter[str] = field(default_factory=Counter)
    """How often a run was told to make a call again."""
    accepted: dict[str, str] = field(default_factory=dict)
    """The first attempt at each run, by its name."""

    def begin(self) -> None:
        """Store the crew, and run it undisturbed."""
        with self.servers[0].client() as api:
            tool = {
                "name": "order_thing",
                "description": "Orders a thing",
                "endpoint": f"{self.outside.url}/order",
                "parameters": {
                    "type": "object",
                    "properties": {"run": {"type": "string"}, "thing": {"type": "string"}},
                    "required": ["run", "thing"],
                },
            }
            answer = api.post("/tools/custom", json=tool)
            assert answer.status_code == 201, answer.text
            agent = {"role": "Buyer", "goal": "Buy", "model": "gpt-4o-mini", "tools": ["order_thing"]}
            tasks = [
                {
                    "name": f"part {place}",
                    "description": f"ORDER {{run}} {place} now",
                    "expected_output": "What was ordered",
                    "agent": "Buyer",
                    "context": [],
                }
                for place in range(TASKS)
            ]
            body = {
                "name": "buyers",
                "agents": [{**agent, "settings": {"stream": False}}],
                "tasks": tasks,
            }
            answer = api.post("/crews", json=body)
            assert answer.status_code == 201, answer.text
            self.crew = answer.json()["id"]
            self.start(api, "undisturbed")
            self.expected = self._result(api, "undisturbed")

    def start(self, api: httpx.Client, name: str) -> None:
        """Ask for a run; what is refused, or not acknowledged, is nobody's."""
        try:
            answer = api.post("/executions", json={"crew_id": self.crew, "inputs": {"run": name}})
        except httpx.TransportError:
            return
        if answer.status_code == 202:
            self.accepted[name] = answer.json()["job_id"]

    def disturbed(self, victim: str, number: int, runs: int) -> None:
        """Start the runs, kill something, and put it up again."""
        hit = self.chance.choice(self.servers)
        killing = threading.Timer(self.chance.uniform(0.5, 5.0), self._kill, (hit, victim))
        killing.start()
        for each in range(runs):
            server = self.servers[each % len(self.servers)]
            with contextlib.suppress(httpx.TransportError), server.client() as api:
                self.start(api, f"run{number}x{each}")
        killing.join()
        if victim == "server":
            hit.process = None
            hit.start()

    def _kill(self, server: Server, victim: str) -> None:
        with contextlib.suppress(psutil.Error):
            if victim == "server":
                server.kill()
            elif victim == "zygote" and (zygote := server.zygote()):
                zygote.kill()
            elif victim == "child" and (runs := server.runs()):
                self.chance.choice(runs).kill()

    def settled(self, told: Told) -> None:
        """See that all has come to its end, and count what that has taken."""
        with self.servers[0].client() as api:
            for name in list(self.accepted):
                result = self._result(api, name)
                if result != self.expected.replace("undisturbed", name):
                    raise Broken(f"{name} gave {result!r}")
            for name in list(self.accepted):
                self._count(api, name, told)
        told.rounds += 1
        told.runs += len(self.accepted)
        self.accepted.clear()

    def _result(self, api: httpx.Client, name: str) -> str:
        """Follow a run to the end of the last attempt at it; answer it, and go on with it, where needed."""
        job_id = self.accepted[name]
        for _ in range(10):
            state = self._ended(api, job_id, name)
            if state["status"] == "completed":
                return str(state["result"])
            if state["resumed_by"] is None:
                answer = api.post(f"/executions/{job_id}/resume", json={})
                if answer.status_code not in {202, 409}:
                    raise Broken(f"{job_id} cannot be resumed: {answer.status_code} {answer.text[:300]}")
                until(lambda: self._state(api, job_id)["resumed_by"], END_SECONDS, "it is resumed")  # noqa: B023
                state = self._state(api, job_id)
            job_id = str(state["resumed_by"])
        raise Broken(f"{name} does not end, and is at {job_id}")

    def _ended(self, api: httpx.Client, job_id: str, name: str) -> dict[str, Any]:
        state: dict[str, Any] = {}

        def over() -> bool:
            nonlocal state
            state = self._state(api, job_id)
            for question in state["questions"]:
                # The server that runs it takes the answer, whichever that is.
                for server in self.servers:
                    with server.client() as other:
                        path = f"/executions/{job_id}/tool_calls/{question['call_id']}"
                        if other.post(path, json={"result": "call it again"}).status_code == 200:
                            self.agreed[name] += 1
            return state["status"] in ENDED

        until(over, 3 * END_SECONDS, f"the end of {job_id}")
        return state

    def _state(self, api: httpx.Client, job_id: str) -> dict[str, Any]:
        answer = api.get(f"/executions/{job_id}")
        if answer.status_code != 200:
            raise Broken(f"{job_id}, which was accepted: {answer.status_code} {answer.text[:200]}")
        state: dict[str, Any] = answer.json()
        return state

    def _count(self, api: httpx.Client, name: str, told: Told) -> None:
        """Hold what has come to the model and the tool against what the journals say."""
        recorded: dict[Question, float] = {}
        job_id: str | None = self.accepted[name]
        attempts = 0
        while job_id is not None:
            attempts += 1
            events = api.get(f"/executions/{job_id}/events", params={"kind": "llm"}).json()["events"]
            for question, at in _answered(name, events):
                if question in recorded:
                    raise Broken(f"{question} was answered live twice, in {job_id} again")
                recorded[question] = at
            job_id = self._state(api, job_id)["resumed_by"]
        told.cut += attempts > 1
        expected = [(name, place, number) for place in range(TASKS) for number in range(CALLS + 1)]
        for question in expected:
            times = self.outside.asked[question]
            if late := [at for at in times if at > recorded[question]]:
                raise Broken(
                    f"{question} was asked again {late[0] - recorded[question]:.3f} s after its answer"
                )
            told.asked += 1
            told.asked_again += len(times) > 1
        again = 0
        for what in [(name, f"{place}-{number}") for place in range(TASKS) for number in range(CALLS)]:
            keys = self.outside.called[what]
            if self.outside.done[what] != 1 or len(set(keys)) != 1:
                raise Broken(f"{what} was done {self.outside.done[what]} times, by {keys}")
            again += len(keys) - 1
            told.ordered += 1
        if again > self.agreed[name]:
            raise Broken(f"{name}: {again} calls were made twice, {self.agreed[name]} were agreed to")
        told.ordered_again += again


def _answered(name: str, events: list[dict[str, Any]]) -> Iterator[tuple[Question, float]]:
    """Give the questions of an attempt that a model has answered, and when that was recorded."""
    numbers: Counter[str] = Counter()
    opened: dict[int, Question] = {}
    for event in events:
        if event["type"] == "llm_call":
            place = str(event["task"]).rpartition(" ")[2]
            opened[event["span_id"]] = name, int(place), numbers[place]
            numbers[place] += 1
        elif event["type"] == "llm_response" and not event.get("recorded"):
            yield opened[event["span_id"]], datetime.fromisoformat(event["time"]).timestamp()


def measure(rounds: int, seed: int, *, tiny: bool = False) -> tuple[int, list[str], list[str]]:
    """Make so many rounds of each; give how many runs were accepted, what did not hold, and rows of a table.

    Tiny, it is one round of a few runs on two servers, of which one is killed.
    """
    runs, broken, rows = 0, [], []
    for count in (1, 2)[tiny:]:
        for victim in VICTIMS[: 1 if tiny else None]:
            told = Told()
            try:
                _rounds(told, victim, count, rounds, random.Random(seed), runs=TINY if tiny else RUNS)
            except Broken as error:
                broken.append(f"{victim}, {count} servers, round {told.rounds + 1}: {error}")
            runs += told.runs
            rows.append(
                f"| {RUNS} runs, and the {victim} killed, {count} server{'s' * (count > 1)} on the folder | "
                f"{told.rounds} rounds, {told.runs} runs, {told.cut} gone on with; of {told.asked} answers "
                f"{told.asked_again} asked for twice, and none that was recorded; of {told.ordered} side "
                f"effects {told.ordered_again} called twice, on a word; none lost, none done twice |"
            )
    return runs, broken, rows


def _rounds(told: Told, victim: str, count: int, rounds: int, chance: random.Random, *, runs: int) -> None:
    with tempfile.TemporaryDirectory(prefix="kasal-cutoffs-") as name, contextlib.ExitStack() as servers:
        room, outside = Path(name), Outside(chance)
        (room / "data").mkdir(mode=0o700)
        environ = {"OPENAI_API_KEY": "sk-of-nobody-1234567890", "OPENAI_BASE_URL": f"{outside.url}/v1"}
        options = [
            "--KasalApp.resume_on_start=True",
            f"--KasalApp.max_running={RUNS}",
            f"--KasalApp.max_running_per_user={RUNS}",
        ]
        started = [
            servers.enter_context(Server(room / f"server{each}", room / "data", environ, options))
            for each in range(count)
        ]
        world = Round(started, outside, chance)
        world.begin()
        for number in range(rounds):
            world.disturbed(victim, number, runs)
            world.settled(told)
            print(f"{victim}, {count}: round {told.rounds}, {told.runs} runs", file=sys.stderr, flush=True)
        for server in started:
            server.end()
