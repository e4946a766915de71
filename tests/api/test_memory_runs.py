"""Crews that remember, over the API: what one run leaves, the next recalls."""

import asyncio
import json
import time

import pytest

from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.memory.memories import Memories
from kasal_jupyter.store.store import Store
from tests.remembering import remember_long
from tests.sample_crews import new_crew, wait_for
from tests.server import start_server
from tests.servers.embedding_server import EmbeddingServer
from tests.servers.openai_server import OpenAIServer, Reply

INSIGHTS = json.dumps(
    [{"category": "sources", "insight": "The statistics office has the best solar tables."}]
)


def crew(model="sandbox", task="Research solar power", **fields):
    return {
        "name": "Rememberers",
        "memory": True,
        "agents": [{"role": "Researcher", "goal": "Find facts", "backstory": "Careful", "model": model}],
        "tasks": [{"description": task, "expected_output": "A text", "agent": "Researcher"}],
        **fields,
    }


def run(api, crew_id, *, remembers=True):
    """Run a crew, and give its events, those included of what is remembered after its end."""
    answer = api.post("/executions", json={"crew_id": crew_id, "inputs": {}})
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["job_id"]
    assert wait_for(api, job_id)["status"] == "completed"
    end = time.monotonic() + 60
    while (
        not of(events := api.get(f"/executions/{job_id}/events").json()["events"], "memory_stored")
        and remembers
    ):
        assert time.monotonic() < end, "nothing is remembered"
        time.sleep(0.02)
    return events


def of(events, kind):
    return [event for event in events if event["type"] == kind]


@pytest.fixture
def served(api):
    """A model that the live server knows as ``looped/gpt``."""
    answers = [Reply("Solar modules became cheaper."), Reply(INSIGHTS)]
    with OpenAIServer(*answers, *answers, Reply("Done.")) as server:
        answer = api.put("/providers/looped", json={"base_url": server.url})
        assert answer.status_code == 200, answer.text
        yield server
        api.delete("/providers/looped")


def test_the_second_run_recalls_what_the_first_has_left(api, served):
    crew_id = new_crew(api, crew("looped/gpt"))
    first = run(api, crew_id)
    assert of(first, "memory_recalled")[0]["memories"] == []
    memory = api.get(f"/memory/{crew_id}").json()
    assert [each["content"].strip() for each in memory["short_term"]] == [
        "Research solar power (Researcher): Solar modules became cheaper."
    ]
    assert memory["long_term"] == [
        {"category": "sources", "insights": ["The statistics office has the best solar tables."]}
    ]
    listed = api.get(f"/memory/{crew_id}/entries").json()["memories"]
    (stored,) = of(first, "memory_stored")
    assert {each["id"] for each in listed} == {each["id"] for each in stored["memories"]}
    assert {each["job_id"] for each in listed} == {first[0]["job_id"]}
    second = run(api, crew_id)
    (recalled,) = of(second, "memory_recalled")
    assert {each["id"] for each in recalled["memories"]} == {each["id"] for each in listed}
    prompt = served.requests[2]["messages"][-1]["content"]
    assert "# Relevant memories" in prompt
    assert "The statistics office has the best solar tables." in prompt
    # Two calls a run: one for the task, and one that distils it.
    assert len(served.requests) == 4
    # What was learnt again is remembered once.
    assert len(api.get(f"/memory/{crew_id}/entries").json()["memories"]) == 2


def test_the_trace_has_rows_of_both(api):
    crew_id = new_crew(api, crew())
    run(api, crew_id)
    job_id = run(api, crew_id)[0]["job_id"]
    rows = api.get(f"/executions/{job_id}/traces").json()["traces"]
    by_type = {row["type"]: row for row in rows}
    assert by_type["memory_recalled"]["agent"] == "Researcher"
    assert "[sandbox] Researcher" in by_type["memory_recalled"]["result"]
    assert by_type["memory_recalled"]["duration_ms"] > 0
    assert "[sandbox] Researcher" in by_type["memory_stored"]["result"]
    assert by_type["task_complete"]["duration_ms"] is not None
    only = api.get(f"/executions/{job_id}/traces", params={"kind": "memory"}).json()["traces"]
    assert [row["type"] for row in only] == ["memory_recalled", "memory_stored"]


def test_crews_never_mix(api):
    first, other = (new_crew(api, crew(task=f"Research solar power for {who}")) for who in ("Ada", "Bob"))
    run(api, first)
    assert of(run(api, other), "memory_recalled")[0]["memories"] == []
    assert "Ada" not in json.dumps(api.get(f"/memory/{other}").json())


def test_a_deleted_execution_leaves_what_is_remembered_of_it(api):
    crew_id = new_crew(api, crew())
    job_id = run(api, crew_id)[0]["job_id"]
    before = api.get(f"/memory/{crew_id}").json()
    assert len(before["short_term"]) == 1
    assert api.delete(f"/executions/{job_id}").status_code == 204
    assert api.get(f"/memory/{crew_id}").json() == before


def test_a_crew_without_memory_remembers_nothing_but_knows_what_it_was_given(api):
    crew_id = new_crew(api, crew(memory=False))
    events = run(api, crew_id, remembers=False)
    assert of(events, "memory_recalled") == of(events, "memory_stored") == []
    body = {"name": "solar.md", "text": "# Solar power\n\nA module lasts 25 years."}
    assert api.post(f"/crews/{crew_id}/knowledge", json=body).status_code == 201
    events = run(api, crew_id, remembers=False)
    (recalled,) = of(events, "memory_recalled")
    assert [(each["type"], each["category"]) for each in recalled["memories"]] == [("knowledge", "solar.md")]
    assert "A module lasts 25 years." in of(events, "agent_start")[0]["prompt"]
    assert of(events, "memory_stored") == []
    assert api.get(f"/memory/{crew_id}").json() == {"short_term": [], "long_term": []}


def test_what_another_server_on_the_folder_writes_is_recalled(api, live_server):
    crew_id = new_crew(api, crew())
    run(api, crew_id)
    with Store.open(live_server.folder, SCHEMAS) as store:
        theirs = Memories(store)
        asyncio.run(remember_long(theirs, crew_id, "sources", "Solar figures are in the yearbook"))
    (recalled,) = of(run(api, crew_id), "memory_recalled")
    assert "Solar figures are in the yearbook" in [each["content"] for each in recalled["memories"]]


def test_an_embedder_is_a_setting(tmp_path):
    with EmbeddingServer() as embeddings:
        server = start_server(
            tmp_path,
            "--KasalApp.embedder=ollama/concepts",
            environ={"OLLAMA_HOST": embeddings.url, "OLLAMA_BASE_URL": embeddings.url},
        )
        try:
            with server.client() as api:
                crew_id = new_crew(api, crew(task="Paint the car", memory=False))
                body = {"name": "garage", "text": "The automobile is red"}
                assert api.post(f"/crews/{crew_id}/knowledge", json=body).status_code == 201
                found = api.get(f"/memory/{crew_id}/search", params={"query": "which vehicle"}).json()
                assert [hit["content"] for hit in found["hits"]] == ["The automobile is red"]
                (recalled,) = of(run(api, crew_id, remembers=False), "memory_recalled")
                assert [each["content"] for each in recalled["memories"]] == ["The automobile is red"]
                embeddings.status = 500
                found = api.get(f"/memory/{crew_id}/search", params={"query": "automobile"}).json()
                assert [hit["content"] for hit in found["hits"]] == ["The automobile is red"]
                assert "ollama/concepts" in found["remark"]
        finally:
            server.close()
