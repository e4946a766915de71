"""A crew's index that is damaged or can't be written: it is made anew, or done without."""

import asyncio
import errno

import pytest

from kasal_jupyter.memory import build
from kasal_jupyter.models.catalog import ModelCatalog
from kasal_jupyter.runs.memory import CrewMemories
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.memory import MemoryCreate
from kasal_jupyter.schemas.spec import RunEmbedder
from kasal_jupyter.store.crews import Crews
from kasal_jupyter.store.memories import Memories
from kasal_jupyter.store.store import Store
from kasal_jupyter.tools.guard import HostGuard

CREW = {
    "name": "C",
    "agents": [{"role": "Writer", "goal": "Write", "model": "sandbox"}],
    "tasks": [{"description": "Write", "expected_output": "A text", "agent": "Writer"}],
}


@pytest.fixture
def remembering(tmp_path):
    """A crew that remembers something, with its index."""
    with Store.open(tmp_path) as store:
        memories = CrewMemories(store, tmp_path, ModelCatalog("sandbox", {}), HostGuard())

        async def make():
            crew = (await Crews(store).create(CrewCreate.model_validate(CREW), "ada")).crew
            await Memories(store).add(crew.id, MemoryCreate(type="short_term", content="Tea is drunk hot"))
            await memories.bring_up_to_date(crew)
            return crew

        yield memories, asyncio.run(make())


def search(memories, crew):
    found = asyncio.run(memories.search(crew, "tea", limit=5))
    return [hit.record.text if hasattr(hit, "record") else hit for hit in found.hits]


DAMAGES = {
    "zeros": lambda data: bytes(len(data)),
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: data[:0],
    "longer": lambda data: data + b"more",
    "garbage": lambda data: bytes(range(256)) + data[256:],
    # The header is whole, and says that it is current.
    "zeros behind the header": lambda data: behind_header(data, b"\0"),
    "ones behind the header": lambda data: behind_header(data, b"\xff"),
}


def behind_header(data, byte):
    end = 12 + int.from_bytes(data[8:12], "little")
    return data[:end] + byte * (len(data) - end)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_made_anew(remembering, damage):
    memories, crew = remembering
    found = search(memories, crew)
    assert len(found) == 1
    path = memories.folder / crew.id / "index"
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    asyncio.run(memories.refresh(crew.id, RunEmbedder()))
    assert len(search(memories, crew)) <= 1
    asyncio.run(
        Memories(memories.store).add(crew.id, MemoryCreate(type="short_term", content="Tea in a cup"))
    )
    assert len(search(memories, crew)) == 2


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), MemoryError(), RuntimeError("unforeseen")])
def test_what_fails_in_it_stops_nobody(remembering, monkeypatch, caplog, error):
    memories, crew = remembering

    def fail(*args, **kwargs):
        raise error

    asyncio.run(
        Memories(memories.store).add(crew.id, MemoryCreate(type="short_term", content="Tea in a cup"))
    )
    with monkeypatch.context() as patched:
        patched.setattr(build, "_write", fail)
        asyncio.run(memories.refresh(crew.id, RunEmbedder()))
    assert "could not be written" in caplog.text
    assert len(search(memories, crew)) == 2


def test_a_file_where_its_folder_should_be_stops_nobody(remembering):
    memories, crew = remembering
    asyncio.run(memories.drop(crew.id))
    (memories.folder / crew.id).write_text("")
    asyncio.run(memories.refresh(crew.id, RunEmbedder()))


def test_a_damaged_document_is_left_out_of_it(remembering):
    memories, crew = remembering
    asyncio.run(
        Memories(memories.store).add(crew.id, MemoryCreate(type="short_term", content="Tea in a cup"))
    )
    memories.store.db.table("memories").update({"content": 5}, doc_ids=[1])
    memories.store.db.table("memory_revisions").update({"revision": {}}, doc_ids=[1])
    assert len(search(memories, crew)) == 1
