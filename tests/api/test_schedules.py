"""``/schedules``, in notebook and terminal as well; a real server that is killed around a start."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from kasal_jupyter.cli import main
from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection
from kasal_jupyter.kernel.magics.subcommands import COMMANDS
from kasal_jupyter.kernel.runs.schedules import schedules_table
from kasal_jupyter.kernel.session import Session
from kasal_jupyter.store.store import Store
from tests.accounts import log_in
from tests.processes import PATIENCE
from tests.sample_crews import crew_body, new_crew, wait_for
from tests.server import start_server

RARELY = "0 7 29 2 *"


def body(crew, **fields):
    about = {"name": "Morning tea", "crew_id": crew, "inputs": {"topic": "tea"}, "cron": RARELY}
    return {**about, "budget": {"max_tokens": 50_000}, **fields}


@pytest.fixture(scope="module")
def crew_id(live_server):
    with live_server.client() as client:
        return new_crew(client, crew_body("Tea"))


def test_a_schedule_is_made_changed_paused_run_and_deleted(api, live_server, crew_id):
    made = api.post("/schedules", json=body(crew_id, timezone="Europe/Berlin", overlap="queue"))
    assert made.status_code == 201, made.text
    schedule = made.json()
    path = f"/schedules/{schedule['id']}"
    assert [each[4:] for each in schedule["next"]] == ["-02-29T07:00:00+01:00"] * 5
    assert "one that is switched off starts nothing" in schedule["remark"]
    changed = api.put(path, json={"cron": "0 8 * * MON", "total_budget": {"max_tokens": 50_000}}).json()
    assert changed["next"][0].endswith(("T08:00:00+01:00", "T08:00:00+02:00"))
    assert (changed["tokens"], changed["inputs"]) == (0, {"topic": "tea"})
    assert api.post(f"{path}/pause").json()["paused"] is True
    # By hand it is run all the same, within all of its budgets.
    job_id = api.post(f"{path}/run").json()["job_id"]
    done = wait_for(api, job_id, "completed")
    assert (done["schedule"], done["batch"]) == (schedule["id"], None)
    (listed,) = api.get("/executions", params={"schedule": schedule["id"]}).json()["executions"]
    assert listed["job_id"] == job_id
    used = api.get(path).json()
    assert (used["last_job"], used["tokens"]) == (job_id, done["usage"]["total_tokens"])
    few = api.put(path, json={"total_budget": {"max_tokens": done["usage"]["total_tokens"] + 10}})
    assert few.status_code == 200
    # The next run's first call would take more than what is left of all of them together.
    failed = wait_for(api, api.post(f"{path}/run").json()["job_id"], "failed")
    assert failed["error"]["code"] == "BUDGET_EXCEEDED"
    assert "tokens that the schedule may take are used or reserved" in failed["error"]["message"]
    api.put(path, json={"total_budget": {"max_tokens": 10}})
    refusal = api.post(f"{path}/run")
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (403, "BUDGET_EXCEEDED")
    assert api.post(f"{path}/resume").json()["paused"] is False
    with log_in(live_server) as other:
        assert other.get(path).status_code == 404
        assert other.post(f"{path}/run").status_code == 404
        assert other.get("/schedules").json()["total"] == 0
    assert api.get("/schedules", params={"search": "morning"}).json()["total"] == 1
    assert api.delete(path).status_code == 204
    assert api.get(path).status_code == 404
    assert api.get(f"/executions/{job_id}").status_code == 200


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cron": "0 7 * *"}, "cron"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"budget": {"max_seconds": 10}}, ""),
        ({"budget": None}, "budget"),
        ({"inputs": {}}, "inputs.topic"),
        ({"crew_id": "crew_none"}, "crew_id"),
    ],
)
def test_what_could_not_be_run_is_not_scheduled(api, crew_id, fields, field):
    refused = api.post("/schedules", json=body(crew_id, **fields))
    assert refused.status_code in {400, 404}, refused.text
    assert field in refused.json()["error"]["details"]["field"]


def test_a_user_sees_what_may_be_spent_and_an_admin_sets_it(api, live_server):
    with log_in(live_server) as ada:
        user = ada.get("/auth/me").json()["id"]
        assert ada.get("/usage").json()["limits"] == []
        assert ada.put(f"/users/{user}", json={"limits": {}}).status_code == 403
        changed = api.put(f"/users/{user}", json={"limits": {"max_cost_day": 5, "max_cost_month": 60}})
        assert changed.json()["limits"] == {"max_cost_day": 5.0, "max_cost_month": 60.0}
        limits = ada.get("/usage").json()["limits"]
        assert [(each["period"], each["max_cost"], each["cost"]) for each in limits] == [
            ("day", 5.0, 0.0),
            ("month", 60.0, 0.0),
        ]
        # Models of the sandbox cost nothing, and so pass no limit.
        crew = new_crew(ada, crew_body())
        asked = {"crew_id": crew, "inputs": {"topic": "tea"}}
        done = wait_for(ada, ada.post("/executions", json=asked).json()["job_id"])
        assert done["status"] == "completed"


def test_notebook_and_terminal_say_the_same(live_server, crew_id, capsys):
    session = Session()
    session._client = Client(Connection(live_server.url, live_server.token))
    command = COMMANDS["schedule"]

    def notebook(*words):
        return command.carry_out(session, command.parser().read(words), None)

    where = ["--url", live_server.url, "--token", live_server.token]

    def terminal(*words):
        status = main(["schedule", *words, *where])
        return status, capsys.readouterr().out

    assert "one begins with a crew, --cron and a budget" in repr(notebook())
    shown = repr(notebook("Tea", "topic='tea'", "--cron", RARELY, "--max-tokens", "9000", "--name", "Early"))
    assert "Early: Tea at 0 7 29 2 * (UTC)" in shown
    assert shown.count("-02-29 07:00+00:00") == 5
    status, out = terminal("Tea", "topic=tea", "--cron", RARELY, "--max-tokens", "9000", "--json")
    assert (status, json.loads(out)["name"]) == (0, "Tea")
    assert main(["schedule", "Tea", "topic=tea", "--cron", RARELY, *where]) == 1
    assert "needs a budget: --max-cost DOLLARS or --max-tokens N" in capsys.readouterr().err
    assert notebook("--pause", "Early") is None
    assert capsys.readouterr().out == "Early is paused\n"
    assert "switched off starts nothing" in terminal()[1]
    assert [row[4] for row in schedules_table(session.client.schedules()).rows] == ["on", "paused"]
    assert "Early is on; its next run is at" in terminal("--resume", "Early")[1]
    for name in ("Early", "Tea"):
        assert terminal("--remove", name)[1] == f"{name} is removed; its runs stay\n"
    assert terminal()[1].startswith("There are no schedules")
    session.client.close()


def test_a_server_that_is_killed_behind_the_claim_has_its_run_be_done_once(tmp_path):
    """Two servers look at the same time; the one that takes it is killed before it has a process."""
    folder = tmp_path / "data"
    servers = [start_server(tmp_path / name, "--KasalApp.warm=use", folder=folder) for name in "ab"]
    try:
        with servers[0].client() as api, Store.open(folder) as store:
            due = datetime.now(UTC) - timedelta(minutes=3)
            cron = f"{due.minute} {due.hour} {due.day} {due.month} *"
            schedule = api.post("/schedules", json=body(new_crew(api, crew_body()), cron=cron)).json()["id"]
            before = (due - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
            store.change_now(lambda: store.schedules.update(schedule, {"handled": before}))
            until = time.monotonic() + PATIENCE
            while not (found := store.executions.find(schedule=schedule)):
                assert time.monotonic() < until
                time.sleep(0.002)
            (first,) = found
            taker = next(each for each in servers if taken_by(each, first.id))
            taker.process.kill()
            taker.process.wait()
            (other,) = (each for each in servers if each is not taker)
            with other.client() as still:
                job_id = first.id
                while (now := wait_for(still, job_id))["resumed_by"] or now["status"] != "completed":
                    assert now["status"] in {"interrupted", "completed"}, now
                    assert time.monotonic() < until, now
                    job_id = now["resumed_by"] or job_id
                    time.sleep(0.05)
                slots = still.get(f"/schedules/{schedule}").json()["slots"]
            assert [(each["state"], each["job_id"]) for each in slots] == [("started", first.id)]

            def done():
                found = store.executions.find(schedule=schedule)
                return [each.id for each in found if each.status == "completed"]

            # What a server says of a run that has just ended is on disk a moment later.
            while not done() or store.holds.ids():
                assert time.monotonic() < until
                time.sleep(0.05)
            assert done() == [job_id]
    finally:
        for each in servers:
            if each.process.poll() is None:
                each.close()


def taken_by(server, job_id):
    """Say whether a server runs an execution: it alone knows its place in the line, or has its files open."""
    with server.client() as client:
        return client.post(f"/executions/{job_id}/tool_calls/none", json={"result": "x"}).status_code == 404
