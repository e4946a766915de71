"""`jupyter kasal ps`, `status`, `stop`, `crews` and `export`."""

import json
import re

import pytest

from kasal_jupyter.formats.yaml_crew import load_crew


@pytest.fixture(scope="module")
def jobs(terminal):
    """The ids of a run that has completed, one that has failed, and one that was stopped."""
    started = {}
    for name in ("crew", "failing", "slow"):
        started[name] = terminal.run("run", f"{name}.yaml", "topic=tea", "--bg", "-q")[1].strip()
    assert terminal.run("stop", started["slow"])[1] == f"{started['slow']} stopped\n"
    for name in ("crew", "failing"):
        terminal.run("wait", started[name])
    return started


def test_ps_lists_the_latest_first(terminal, jobs):
    status, out, _ = terminal.run("ps")
    heads, *rows = (line.split() for line in out.splitlines())
    assert status == 0
    assert heads[:3] == ["job", "crew", "status"]
    assert heads[-3:] == ["cost", "created", "inputs"]
    assert all("topic=tea" in row for row in rows)
    assert [row[:3] for row in rows] == [
        [jobs["slow"], "slow", "stopped"],
        [jobs["failing"], "failing", "failed"],
        [jobs["crew"], "crew", "completed"],
    ]
    assert len(terminal.run("ps", "-n", "1")[1].splitlines()) == 2
    listed = json.loads(terminal.run("ps", "--json")[1])
    assert [each["job_id"] for each in listed] == [row[0] for row in rows]


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [("crew", 0, "✔ completed"), ("failing", 1, "✖ failed"), ("slow", 130, "■ stopped")],
)
def test_the_status_of_a_run_is_the_commands(terminal, jobs, name, status, said):
    ended, out, _ = terminal.run("status", jobs[name])
    assert ended == status
    assert said in out.splitlines()[0]
    assert jobs[name] in out
    if name == "failing":
        assert "MODEL_ERROR: sandbox" in out


def test_the_latest_runs_are_meant_by_their_numbers(terminal, jobs):
    for word, name in (("last", "slow"), ("1", "slow"), ("2", "failing"), ("3", "crew")):
        assert jobs[name] in terminal.run("status", word)[1]
    assert "There is no run number 99" in terminal.run("status", "99")[2]
    # They move on with every run: what changes something takes an id.
    assert terminal.run("stop", "1")[0] == 1


def test_a_run_is_repeated_with_its_inputs_and_some_of_them_changed(terminal, jobs):
    for more, inputs in (((), {"topic": "tea"}), (("topic=coffee",), {"topic": "coffee"})):
        status, out, err = terminal.run("run", "--again", jobs["crew"], *more, "--json")
        assert status == 0, err
        assert json.loads(out.splitlines()[0])["inputs"] == inputs
    assert "Which crew?" in terminal.run("run")[2]


def test_a_trace_is_searched(terminal, jobs):
    status, out, _ = terminal.run("traces", jobs["failing"], "--failed", "--json")
    assert status == 0
    assert {json.loads(line)["type"] for line in out.splitlines()} == {"llm_failed", "task_failed", "error"}
    status, out, _ = terminal.run("traces", jobs["crew"], "--find", "[SANDBOX]", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows
    assert all("[sandbox]" in row["result"] for row in rows)
    status, out, err = terminal.run("traces", jobs["crew"], "--after", "1", "--limit", "1")
    assert (status, len(out.splitlines())) == (0, 2)
    assert "1 step, not all; --after" in err
    assert terminal.run("traces", jobs["crew"], "--find", "nowhere")[:2] == (1, "")


def test_a_run_that_has_ended_is_not_stopped(terminal, jobs):
    status, out, err = terminal.run("stop", jobs["crew"])
    assert (status, out) == (1, "")
    assert "is completed already" in err


@pytest.mark.usefixtures("jobs")
def test_crews_are_listed(terminal):
    _, out, _ = terminal.run("crews")
    assert [line.split()[0] for line in out.splitlines()] == ["crew", "slow", "failing", "crew"]
    listed = json.loads(terminal.run("crews", "--json")[1])
    assert [each["name"] for each in listed] == ["slow", "failing", "crew"]


@pytest.mark.usefixtures("jobs")
def test_a_crew_that_was_exported_is_the_same_crew(terminal):
    status, out, _ = terminal.run("export", "crew")
    assert status == 0
    assert load_crew(out) == load_crew((terminal.folder / "crew.yaml").read_text(), "crew")

    assert terminal.run("export", "crew", "out.yaml")[2] == "wrote out.yaml\n"
    status, _, err = terminal.run("export", "crew", "out.yaml")
    assert status == 1
    assert "out.yaml is there already" in err
    assert terminal.run("export", "crew", "out.yaml", "--force")[0] == 0
    assert terminal.run("export", "crew", "--as", "html")[0] == 2
    _, _, err = terminal.run("run", "out.yaml", "topic=tea", "--bg")
    assert "crew crew: unchanged" in err


def test_a_run_is_exported_with_its_events(terminal, jobs):
    run = json.loads(terminal.run("export", jobs["failing"])[1])
    assert run["status"] == "failed"
    assert run["events"][0]["type"] == "execution_status"
    spans = json.loads(terminal.run("export", jobs["failing"], "--as", "otel")[1])
    assert spans["resourceSpans"]
    assert terminal.run("export", jobs["failing"], "run.html")[0] == 0
    page = (terminal.folder / "run.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert "was set to fail" in page
    status, _, err = terminal.run("export", jobs["failing"], "nowhere/run.json")
    assert status == 1
    assert "nowhere/run.json cannot be written: No such file" in err


def test_a_run_that_was_asked_for_before_is_given_at_once(terminal, jobs):
    status, out, err = terminal.run("run", "crew", "topic=tea", "--once")
    assert (status, out) == (0, terminal.run("result", jobs["crew"])[1])
    assert re.match(r"from job_\w+, \d+ \w+ ago\n", err), err
    # Run all the same, it is another.
    _, out, err = terminal.run("run", "crew", "topic=tea", "--once", "--fresh", "--bg")
    assert "from job_" not in err
    assert terminal.run("wait", out.strip())[0] == 0


def test_a_run_is_replayed_and_says_so(terminal, jobs):
    status, out, err = terminal.run("replay", jobs["crew"])
    assert (status, out) == (0, terminal.run("result", jobs["crew"])[1])
    first, *steps, last = err.splitlines()
    assert first.endswith(f"replay of {jobs['crew']}")
    assert sum(" recorded" in step for step in steps) >= 2
    assert re.search(r"\d recorded  ", last), last
    assert f"replay of {jobs['crew']}" in terminal.run("status", "last")[1].splitlines()[0]
    status, out, err = terminal.run("result", "last")
    assert (status, out) == (0, terminal.run("result", jobs["crew"])[1])
    assert re.fullmatch(r"jupyter kasal: \d recorded\n|\d recorded\n", err), err
    assert "completed, replay" in terminal.run("ps", "-n", "1")[1]


def test_a_run_that_failed_is_resumed(terminal, jobs):
    status, out, err = terminal.run("resume", jobs["failing"], "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert (events[0]["verb"], events[0]["parent"]) == ("resume", jobs["failing"])
    assert status == 1, err
    status, _, err = terminal.run("resume", jobs["crew"])
    assert status == 1
    assert f"{jobs['crew']} has completed: nothing is left of it to do" in err
