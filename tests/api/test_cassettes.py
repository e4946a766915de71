"""Runs recorded for cassettes on models' servers on loopback, and replayed where there is none of them."""

import json
import re
from dataclasses import dataclass, field

import pytest

from tests.api.test_tool_calls import TOOL, answer, first, serving
from tests.api.test_verbs import KEY, lab  # noqa: F401 - a fixture
from tests.replaying import told
from tests.sample_crews import crew_body, new_crew, wait_for
from tests.servers.mcp_server import McpNotes, stdio
from tests.servers.openai_server import OpenAIServer, Reply

SUM = Reply(calls=(("calculator", {"expression": "2 + 3"}),))
PLAN = {"list_of_plans_per_task": [{"task_number": 1, "task": "Find facts", "plan": "1. Look.\n2. List."}]}


def crew(agents, tasks, **fields):
    members = [{"goal": "Work", "settings": {"stream": False}, **agent} for agent in agents]
    todo = [{"expected_output": "A text", "agent": members[0]["role"], **task} for task in tasks]
    return {"name": "Taped", "agents": members, "tasks": todo, **fields}


def verdict(valid, feedback=None):
    return Reply(json.dumps({"valid": valid, "feedback": feedback}))


@dataclass
class Kind:
    """A kind of crew: as it is for a model, what that answers, and what else is there for it."""

    body: object
    replies: tuple = (Reply("Done."),)
    inputs: dict = field(default_factory=dict)
    client: bool = False
    asks: bool = False
    mcp: bool = False


def clerk(*tools):
    return lambda _model: crew(
        [{"role": "Clerk", "model": "sandbox", "tools": list(tools)}], [{"description": "Do the work"}]
    )


KINDS = {
    "sequential": Kind(
        lambda model: crew(
            [{"role": "Counter", "model": model, "tools": ["calculator"]}],
            [{"description": "Add two and three"}, {"description": "Write of {topic}"}],
        ),
        (SUM, Reply("Five."), Reply("Six.")),
        {"topic": "tea"},
    ),
    "hierarchical": Kind(
        lambda _model: {**crew_body("Taped"), "process": "hierarchical", "manager_model": "sandbox"},
        inputs={"topic": "tea"},
    ),
    "planning": Kind(
        lambda model: crew(
            [{"role": "Researcher", "model": model}],
            [{"description": "Find facts"}],
            planning=True,
            planning_model=model,
        ),
        (Reply(json.dumps(PLAN)), Reply("Facts.")),
    ),
    "asynchronous": Kind(
        lambda model: crew(
            [{"role": "Twin", "model": model}],
            [
                *({"name": f"t{at}", "description": "Say so", "async_execution": True} for at in range(3)),
                {"description": "Join", "context": ["t0", "t1", "t2"]},
            ],
        ),
        tuple(Reply(f"Answer {number}.") for number in range(4)),
    ),
    "guardrail": Kind(
        lambda model: crew(
            [{"role": "Poet", "model": model}],
            [{"description": "Rhyme", "guardrail": "It is about tea.", "guardrail_max_retries": 2}],
        ),
        (Reply("Roses."), verdict(False, "Not about tea."), Reply("Tea."), verdict(True)),
    ),
    "memory": Kind(
        lambda _model: {
            **crew([{"role": "Clerk", "model": "sandbox"}], [{"description": "Do the work"}]),
            "memory": True,
        }
    ),
    "mcp": Kind(clerk("calc_add"), mcp=True),
    "client": Kind(clerk("price_of"), client=True),
    "human": Kind(clerk("ask_human"), asks=True),
}


def begin(api, body, inputs=None, tools=(), **cassette):
    crew_id = body if isinstance(body, str) else new_crew(api, body)
    asked = {"crew_id": crew_id, "inputs": inputs or {}, "tools": list(tools), "cassette": cassette}
    begun = api.post("/executions", json=asked)
    assert begun.status_code == 202, begun.text
    return begun.json()["job_id"]


def recorded(api, job_id):
    given = api.get(f"/executions/{job_id}/record")
    assert given.status_code == 200, given.text
    assert given.headers["Content-Type"] == "application/x-ndjson"
    return given.text


def played(api, body, record, inputs=None, tools=(), **more):
    job_id = begin(api, body, inputs, tools, record=record, name="tea.jsonl", **more)
    return wait_for(api, job_id)


def record_once(api, live_server, kind, body):
    tools = [TOOL] if kind.client else []
    job_id = begin(api, body, kind.inputs, tools)
    if kind.client:
        with serving(live_server, job_id) as stream:
            answer(api, job_id, first(stream, "tool_request")["call_id"], result="17.50")
    if kind.asks:
        with serving(live_server, job_id, serve=False) as stream:
            answer(api, job_id, first(stream, "input_request")["call_id"], result="green")
    found = wait_for(api, job_id)
    assert found["status"] == "completed", found
    return found


@pytest.mark.parametrize("name", KINDS)
def test_what_was_recorded_is_replayed_where_there_is_nothing(api, live_server, lab, tmp_path, name):  # noqa: F811
    kind = KINDS[name]
    with OpenAIServer(*kind.replies) as server:
        provider = lab(server)
        body = kind.body(f"{provider}/m")
        if kind.mcp:
            served = {"name": "calc", "tools": ["add"], **stdio(McpNotes(tmp_path / "notes").path)}
            server_id = api.post("/tools/mcp", json=served).json()["server_id"]
        found = record_once(api, live_server, kind, body)
        asked = len(server.requests)
        record = recorded(api, found["job_id"])
        assert asked == (len(kind.replies) if "sandbox" not in json.dumps(body) else 0)
    assert api.delete(f"/providers/{provider}").status_code == 204
    if kind.mcp:
        assert api.delete(f"/tools/mcp/{server_id}?force=true").status_code == 204
    crew_id, tools = new_crew(api, body), [TOOL] if kind.client else []
    again = played(api, crew_id, record, kind.inputs, tools)
    assert (again["status"], again["result"]) == ("completed", found["result"]), again
    assert (again["verb"], again["parent"]) == ("replay", "tea.jsonl")
    assert (again["calls"]["live"], again["usage"]["llm_calls"]) == (0, 0)
    assert again["calls"]["recorded"] > 0
    # It is the same however often it is replayed, and its record is the one that it was replayed from.
    assert recorded(api, again["job_id"]) == record
    third = played(api, crew_id, record, kind.inputs, tools)
    assert lines(api, third["job_id"], name) == lines(api, again["job_id"], name)
    # A person reads it: nothing in it is of a moment, or of a machine.
    for text in (found["job_id"], "127.0.0.1:", KEY, str(live_server.folder), '"seq"', '"time"'):
        assert text not in record, text


_OF_A_MOMENT = re.compile(rb'"time":"[^"]*"|"job_id":"[^"]*"|"duration_ms":[0-9.e-]+')


def lines(api, job_id, name):
    """Give a run's events byte by byte, without times and its id; of tasks at the same time, in no order."""
    if name == "asynchronous":
        # Which of them says first what the others say as well is chance.
        return told(api.get(f"/executions/{job_id}/events", params={"expand": True}).json()["events"])
    return _OF_A_MOMENT.sub(b"", api.get(f"/executions/{job_id}/events").content)


def test_keys_that_nobody_has_told_of_are_not_written_and_what_is_behind_them_is_found(api, live_server):
    key, kind = "sk-proj-abcdefghijklmnop_QRSTuv", KINDS["client"]
    body = kind.body(None)
    body["tasks"][0]["description"] = "Do the work with {key}"
    job_id = begin(api, body, {"key": key}, [TOOL])
    with serving(live_server, job_id) as stream:
        answer(api, job_id, first(stream, "tool_request")["call_id"], result=f"17.50, says {key}")
    assert wait_for(api, job_id)["status"] == "completed"
    record = recorded(api, job_id)
    assert key not in record
    assert record.count("[secret]") >= 3
    again = played(api, body, record, {"key": key}, [TOOL])
    assert (again["status"], again["calls"]["live"]) == ("completed", 0), again


@pytest.mark.parametrize(
    ("cassette", "field"),
    [
        ({"record": "no"}, "cassette.record"),
        ({"record": '{"run":"a"}\n{"call":"model"}'}, "cassette.record"),
        ({"varies": ["(a"]}, "cassette.varies[0]"),
        ({"name": "../job_1"}, "cassette.name"),
        ({"name": "job_1"}, "cassette.name"),
    ],
)
def test_what_is_no_cassette_is_refused(api, cassette, field):
    crew_id = new_crew(api, clerk()(None))
    refused = api.post("/executions", json={"crew_id": crew_id, "cassette": cassette})
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["details"]["field"] == field
