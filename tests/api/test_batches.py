"""Batches over HTTP: made of JSON and of files, refused by row, followed, and given as files."""

import csv
import io
import json
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kasal_jupyter.api import row_files
from kasal_jupyter.schemas.batches import row_keys
from tests.accounts import log_in
from tests.processes import PATIENCE
from tests.sample_crews import new_crew

NDJSON, PARQUET = "application/x-ndjson", "application/vnd.apache.parquet"


def letters(**sandbox):
    """Describe a crew of one task whose result is an object."""
    schema = {"type": "object", "properties": {"topic": {"type": "string"}, "length": {"type": "integer"}}}
    return {
        "name": "Letters",
        "agents": [{"role": "Writer", "goal": "Write", "model": "sandbox", "sandbox": sandbox}],
        "tasks": [
            {
                "description": "Write about {topic}",
                "expected_output": "A letter",
                "agent": "Writer",
                "output_schema": {**schema, "required": ["topic", "length"]},
            }
        ],
    }


def wait_until(api, batch, *states):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        told = api.get(f"/batches/{batch['id']}").json()
        if told["status"] in states:
            return told
        time.sleep(0.1)
    raise AssertionError(told)


@pytest.fixture(scope="module")
def crew(live_server):
    with live_server.client() as api:
        return new_crew(api, letters())


@pytest.fixture(scope="module")
def done(live_server, crew):
    """A batch of three rows that has completed, as its events told of it."""
    rows = [{"inputs": {"topic": topic, "status": 7}} for topic in ("tea", "milk", "tea")]
    body = {"crew_id": crew, "name": "letters", "rows": rows, "expected": [1, None, {"a": "b"}]}
    with live_server.client() as api:
        answer = api.post("/batches", json=body)
        assert answer.status_code == 202, answer.text
        told = []
        with api.stream("GET", f"/batches/{answer.json()['id']}/events") as stream:
            assert stream.headers["content-type"] == "text/event-stream"
            told = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
        again = api.post("/batches", json={**body, "rows": rows[::-1], "expected": None})
        assert (again.status_code, again.json()["id"]) == (200, answer.json()["id"])
    return answer.json(), told


def test_it_is_followed_to_its_end_and_tells_of_each_row(api, done, crew):
    made, told = done
    assert (made["status"], made["total"], made["name"], made["crew_id"]) == ("running", 3, "letters", crew)
    assert len({json.dumps(each) for each in told}) == len(told)
    last = told[-1]
    assert (last["status"], last["counts"]["completed"], last["cost"]) == ("completed", 3, 0.0)
    assert api.get(f"/batches/{made['id']}").json() == last
    found = api.get(f"/batches/{made['id']}/rows").json()
    assert found["next"] is None
    assert [row["key"] for row in found["rows"]] == list(row_keys([row["inputs"] for row in found["rows"]]))
    assert [row["expected"] for row in found["rows"]] == [1, None, {"a": "b"}]
    for row in found["rows"]:
        assert json.loads(row["output"]) == row["structured"]
        execution = api.get(f"/executions/{row['job_id']}").json()
        assert (execution["batch"], execution["inputs"]) == (made["id"], row["inputs"])
        assert row["tokens"] == execution["usage"]["total_tokens"] > 0
    page = api.get(f"/batches/{made['id']}/rows", params={"limit": 2, "after": 0}).json()
    assert ([row["index"] for row in page["rows"]], page["next"]) == ([1, 2], None)
    listed = api.get("/batches", params={"name": "letters", "crew_id": crew, "status": "completed"}).json()
    assert [each["id"] for each in listed["batches"]] == [made["id"]]
    assert api.get("/batches", params={"search": "nobody's"}).json()["total"] == 0
    assert api.get("/executions", params={"batch": made["id"]}).json()["total"] == 3


def test_its_results_are_files(api, done):
    path = f"/batches/{done[0]['id']}/results"
    answers = {kind: api.get(path, params={"format": kind}) for kind in ("jsonl", "csv", "parquet")}
    assert {kind: answer.status_code for kind, answer in answers.items()} == dict.fromkeys(answers, 200)
    lines = [json.loads(line) for line in answers["jsonl"].text.splitlines()]
    assert lines == api.get(f"/batches/{done[0]['id']}/rows").json()["rows"]
    cells = list(csv.DictReader(io.StringIO(answers["csv"].text)))
    table = pq.read_table(io.BytesIO(answers["parquet"].content)).to_pylist()
    # An input is called like a column of ours, and a field of the output like an input.
    assert list(cells[0]) == list(table[0])
    assert list(table[0])[:6] == ["topic", "inputs.status", "output", "output.topic", "length", "expected"]
    for line, cell, row in zip(lines, cells, table, strict=True):
        assert (
            (cell["topic"], cell["status"])
            == (row["topic"], row["status"])
            == ("tea" if line["index"] != 1 else "milk", "completed")
        )
        assert row["inputs.status"] == 7
        assert (row["length"], row["output.topic"]) == tuple(
            line["structured"][k] for k in ("length", "topic")
        )
        assert (row["job_id"], row["recorded"]) == (line["job_id"], False)


def test_rows_come_as_files_as_well(api, crew):
    parquet = io.BytesIO()
    pq.write_table(pa.table({"topic": ["tea", "milk"], "n": [1, None]}), parquet)
    files = {
        "text/csv; charset=utf-8": b'\xef\xbb\xbftopic,n\r\ntea,1\r\n\r\n"mi\nlk",2\r\n',
        NDJSON: b'{"topic": "tea", "n": 1}\n\n{"inputs": {"topic": "milk"}, "expected": "\\ud800"}\n',
        PARQUET: parquet.getvalue(),
    }
    inputs = {
        "text/csv; charset=utf-8": [{"topic": "tea", "n": "1"}, {"topic": "mi\nlk", "n": "2"}],
        NDJSON: [{"topic": "tea", "n": 1}, {"topic": "milk"}],
        PARQUET: [{"topic": "tea", "n": 1}, {"topic": "milk", "n": None}],
    }
    for kind, content in files.items():
        asked = {"crew_id": crew, "concurrency": "1", "name": kind, "max_cost": "3.5"}
        answer = api.post("/batches", params=asked, content=content, headers={"Content-Type": kind})
        assert answer.status_code == 202, answer.text
        made = answer.json()
        assert (made["total"], made["concurrency"], made["budget"]["max_cost"]) == (2, 1, 3.5)
        rows = api.get(f"/batches/{made['id']}/rows").json()["rows"]
        assert [row["inputs"] for row in rows] == inputs[kind]
        assert api.post(f"/batches/{made['id']}/stop").status_code in {200, 409}


WRONG = {
    "no rows": ({"rows": []}, "rows", "at least 1"),
    "an unknown field": ({"rows": [{"inputs": {"topic": 1}, "out": 2}]}, "rows[0].out", "Unknown field"),
    "no inputs": ({"rows": [{"inputs": {"topic": 1}}, {}]}, "rows[1].inputs", "required"),
    "too few expected": ({"expected": [1, 2]}, "expected", "2 values for 1 rows"),
    "an input that is missing": ({"rows": [{"inputs": {}}]}, "rows[0].inputs.topic", "has no value"),
    "a number that is too long": (
        {"rows": [{"inputs": {"topic": 10**30}}]},
        "rows[0].inputs.topic",
        "64 bits",
    ),
    "seconds of all": ({"budget": {"max_seconds": 3}}, "budget.max_seconds", "run_budget"),
    "a version that is not there": ({"crew_version": 99}, None, "no version 99"),
    "a model that is none": ({"model": "gpt-4"}, "model", "OPENAI_API_KEY"),
}

WRONG_FILES = {
    ("text/csv", b""): ("body", "empty"),
    ("text/csv", b"topic,topic,\ntea,a,b\n"): ("header[1]", "two columns"),
    ("text/csv", b"topic\ntea\nmilk,1\n"): ("rows[1]", "line 3"),
    ("text/csv", b'topic\n"tea\n'): ("rows[0]", "No CSV"),
    ("text/csv", b"topic\n\xff\n"): ("body", "UTF-8 at byte 6"),
    ("text/csv", b"topic\n"): ("rows", "At least one"),
    (NDJSON, b'{"topic": 1}\n[1]\n{"topic"'): ("rows[1]", "line 2"),
    (PARQUET, b"PAR1 not"): ("body", "No Parquet"),
}


def test_what_is_wrong_is_named(api, crew):
    before = api.get("/batches").json()["total"]
    for name, (change, field, words) in WRONG.items():
        body = {"crew_id": crew, "rows": [{"inputs": {"topic": "tea"}}], **change}
        error = api.post("/batches", json=body).json()["error"]
        assert error["details"].get("field") == field, (name, error)
        assert words in str(error), (name, error)
    for (kind, content), (field, words) in WRONG_FILES.items():
        answer = api.post(
            "/batches", params={"crew_id": crew}, content=content, headers={"Content-Type": kind}
        )
        assert answer.status_code == 400, (content, answer.text)
        details = answer.json()["error"]["details"]
        assert (details["field"], words in details["reason"]) == (field, True), (content, details)
    for kind in ("text/html", "application/pdf; a=b"):
        refused = api.post("/batches", content=b"x", headers={"Content-Type": kind})
        assert (refused.status_code, refused.json()["error"]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    no_crew = api.post("/batches", content=b"topic\ntea\n", headers={"Content-Type": "text/csv"})
    assert no_crew.json()["error"]["details"]["field"] == "crew_id"
    both = api.post("/batches", params={"name": "a"}, json={"crew_id": crew, "rows": [{"inputs": {}}]})
    assert both.json()["error"]["details"]["field"] == "name"
    assert api.get("/batches").json()["total"] == before


def test_it_is_told_what_to_do_by_its_owner_alone(live_server, api):
    with log_in(live_server) as ada, log_in(live_server) as bob, log_in(live_server, "viewer") as eve:
        crew_id = new_crew(ada, letters(latency=600))
        rows = [{"inputs": {"topic": f"{number}"}} for number in range(30)]
        body = {"crew_id": crew_id, "rows": rows, "concurrency": 2}
        assert bob.post("/batches", json=body).status_code == 404
        assert eve.post("/batches", json=body).status_code == 403
        made = ada.post("/batches", json=body).json()
        path = f"/batches/{made['id']}"
        for verb, ending in (
            *(("GET", end) for end in ("", "/rows", "/results", "/events")),
            *(("POST", end) for end in ("/pause", "/resume", "/stop", "/retry")),
            ("DELETE", ""),
        ):
            assert bob.request(verb, path + ending).status_code == 404, (verb, ending)
        assert bob.patch(path, json={"name": "mine"}).status_code == 404
        assert bob.get("/batches").json()["total"] == 0
        changed = ada.patch(path, json={"name": "slow", "concurrency": 1, "budget": {"max_tokens": 10**6}})
        assert (changed.json()["name"], changed.json()["budget"]["max_tokens"]) == ("slow", 10**6)
        assert ada.patch(path, json={"name": None}).status_code == 400
        assert ada.delete(path).status_code == 409
        assert ada.post(f"{path}/retry").status_code == 409
        assert ada.post(f"{path}/pause").json()["status"] == "paused"
        assert ada.post(f"{path}/resume").json()["status"] == "running"
        stopped = ada.post(f"{path}/stop").json()
        assert (stopped["status"], stopped["counts"]["waiting"], stopped["rate"]) == ("stopped", 0, None)
        assert ada.post(f"{path}/stop").status_code == 200
        assert ada.post(f"{path}/pause").status_code == 409
        with ada.stream("GET", f"{path}/events") as stream:
            assert '"stopped"' in stream.read().decode()
        assert ada.delete(path).status_code == 204
        assert ada.get(path).status_code == 404
        used = ada.get("/usage").json()["stored"]["bytes"]
        assert used < 60_000


def test_what_is_large_is_read_in_a_limited_process(lent):
    from kasal_jupyter.confined import confined

    line = json.dumps({"topic": "x" * 200}).encode()
    data = b"\n".join([line] * 6_000)
    assert not row_files.is_small(row_files.json_lines_rows, data)
    read = confined(f"{row_files.__name__}:json_lines_rows", data, seconds=PATIENCE)
    assert read.count(b"\n") == 6_001
    assert read == row_files.json_lines_rows(data)
