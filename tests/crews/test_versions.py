"""The versions of crews: each change keeps one, the way back is exact, and they stay within their limits."""

import asyncio

import pytest

from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.crews.members import Members
from kasal_jupyter.crews.versions import Change, forget_versions, note_run, version_of, whole_version
from kasal_jupyter.errors import NotFound, PreconditionFailed, QuotaExceeded
from kasal_jupyter.schemas.agents import AgentCreate, AgentUpdate
from kasal_jupyter.schemas.crews import CrewCreate, CrewUpdate
from kasal_jupyter.schemas.tasks import TaskUpdate
from kasal_jupyter.store import quota
from kasal_jupyter.store.quota import Quota, used_bytes

ADA = "user_ada"

BODY = {
    "name": "Research",
    "agents": [{"role": "Reader", "goal": "Read"}, {"role": "Writer", "goal": "Write"}],
    "tasks": [
        {"description": "Read {topic}", "expected_output": "Notes", "agent": "Reader"},
        {"name": "report", "description": "Write", "expected_output": "A text", "agent": "Writer"},
    ],
}


@pytest.fixture
def crews(store):
    return Crews(store)


def create(crews, **fields):
    return asyncio.run(
        crews.create(CrewCreate.model_validate({**BODY, **fields}), ADA, Change("Ada", "cell", "N#1"))
    )


def update(crews, crew_id, change=None, **fields):
    return asyncio.run(crews.update(crew_id, CrewUpdate.model_validate(fields), change))


def kept(store, crew_id):
    return [each.version for each in store.crew_versions.find(crew_id=crew_id)]


def test_each_change_of_a_crew_and_of_its_members_keeps_what_it_makes_and_who_made_it(crews, store):
    whole = create(crews)
    crew_id, members = whole.crew.id, Members(crews)
    update(crews, crew_id, Change("Bob", "editor"), description="Better")
    agent = asyncio.run(members.add_agent(AgentCreate(crew_id=crew_id, role="R", goal="G"), Change("Eve")))
    asyncio.run(members.update_agent(agent.id, AgentUpdate(goal="H")))
    asyncio.run(members.update_task(whole.tasks[0].id, TaskUpdate(description="Read on")))
    asyncio.run(members.delete_agent(agent.id))

    found = store.crew_versions.find(crew_id=crew_id)
    assert [(each.version, each.author, each.source, each.origin) for each in found] == [
        (1, "Ada", "cell", "N#1"),
        (2, "Bob", "editor", None),
        (3, "Eve", "api", None),
        (4, ADA, "api", None),
        (5, ADA, "api", None),
        (6, ADA, "api", None),
    ]
    assert whole_version(store, crew_id, 1) == whole
    assert [each.goal for each in whole_version(store, crew_id, 4).agents] == ["Read", "Write", "H"]
    assert whole_version(store, crew_id, 6).tasks[0].description == "Read on"
    assert whole_version(store, crew_id, 6) == crews.whole(crew_id)


def test_a_version_is_brought_back_exactly_and_makes_a_new_one(crews, store):
    whole = create(crews)
    crew_id = whole.crew.id
    # By its id: the task has no name, and is gone before it comes back.
    update(
        crews,
        crew_id,
        tasks=[
            {**BODY["tasks"][0], "id": whole.tasks[0].id},
            {**BODY["tasks"][1], "context": [whole.tasks[0].id]},
        ],
    )
    before = crews.whole(crew_id)
    update(crews, crew_id, name="Other", agents=BODY["agents"][1:], tasks=BODY["tasks"][1:])

    crew = asyncio.run(crews.restore(crew_id, 2, Change("Ada", "restore", restored=2), version=3))

    assert (crew.version, crew.name) == (4, "Research")
    now = crews.whole(crew_id)
    assert (now.agents, now.tasks) == (before.agents, before.tasks)
    latest = version_of(store, crew_id, 4)
    assert (latest.source, latest.restored) == ("restore", 2)
    assert whole_version(store, crew_id, 3).crew.name == "Other"


def test_what_cannot_be_brought_back_changes_nothing(crews, store):
    crew_id = create(crews).crew.id
    update(crews, crew_id, description="Two")
    with pytest.raises(PreconditionFailed):
        asyncio.run(crews.restore(crew_id, 1, Change("Ada"), version=1))
    with pytest.raises(NotFound, match="no version 9"):
        asyncio.run(crews.restore(crew_id, 9, Change("Ada")))
    # The present one is there already.
    assert asyncio.run(crews.restore(crew_id, 2, Change("Ada"))).version == 2
    assert kept(store, crew_id) == [1, 2]


def test_a_crew_from_before_there_were_versions_keeps_what_it_was(crews, store):
    whole = create(crews)
    crew_id = whole.crew.id
    store.change_now(lambda: forget_versions(store, crew_id))
    assert version_of(store, crew_id, 1).source == "unknown"
    update(crews, crew_id, description="Two")
    assert [(each.version, each.source) for each in store.crew_versions.find(crew_id=crew_id)] == [
        (1, "unknown"),
        (2, "api"),
    ]
    assert whole_version(store, crew_id, 1) == whole


@pytest.mark.parametrize(("limit", "left"), [("MOST_VERSIONS", 3), ("MOST_VERSION_BYTES", 2)])
def test_the_oldest_go_first_and_those_that_ran_last(crews, store, monkeypatch, limit, left):
    crew_id = create(crews, description="x" * 1_000).crew.id
    size = version_of(store, crew_id, 1).size
    monkeypatch.setattr(quota, limit, left if limit == "MOST_VERSIONS" else size * left + size // 2)
    update(crews, crew_id, description="y" * 1_000)
    store.change_now(lambda: note_run(store, crews.whole(crew_id)))
    for letter in "abcd":
        update(crews, crew_id, description=letter * 1_000)
    assert kept(store, crew_id) == [2, *range(6 - left + 2, 7)]
    assert store.crew_version_bodies.count(crew_id=crew_id) == left
    assert version_of(store, crew_id, 2).ran
    with pytest.raises(NotFound, match="not kept any more"):
        whole_version(store, crew_id, 1)


def test_the_newest_is_kept_whatever_it_has(crews, store, monkeypatch):
    monkeypatch.setattr(quota, "MOST_VERSION_BYTES", 100)
    crew_id = create(crews).crew.id
    update(crews, crew_id, description="Two")
    assert kept(store, crew_id) == [2]


def test_they_make_room_where_their_owners_bytes_are_used_up(crews, store):
    crew_id = create(crews, description="x" * 4_000).crew.id
    update(crews, crew_id, description="y" * 4_000)
    update(crews, crew_id, description="z" * 4_000)
    assert kept(store, crew_id) == [1, 2, 3]
    store.quota = Quota(most_bytes=used_bytes(store, ADA) + 1_000, everybody=True)
    update(crews, crew_id, description="w" * 4_000)
    assert kept(store, crew_id) == [2, 3, 4]
    # What the crew itself has is no history.
    with pytest.raises(QuotaExceeded):
        update(crews, crew_id, description="w" * 15_000)
    assert kept(store, crew_id) == [2, 3, 4]


def test_versions_are_gone_with_their_crew(crews, store):
    crew_id, other = create(crews).crew.id, create(crews).crew.id
    update(crews, crew_id, description="Two")
    asyncio.run(crews.delete(crew_id))
    assert kept(store, crew_id) == []
    assert store.crew_version_bodies.count(crew_id=crew_id) == 0
    assert kept(store, other) == [1]
