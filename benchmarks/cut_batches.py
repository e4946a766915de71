"""Batches whose servers are killed: the fault *batches* of ``benchmarks/faults.py``.

Each round, a batch is begun on one server, or on one of two that share a folder, and its server is killed at
random moments, the first of which may come while the batch is being accepted. Then this must hold:

- whoever was not told that it was accepted asks again, and there is one batch of that name;
- it goes on by itself, on the other server or with the next start, and completes;
- each row has completed once: there is one execution for it that has, and it gives what the row asked for;
- no question came to the model once its answer was in a journal: those that came twice had their first
  answer on its way when the server was killed.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from cut_offs import Quiet, serve
from mortal_server import END_SECONDS, Broken, Server, until

ROWS, KILLS = 60, 3
TINY_ROWS, TINY_KILLS = 8, 1


class Model:
    """A model on loopback, which counts what comes to it."""

    def __init__(self, chance: random.Random) -> None:
        self.asked: dict[str, list[float]] = defaultdict(list)
        """When each row's question came."""
        lock = threading.Lock()
        model = self

        class Handler(Quiet):
            def do_POST(self) -> None:  # noqa: N802 - http.server calls it so
                texts = [str(each["content"]) for each in self.body()["messages"]]
                row = next(text.partition("ROW ")[2].split()[0] for text in texts if "ROW " in text)
                with lock:
                    model.asked[row].append(time.time())
                    pause = chance.uniform(0.02, 0.25)
                time.sleep(pause)
                message = {"role": "assistant", "content": f"done {row}"}
                choice = {"index": 0, "message": message, "finish_reason": "stop"}
                usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
                self.give({"id": "1", "model": "gpt-4o-mini", "choices": [choice], "usage": usage})

        self.url = f"{serve(Handler)}/v1"


class Told:
    """What a number of rounds has come to."""

    rounds = rows = cut = asked_again = 0


class Round:
    """Servers on a folder, and a batch."""

    def __init__(self, servers: list[Server], model: Model, chance: random.Random) -> None:
        self.servers, self.model, self.chance = servers, model, chance
        agent = {"role": "Clerk", "goal": "Do rows", "model": "gpt-4o-mini", "settings": {"stream": False}}
        task = {"description": "ROW {row} now", "expected_output": "What was done", "agent": "Clerk"}
        with servers[0].client() as api:
            answer = api.post("/crews", json={"name": "clerks", "agents": [agent], "tasks": [task]})
            assert answer.status_code == 201, answer.text
            self.crew = answer.json()["id"]

    def run(self, name: str, rows: int, kills: int, told: Told) -> None:
        """Begin a batch, kill what runs it as often as is asked, and see that it completes."""
        body = {
            "crew_id": self.crew,
            "name": name,
            "rows": [{"inputs": {"row": f"{name}x{number}"}} for number in range(rows)],
        }
        killing = threading.Timer(self.chance.choice((0.01, 0.05, 1.0)), self._kill, (self.servers[0],))
        killing.start()
        batch_id = ""

        def begun() -> bool:
            nonlocal batch_id
            with self.servers[-1 if not self._up(self.servers[0]) else 0].client() as api:
                answer = api.post("/batches", json=body)
                if answer.status_code not in {200, 202}:
                    raise Broken(f"POST /batches: {answer.status_code} {answer.text[:300]}")
                batch_id = answer.json()["id"]
            return True

        with contextlib.suppress(httpx.TransportError):
            begun()
        killing.join()
        self._put_up()
        until(begun, END_SECONDS, "the batch is accepted")
        for _ in range(kills - 1):
            time.sleep(self.chance.uniform(0.2, 3.0))
            self._kill(self.chance.choice(self.servers))
            # The other one goes on meanwhile, where there is one.
            time.sleep(self.chance.uniform(0.0, 4.0))
            self._put_up()
        self._completes(batch_id, name, rows)
        self._each_once(batch_id, told)
        told.rounds += 1
        told.rows += rows

    def _up(self, server: Server) -> bool:
        return server.process is not None

    def _kill(self, server: Server) -> None:
        if self._up(server):
            server.kill()
            server.process = None

    def _put_up(self) -> None:
        for server in self.servers:
            if not self._up(server):
                server.start()

    def _completes(self, batch_id: str, name: str, rows: int) -> None:
        with self.servers[-1].client() as api:
            found = api.get("/batches", params={"name": name}).json()["batches"]
            if [each["id"] for each in found] != [batch_id]:
                raise Broken(f"there are {[each['id'] for each in found]} of {name}")
            until(
                lambda: api.get(f"/batches/{batch_id}").json()["status"] != "running",
                3 * END_SECONDS,
                f"the end of {batch_id}: {api.get(f'/batches/{batch_id}').text}",
            )
            state = api.get(f"/batches/{batch_id}").json()
            if (state["status"], state["counts"]["completed"]) != ("completed", rows):
                raise Broken(f"{batch_id} is {state['status']}: {state['counts']} {state['reason']}")

    def _each_once(self, batch_id: str, told: Told) -> None:
        """Hold the rows against the executions, and what has come to the model against the journals."""
        with self.servers[-1].client() as api:
            rows = api.get(f"/batches/{batch_id}/rows", params={"limit": 1_000}).json()["rows"]
            jobs: Counter[str] = Counter()
            for state in ("completed", "interrupted", "failed", "stopped"):
                asked = {"batch": batch_id, "status": state, "per_page": 500}
                found = api.get("/executions", params=asked).json()["executions"]
                told.cut += len(found) * (state != "completed")
                if state == "completed":
                    jobs = Counter(each["inputs"]["row"] for each in found)
            for row in rows:
                name = row["inputs"]["row"]
                if row["output"] != f"done {name}" or jobs[name] != 1:
                    raise Broken(f"{name} gave {row['output']!r}, by {jobs[name]} executions")
                self._asked_once(api, row, told)

    def _asked_once(self, api: httpx.Client, row: dict[str, Any], told: Told) -> None:
        name, job_id, recorded = row["inputs"]["row"], row["job_id"], None
        while job_id is not None:
            events = api.get(f"/executions/{job_id}/events", params={"kind": "llm"}).json()["events"]
            for event in events:
                if event["type"] == "llm_response" and not event.get("recorded"):
                    if recorded is not None:
                        raise Broken(f"{name} was answered live twice, in {job_id} as well")
                    recorded = datetime.fromisoformat(event["time"]).timestamp()
            job_id = api.get(f"/executions/{job_id}").json()["parent"]
        times = self.model.asked[name]
        if recorded is None or any(at > recorded for at in times):
            raise Broken(f"{name} was asked at {times}, and its answer was recorded at {recorded}")
        told.asked_again += len(times) > 1


def measure(rounds: int, seed: int, *, tiny: bool = False) -> tuple[int, list[str], list[str]]:
    """Make so many rounds; give how many rows there were, what did not hold, and rows of a table.

    Tiny, it is one round of a few rows on one server that is killed once.
    """
    done, broken, lines = 0, [], []
    for count in (1, 2)[: 1 if tiny else None]:
        told = Told()
        try:
            _rounds(told, count, rounds, random.Random(seed), tiny=tiny)
        except Broken as error:
            broken.append(f"{count} servers, round {told.rounds + 1}: {error}")
        done += told.rows
        lines.append(
            f"| batches of {ROWS} rows, their server killed {KILLS} times, {count} "
            f"server{'s' * (count > 1)} on the folder | {told.rounds} rounds, {told.rows} rows, {told.cut} "
            f"runs cut off; {told.asked_again} questions asked twice, and none that was recorded; none lost, "
            "none done twice |"
        )
    return done, broken, lines


def _rounds(told: Told, count: int, rounds: int, chance: random.Random, *, tiny: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="kasal-batches-") as name, contextlib.ExitStack() as servers:
        room, model = Path(name), Model(chance)
        (room / "data").mkdir(mode=0o700)
        environ = {"OPENAI_API_KEY": "sk-of-nobody-1234567890", "OPENAI_BASE_URL": model.url}
        started = [
            servers.enter_context(Server(room / f"server{each}", room / "data", environ))
            for each in range(count)
        ]
        world = Round(started, model, chance)
        rows, kills = (TINY_ROWS, TINY_KILLS) if tiny else (ROWS, KILLS)
        for number in range(rounds):
            world.run(f"batch{number}", rows, kills, told)
            print(f"batches, {count}: round {told.rounds}, {told.rows} rows", file=sys.stderr, flush=True)
        for server in started:
            server.end()
