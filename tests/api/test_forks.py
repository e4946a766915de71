"""Forks over the API: real runs, real models' servers that count, and what is said before."""

import pytest

from tests.api.test_verbs import SUM, begun, lab, model_crew, replay  # noqa: F401 - a fixture
from tests.sample_crews import crew_body, new_crew, run, slow_crew, start, wait_for
from tests.servers.openai_server import OpenAIServer, Reply


@pytest.fixture(scope="module")
def report(live_server):
    with live_server.client() as client:
        return run(client, crew_body())[1]


def events_of(api, job_id):
    return api.get(f"/executions/{job_id}/events").json()["events"]


def span_of(api, job_id, kind, at=0):
    return [each["span_id"] for each in events_of(api, job_id) if each["type"] == kind][at]


def fork(api, job_id, span, **change):
    answer = api.post(f"/executions/{job_id}/fork", json={"span": span, **change})
    return wait_for(api, begun(answer, "fork", job_id)), answer.json()


def test_a_fork_makes_the_calls_that_it_says_and_its_own_forks_keep_what_was_changed(api, lab):  # noqa: F811
    with OpenAIServer(SUM, Reply("Five."), Reply("The sum is five.")) as server:
        _, first = run(api, model_crew(f"{lab(server)}/m"))
        assert first["result"] == "The sum is five."
        job_id, asked = first["job_id"], len(server.requests)
        place = span_of(api, job_id, "tool_call")
        path = f"/executions/{job_id}/fork"
        preview = api.post(path, json={"span": place, "dry_run": True}).json()
        assert (preview["span"], preview["kind"], preview["name"]) == (place, "tool", "calculator")
        assert (preview["result"], preview["prompt"]) == ("5", None)
        assert preview["estimate"] == {"calls": 2, "cost": None, "at_least": False}
        assert len(server.requests) == asked
        server.replies.clear()
        server.replies += [Reply("Seven."), Reply("The sum is seven.")]
        done, told = fork(api, job_id, place, result="7")
        assert (done["status"], done["result"]) == ("completed", "The sum is seven."), done
        assert len(server.requests) == asked + told["estimate"]["calls"] == asked + done["calls"]["live"]
        assert (done["at"], done["attempt"], done["parent"]) == (told["at"], 1, job_id)
        queued = events_of(api, done["job_id"])[0]
        assert (queued["verb"], queued["at"]) == ("fork", told["at"])
        assert [each["what"] for each in queued["edits"]] == ["result"]
        # The record of a fork is one like any other: it is replayed, and forked behind what was changed.
        assert replay(api, done["job_id"])["result"] == "The sum is seven."
        server.replies.clear()
        server.replies += [Reply("Seven it is.")]
        again, told = fork(api, done["job_id"], span_of(api, done["job_id"], "llm_call", -1))
        assert (again["result"], told["estimate"]["calls"]) == ("Seven it is.", 1)
        (result,) = (each for each in events_of(api, again["job_id"]) if each["type"] == "tool_result")
        assert (result["result"], result["edited"]["what"]) == ("7", "result")


def test_a_run_that_failed_is_forked_at_the_call_that_failed(api, lab):  # noqa: F811
    with OpenAIServer(SUM, Reply("Five."), Reply("No credit", status=401)) as server:
        _, failed = run(api, model_crew(f"{lab(server)}/m"))
        assert failed["status"] == "failed"
        server.replies.clear()
        server.replies += [Reply("No credit", status=401)]
        span = span_of(api, failed["job_id"], "llm_failed")
        stopped, told = fork(api, failed["job_id"], span, prompt="Write: it is five")
        assert told["estimate"] == {"calls": 1, "cost": 0.0, "at_least": True}
        assert stopped["status"] == "failed"
        # What was changed is kept where the fork goes on.
        server.replies.clear()
        server.replies += [Reply("It is five.")]
        asked = len(server.requests)
        resumed = api.post(f"/executions/{stopped['job_id']}/resume", json={})
        done = wait_for(api, begun(resumed, "resume", stopped["job_id"]))
        assert (done["status"], done["result"], done["attempt"]) == ("completed", "It is five.", 2), done
        assert len(server.requests) == asked + 1
        assert server.requests[-1]["messages"][-1]["content"] == "Write: it is five"
        # An answer stands in the place of one that never came.
        done, told = fork(api, failed["job_id"], span, answer="Six.")
        assert (done["result"], told["estimate"]["calls"]) == ("Six.", 0)
        assert len(server.requests) == asked + 1


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"span": 999}, "span", "there is no step 999; there are 3 (a call of sandbox, in “"),
        ({"span": 3, "result": "7"}, "result", "has a prompt and an answer, and no result"),
        ({"span": 4, "prompt": "Go"}, "prompt", "has a result, and no prompt"),
        ({"span": 3, "prompt": ""}, "prompt", ""),
        ({"span": 0}, "span", ""),
        ({}, "span", ""),
        ({"span": 3, "prompt": "Go", "answer": "Gone"}, "body", "one of prompt, answer and result"),
        ({"span": 3, "inputs": {"topic": "coffee"}}, "inputs", ""),
    ],
)
def test_what_cannot_be_forked_so_is_said(api, report, change, field, reason):
    answer = api.post(f"/executions/{report['job_id']}/fork", json=change)
    assert answer.status_code == 400, answer.text
    fault = answer.json()["error"]["details"]
    assert fault["field"] == field
    assert reason in fault["reason"]


def test_a_fork_of_what_goes_on_or_is_not_there(api, report):
    assert api.post("/executions/job_none/fork", json={"span": 1}).status_code == 404
    job_id = start(api, new_crew(api, slow_crew()))
    assert api.post(f"/executions/{job_id}/fork", json={"span": 1}).status_code == 409
    api.post(f"/executions/{job_id}/stop")
