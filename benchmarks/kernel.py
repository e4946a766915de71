"""What drawing a trace costs: `python benchmarks/kernel.py`.

At 100, 1,000 and 5,000 steps: folding the events, one redraw of the live view (of which there are several a
second, in the user's own interpreter), the view that is kept, its text, and how large each is. Also
`%load_ext` in a fresh interpreter, and what the first `%kasal` of a notebook imports.

How late the live view is, from the event in the worker, is measured by `benchmarks/live.py`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, cast

from kasal_jupyter.events.event import Event
from kasal_jupyter.events.trace import build_trace
from kasal_jupyter.kernel.views.view_html import render_html, render_live
from kasal_jupyter.kernel.views.view_text import render_text

SIZES = (100, 1_000, 5_000)
STEPS_OF_A_TASK = 20
ROUNDS = 7


def run_of(steps: int, *, ended: bool = True) -> list[Event]:
    """Make the events of a run: tasks of twenty steps, each a model call or a tool call of some length."""
    events: list[dict[str, Any]] = []

    def add(kind: str, **fields: Any) -> None:
        at = len(events)
        clock = f"2026-11-24T{12 + at // 3600:02}:{at // 60 % 60:02}:{at % 60:02}.000000Z"
        events.append({"type": kind, "seq": at + 1, "job_id": "job_1", "time": clock, **fields})

    add("execution_status", status="queued", crew_name="Benchmark", tasks=[], inputs={})
    add("execution_status", status="running")
    messages = [{"role": "system", "content": "You are an analyst. " * 30}]
    usage = {"prompt_tokens": 900, "completion_tokens": 80, "total_tokens": 980}
    for step in range(steps):
        number = step // STEPS_OF_A_TASK
        task = {"task_id": f"task_{number}", "task": f"Task {number}", "agent": "Analyst"}
        parent = 10 * steps + number
        if step % STEPS_OF_A_TASK == 0:
            add("task_start", span_id=parent, parent_id=None, **task)
        span = {"span_id": step + 1, "parent_id": parent, **task}
        if step % 2:
            add("tool_call", tool="web_search", arguments={"query": f"prices {step}"}, **span)
            add("tool_result", tool="web_search", result="A row of a table\n" * 40, **span)
        else:
            said = [*messages, {"role": "user", "content": f"Look at number {step}. " * 20}]
            add("llm_call", model="gpt-4", messages=said, tools=["web_search"], **span)
            add(
                "llm_response",
                model="gpt-4",
                text="An answer of some length. " * 12,
                tool_calls=[],
                usage=usage,
                finish_reason="stop",
                **span,
            )
        if step % STEPS_OF_A_TASK == STEPS_OF_A_TASK - 1:
            add("task_complete", span_id=parent, parent_id=None, result="Done", **task)
    if ended:
        add("execution_status", status="completed", result="Done")
    return cast("list[Event]", events)


def milliseconds(draw: Callable[[], object], rounds: int) -> float:
    """Give the median time of a call."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        draw()
        times.append(time.perf_counter() - began)
    return 1000 * statistics.median(times)


def load_ext(rounds: int) -> float:
    """Give the milliseconds that `%load_ext kasal_jupyter` takes in a fresh IPython."""
    code = (
        "import time; from IPython.core.interactiveshell import InteractiveShell as Shell; shell = Shell();"
        "began = time.perf_counter(); shell.run_line_magic('load_ext', 'kasal_jupyter');"
        "print(time.perf_counter() - began)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(rounds)
    ]
    return 1000 * statistics.median(float(run.stdout) for run in runs)


def first_use() -> float:
    """Give the milliseconds that the first `%kasal` of a notebook spends on imports, IPython being there."""
    code = (
        "import IPython.core.interactiveshell, IPython.display, time; began = time.perf_counter();"
        "import kasal_jupyter.kernel.magics.subcommands, httpx, websocket; print(time.perf_counter() - began)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return 1000 * float(run.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: to see that it runs")
    tiny = parser.parse_args().tiny
    rounds = 1 if tiny else ROUNDS
    loads = load_ext(rounds)
    print(f"%load_ext kasal_jupyter: {loads:.1f} ms")
    print(f"imports of the first %kasal: {first_use():.0f} ms\n")
    print("  steps      fold  live redraw         kept view        text")
    keeps = []
    for steps in (2, 4, 6) if tiny else SIZES:
        events = run_of(steps)
        whole = build_trace(events)
        running = build_trace(run_of(steps, ended=False))
        fold = milliseconds(lambda events=events: build_trace(events), rounds)
        live = milliseconds(lambda running=running: render_live(running), rounds)
        kept = milliseconds(lambda whole=whole: render_html(whole), rounds)
        text = milliseconds(lambda whole=whole: render_text(whole), rounds)
        live_size = len(render_live(running).encode()) / 1000
        kept_size = len(render_html(whole).encode()) / 1000
        text_size = len(render_text(whole).encode()) / 1000
        print(
            f"{steps:>7} {fold:>6.1f} ms {live:>5.1f} ms, {live_size:>3.0f} kB "
            f"{kept:>6.1f} ms, {kept_size:>5.0f} kB {text:>4.1f} ms, {text_size:.0f} kB"
        )
        keeps.append(f"{kept:.0f}")
    print(f"\n| `%load_ext kasal_jupyter` (`kernel.py`) | {loads:.0f} ms |")
    few, more, most = keeps
    print(
        "| drawing a trace of 100, 1,000 and 5,000 steps for keeps (`kernel.py`) "
        f"| {few}, {more} and {most} ms |"
    )
    print(f"| drawing it live, with 5,000 steps (`kernel.py`) | {live:.0f} ms |")


if __name__ == "__main__":
    main()
