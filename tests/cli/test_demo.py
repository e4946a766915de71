import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from kasal_jupyter.cli.demo import ServerProcess
from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection
from kasal_jupyter.errors import Unavailable
from tests.thorough import some_or_all

TIMEOUT = 120


@pytest.fixture
def demo(tmp_path):
    """Start `jupyter kasal demo` with a temporary folder of its own, which must be empty at the end."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    started = []

    def start(*options):
        process = subprocess.Popen(
            [sys.executable, "-m", "kasal_jupyter.cli", "demo", *options],
            env={**os.environ, "TMPDIR": str(folder), "KASAL_DATA_DIR": str(tmp_path / "mine")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start

    for process in started:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=TIMEOUT)
    assert list(folder.iterdir()) == []
    assert processes_of(folder) == []
    # The user's own data folder is not touched.
    assert not (tmp_path / "mine").exists()


def processes_of(folder):
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in " ".join([*process.cmdline(), *process.environ().values()]):
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def require_the_demos_events(events):
    """It is told of four tasks, of a tool, and of what a task is given of others."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events[0]["inputs"] == {"topic": "electric bicycles"}
    assert events[-1]["status"] == "completed"
    completed = [event["task"] for event in events if event["type"] == "task_complete"]
    assert completed == ["research", "sizing", "risks", "briefing"]
    tools = [(event["tool"], event["result"]) for event in events if event["type"] == "tool_result"]
    assert ("calculator", "42") in tools
    # The last task was given what the first found.
    found = next(event["result"] for event in events if event["type"] == "task_complete")
    writer = next(event for event in events if event["type"] == "agent_start" and event["agent"] == "writer")
    asked = [event for event in events if event["type"] == "llm_call" and event["agent"] == "writer"]
    assert writer["task"] == "briefing"
    assert found in json.dumps(asked[0]["messages"], ensure_ascii=False).replace('\\"', '"')


def test_it_prints_a_tree_and_the_answer(demo):
    process = demo()
    out, err = process.communicate(timeout=TIMEOUT)

    assert process.returncode == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("Market briefing  job_")
    assert [line.split()[2] for line in lines if line.startswith("├─ ▣")] == [
        "research",
        "sizing",
        "risks",
        "briefing",
    ]
    assert any("● calculator" in line and "→ 42" in line for line in lines)
    assert any("briefing writer · context: research, sizing, risks" in line for line in lines)
    assert "✔ completed" in next(line for line in lines if line.startswith("└─"))
    assert lines[-1].startswith("[sandbox] Briefing Writer")
    assert "starting the engine" in err


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
@pytest.mark.parametrize(
    ("number", "status"), some_or_all([(signal.SIGTERM, 143)], [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
)
def test_a_signal_in_the_midst_leaves_nothing_behind(demo, number, status):
    process = demo()
    assert process.stdout.readline().startswith("Market briefing")

    process.send_signal(number)

    _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == status
    assert "Traceback" not in err


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signals")
def test_its_events_are_lines_of_json_and_kept_it_serves_until_ctrl_c(demo):
    process = demo("--json", "--keep")
    for line in process.stderr:
        if "%kasal connect" in line:
            url, _, token = line.split("connect ")[1].split()
            break

    (server,) = psutil.Process(process.pid).children()
    assert token not in " ".join(server.cmdline())
    client = Client(Connection(url, token))
    assert [crew.name for crew in client.crews()] == ["Market briefing"]
    client.close()

    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0
    require_the_demos_events([json.loads(line) for line in out.splitlines()])


def test_a_server_that_does_not_start_says_why(tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "jupyter_server.py").write_text("raise SystemExit('no server today')")
    monkeypatch.setenv("PYTHONPATH", str(broken))

    folder = tmp_path / "server"
    folder.mkdir()
    with ServerProcess(folder) as server, pytest.raises(Unavailable, match="no server today"):
        server.connect()
