import json
import threading

import pytest

from tests.sample_crews import crew_body, new_crew, run, slow_crew, start, wait_for

SSE = {"Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def job_id(live_server):
    with live_server.client() as api:
        return run(api, crew_body())[1]["job_id"]


def messages(text):
    """Take Server-Sent Events apart."""
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            yield int(fields["id"]), json.loads(fields["data"])


def test_events_by_page(api, live_server, job_id):
    journal = (live_server.folder / "runs" / f"{job_id}.jsonl").read_text().splitlines()
    whole = api.get(f"/executions/{job_id}/events").json()
    assert whole == {"events": [json.loads(line) for line in journal], "next": None}
    after, pages = 0, []
    while after is not None:
        page = api.get(f"/executions/{job_id}/events", params={"after": after, "limit": 7}).json()
        assert len(page["events"]) <= 7
        pages += page["events"]
        after = page["next"]
    assert pages == whole["events"]


def test_rows_by_page(api, job_id):
    whole = api.get(f"/executions/{job_id}/traces").json()
    assert whole["next"] is None
    after, pages = 0, []
    while after is not None:
        page = api.get(f"/executions/{job_id}/traces", params={"after": after, "limit": 2}).json()
        pages += page["traces"]
        after = page["next"]
    assert pages == whole["traces"]
    assert len(pages) > 4


@pytest.mark.parametrize(
    ("query", "check"),
    [
        ({"kind": "tool"}, lambda event: event["type"].startswith("tool_")),
        ({"kind": "llm_response,error"}, lambda event: event["type"] == "llm_response"),
        ({"agent": "Writer"}, lambda event: event["agent"] == "Writer"),
        ({"task": "research"}, lambda event: event["task"] == "research"),
        ({"task": "report", "kind": "task"}, lambda event: event["type"] in {"task_start", "task_complete"}),
    ],
)
def test_events_are_filtered(api, job_id, query, check):
    whole = api.get(f"/executions/{job_id}/events").json()["events"]
    found = api.get(f"/executions/{job_id}/events", params=query).json()["events"]
    assert found
    assert all(map(check, found))
    rows = api.get(f"/executions/{job_id}/traces", params=query).json()["traces"]
    assert {row["seq"] for row in rows} <= {event["seq"] for event in found}
    assert rows
    streamed = api.get(f"/executions/{job_id}/events", params=query, headers=SSE)
    assert [event for _, event in messages(streamed.text)] == found
    assert len(found) < len(whole)


def test_a_kind_that_is_none_is_answered_with_the_nearest(api, job_id):
    answer = api.get(f"/executions/{job_id}/events", params={"kind": "tols"})
    assert answer.status_code == 400
    assert "did you mean 'tool'?" in answer.json()["error"]["details"]["reason"]


def test_a_past_run_as_a_stream(api, job_id):
    for path in ("events", "traces"):
        answer = api.get(f"/executions/{job_id}/{path}", headers=SSE)
        assert answer.headers["content-type"] == "text/event-stream"
        got = list(messages(answer.text))
        assert [data for _, data in got] == api.get(f"/executions/{job_id}/{path}").json()[path]
        assert [seq for seq, _ in got] == [data["seq"] for _, data in got]


def test_a_stream_goes_on_where_it_was_cut(api, job_id):
    whole = list(messages(api.get(f"/executions/{job_id}/traces", headers=SSE).text))
    seq = whole[2][0]
    rest = api.get(f"/executions/{job_id}/traces", headers={**SSE, "Last-Event-ID": str(seq)})
    assert list(messages(rest.text)) == whole[3:]
    # A browser comes back after every end; 204 tells it to stay away.
    last = api.get(f"/executions/{job_id}/events").json()["events"][-1]["seq"]
    assert (
        api.get(f"/executions/{job_id}/events", headers={**SSE, "Last-Event-ID": str(last)}).status_code
        == 204
    )
    wrong = api.get(f"/executions/{job_id}/events", headers={**SSE, "Last-Event-ID": "x"})
    assert wrong.json()["error"]["details"]["field"] == "Last-Event-ID"


def test_a_run_is_streamed_as_it_happens(api):
    job_id = start(api, new_crew(api, slow_crew()))
    seen = []
    with api.stream("GET", f"/executions/{job_id}/events", headers=SSE) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                seen.append(json.loads(line[6:]))
                if seen[-1]["type"] == "llm_call":
                    threading.Thread(target=stop, args=(api, job_id)).start()
    assert seen[-1]["status"] == "stopped"
    assert seen == api.get(f"/executions/{job_id}/events").json()["events"]


def stop(api, job_id):
    assert api.post(f"/executions/{job_id}/stop").status_code == 200


def test_a_client_that_goes_away_is_forgotten(api, live_server):
    said_before = len(live_server.log.read_text())
    job_id = start(api, new_crew(api, slow_crew()))
    wait_for(api, job_id, "running")
    for _ in range(5):
        with api.stream("GET", f"/executions/{job_id}/events", headers=SSE) as answer:
            next(answer.iter_lines())
    api.post(f"/executions/{job_id}/stop")
    assert "Traceback" not in live_server.log.read_text()[said_before:]
