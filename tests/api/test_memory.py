"""What crews remember, over the API."""

import asyncio

import pytest

from kasal_jupyter.store.memories import Memories
from kasal_jupyter.store.store import Store
from tests.crews import crew_body, is_time, new_crew


@pytest.fixture
def remember(live_server):
    """Has crews remember things, as a process beside the server does."""

    def write(crew_id, short=(), long=()):
        async def main(memories):
            for content in short:
                await memories.remember_short(crew_id, content)
            for category, insight in long:
                await memories.remember_long(crew_id, category, insight)

        with Store.open(live_server.folder) as store:
            asyncio.run(main(Memories(store)))

    return write


@pytest.fixture
def crews(api, remember):
    """Two crews that remember alike."""
    made = [new_crew(api, crew_body()) for _ in range(2)]
    for crew_id in made:
        remember(
            crew_id,
            short=["Customer prefers email communication"],
            long=[("preferences", "Weekly reports"), ("preferences", "Email preferred")],
        )
    return made


def test_a_crew_s_memory_as_the_reference_shows_it(api, crews):
    answer = api.get(f"/memory/{crews[0]}")
    assert answer.status_code == 200
    memory = answer.json()
    (short,) = memory["short_term"]
    assert is_time(short.pop("timestamp"))
    assert short == {"content": "Customer prefers email communication"}
    assert memory["long_term"] == [
        {"category": "preferences", "insights": ["Email preferred", "Weekly reports"]}
    ]
    assert memory.keys() == {"short_term", "long_term"}


def test_a_crew_without_memories_has_empty_lists(api):
    crew_id = new_crew(api, crew_body())
    assert api.get(f"/memory/{crew_id}").json() == {"short_term": [], "long_term": []}


@pytest.mark.parametrize(
    ("type_", "left"),
    [("short_term", (0, 1)), ("long_term", (1, 0)), ("all", (0, 0))],
)
def test_clearing_takes_what_is_named_from_one_crew(api, crews, type_, left):
    mine, other = crews
    before = api.get(f"/memory/{other}").json()
    answer = api.post(f"/memory/{mine}/clear", json={"type": type_})
    assert (answer.status_code, answer.content) == (204, b"")
    memory = api.get(f"/memory/{mine}").json()
    assert (len(memory["short_term"]), len(memory["long_term"])) == left
    assert api.get(f"/memory/{other}").json() == before


@pytest.mark.parametrize("body", [{}, {"type": "everything"}, {"type": "all", "crew": "x"}, {"type": None}])
def test_what_is_cleared_must_be_said(api, crews, body):
    answer = api.post(f"/memory/{crews[0]}/clear", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "VALIDATION_ERROR"
    assert len(api.get(f"/memory/{crews[0]}").json()["short_term"]) == 1


def test_the_newest_memories_are_given_first_and_no_more_than_asked_for(api, remember):
    crew_id = new_crew(api, crew_body())
    remember(crew_id, short=[str(number) for number in range(105)])
    given = api.get(f"/memory/{crew_id}").json()["short_term"]
    assert [memory["content"] for memory in given] == [str(number) for number in range(104, 4, -1)]
    assert len(api.get(f"/memory/{crew_id}", params={"limit": 3}).json()["short_term"]) == 3
    assert api.get(f"/memory/{crew_id}", params={"limit": 0}).status_code == 400


def test_a_crew_that_is_not_there_has_no_memory(api):
    assert api.get("/memory/crew_nobody").status_code == 404
    assert api.post("/memory/crew_nobody/clear", json={"type": "all"}).status_code == 404


def test_a_deleted_crew_is_forgotten(api, crews):
    assert api.delete(f"/crews/{crews[0]}").status_code == 204
    assert api.get(f"/memory/{crews[0]}").status_code == 404
    assert len(api.get(f"/memory/{crews[1]}").json()["short_term"]) == 1
