"""Cassettes as files: which run is meant, what is refused, and what stands in the place of what varies."""

import pytest

from kasal_jupyter.client.cassette import Contents, Tape, tape_of
from kasal_jupyter.errors import InvalidRequest, NotFound
from kasal_jupyter.hiding import without_keys
from kasal_jupyter.schemas.cassettes import Settling

RUN = '{"inputs":{"topic":"tea"},"models":{},"run":"Tea"}'


def call(answer):
    return f'{{"answer":{{"text":"{answer}"}},"ask":{{}},"call":"model","key":"1:a:1","messages":[]}}'


class Served:
    """A server with the records of runs; a fake at the seam of HTTP."""

    def __init__(self, **records):
        self.records = records

    def record(self, job_id):
        return self.records[job_id].encode()


def kept(tape, text, topic="tea", crew="Tea"):
    head = f'{{"inputs":{{"topic":"{topic}"}},"run":"{crew}"}}'
    tape.turn(crew, {"topic": topic}).keep(Served(job=f"{head}\n{call(text)}\n"), "job", lambda _text: None)


def given(tape, topic="tea", crew="Tea"):
    record = tape.turn(crew, {"topic": topic}).cassette.record
    return record and record.partition('"text":"')[2].partition('"')[0]


def test_equal_runs_are_told_apart_by_their_order_and_recorded_in_their_places(tmp_path):
    path = tmp_path / "tea.jsonl"
    first = Tape(record=path)
    for text, topic in (("one", "tea"), ("mint", "mint"), ("two", "tea")):
        kept(first, text, topic)
    whole = path.read_bytes()
    tape = Tape(replay=path)
    assert [given(tape) for _ in range(3)] == ["one", "two", "two"]
    assert given(tape, "mint") == "mint"
    kept(Tape(record=tmp_path / "other.jsonl"), "twelve", "12")
    assert given(Tape(replay=tmp_path / "other.jsonl"), 12) == "twelve"
    again = Tape(record=path)
    for text, topic in (("one", "tea"), ("mint", "mint"), ("two", "tea")):
        kept(again, text, topic)
    assert path.read_bytes() == whole
    kept(Tape(record=path), "other", "mint")
    assert given(Tape(replay=path), "mint") == "other"
    assert given(Tape(replay=path)) == "one"


def test_a_run_that_is_not_there_is_missed_with_what_the_nearest_has(tmp_path):
    path = tmp_path / "tea.jsonl"
    kept(Tape(record=path), "one")
    with pytest.raises(NotFound, match=r"REPLAY_MISS: tea\.jsonl has no run of 'Tea' with topic=\"mint\"; "):
        Tape(replay=path).turn("Tea", {"topic": "mint"})
    with pytest.raises(NotFound, match='the nearest has topic="tea"'):
        Tape(replay=path).turn("Tea", {"topic": "mint"})
    with pytest.raises(NotFound, match="it has runs of: 'Tea'"):
        Tape(replay=path).turn("Coffee", {})
    assert Tape(replay=path, on_miss="live").turn("Coffee", {}).cassette.record is None
    with pytest.raises(NotFound, match=r"--record .* makes one"):
        Tape(replay=tmp_path / "none.jsonl").turn("Tea", {})


def test_what_varies_is_compared_in_inputs_as_well(tmp_path):
    path = tmp_path / "day.jsonl"
    path.write_text('{"cassette":1,"varies":["\\\\d{4}-\\\\d\\\\d-\\\\d\\\\d"]}\n')
    tape = Tape(record=path)
    turn = tape.turn("Tea", {"topic": "2026-11-30"})
    head = '{"inputs":{"topic":"{varies}"},"run":"Tea"}'
    turn.keep(Served(job=f"{head}\n{call('one')}"), "job", lambda _text: None)
    assert Contents.read(path).head.varies == turn.cassette.varies == [r"\d{4}-\d\d-\d\d"]
    assert given(Tape(replay=path), "2027-01-01") == "one"
    with pytest.raises(InvalidRequest, match="recorded with other `varies`"):
        Tape(record=path, varies=("x",)).turn("Tea", {})


@pytest.mark.parametrize("text", ["{}", "[]", "no", '{"cassette":2}', f'{{"cassette":1}}\n{RUN[:-1]}'])
def test_what_is_no_cassette_is_refused(tmp_path, text):
    path = tmp_path / "other.jsonl"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match="is no cassette"):
        Contents.read(path)


@pytest.mark.parametrize(
    ("ci", "record", "said", "on_miss"),
    [
        ("", None, None, "live"),
        ("true", None, None, "fail"),
        ("true", "a", None, "live"),
        ("", None, "fail", "fail"),
    ],
)
def test_what_is_missed_fails_where_nobody_is_there(monkeypatch, ci, record, said, on_miss):
    monkeypatch.setenv("CI", ci)
    assert tape_of(record, "b", on_miss=said).on_miss == on_miss


def test_the_environment_names_them_for_a_whole_notebook(monkeypatch, tmp_path):
    for name in ("KASAL_RECORD", "KASAL_REPLAY", "KASAL_ON_MISS"):
        monkeypatch.delenv(name, raising=False)
    assert tape_of() is None
    monkeypatch.setenv("KASAL_REPLAY", str(tmp_path / "a.jsonl"))
    assert tape_of(within=1) is tape_of(within=2)
    assert tape_of(None, "b", within=1) is not tape_of(None, "b", within=2)
    monkeypatch.setenv("KASAL_ON_MISS", "perhaps")
    with pytest.raises(InvalidRequest, match="either `fail` or `live`"):
        tape_of()


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcdefghijklmnop_QRSTuv",
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_abcdefghijklmnopqrstuvwxyz012345",
        "xoxb-1234567890-abcdef",
        "AIzaSyA-abcdefghijklmnopqrstuvwxyz012345",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_key_is_hidden_whosever_it_is(key):
    assert without_keys(f"The key is {key}, isn't it") == "The key is [secret], isn't it"
    assert Settling().shown({"a": [key]}) == {"a": ["[secret]"]}


def test_words_are_no_keys():
    text = "task-list-of-things-that-are-long, risk-free-of-charge-indeed, skeleton, hf_short"
    assert without_keys(text) == text
