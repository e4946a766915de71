"""Making an index: what is new is added, what is gone leaves nothing behind."""

import stat

from kasal_jupyter.memory import build
from kasal_jupyter.memory.build import build_index
from kasal_jupyter.memory.index import FILE_NAME, Index
from kasal_jupyter.memory.record import Record
from tests.memory.conftest import records
from tests.memory.retrieval import KNOWN


def sections(folder):
    with Index.open(folder) as index:
        return {name: index.section(name) for name in index.header.sections}


def test_step_by_step_it_is_the_same_as_at_once(tmp_path):
    known = records(*KNOWN)
    for upto in (3, 10, 24):
        build_index(tmp_path / "steps", known[:upto], f"r{upto}", None, seconds=1)
    # Some are forgotten, one has changed.
    changed = Record("5", "long_term", "Solar modules became dearer", None, "2024-01-15T10:00:00Z")
    kept = [changed if record.id == "5" else record for record in known[2:20]]
    build_index(tmp_path / "steps", kept, "end", None, seconds=1)
    build_index(tmp_path / "once", kept, "end", None, seconds=1)
    assert sections(tmp_path / "steps") == sections(tmp_path / "once")


def test_only_what_is_new_gets_a_vector(tmp_path, monkeypatch):
    embedded = []
    real = build.embed_offline
    monkeypatch.setattr(build, "embed_offline", lambda stems: embedded.append(stems) or real(stems))
    build_index(tmp_path, records(*KNOWN[:20]), "r1", None, seconds=1)
    assert len(embedded) == 20
    build_index(tmp_path, records(*KNOWN), "r2", None, seconds=1)
    assert len(embedded) == len(KNOWN)


def test_a_forgotten_text_is_not_in_the_file(tmp_path):
    build_index(tmp_path, records("The password is opensesame", "Be brief"), "r1", None, seconds=1)
    assert b"opensesame" in (tmp_path / FILE_NAME).read_bytes()
    build_index(tmp_path, records("The password is opensesame", "Be brief")[1:], "r2", None, seconds=1)
    assert b"opensesame" not in (tmp_path / FILE_NAME).read_bytes()


def test_nobody_else_can_read_it(tmp_path):
    build_index(tmp_path / "memory" / "crew_a", records("x"), "r", None, seconds=1)
    folder = tmp_path / "memory" / "crew_a"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / FILE_NAME).stat().st_mode) == 0o600


def test_an_index_of_nothing_is_one(tmp_path):
    build_index(tmp_path, [], "r", None, seconds=1)
    with Index.open(tmp_path) as index:
        assert (index.header.count, index.header.revision) == (0, "r")
