"""`jupyter kasal usage`, `artifacts`, and what `run` says and takes of cost."""

import json

import pytest


@pytest.fixture(scope="module")
def job(terminal):
    """A run within a budget, that has left a file."""
    job_id = terminal.run(
        "run", "crew.yaml", "topic=tea", "--bg", "-q", "--max-cost", "0.5", "--max-tokens=100000"
    )[1].strip()
    assert terminal.run("wait", job_id)[0] == 0
    (folder,) = terminal.folder.rglob(job_id)
    (folder / "out").mkdir()
    (folder / "out" / "report.md").write_text("# Tea")
    return job_id


def test_a_runs_budget_is_told(terminal, job):
    state = json.loads(terminal.run("status", job, "--json")[1])
    assert state["budget"] == {"max_cost": 0.5, "max_tokens": 100_000, "max_seconds": None}


@pytest.mark.parametrize("word", ["--max-cost=0", "--max-cost=much", "--max-tokens=1.5", "--max-seconds=-1"])
def test_a_bound_that_is_none_is_refused(terminal, word):
    status, out, err = terminal.run("run", "crew.yaml", "topic=tea", word)
    assert (status, out) == (2, "")
    assert word.partition("=")[0] in err


def test_usage_by_day_and_by_model(terminal, job):
    del job
    status, out, _ = terminal.run("usage")
    title, heads, *rows = out.splitlines()
    assert status == 0
    assert "$0; stored now: " in title
    assert heads.split("  ")[0] == "day"
    assert len(rows) == 1
    listed = json.loads(terminal.run("usage", "--by", "model", "--json")[1])
    assert [group["key"] for group in listed["groups"]] == ["sandbox"]
    assert listed["whole"]["llm_calls"] == listed["groups"][0]["llm_calls"] > 0
    assert terminal.run("usage", "--by", "colour")[0] == 2
    status, _, err = terminal.run("usage", "--since", "yesterday")
    assert status == 2
    assert "--since: 'yesterday' is no day; write one as 2024-01-15" in err


def test_files_are_listed_and_saved_and_nothing_is_overwritten(terminal, job):
    _, out, _ = terminal.run("artifacts", job)
    assert out.splitlines()[1].split()[0] == "out/report.md"
    assert json.loads(terminal.run("artifacts", job, "--json")[1])[0]["size"] == 5
    status, _, err = terminal.run("artifacts", job, "--to", "saved")
    assert status == 0
    assert "out/report.md → " in err
    assert (terminal.folder / "saved" / "out" / "report.md").read_text() == "# Tea"
    status, _, err = terminal.run("artifacts", job, "--get", "out/report.md", "--to", "saved")
    assert status == 1
    assert "is there already" in err
    assert terminal.run("artifacts", job, "--get", "out/report.md", "--to", "saved", "--force")[0] == 0
    status, _, err = terminal.run("artifacts", job, "--get", "out/raport.md")
    assert status == 1
    assert "did you mean 'out/report.md'?" in err


def test_a_dry_run_starts_nothing_and_says_what_a_run_takes(terminal, job):
    del job
    before = len(json.loads(terminal.run("ps", "--json")[1]))
    status, out, _ = terminal.run("run", "crew.yaml", "topic=tea", "--dry-run")
    title, _heads, *rows = out.splitlines()
    assert status == 0
    assert "can run; its last run took" in title
    assert [row.split()[0] for row in rows] == ["time", "tokens", "cost"]
    assert rows[2].split() == ["cost", "$0", "$0", "$0"]
    status, out, _ = terminal.run("run", "crew.yaml", "--dry-run")
    assert status == 1
    assert "inputs.topic" in out
    assert len(json.loads(terminal.run("ps", "--json")[1])) == before
