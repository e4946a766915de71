"""Runs that go on from others, over the API: real runs, real models' servers, and what they are asked."""

import json
import time

import pytest

from kasal_jupyter.events.trace import Trace
from kasal_jupyter.schemas.base import new_id
from tests.accounts import log_in
from tests.sample_crews import crew_body, new_crew, run, slow_crew, start, wait_for
from tests.server import start_server
from tests.servers.openai_server import OpenAIServer, Reply

KEY = "sk-of-nobody-else-0123456789"

SUM = Reply(calls=(("calculator", {"expression": "2 + 3"}),))

_OF_A_MOMENT = {"time", "seq", "job_id", "span_id", "parent_id", "duration_ms", "recorded", "verb", "parent"}


def told(api, job_id):
    """Give what a run has told, but for when, and in which run; pieces of answers are a live run's."""
    events = api.get(f"/executions/{job_id}/events", params={"expand": True}).json()["events"]
    kept = [{name: each[name] for name in each.keys() - _OF_A_MOMENT} for each in events]
    return [each for each in kept if each["type"] != "llm_chunk"]


def begun(answer, verb, parent):
    assert answer.status_code == 202, answer.text
    accepted = answer.json()
    assert (accepted["verb"], accepted["parent"]) == (verb, parent)
    return accepted["job_id"]


def replay(api, job_id):
    return wait_for(api, begun(api.post(f"/executions/{job_id}/replay"), "replay", job_id))


def resume(api, job_id, **change):
    return wait_for(api, begun(api.post(f"/executions/{job_id}/resume", json=change), "resume", job_id))


@pytest.fixture
def lab(api):
    """Registers a server of models under a name of its own, and gives the name."""
    names = []

    def register(server):
        name = f"lab{len(names)}{new_id('x')[2:8]}"
        answer = api.put(f"/providers/{name}", json={"base_url": server.url, "api_key": KEY})
        assert answer.status_code == 200, answer.text
        names.append(name)
        return name

    yield register
    for name in names:
        api.delete(f"/providers/{name}")


def model_crew(model, name="Asks"):
    body = crew_body(name)
    for agent in body["agents"]:
        agent |= {"model": model, "settings": {"stream": False}}
    return body


@pytest.fixture(scope="module")
def report(live_server):
    with live_server.client() as client:
        return run(client, crew_body())[1]


def test_a_replay_gives_the_same_run_and_costs_nothing(api, report):
    before = api.get("/usage").json()["whole"]
    again = replay(api, report["job_id"])
    assert again["status"] == "completed", again
    same = ("result", "inputs", "crew_id", "crew_name", "crew_version", "progress", "error")
    assert {name: again[name] for name in same} == {name: report[name] for name in same}
    assert told(api, again["job_id"]) == told(api, report["job_id"])
    assert again["calls"] == {"recorded": 4, "live": 0, "saved": 0.0}
    assert report["calls"] == {"recorded": 0, "live": 4, "saved": 0.0}
    assert (report["verb"], report["parent"], report["attempt"]) == ("run", None, 1)
    assert {again["usage"][name] for name in ("llm_calls", "tool_calls", "total_tokens", "cost")} == {0}
    result = api.get(f"/executions/{again['job_id']}/result").json()
    assert result["usage"] == again["usage"]
    assert api.get("/usage").json()["whole"] == before
    assert api.get(f"/executions/{again['job_id']}/webhooks").status_code == 404
    # It is listed like any other, and its record is one.
    listed = api.get("/executions", params={"crew_id": report["crew_id"]}).json()["executions"]
    assert [each["verb"] for each in listed] == ["replay", "run"]
    assert replay(api, again["job_id"])["result"] == report["result"]


def test_a_run_that_failed_fails_alike_in_its_replay(api):
    _, failed = run(api, crew_body(fail_at=2))
    again = replay(api, failed["job_id"])
    assert (again["status"], again["error"]) == ("failed", failed["error"])
    assert told(api, again["job_id"]) == told(api, failed["job_id"])
    assert again["calls"]["live"] == 0


def test_a_replay_needs_no_key_no_model_and_no_crew(api, lab):
    with OpenAIServer(SUM, Reply("Five."), Reply("The sum is five.")) as server:
        name = lab(server)
        crew_id, first = run(api, model_crew(f"{name}/m"))
        assert first["status"] == "completed", first
        assert api.delete(f"/providers/{name}").status_code == 204
        assert api.delete(f"/crews/{crew_id}").status_code == 204
        again = replay(api, first["job_id"])
        assert again["status"] == "completed", again
        assert len(server.requests) == 3
    assert (again["result"], again["calls"]["recorded"]) == (first["result"], 4)
    assert replay(api, again["job_id"])["result"] == first["result"]


def test_a_run_that_failed_goes_on_without_asking_twice(api, lab):
    with OpenAIServer(SUM, Reply("Five."), Reply("No credit", status=401)) as server:
        _, failed = run(api, model_crew(f"{lab(server)}/m"))
        assert (failed["status"], failed["error"]["code"]) == ("failed", "MODEL_AUTH")
        asked = len(server.requests)
        server.replies.clear()
        server.replies.append(Reply("The sum is five."))
        done = resume(api, failed["job_id"])
        assert len(server.requests) == asked + 1
    assert (done["status"], done["result"]) == ("completed", "The sum is five.")
    assert done["attempt"] == 2
    assert (done["calls"]["recorded"], done["calls"]["live"]) == (3, 1)
    assert done["usage"]["llm_calls"] == 1
    # The record of the second is whole.
    assert replay(api, done["job_id"])["result"] == "The sum is five."
    again = api.post(f"/executions/{done['job_id']}/resume", json={})
    assert (again.status_code, "has completed" in again.json()["error"]["message"]) == (409, True)


def test_another_model_goes_on_and_what_the_first_has_answered_stays(api, lab):
    with OpenAIServer(SUM, Reply("Five."), Reply("Gone", status=401)) as first:
        name = lab(first)
        _, failed = run(api, model_crew(f"{name}/m"))
        asked = len(first.requests)
        api.delete(f"/providers/{name}")
        unchanged = api.post(f"/executions/{failed['job_id']}/resume", json={})
        assert unchanged.status_code == 400, unchanged.text
        with OpenAIServer(Reply("From the other.")) as second:
            done = resume(api, failed["job_id"], model=f"{lab(second)}/other")
            assert [each["model"] for each in second.requests] == ["other"]
        assert len(first.requests) == asked
    assert (done["status"], done["result"]) == ("completed", "From the other.")
    assert (done["calls"]["recorded"], done["calls"]["live"]) == (3, 1)


def test_other_inputs_are_for_what_they_touch(api):
    body = crew_body(fail_at=2)
    body["agents"][0]["goal"] = "Find facts"
    body["tasks"][0]["description"] = "Research tea"
    body["agents"][0]["sandbox"] = {}
    body["agents"][1]["sandbox"] = {"fail_at": 1}
    _, failed = run(api, body)
    assert failed["status"] == "failed"
    api.put(f"/crews/{failed['crew_id']}", json={"name": "Renamed"})
    # The writer fails again, and was asked about something else.
    again = resume(api, failed["job_id"], inputs={"topic": "coffee"})
    assert again["inputs"] == {"topic": "coffee"}
    assert again["crew_name"] == failed["crew_name"]
    assert (again["calls"]["recorded"], again["calls"]["live"]) == (3, 1)


def test_a_run_that_was_stopped_goes_on(api):
    body = crew_body()
    body["agents"][1]["sandbox"] = {"latency": 600}
    crew_id = new_crew(api, body)
    job_id = start(api, crew_id)
    state = wait_for(api, job_id, "running")
    while state["progress"] < 50:
        state = api.get(f"/executions/{job_id}").json()
    api.post(f"/executions/{job_id}/stop")
    answer = api.post(f"/executions/{job_id}/resume", json={})
    going = begun(answer, "resume", job_id)
    while (state := api.get(f"/executions/{going}").json())["progress"] < 50:
        assert state["status"] in {"queued", "running"}
    assert state["calls"]["recorded"] == 3
    # Of one run, one attempt goes on.
    second = api.post(f"/executions/{job_id}/resume", json={})
    assert (second.status_code, going in second.json()["error"]["message"]) == (409, True)
    api.post(f"/executions/{going}/stop")


def test_a_run_that_has_used_up_its_budget_goes_on_with_a_larger_one(api, report):
    crew_id = new_crew(api, crew_body())
    most = report["usage"]["total_tokens"] * 3 // 4
    asked = {"crew_id": crew_id, "inputs": {"topic": "tea"}, "budget": {"max_tokens": most}}
    first = wait_for(api, api.post("/executions", json=asked).json()["job_id"])
    assert first["error"]["code"] == "BUDGET_EXCEEDED", first
    assert replay(api, first["job_id"])["error"] == first["error"]
    done = resume(api, first["job_id"], budget={"max_tokens": 100_000})
    assert done["status"] == "completed", done
    assert done["calls"]["recorded"] >= 1
    assert done["budget"]["max_tokens"] == 100_000


def test_a_run_that_was_cut_off_goes_on_at_the_next_server(tmp_path):
    first = start_server(tmp_path / "a", folder=tmp_path / "data")
    try:
        with first.client() as api:
            body = crew_body()
            body["agents"][1]["sandbox"] = {"latency": 5}
            job_id = start(api, new_crew(api, body))
            while api.get(f"/executions/{job_id}").json()["progress"] < 50:
                time.sleep(0.05)
    finally:
        first.process.kill()
        first.process.wait()
    second = start_server(tmp_path / "b", folder=tmp_path / "data")
    try:
        with second.client() as api:
            assert wait_for(api, job_id)["status"] == "interrupted"
            # Prompts are whole there as well, and from the middle.
            trace = Trace()
            path = tmp_path / "data" / "runs" / f"{job_id}.jsonl"
            whole = [trace.feed(json.loads(line)) for line in path.read_text().splitlines()]
            assert any("whole" in json.loads(line) for line in path.read_text().splitlines())
            for after in (0, len(whole) * 2 // 3):
                asked = {"expand": True, "after": after}
                given = api.get(f"/executions/{job_id}/events", params=asked).json()["events"]
                assert given == whole[after:]
            done = resume(api, job_id)
            assert done["status"] == "completed", done
            assert (done["calls"]["recorded"], done["calls"]["live"]) == (3, 1)
            assert replay(api, done["job_id"])["result"] == done["result"]
            # Its record is what is missed beyond it.
            missed = replay(api, job_id)
            assert (missed["status"], missed["error"]["code"]) == ("failed", "REPLAY_MISS")
    finally:
        second.close()


def test_what_is_replayed_is_told_to_nobody_and_remembered_by_nobody(api):
    body = crew_body() | {"memory": True}
    crew_id, first = run(api, body)
    assert first["status"] == "completed", first
    path = f"/memory/{crew_id}/entries"
    before = api.get(path).json()
    again = replay(api, first["job_id"])
    assert (again["status"], again["result"]) == ("completed", first["result"])
    assert api.get(path).json() == before


@pytest.mark.parametrize("verb", ["replay", "resume"])
def test_what_is_somebody_elses_is_not_there(live_server, api, report, verb):
    body = {} if verb == "resume" else None
    with log_in(live_server) as ada, log_in(live_server, role="viewer") as viewer:
        for job_id in (report["job_id"], "job_none"):
            assert ada.post(f"/executions/{job_id}/{verb}", json=body).status_code == 404
        assert viewer.post(f"/executions/{report['job_id']}/{verb}", json=body).status_code == 403
        _, hers = run(ada, crew_body(fail_at=1))
        assert ada.post(f"/executions/{hers['job_id']}/{verb}", json=body).status_code == 202


def test_what_goes_on_is_no_record(api):
    job_id = start(api, new_crew(api, slow_crew()))
    for verb, body in (("replay", None), ("resume", {})):
        answer = api.post(f"/executions/{job_id}/{verb}", json=body)
        assert answer.status_code == 409
        assert job_id in answer.json()["error"]["message"]
    api.post(f"/executions/{job_id}/stop")


@pytest.mark.parametrize(
    "change", [{"model": ""}, {"inputs": []}, {"budget": {"max_tokens": 0}}, {"topic": "tea"}, {"until": 3}]
)
def test_what_is_no_change_is_refused(api, report, change):
    assert api.post(f"/executions/{report['job_id']}/resume", json=change).status_code == 400


def test_what_is_kept_of_a_run_has_no_key(api, live_server, lab):
    with OpenAIServer(Reply("Five.")) as server:
        _, first = run(api, model_crew(f"{lab(server)}/m"))
    assert first["status"] == "completed", first
    for file in (live_server.folder / "kasal.db", live_server.folder / "kasal.db-wal"):
        assert KEY.encode() not in file.read_bytes()
    journal = live_server.folder / "runs" / f"{first['job_id']}.jsonl"
    assert json.loads(journal.read_text().splitlines()[0]).get("verb") is None
