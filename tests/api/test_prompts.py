"""Prompts are stored once, and whoever asks for whole ones gets them, on every way."""

import json
import threading

import orjson
import pytest

from kasal_jupyter.events.trace import Trace
from kasal_jupyter.executions.journal import Journal
from kasal_jupyter.schemas.base import new_id
from tests.sample_crews import ENDED, crew_body, new_crew, run, start, wait_for
from tests.servers.openai_server import OpenAIServer, Reply

SSE = {"Accept": "text/event-stream"}
TURNS = 4
LONG = "It was counted, and nobody had thought so.\n" * 100


@pytest.fixture(scope="module")
def counted(live_server):
    """A run of two tasks, in each of which a model calls a tool some times; and what the model was asked."""
    turns = [Reply(calls=(("calculator", {"expression": f"{at} + 1"}),)) for at in range(2 * TURNS)]
    replies = [*turns[:TURNS], Reply(LONG), *turns[TURNS:], Reply("Done.")]
    with OpenAIServer(*replies) as server, live_server.client() as api:
        name = f"lab{new_id('x')[2:8]}"
        key = {"base_url": server.url, "api_key": "sk-of-nobody-else-0123456789"}
        assert api.put(f"/providers/{name}", json=key).status_code == 200
        body = crew_body()
        for agent in body["agents"]:
            agent |= {"model": f"{name}/m", "settings": {"stream": False}, "tools": ["calculator"]}
        done = run(api, body)[1]
        assert done["status"] == "completed", done
        yield done["job_id"], [request["messages"] for request in server.requests]
        api.delete(f"/providers/{name}")


def streamed(answer):
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


def by_page(api, job_id, **asked):
    after, events = asked.pop("after", 0), []
    while after is not None:
        page = api.get(f"/executions/{job_id}/events", params={"limit": 7, **asked, "after": after}).json()
        events += page["events"]
        after = page["next"]
    return events


def by_stream(api, job_id, **asked):
    return streamed(api.get(f"/executions/{job_id}/events", params=asked, headers=SSE))


def by_socket(live_server, job_id, **asked):
    connection = live_server.socket()
    try:
        connection.send(json.dumps({"type": "subscribe", "job_id": job_id, **asked}))
        events = []
        while not events or events[-1].get("status") not in ENDED:
            events.append(json.loads(connection.recv()))
        return events
    finally:
        connection.close()


def plain(messages):
    """Give messages as both a run's events and a model's server know them."""
    return [(each["role"], each.get("content") or "", each.get("tool_call_id")) for each in messages]


def test_the_journal_has_each_message_once(live_server, counted):
    job_id, asked = counted
    journal = (live_server.folder / "runs" / f"{job_id}.jsonl").read_text()
    calls = [json.loads(line) for line in journal.splitlines() if '"type":"llm_call"' in line]
    assert len(calls) == len(asked) == 2 * (TURNS + 1)
    # In each turn what the model has said, and what the tool has: all before is named.
    assert [len(call["messages"]) for call in calls] == [2, *[2] * TURNS] * 2
    assert all("whole" in call for call in calls[1 : TURNS + 1])


def test_whole_prompts_are_what_the_model_was_asked(api, live_server, counted):
    job_id, asked = counted
    events = by_page(api, job_id, expand=True)
    calls = [event for event in events if event["type"] == "llm_call"]
    assert [plain(call["messages"]) for call in calls] == [plain(messages) for messages in asked]
    assert not [event for event in events if event.keys() & {"whole", "quotes"}]
    starts = [event["prompt"] for event in events if event["type"] == "agent_start"]
    assert LONG.strip() in starts[1]
    # A reader of all events needs not ask: nor does whoever reads the file.
    trace = Trace()
    assert [trace.feed(event) for event in by_page(api, job_id)] == events
    path = live_server.folder / "runs" / f"{job_id}.jsonl"
    assert list(Journal.open(path).events()) == events
    prompts = Journal.open(path).prompts()
    lines = path.read_bytes().splitlines()
    assert [prompts.line(line) for line in lines] == [orjson.dumps(event) for event in events]


def test_a_fork_is_shown_the_prompt_that_it_changes(api, counted):
    job_id, asked = counted
    calls = by_page(api, job_id, kind="llm_call")
    for call, messages in zip(calls, asked, strict=True):
        answer = api.post(f"/executions/{job_id}/fork", json={"span": call["span_id"], "dry_run": True})
        prompt = [each["content"] for each in messages if each["role"] == "user"][-1]
        assert answer.json()["prompt"] == prompt, answer.text


@pytest.mark.parametrize("part", [0, 0.5, 0.9])
def test_they_are_the_same_on_every_way_and_from_anywhere(api, live_server, counted, part):
    job_id, _ = counted
    for expand in (False, True):
        events = by_page(api, job_id, expand=expand)
        after = int(part * len(events))
        assert by_page(api, job_id, expand=expand, after=after) == events[after:]
        assert by_stream(api, job_id, expand=expand, after=after) == events[after:]
        assert by_socket(live_server, job_id, expand=expand, after=after) == events[after:]


def test_a_filter_looks_at_what_is_asked_for(api, counted):
    job_id, _ = counted
    events = by_page(api, job_id, expand=True)
    asked = {"kind": "llm_call", "find": "find what matters about tea"}
    assert by_page(api, job_id, expand=True, **asked) == [
        event for event in events if event["type"] == "llm_call" and event["agent"] == "Researcher"
    ]
    assert len(by_page(api, job_id, **asked)) == 1


def test_a_run_is_followed_with_whole_prompts_while_it_goes_on(api, live_server):
    job_id = start(api, new_crew(api, crew_body(latency=0.2)))
    seen = []
    follower = threading.Thread(target=lambda: seen.extend(by_socket(live_server, job_id, expand=True)))
    follower.start()
    read = by_stream(api, job_id, expand=True)
    follower.join()
    wait_for(api, job_id)
    assert seen == read == by_page(api, job_id, expand=True)
