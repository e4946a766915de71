"""How much users may have stored: counted as it changes, refused before it is, and freed by deleting."""

import asyncio

import pytest

from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.errors import QuotaExceeded
from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.memory.knowledge import Knowledge
from kasal_jupyter.memory.memories import Memories, keep_run
from kasal_jupyter.schemas.crews import CrewCreate, CrewUpdate
from kasal_jupyter.schemas.memory import MemoryCreate
from kasal_jupyter.schemas.users import User
from kasal_jupyter.store.quota import Quota, used_bytes
from kasal_jupyter.store.store import Store

ADA, BOSS, JUPYTER = "user_ada", "user_boss", "jupyter"


@pytest.fixture
def users(store):
    def insert():
        for owner, role in ((ADA, "editor"), (BOSS, "admin")):
            store.users.insert(
                User(
                    id=owner,
                    email=f"{owner}@example.com",
                    password_hash="",
                    tier="free",
                    role=role,
                    created_at="2024-01-15T10:30:00Z",
                    updated_at="2024-01-15T10:30:00Z",
                )
            )

    store.change_now(insert)
    return store


def body(size=1_000):
    agent = {"role": "Writer", "goal": "Write", "model": "sandbox", "backstory": "x" * size}
    task = {"description": "Write", "expected_output": "A text", "agent": "Writer"}
    return CrewCreate.model_validate({"name": "C", "agents": [agent], "tasks": [task]})


def used(store, owner=ADA):
    return used_bytes(store, owner)


def summed(store, owner=ADA):
    """Count anew what the running sums say."""
    crews = {crew.id for crew in store.crews.find(owner=owner)}
    total = 0
    tables = ("crews", "agents", "tasks", "tools", "mcp_servers", "knowledge", "passages", "memories")
    for name in (*tables, "crew_versions", "crew_version_bodies"):
        bodies, _ = getattr(store, name).bodies(bytes, limit=None)
        rows = getattr(store, name).find(order="created")
        total += sum(
            len(text)
            for text, row in zip(bodies, rows, strict=True)
            if getattr(row, "owner", None) == owner or getattr(row, "crew_id", None) in crews
        )
    return total


def test_sums_are_those_of_what_is_stored_whatever_happens(users, tmp_path):
    crews, memories, knowledge = Crews(users), Memories(users), Knowledge(users)
    run = asyncio.run
    whole = run(crews.create(body(), ADA))
    other = run(crews.create(body(), BOSS))
    crew_id = whole.crew.id
    assert used(users) == summed(users) > 1_000
    run(knowledge.add(crew_id, "a.txt", "text/plain", "tea", ["tea" * 100, "cup"]))
    run(memories.add(crew_id, MemoryCreate(type="short_term", content="tea " * 50)))
    run(memories.add(other.crew.id, MemoryCreate(type="short_term", content="tea " * 50)))
    assert used(users) == summed(users)
    run(knowledge.add(crew_id, "a.txt", "text/plain", "tea", ["tea"]))
    run(crews.update(crew_id, CrewUpdate(description="d" * 500)))
    run(crews.update(crew_id, CrewUpdate(agents=body(10).agents)))
    assert used(users) == summed(users)
    with pytest.raises(ZeroDivisionError):
        users.change_now(lambda: (users.crews.delete(crew_id), 1 // 0))
    assert used(users) == summed(users)
    with Store.open(tmp_path / "data", SCHEMAS) as again:
        assert used(again) == used(users)
        again.change_now(lambda: again.memories.delete_where(crew_id=crew_id))
        assert used(again) == used(users) == summed(users)
    run(crews.delete(crew_id))
    assert used(users) == 0
    assert used(users, BOSS) == summed(users, BOSS) > 0


def test_one_byte_too_many_is_refused_and_deleting_frees(users):
    crews = Crews(users)
    first = asyncio.run(crews.create(body(), ADA)).crew.id
    users.quota = Quota(most_bytes=used(users) + 100)
    with pytest.raises(QuotaExceeded, match="delete some, or ask an administrator") as refusal:
        asyncio.run(crews.create(body(), ADA))
    assert refusal.value.details() == {"used": refusal.value.used, "limit": users.quota.most_bytes}
    assert (users.crews.count(owner=ADA), users.agents.count(owner=ADA)) == (1, 1)
    # Every way to have more, and none to have less.
    for work in (
        lambda: crews.update(first, CrewUpdate(description="d" * 200)),
        lambda: Knowledge(users).add(first, "a.txt", "text/plain", "tea", ["tea" * 100]),
        lambda: Memories(users).add(first, MemoryCreate(type="short_term", content="tea " * 100)),
    ):
        with pytest.raises(QuotaExceeded):
            asyncio.run(work())
    asyncio.run(crews.update(first, CrewUpdate(agents=body(10).agents)))
    asyncio.run(crews.update(first, CrewUpdate(description="d" * 200)))
    asyncio.run(crews.delete(first))
    asyncio.run(crews.create(body(), ADA))


def test_whoever_has_too_much_already_may_have_less(users):
    crews = Crews(users)
    first = asyncio.run(crews.create(body(), ADA)).crew.id
    users.quota = Quota(most_bytes=10, most_crews=1)
    asyncio.run(crews.update(first, CrewUpdate(agents=body(500).agents)))
    asyncio.run(crews.delete(first))


def test_crews_are_counted(users):
    users.quota = Quota(most_crews=2)
    crews = Crews(users)
    for _ in range(2):
        asyncio.run(crews.create(body(), ADA))
    with pytest.raises(QuotaExceeded, match="3 crews, and may have 2"):
        asyncio.run(crews.create(body(), ADA))


def test_it_holds_for_users_and_in_the_sandbox_for_everybody(users):
    users.quota = Quota(most_bytes=10)
    for owner in (BOSS, JUPYTER):
        asyncio.run(Crews(users).create(body(), owner))
    users.quota = Quota(most_bytes=10, everybody=True)
    with pytest.raises(QuotaExceeded):
        asyncio.run(Crews(users).create(body(), JUPYTER))


def test_the_end_of_a_run_is_stored_whatever_it_is(users):
    crew_id = asyncio.run(Crews(users).create(body(), ADA)).crew.id
    users.quota = Quota(most_bytes=10)
    told = [{"id": "memory_1", "type": "short_term", "content": "tea"}]
    asyncio.run(users.change(lambda: keep_run(users, crew_id, "job_1", told)))
    assert users.memories.count() == 1
