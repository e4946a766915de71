"""`jupyter kasal demo`, as a newcomer runs it."""

import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

COMMAND = [str(Path(sys.executable).parent / "jupyter"), "kasal"]


def kasal(*words, check=True, **options):
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, check=check, timeout=120, **options
    )


def our_processes():
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if "kasal_jupyter.cli" in line:
            found.append(line)
    return found


def test_the_demo_prints_the_trace_as_a_tree_and_the_answer():
    lines = kasal("demo").stdout.splitlines()
    assert "  job_" in lines[0]
    assert sum(line.startswith("├─ ▣ ") for line in lines) == 4
    assert any("● calculator" in line for line in lines)
    assert any("· context: " in line for line in lines)
    assert any(line.startswith("└─ ") and "✔ completed" in line for line in lines)
    assert lines[-1].startswith("[sandbox]")
    assert our_processes() == []


def test_the_demos_events_are_json_lines_without_a_gap():
    events = [json.loads(line) for line in kasal("demo", "--json").stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["type"] for event in events].count("task_complete") == 4
    assert events[-1]["status"] == "completed"
    assert our_processes() == []


@pytest.mark.parametrize("words", [["demo", "--nonsense"], ["db"]])
def test_wrong_words_are_refused(words):
    refused = kasal(*words, check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith("usage: jupyter kasal")


def test_the_extension_is_enabled_by_installing_it():
    listed = subprocess.run(
        [COMMAND[0], "server", "extension", "list"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "kasal_jupyter" in listed.stdout + listed.stderr
    assert "OK" in listed.stdout + listed.stderr
