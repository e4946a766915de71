"""Crews for tests of the API, and waiting for what becomes of them."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx

from tests.processes import PATIENCE

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
"""How the reference writes a time."""

ENDED = {"completed", "failed", "stopped", "interrupted"}


def is_time(text: str) -> bool:
    """Say whether a text is a time as the reference writes it."""
    return TIMESTAMP.fullmatch(text) is not None


def crew_body(name: str = "Report Crew", **sandbox: Any) -> dict[str, Any]:
    """Describe a crew of two agents and two tasks with tools, context and an input, all in the sandbox."""
    return {
        "name": name,
        "agents": [
            {
                "role": "Researcher",
                "goal": "Find what matters about {topic}",
                "backstory": "Knows where to look",
                "model": "sandbox",
                "tools": ["calculator"],
                "sandbox": sandbox,
            },
            {"role": "Writer", "goal": "Write clearly", "model": "sandbox", "sandbox": sandbox},
        ],
        "tasks": [
            {
                "name": "research",
                "description": "Research {topic}",
                "expected_output": "Facts",
                "agent": "Researcher",
            },
            {
                "name": "report",
                "description": "Write a report about {topic}",
                "expected_output": "A report",
                "agent": "Writer",
                "context": ["research", "Previous analysis from Q3"],
            },
        ],
    }


def slow_crew(name: str = "Slow Crew", seconds: float = 600) -> dict[str, Any]:
    """Describe a crew whose model takes its time: it runs until it is stopped."""
    return crew_body(name, latency=seconds)


def new_crew(api: httpx.Client, body: dict[str, Any]) -> str:
    """Store a crew and give its id."""
    answer = api.post("/crews", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def start(api: httpx.Client, crew_id: str, topic: str = "tea") -> str:
    """Start a run and give its ``job_id``."""
    answer = api.post("/executions", json={"crew_id": crew_id, "inputs": {"topic": topic}})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def wait_for(api: httpx.Client, job_id: str, *states: str) -> dict[str, Any]:
    """Wait until an execution is in one of some states (any that ends it, where none is given)."""
    wanted = set(states) or ENDED
    # Each look costs what a run's own work does.
    end, pause = time.monotonic() + PATIENCE, 0.02
    while time.monotonic() < end:
        state: dict[str, Any] = api.get(f"/executions/{job_id}").json()
        if state["status"] in wanted:
            return state
        assert state["status"] not in ENDED, state
        time.sleep(pause)
        pause = min(1.5 * pause, 0.2)
    raise AssertionError(f"still not {wanted}: {state}")


def run(api: httpx.Client, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Run a crew to its end; give the crew's id and the execution."""
    crew_id = new_crew(api, body)
    return crew_id, wait_for(api, start(api, crew_id))
