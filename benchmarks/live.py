"""How late the live trace is: `python benchmarks/live.py`.

A real server runs a real crew on the sandbox model, in a real kernel that shows it: the time from each event
in the worker (its own time stamp) to the arrival, at a client of the kernel, of the first display message in
which it is drawn. At about 10 and 100 events a second; also how many redraws a second that takes, and bytes.

And how far the cell is behind a run of 300 MB of events, whose prompts are long: the time from the run's last
event to the end of its cell. `python benchmarks/live.py 50` makes it 50 MB.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from queue import Empty
from typing import Any

import httpx
from jupyter_client.manager import start_new_kernel

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.server import LiveServer, start_server

EVENTS_OF_A_TASK = 7
"""The task's, the agent's and the model call's, each begun and ended, and the answer as it is streamed."""

OWN_SECONDS = 0.03
"""What CrewAI itself takes for a task, about: the rest is the model's latency."""

SECONDS = 12.0
"""How long a run takes, about."""

LONGEST = 600.0
"""Most seconds that a cell may take."""

GOALS = (10, 100)
"""Events a second."""

ROWS = (
    "an event in a run's process to the view in the kernel that shows it (`live.py`), 10 events a second",
    "the same at 100 events a second",
)
"""What the README says of them."""

MEGABYTES = 300
"""Bytes of the events of the run with long prompts, about, in millions."""

PROMPT = 152_000
"""Characters of each of its prompts; each stands in two events."""


def new_crew(api: httpx.Client, rate: int, seconds: float = SECONDS) -> str:
    """Store a crew whose run has so many events a second, so long; give its name."""
    name = f"{rate} events a second for {seconds} seconds"
    tasks = round(seconds * rate / EVENTS_OF_A_TASK)
    latency = max(0.0, EVENTS_OF_A_TASK / rate - OWN_SECONDS)
    agent = {"role": "Clerk", "goal": "Work", "model": "sandbox", "sandbox": {"latency": latency}}
    task = {"description": "Say something", "expected_output": "Something", "agent": "Clerk"}
    # Each builds on the first alone: on all before it, the prompts would grow with the run.
    later = [{**task, "name": f"task {number}", "context": ["task 1"]} for number in range(2, tasks + 1)]
    body = {"name": name, "agents": [agent], "tasks": [{**task, "name": "task 1"}, *later]}
    api.post("/crews", json=body).raise_for_status()
    return name


def run_in(client: Any, code: str) -> list[tuple[float, dict[str, Any]]]:
    """Run a cell; give its display messages with the times they came."""
    message = client.execute(code)
    shown: list[tuple[float, dict[str, Any]]] = []
    end = time.monotonic() + LONGEST
    while time.monotonic() < end:
        try:
            got = client.get_iopub_msg(timeout=1)
        except Empty:
            continue
        now = time.time()
        if got["parent_header"].get("msg_id") != message:
            continue
        content = got["content"]
        if got["msg_type"] == "error":
            raise RuntimeError("\n".join(content["traceback"]))
        if got["msg_type"] == "update_display_data":
            shown.append((now, content))
        if got["msg_type"] == "status" and content["execution_state"] == "idle":
            return shown
    raise TimeoutError(f"the cell did not end: {code}")


def measure_bulk(server: LiveServer, client: Any, megabytes: int) -> None:
    """Run a crew with long prompts, and print how far behind its end the cell's end is."""
    tasks = min(max(2, round(megabytes * 1e6 / (2 * PROMPT))), 1_000)
    agent = {"role": "Clerk", "goal": "Work", "model": "sandbox", "sandbox": {"latency": 0}}
    task = {"description": "Say something of {material}", "expected_output": "Something", "agent": "Clerk"}
    later = [{**task, "name": f"task {number}", "context": ["task 1"]} for number in range(2, tasks + 1)]
    body = {"name": "Long prompts", "agents": [agent], "tasks": [{**task, "name": "task 1"}, *later]}
    with server.client() as api:
        api.post("/crews", json=body).raise_for_status()
        words = "prices of tea, in words: " * (PROMPT // 25)
        shown = run_in(client, f'run = %kasal run "Long prompts" material="{words}"')
        ended = time.time()
        job_id = shown[-1][1]["metadata"]["kasal"]["job_id"]
        run_in(client, "del run")
        last = api.get(f"/executions/{job_id}/events", params={"kind": "status"}).json()["events"][-1]
    (journal,) = server.folder.rglob(f"{job_id}.jsonl")
    run_end = datetime.fromisoformat(last["time"]).timestamp()
    began = datetime.fromisoformat(api_started(server, job_id)).timestamp()
    print(
        f"{journal.stat().st_size / 1e6:>8.0f} MB {run_end - began:>8.1f} s {ended - run_end:>8.2f} s behind"
        f" {len(shown):>6} redraws"
    )


def api_started(server: LiveServer, job_id: str) -> str:
    with server.client() as api:
        return str(api.get(f"/executions/{job_id}").json()["started_at"])


def measure(server: LiveServer, client: Any, rate: int, duration: float) -> str:
    """Run the crew in the kernel, print how late its events were drawn, and give it in short."""
    with server.client() as api:
        name = new_crew(api, rate, duration)
        shown = run_in(client, f'%kasal run "{name}"')
        about = shown[-1][1]["metadata"]["kasal"]
        events: list[dict[str, Any]] = []
        after = 0
        while after < about["seq"]:
            page = api.get(f"/executions/{about['job_id']}/events", params={"after": after}).json()["events"]
            events += page
            after = page[-1]["seq"]
    late = []
    drawn = iter(shown)
    at, content = next(drawn)
    for event in events:
        while content["metadata"]["kasal"]["seq"] < event["seq"]:
            at, content = next(drawn)
        late.append(1000 * (at - datetime.fromisoformat(event["time"]).timestamp()))
    # The first event is the run's acceptance, the second its start.
    took = datetime.fromisoformat(events[-1]["time"]) - datetime.fromisoformat(events[1]["time"])
    seconds = took.total_seconds()
    cuts = statistics.quantiles(late, n=100)
    size = statistics.fmean(len(content["data"]["text/html"].encode()) for _, content in shown[:-1]) / 1000
    print(
        f"{rate:>8} {len(events) / seconds:>9.1f} {len(events):>7} {statistics.median(late):>7.0f} ms"
        f" {cuts[98]:>7.0f} ms {max(late):>7.0f} ms {len(shown) / seconds:>8.1f}/s {size:>6.0f} kB"
    )
    return f"{statistics.median(late):.0f} ms p50, {cuts[98]:.0f} ms p99"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("megabytes", type=int, nargs="?", help="of the long run, which is then the only one")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: to see that it runs")
    arguments = parser.parse_args()
    tiny = arguments.tiny
    drawn = []
    with tempfile.TemporaryDirectory() as folder:
        server = start_server(Path(folder) / "server", "--KasalApp.max_journal_bytes=1000000000")
        os.environ |= {
            "KASAL_URL": server.url,
            "KASAL_TOKEN": server.token,
            "JUPYTER_RUNTIME_DIR": folder,
            "IPYTHONDIR": f"{folder}/ipython",
        }
        manager, client = start_new_kernel()
        try:
            run_in(client, "%load_ext kasal_jupyter")
            with server.client() as api:
                # The first run waits for the server to warm up.
                run_in(client, f'%kasal run "{new_crew(api, 100, 0.1 if tiny else 0.5)}"')
            print("    goal  events/s  events      p50       p99       most   redraws   size")
            if arguments.megabytes is None:
                drawn = [measure(server, client, rate, 0.2 if tiny else SECONDS) for rate in GOALS]
            print("  events       run       cell")
            measure_bulk(server, client, 1 if tiny else arguments.megabytes or MEGABYTES)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)
            server.close()
    for name, figures in zip(ROWS, drawn, strict=False):
        print(f"| {name} | {figures} |")


if __name__ == "__main__":
    main()
