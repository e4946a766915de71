"""Webhooks over the API: a crew with one, its runs, and the secret that signs."""

import time

import pytest
from standardwebhooks import Webhook

from tests.accounts import log_in
from tests.sample_crews import crew_body, new_crew, slow_crew, start, wait_for
from tests.server import start_server
from tests.servers.endpoint_server import endpoint_server, reply


@pytest.fixture(scope="module")
def allowing(tmp_path_factory):
    """A server whose webhooks may call this machine."""
    server = start_server(tmp_path_factory.mktemp("hooking"), "--KasalApp.allowed_hosts=127.0.0.1")
    yield server
    if server.process.poll() is None:
        server.close()


@pytest.fixture
def receiver():
    with endpoint_server() as running:
        running.replies["/hook"] = reply(status=204)
        yield running


def hooked(receiver, body=None, **webhook):
    return {**(body or crew_body()), "webhook": {"url": f"{receiver.url}/hook", **webhook}}


def deliveries(api, job_id):
    for _ in range(3_000):
        report = api.get(f"/executions/{job_id}/webhooks").json()
        if report["state"] == "done":
            return report
        time.sleep(0.02)
    raise AssertionError(report)


def test_a_run_reports_what_its_crew_asks_for(allowing, receiver):
    with log_in(allowing) as ada:
        job_id = start(ada, new_crew(ada, hooked(receiver)))
        wait_for(ada, job_id)
        report = deliveries(ada, job_id)
        assert [each["type"] for each in report["deliveries"]] == [
            *("execution_status", "execution_status", "task_complete", "task_complete", "execution_status"),
        ]
        assert (report["delivered"], report["failed"]) == (5, 0)
        secret = ada.get("/webhooks/secret").json()["secret"]
        events = [Webhook(secret).verify(asked.body.decode(), asked.headers) for asked in receiver.asked]
        page = ada.get(f"/executions/{job_id}/events", params={"kind": "status,task_complete"}).json()
        assert events == page["events"]
        assert events[-1]["status"] == "completed"


def test_it_comes_while_the_run_goes_on(allowing, receiver):
    with allowing.client() as api:
        job_id = start(api, new_crew(api, hooked(receiver, slow_crew(), events=["llm_call", "status"])))
        end = time.monotonic() + 60
        while len(receiver.asked) < 3 and time.monotonic() < end:
            time.sleep(0.02)
        assert [asked.json()["type"] for asked in receiver.asked] == ["execution_status"] * 2 + ["llm_call"]
        assert api.get(f"/executions/{job_id}").json()["status"] == "running"
        api.post(f"/executions/{job_id}/stop")
        deliveries(api, job_id)
        assert receiver.asked[-1].json()["status"] == "stopped"


def test_it_tells_that_somebody_is_asked_and_what_it_tells_is_enough_to_answer(allowing, receiver):
    agent = {"role": "Asker", "goal": "Ask", "model": "sandbox", "tools": ["ask_human"]}
    task = {"description": "Ask", "expected_output": "An answer", "agent": "Asker"}
    crew = hooked(receiver, {"name": "Asking", "agents": [agent], "tasks": [task]}, events=["input_required"])
    with allowing.client() as api:
        job_id = start(api, new_crew(api, crew))
        end = time.monotonic() + 60
        while not receiver.asked and time.monotonic() < end:
            time.sleep(0.02)
        told = receiver.asked[0].json()
        assert (told["type"], told["job_id"]) == ("input_request", job_id)
        answer = {"result": "Green"}
        assert told["question"]
        api.post(f"/executions/{told['job_id']}/tool_calls/{told['call_id']}", json=answer).raise_for_status()
        assert "says: Green" in wait_for(api, job_id)["result"]
        deliveries(api, job_id)
        assert len(receiver.asked) == 1


def test_the_crews_owner_signs_whoever_runs_it(allowing, receiver):
    with log_in(allowing) as ada, allowing.client() as admin:
        job_id = start(admin, new_crew(ada, hooked(receiver, events=["execution_status"])))
        wait_for(admin, job_id)
        deliveries(admin, job_id)
        theirs, mine = (each.get("/webhooks/secret").json()["secret"] for each in (ada, admin))
        assert theirs != mine
        assert Webhook(theirs).verify(receiver.asked[0].body.decode(), receiver.asked[0].headers)


def test_what_is_wrong_with_a_webhook_is_told_by_field(live_server, api):
    def fault(webhook):
        answer = api.post("/crews", json={**crew_body(), "webhook": webhook})
        assert answer.status_code == 400, answer.text
        return answer.json()["error"]["details"]

    details = fault({"url": "https://example.com/hook", "events": ["task", "task_completed"]})
    assert details["field"] == "webhook.events[1]"
    assert "did you mean 'task_complete'?" in details["reason"]
    assert fault({"url": "ftp://example.com"})["field"] == "webhook.url"
    assert fault({"url": "https://example.com", "events": []})["field"] == "webhook.events"


def test_a_run_without_a_webhook_has_no_deliveries(api):
    job_id = start(api, new_crew(api, crew_body()))
    wait_for(api, job_id)
    assert api.get(f"/executions/{job_id}/webhooks").status_code == 404


def test_a_receiver_on_this_machine_is_refused_where_nobody_allowed_it(api, receiver):
    crew_id = new_crew(api, crew_body())
    text = api.get(f"/crews/{crew_id}/export").text
    imported = {"text": f"{text}webhook:\n  url: {receiver.url}/hook\n"}
    for method, path, body in (
        ("POST", "/crews", hooked(receiver)),
        ("PUT", f"/crews/{crew_id}", hooked(receiver)),
        ("POST", "/crews/import", imported),
        ("POST", "/crews/import", {**imported, "save": False}),
    ):
        answer = api.request(method, path, json=body)
        assert answer.status_code == 400, answer.text
        details = answer.json()["error"]["details"]
        assert details["field"] == "webhook.url"
        assert "only public hosts may be called" in details["reason"]
    assert api.get(f"/crews/{crew_id}").json()["configuration"]["webhook"] is None


def test_the_secret_is_each_ones_own(live_server):
    with log_in(live_server) as ada, log_in(live_server) as bob, log_in(live_server, "viewer") as viewer:
        first = ada.get("/webhooks/secret").json()
        assert first == ada.get("/webhooks/secret").json()
        assert first["secret"].startswith("whsec_")
        assert bob.get("/webhooks/secret").json() != first
        rotated = ada.post("/webhooks/secret/rotate").json()
        assert rotated["secret"] != first["secret"]
        assert rotated["previous_until"] is not None
        assert viewer.get("/webhooks/secret").status_code == 403
        assert viewer.post("/webhooks/secret/rotate").status_code == 403


def test_a_deleted_execution_leaves_nothing(allowing, receiver):
    with allowing.client() as api:
        job_id = start(api, new_crew(api, hooked(receiver)))
        wait_for(api, job_id)
        deliveries(api, job_id)
        assert api.delete(f"/executions/{job_id}").status_code == 204
        assert list((allowing.folder / "runs").glob(f"{job_id}*")) == []


def test_a_server_that_starts_delivers_what_the_last_one_could_not(allowing, receiver, tmp_path):
    """Killed while its receiver was away; keep it last, it ends the module's server."""
    receiver.replies["/hook"] = reply(status=503)
    with allowing.client() as api:
        job_id = start(api, new_crew(api, hooked(receiver, slow_crew(), events=["execution_status"])))
        wait_for(api, job_id, "running")
        while not receiver.asked:
            time.sleep(0.02)
    allowing.process.kill()
    allowing.process.wait()
    receiver.replies["/hook"] = reply(status=204)
    again = start_server(tmp_path, "--KasalApp.allowed_hosts=127.0.0.1", folder=allowing.folder)
    try:
        with again.client() as api:
            report = deliveries(api, job_id)
            secret = api.get("/webhooks/secret").json()["secret"]
    finally:
        again.close()
    assert (report["delivered"], report["failed"]) == (3, 0)
    taken = {asked.json()["seq"]: asked for asked in receiver.asked}
    states = [taken[seq].json()["status"] for seq in sorted(taken)]
    assert states == ["queued", "running", "interrupted"]
    for asked in taken.values():
        Webhook(secret).verify(asked.body.decode(), asked.headers)
