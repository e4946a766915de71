"""What crews remember, for runs and searches: vectors of embedders, and what an earlier version has left."""

import asyncio
import errno
import shutil

import pytest

from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.executions.crew_memories import CrewMemories
from kasal_jupyter.memory import tables
from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.memory.knowledge import Knowledge
from kasal_jupyter.memory.memories import Memories
from kasal_jupyter.memory.vectors import BATCH
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.memory import MemoryCreate
from kasal_jupyter.schemas.spec import RunEmbedder
from kasal_jupyter.store.dump import export_json, import_json
from kasal_jupyter.store.store import Store
from kasal_jupyter.tools.guard import HostGuard
from tests.servers.embedding_server import EmbeddingServer

CREW = {
    "name": "C",
    "agents": [{"role": "Writer", "goal": "Write", "model": "sandbox"}],
    "tasks": [{"description": "Write", "expected_output": "A text", "agent": "Writer"}],
}
KNOWN = ("The automobile is red", "Our physician is on holiday", "Ships leave at noon", "Be brief")


class Settings:
    """Whatever embedder is set, for everybody."""

    def __init__(self, house):
        self._house = house

    def of(self, _owner):
        return self

    def embedder(self):
        return self._house.embedder


class Remembering:
    """A crew, and what it remembers, by an embedder that can be set."""

    def __init__(self, folder):
        self.store = Store.open(folder, SCHEMAS)
        self.embedder = RunEmbedder()
        self.memories = CrewMemories(self.store, folder, Settings(self), HostGuard())
        whole = asyncio.run(Crews(self.store).create(CrewCreate.model_validate(CREW), "ada"))
        self.crew = whole.crew

    def add(self, *texts):
        async def main():
            for text in texts:
                await Memories(self.store).add(self.crew.id, MemoryCreate(content=text, category="c"))

        asyncio.run(main())

    def search(self, text):
        return asyncio.run(self.memories.search(self.crew, text, limit=5))

    def contents(self, text):
        return [hit.record.content for hit in self.search(text).hits]

    def row(self):
        with self.store.read() as connection:
            return tables.crew_row(connection, self.crew.id)

    def missing(self):
        with self.store.read() as connection:
            crew = tables.crew_row(connection, self.crew.id)
            name = f"{self.embedder.provider}/{self.embedder.model}"
            return crew.texts - tables.count_vectors(connection, crew, name)


@pytest.fixture
def house(tmp_path):
    """A crew that remembers nothing yet."""
    made = Remembering(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def server():
    """A server of embeddings."""
    with EmbeddingServer() as running:
        yield running


@pytest.fixture(params=["openai", "ollama"])
def embedder(request, server, house):
    """Both ways to ask it."""
    base = f"{server.url}/v1" if request.param == "openai" else server.url
    house.embedder = RunEmbedder(provider=request.param, model="concepts", base_url=base)
    return house.embedder


def test_it_finds_what_has_another_word_for_it(house, embedder):
    house.add(*KNOWN)
    found = house.search("which car")
    assert ([hit.record.content for hit in found.hits], found.remark) == (["The automobile is red"], "")
    assert house.missing() == 0
    house.embedder = RunEmbedder()
    assert house.contents("which car") == []


def test_only_new_texts_are_sent_and_so_many_at_a_time(house, embedder, server):
    house.add(*(f"Memory number {number}" for number in range(BATCH + 6)))
    asyncio.run(house.memories.bring_up_to_date(house.crew))
    assert [len(asked) for asked in server.texts] == [BATCH, 6]
    house.add("One more")
    asyncio.run(house.memories.bring_up_to_date(house.crew))
    assert server.texts[2:] == [["c: One more"]]


def test_while_it_does_not_answer_words_are_compared_and_that_is_said(house, embedder, server):
    house.add(*KNOWN)
    house.search("car")
    server.status = 500
    found = house.search("Is the automobile red?")
    assert [hit.record.content for hit in found.hits] == ["The automobile is red"]
    assert found.remark.startswith(f"Compared by words: {embedder.provider}/concepts: ")


def test_what_has_no_vector_yet_gets_it_the_next_time(house, embedder, server):
    house.add("One is there")
    house.search("car")
    house.add(*KNOWN)
    server.status = 503
    found = house.search("the physician's holiday")
    assert [hit.record.content for hit in found.hits] == ["Our physician is on holiday"]
    assert "4 memories have no vectors yet (" in found.remark
    assert house.row().remark in found.remark
    server.status = 200
    assert house.contents("a doctor") == ["Our physician is on holiday"]
    assert (house.missing(), house.row().remark) == (0, "")


def test_another_embedder_makes_its_own_vectors(house, embedder, server):
    house.add(*KNOWN)
    server.status = 500
    found = house.search("the ships at noon")
    assert [hit.record.content for hit in found.hits] == ["Ships leave at noon"]
    assert "has made no vectors of the memories yet" in found.remark
    server.status = 200
    house.search("car")
    house.embedder = embedder.model_copy(update={"model": "newer"})
    before = len(server.texts)
    house.search("car")
    assert server.texts[before] == [f"c: {text}" for text in KNOWN]
    assert house.missing() == 0


def test_a_model_that_changes_under_its_name_is_noticed(house, embedder, server):
    house.add(*KNOWN)
    house.search("car")
    server.dimensions = 16
    assert "another kind" in house.search("a vessel").remark
    house.add("One more")
    assert house.contents("a vessel") == []
    assert house.contents("a car") == ["The automobile is red"]
    assert house.missing() == 0


def test_numbers_that_are_none_are_refused(house, embedder, server):
    house.add(*KNOWN)
    server.answer = {"data": [{"embedding": [1e400]}] * 4, "embeddings": [[1e400]] * 4}
    assert house.search("car").remark.startswith("Compared by words: ")
    assert house.missing() == 4


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), MemoryError(), RuntimeError("unforeseen")])
def test_what_fails_in_it_stops_nobody(house, embedder, monkeypatch, caplog, error):
    house.add(*KNOWN)

    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(tables, "write_vectors", fail)
        assert house.contents("the automobile") == ["The automobile is red"]
    assert "could not be brought up to date" in caplog.text
    assert house.missing() == 4


def test_a_damaged_document_is_in_nobody_s_way(house):
    house.add("Tea is drunk hot", "Tea in a cup")
    house.store.db.table("memories").update({"content": 5}, doc_ids=[1])
    assert "Tea in a cup" in house.contents("tea")


# -- what an earlier version has left ----------------------------------------------------------------


def unfind(house):
    """Leave the documents, and make of the tables what a migration makes of them."""
    house.store.change_now(house.store.remake)


@pytest.fixture
def old(house, monkeypatch):
    """A crew of an earlier version, with a folder of indexes."""
    monkeypatch.setattr(tables, "BATCH", 2)
    house.add("Tea is drunk hot", "Tea in a cup", "Coffee is drunk as well")
    contents = [f"Tea of the kind {number}" for number in range(5)]
    asyncio.run(Knowledge(house.store).add(house.crew.id, "teas.txt", "text/plain", "t", contents))
    unfind(house)
    folder = house.memories._old_folder / house.crew.id
    folder.mkdir(parents=True)
    (folder / "index").write_bytes(b"KASALMI1")
    return house


def test_what_is_old_is_found_by_a_search_at_once(old):
    assert len(old.contents("tea")) == 7
    assert old.row().state is tables.State.THERE


def test_what_is_old_is_made_findable_in_the_background(old):
    async def main():
        await old.memories.begin()
        await old.memories._filling

    asyncio.run(main())
    assert old.row().state is tables.State.THERE
    assert old.row().texts == 8
    assert not old.memories._old_folder.exists()


def test_what_comes_and_goes_meanwhile_counts(old):
    old.add("Tea is new")
    memory = old.store.memories.find(crew_id=old.crew.id)[0]
    asyncio.run(Memories(old.store).delete(old.crew.id, memory.id))
    assert "Tea is new" in old.contents("new tea")
    assert "Tea is drunk hot" not in old.contents("hot tea")
    assert old.row().texts == 8


def test_a_server_that_ends_in_the_middle_is_followed_by_the_next(old, tmp_path, monkeypatch):
    changes, real = [], old.store.change

    async def change(work, **how):
        changes.append(work)
        if len(changes) == 3:
            raise RuntimeError("killed")
        return await real(work, **how)

    monkeypatch.setattr(old.store, "change", change)
    asyncio.run(old.memories.refresh(old.crew.id, RunEmbedder()))
    assert 0 < old.row().texts < 8
    monkeypatch.undo()
    assert len(old.contents("tea")) == 7
    assert old.row().texts == 8


def test_what_was_imported_is_found(old, tmp_path):
    export_json(tmp_path, tmp_path / "all.json")
    import_json(tmp_path / "other", tmp_path / "all.json", SCHEMAS)
    for _ in range(2):
        other = Remembering(tmp_path / "other")
        other.crew = old.crew
        assert len(other.contents("tea")) == 7
        other.store.close()
        import_json(tmp_path / "other", tmp_path / "all.json", SCHEMAS, replace=True)


def test_a_file_where_the_old_folder_was_stops_nobody(house):
    shutil.rmtree(house.memories._old_folder, ignore_errors=True)
    house.memories._old_folder.write_text("")
    asyncio.run(house.memories.begin())
