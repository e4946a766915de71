"""What crews remember, each crew its own."""

import asyncio
import subprocess
import sys

import pytest

from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.errors import InvalidRequest, NotFound
from kasal_jupyter.memory import knowledge as knowledge_module
from kasal_jupyter.memory import tables
from kasal_jupyter.memory.findable import sweep
from kasal_jupyter.memory.knowledge import Knowledge
from kasal_jupyter.memory.memories import MEMORY_TYPES, MOST, Memories, keep_run, shelf
from kasal_jupyter.memory.recall import Recall
from kasal_jupyter.schemas.memory import Memory, MemoryUpdate
from kasal_jupyter.schemas.spec import RunEmbedder
from kasal_jupyter.store import repository as repository_module
from tests.remembering import remember_long, remember_short

REMEMBER = """
import asyncio, sys
from pathlib import Path
from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.memory.memories import Memories
from kasal_jupyter.schemas.memory import MemoryCreate
from kasal_jupyter.store.store import Store

async def main(memories, crew):
    sys.stdin.readline()
    for number in range(50):
        await memories.add(crew, MemoryCreate(type="short_term", content=f"{crew} {number}"))
        await memories.add(crew, MemoryCreate(type="long_term", category=crew, content=str(number)))

with Store.open(Path(sys.argv[1]), SCHEMAS) as store:
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
            remember_short(memories, crew_id, f"said in {crew_id}"),
            remember_long(memories, crew_id, "preferences", f"learnt in {crew_id}"),
        )


def test_a_crew_that_remembers_nothing_has_empty_lists(memories):
    assert memories.of("crew_a", 100).model_dump() == {"short_term": [], "long_term": []}


def test_memories_come_newest_first_and_insights_by_category(memories):
    do(
        remember_short(memories, "crew_a", "first"),
        remember_short(memories, "crew_a", "second"),
        remember_long(memories, "crew_a", "preferences", "Weekly reports"),
        remember_long(memories, "crew_a", "style", "Short"),
        remember_long(memories, "crew_a", "preferences", "Email preferred"),
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
        do(remember_short(memories, "crew_a", "too late"))
    assert store.memories.count() == 2


@pytest.mark.parametrize("text", ["", " \n ", "x" * 100_001])
def test_nothing_is_no_memory(memories, text):
    with pytest.raises(ValueError, match="content"):
        do(remember_short(memories, "crew_a", text))


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


def found(store, text, crew_id="crew_a"):
    return [hit.record.content for hit in Recall(store.read, crew_id, RunEmbedder()).search(text).hits]


def test_whatever_changes_a_memory_changes_what_is_found(store, memories):
    memory = do(remember_short(memories, "crew_a", "Tea is hot"))[0]
    assert found(store, "tea") == ["Tea is hot"]
    assert found(store, "tea", "crew_b") == []
    do(memories.update("crew_a", memory.id, MemoryUpdate(content="Coffee is hot")))
    assert (found(store, "tea"), found(store, "coffee")) == ([], ["Coffee is hot"])
    keep(store, *told("Tea is green"))
    assert found(store, "tea") == ["Tea is green"]
    keep(store, *[{**each, "id": "later"} for each in told("Green tea is it")], *told("It is green, the tea"))
    do(memories.delete("crew_a", memory.id))
    do(memories.clear("crew_a", "long_term"))
    assert found(store, "tea coffee") == []
    do(Knowledge(store).add("crew_a", "n", "text/plain", "text", ["Tea is a drink"]))
    assert found(store, "tea") == ["Tea is a drink"]
    asyncio.run(Crews(store).delete("crew_a"))
    assert found(store, "tea") == []
    with store.read() as connection:
        left = [
            connection.execute(f"SELECT count(*) FROM memory_{name}").fetchone()[0]
            for name in ("texts", "words", "vectors", "sources")
        ]
    assert left == [0, 0, 0, 0]


def test_a_change_that_fails_is_not_found(store, memories):
    def fail():
        keep_run(store, "crew_a", "job_1", told("Tea is green"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.change_now(fail)
    assert found(store, "tea") == []


def test_the_oldest_that_is_forgotten_is_found_no_more(store, memories, monkeypatch):
    monkeypatch.setitem(MOST, "short_term", 2)
    for number in range(4):
        keep(store, *told(f"tea number {number}", kind="short_term"))
    assert found(store, "tea") == ["tea number 3", "tea number 2"]


@pytest.fixture
def small_batches(monkeypatch):
    """Has three texts be written in a change, and no more."""
    monkeypatch.setattr(tables, "BATCH", 3)


def written(store, monkeypatch):
    """Count the documents that each change writes or deletes."""
    changes = []
    real = store.change

    async def change(work, **how):
        before = store.passages.count(), store.memories.count()
        done = await real(work, **how)
        after = store.passages.count(), store.memories.count()
        changes.append(sum(abs(one - other) for one, other in zip(before, after, strict=True)))
        return done

    monkeypatch.setattr(store, "change", change)
    return changes


def test_what_is_much_is_changed_in_batches(store, memories, monkeypatch, small_batches):
    changes = written(store, monkeypatch)
    knowledge = Knowledge(store)
    (source,) = do(knowledge.add("crew_a", "a.txt", "text/plain", "t", [f"tea {n}" for n in range(10)]))
    assert len(found(store, "tea")) == 5
    do(knowledge.add("crew_a", "a.txt", "text/plain", "t", [f"coffee {n}" for n in range(10)]))
    assert (found(store, "tea"), len(found(store, "coffee"))) == ([], 5)
    assert store.passages.count() == 10
    do(knowledge.delete("crew_a", source.id))
    assert (store.passages.count(), store.knowledge.count(), found(store, "coffee")) == (0, 0, [])
    do(*(remember_short(memories, "crew_a", f"tea {n}") for n in range(10)))
    assert do(memories.clear("crew_a", "short_term")) == [10]
    # The last batch of a source may come with the first of what it replaces.
    assert max(changes) <= 6
    assert found(store, "tea") == []


def test_a_crew_of_much_is_gone_at_once_and_deleted_in_batches(store, memories, small_batches):
    do(Knowledge(store).add("crew_a", "a.txt", "text/plain", "t", [f"tea {n}" for n in range(10)]))
    asyncio.run(Crews(store).delete("crew_a"))
    assert found(store, "tea") == []
    assert store.passages.count() == 7
    asyncio.run(sweep(store))
    assert (store.passages.count(), store.knowledge.count()) == (0, 0)


@pytest.mark.parametrize("batches", [1, 3])
def test_a_source_that_does_not_come_whole_is_not_there(store, memories, monkeypatch, small_batches, batches):
    knowledge = Knowledge(store)
    do(knowledge.add("crew_a", "a.txt", "text/plain", "t", ["tea of before"]))
    real, done = store.passages.insert, []

    def insert(document):
        if len(done) == 3 * batches:
            raise ZeroDivisionError
        done.append(document)
        real(document)

    monkeypatch.setattr(store.passages, "insert", insert)
    with pytest.raises(ZeroDivisionError):
        do(knowledge.add("crew_a", "a.txt", "text/plain", "t", [f"tea {n}" for n in range(10)]))
    assert found(store, "tea") == ["tea of before"]
    assert (store.passages.count(), store.knowledge.count()) == (1, 1)


KILLED = """
import asyncio, os, sys
from pathlib import Path
from kasal_jupyter.memory import tables
from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.memory.knowledge import Knowledge
from kasal_jupyter.store.store import Store

tables.BATCH = 3
store = Store.open(Path(sys.argv[1]), SCHEMAS)
changes, real = [], store.change

async def change(work, **how):
    if len(changes) == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    changes.append(work)
    return await real(work, **how)

store.change = change
asyncio.run(Knowledge(store).add("crew_a", "a.txt", "text/plain", "t", [f"tea {n}" for n in range(10)]))
"""


@pytest.mark.parametrize("after", [1, 3, 4, 5])
def test_who_is_killed_while_much_is_stored_leaves_all_of_it_or_nothing(
    store, memories, tmp_path, monkeypatch, after
):
    do(Knowledge(store).add("crew_a", "a.txt", "text/plain", "t", [f"coffee {n}" for n in range(10)]))
    died = subprocess.run([sys.executable, "-c", KILLED, str(store.path.parent), str(after)], check=False)
    assert died.returncode == -9
    whole = after >= 4
    assert len(found(store, "tea")) == (5 if whole else 0)
    assert len(found(store, "coffee")) == (0 if whole else 5)
    monkeypatch.setattr(tables, "ABANDONED_SECONDS", -1.0)
    asyncio.run(sweep(store))
    assert store.passages.count() == 10
    with store.read() as connection:
        texts, crew = (
            connection.execute(f"SELECT {what} FROM memory_{of}").fetchone()[0]
            for what, of in (("count(*)", "texts"), ("sum(texts)", "crews"))
        )
    assert texts == crew == 10


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
