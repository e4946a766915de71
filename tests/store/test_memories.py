"""What crews remember, each crew its own."""

import asyncio
import subprocess
import sys

import pytest

from kasal_jupyter.errors import InvalidRequest, NotFound
from kasal_jupyter.schemas.memory import Memory
from kasal_jupyter.store import knowledge as knowledge_module
from kasal_jupyter.store import repository as repository_module
from kasal_jupyter.store.crews import Crews
from kasal_jupyter.store.knowledge import Knowledge
from kasal_jupyter.store.memories import MEMORY_TYPES, MOST, Memories, keep_run, shelf

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
    decode, bodies = repository_module.decode, []
    monkeypatch.setattr(repository_module, "decode", lambda body: bodies.append(body) or decode(body))
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


def told(*texts, kind="long_term", category="style"):
    """What a run's event says it leaves behind."""
    return [
        {
            "id": f"memory_{kind}_{text}",
            "type": kind,
            "content": text,
            "category": category if kind == "long_term" else None,
        }
        for text in texts
    ]


def keep(store, *remembered, crew_id="crew_a", job_id="job_1"):
    store.change_now(lambda: keep_run(store, crew_id, job_id, remembered))


def test_what_a_run_tells_is_kept_with_its_id_and_the_run_s(store, memories):
    keep(store, *told("Be brief"), *told("It went well", kind="short_term"))
    (insight,) = memories.newest("crew_a", "long_term", 9)
    assert (insight.id, insight.job_id, insight.category) == ("memory_long_term_Be brief", "job_1", "style")
    assert contents(memories, "crew_a", "short_term") == ["It went well"]
    assert contents(memories, "crew_b", "long_term") == []


def test_a_run_is_kept_once(store, memories):
    for _ in range(2):
        keep(store, *told("Be brief"), *told("It went well", kind="short_term"))
    assert store.memories.count() == 2


def test_an_insight_takes_the_place_of_one_that_says_nearly_the_same(store, memories):
    keep(store, *told("Prices of batteries fell in March by five percent"))
    keep(store, *told("In March, the prices of batteries fell by five percent."))
    keep(store, *told("The prices of batteries fell in March by five percent", category="other"))
    keep(store, *told("Prices of batteries rose in May"))
    assert contents(memories, "crew_a", "long_term") == [
        "Prices of batteries rose in May",
        "The prices of batteries fell in March by five percent",
        "In March, the prices of batteries fell by five percent.",
    ]


def test_what_happened_again_in_the_same_words_is_remembered_once(store, memories):
    keep(store, *told("Research tea: done", kind="short_term"))
    keep(store, *told("Research coffee: done", kind="short_term"))
    again = [{**each, "id": "memory_later"} for each in told("Research tea: done", kind="short_term")]
    keep(store, *again)
    assert contents(memories, "crew_a", "short_term") == ["Research tea: done", "Research coffee: done"]


def test_the_oldest_are_forgotten(store, memories, monkeypatch):
    monkeypatch.setitem(MOST, "short_term", 3)
    for number in range(5):
        keep(store, *told(f"run {number}", kind="short_term"), *told(f"insight number {number}"))
    assert contents(memories, "crew_a", "short_term") == ["run 4", "run 3", "run 2"]
    assert len(contents(memories, "crew_a", "long_term")) == 5


def test_what_is_no_memory_is_left_out_and_the_rest_kept(store, memories):
    wrong = [
        {"id": "1", "type": "long_term", "content": " ", "category": "c"},
        {"id": "2", "type": "knowledge", "content": "x", "category": "c"},
        {"id": "3", "type": "long_term", "content": "x" * 200_000, "category": "c"},
        {"id": "4", "type": "long_term", "content": "x", "category": "a\nb"},
        {"content": "x"},
    ]
    keep(store, *wrong, *told("Be brief"))
    assert contents(memories, "crew_a", "long_term") == ["Be brief"]


def test_a_crew_that_is_gone_remembers_nothing(store, memories):
    keep(store, *told("Be brief"), crew_id="crew_gone")
    assert store.memories.count() == 0


def test_every_change_gives_another_revision(store, memories):
    seen = set()

    def changed():
        revision = store.revisions.get("crew_a").revision
        fresh = revision not in seen
        seen.add(revision)
        return fresh

    memory = do(memories.remember_short("crew_a", "x"))[0]
    assert changed()
    assert not changed()
    keep(store, *told("Be brief"))
    assert changed()
    do(memories.delete("crew_a", memory.id))
    assert changed()
    do(memories.clear("crew_a", "long_term"))
    assert changed()
    do(Knowledge(store).add("crew_a", "n", "text/plain", "text", ["text"]))
    assert changed()
    assert store.revisions.get("crew_b") is None


def test_a_crew_may_know_so_much_and_no_more(store, memories, monkeypatch):
    monkeypatch.setattr(knowledge_module, "MOST_PASSAGES", 4)
    knowledge = Knowledge(store)
    do(knowledge.add("crew_a", "one", "text/plain", "abc", ["a", "b", "c"]))
    with pytest.raises(InvalidRequest) as refused:
        do(knowledge.add("crew_a", "two", "text/plain", "de", ["d", "e"]))
    assert "5 passages" in refused.value.faults[0].reason
    # In place of the one there is, it is not too much.
    do(knowledge.add("crew_a", "one", "text/plain", "defg", ["d", "e", "f", "g"]))
    assert store.passages.count(crew_id="crew_a") == 4
    asyncio.run(Crews(store).delete("crew_a"))
    assert (store.passages.count(), store.knowledge.count()) == (0, 0)
