"""What crews remember, each crew its own."""

import asyncio
import subprocess
import sys

import pytest

from kasal_jupyter.errors import NotFound
from kasal_jupyter.schemas.memory import Memory
from kasal_jupyter.store import table as table_module
from kasal_jupyter.store.crews import Crews
from kasal_jupyter.store.memories import MEMORY_TYPES, Memories, shelf

REMEMBER = """
import asyncio, sys
from pathlib import Path
from kasal_jupyter.store.memories import Memories
from kasal_jupyter.store.store import Store

async def main(memories, crew):
    sys.stdin.readline()
    for number in range(50):
        await memories.remember_short(crew, f"{crew} {number}")
        await memories.remember_long(crew, crew, str(number))

with Store.open(Path(sys.argv[1])) as store:
    print("ready", flush=True)
    asyncio.run(main(Memories(store), sys.argv[2]))
"""


@pytest.fixture
def memories(store, new_crew):
    """The memories of a store with two crews, a and b."""
    store.change_now(lambda: [store.crews.insert(new_crew(id=name)) for name in ("crew_a", "crew_b")])
    return Memories(store)


def do(*changes):
    async def main():
        return [await change for change in changes]

    return asyncio.run(main())


def contents(memories, crew_id, kind):
    return [memory.content for memory in memories.newest(crew_id, kind, 100)]


def fill(memories, *crew_ids):
    for crew_id in crew_ids:
        do(
            memories.remember_short(crew_id, f"said in {crew_id}"),
            memories.remember_long(crew_id, "preferences", f"learnt in {crew_id}"),
        )


def test_a_crew_that_remembers_nothing_has_empty_lists(memories):
    assert memories.of("crew_a", 100).model_dump() == {"short_term": [], "long_term": []}


def test_memories_come_newest_first_and_insights_by_category(memories):
    do(
        memories.remember_short("crew_a", "first"),
        memories.remember_short("crew_a", "second"),
        memories.remember_long("crew_a", "preferences", "Weekly reports"),
        memories.remember_long("crew_a", "style", "Short"),
        memories.remember_long("crew_a", "preferences", "Email preferred"),
    )
    shown = memories.of("crew_a", 100)
    assert [memory.content for memory in shown.short_term] == ["second", "first"]
    assert [memory.model_dump() for memory in shown.long_term] == [
        {"category": "preferences", "insights": ["Email preferred", "Weekly reports"]},
        {"category": "style", "insights": ["Short"]},
    ]
    few = memories.of("crew_a", 1)
    assert [memory.content for memory in few.short_term] == ["second"]
    assert few.long_term[0].insights == ["Email preferred"]


def test_crews_do_not_share_memories(memories):
    fill(memories, "crew_a", "crew_b")
    assert contents(memories, "crew_a", "short_term") == ["said in crew_a"]
    assert contents(memories, "crew_b", "long_term") == ["learnt in crew_b"]


@pytest.mark.parametrize("types", [("short_term",), ("long_term",), MEMORY_TYPES])
def test_clearing_touches_one_crew_and_what_was_asked_for(memories, types):
    fill(memories, "crew_a", "crew_b")
    others = memories.of("crew_b", 100)
    assert do(memories.clear("crew_a", *types)) == [len(types)]
    left = {kind for kind in MEMORY_TYPES if contents(memories, "crew_a", kind)}
    assert left == set(MEMORY_TYPES) - set(types)
    assert memories.of("crew_b", 100) == others


def test_a_deleted_crew_takes_its_memories_along(store, memories):
    fill(memories, "crew_a", "crew_b")
    asyncio.run(Crews(store).delete("crew_a"))
    assert memories.of("crew_a", 100).short_term == []
    assert store.memories.count() == 2
    with pytest.raises(NotFound, match="crew_a"):
        do(memories.remember_short("crew_a", "too late"))
    assert store.memories.count() == 2


@pytest.mark.parametrize("text", ["", " \n ", "x" * 100_001])
def test_nothing_is_no_memory(memories, text):
    with pytest.raises(ValueError, match="content"):
        do(memories.remember_short("crew_a", text))


def test_a_page_reads_its_own_memories_only(store, memories, monkeypatch):
    def many():
        for number in range(500):
            for crew_id in ("crew_a", "crew_b"):
                store.memories.insert(
                    Memory(
                        id=f"memory_{crew_id}_{number}",
                        crew_id=crew_id,
                        type="short_term",
                        shelf=shelf(crew_id, "short_term"),
                        content=str(number),
                        category=None,
                        created_at="2024-01-15T10:00:00Z",
                    )
                )

    store.change_now(many)
    decode, bodies = table_module.decode, []
    monkeypatch.setattr(table_module, "decode", lambda body: bodies.append(body) or decode(body))
    assert [memory.content for memory in memories.of("crew_a", 3).short_term] == ["499", "498", "497"]
    assert len(bodies) == 3


def test_two_servers_on_one_folder_share_a_crew_s_memory(memories, other):
    fill(memories, "crew_a", "crew_b")
    theirs = Memories(other)
    assert theirs.of("crew_a", 100) == memories.of("crew_a", 100)
    do(theirs.clear("crew_a", "short_term"))
    assert contents(memories, "crew_a", "short_term") == []
    assert contents(memories, "crew_a", "long_term") == ["learnt in crew_a"]
    assert contents(memories, "crew_b", "short_term") == ["said in crew_b"]


def test_processes_that_remember_at_once_lose_nothing(memories, tmp_path):
    crews = ("crew_a", "crew_a", "crew_b")
    servers = [
        subprocess.Popen(
            [sys.executable, "-c", REMEMBER, str(tmp_path / "data"), crew_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for crew_id in crews
    ]
    for server in servers:
        assert server.stdout.readline() == "ready\n"
    for server in servers:
        server.stdin.write("go\n")
        server.stdin.flush()
    for server in servers:
        server.communicate()
    assert [server.returncode for server in servers] == [0, 0, 0]
    for crew_id, count in (("crew_a", 100), ("crew_b", 50)):
        said = [memory.content for memory in memories.newest(crew_id, "short_term", 1_000)]
        assert sorted(said) == sorted([f"{crew_id} {number}" for number in range(50)] * (count // 50))
        assert len(memories.newest(crew_id, "long_term", 1_000)) == count
