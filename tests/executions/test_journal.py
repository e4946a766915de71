import errno
import gzip
import os

import orjson
import pytest

from kasal_jupyter.errors import NotFound, StoreError
from kasal_jupyter.events.packed import open_plain, packed_path
from kasal_jupyter.executions import journal as module
from kasal_jupyter.executions.feed import Feed
from kasal_jupyter.executions.journal import STRIDE, Journal, compress
from tests.events.test_prompts import conversation, written


def line(number, **fields):
    return orjson.dumps({"time": "2024-01-15T10:30:00.000000Z", "type": "note", "n": number, **fields})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "job_1.jsonl"


@pytest.fixture
def journal(path):
    created = Journal.create(path)
    yield created
    created.close()


def test_events_are_numbered_from_one(journal, path):
    first = journal.append([line(1), line(2)])
    second = journal.append([line(3)])
    events = [orjson.loads(text) for text in [*first, *second]]
    assert [(event["seq"], event["job_id"], event["n"]) for event in events] == [
        (number, "job_1", number) for number in (1, 2, 3)
    ]
    assert path.read_bytes().splitlines() == [*first, *second]


@pytest.mark.parametrize(
    "after", [0, 1, STRIDE - 1, STRIDE, STRIDE + 1, 2 * STRIDE, 2 * STRIDE + 9, 2 * STRIDE + 10]
)
@pytest.mark.parametrize("limit", [1, 7, STRIDE, 10_000])
def test_a_page_anywhere(journal, path, after, limit):
    written = []
    for start in range(0, 2 * STRIDE + 10, 90):
        written += journal.append([line(n) for n in range(start, min(start + 90, 2 * STRIDE + 10))])
    for reader in (journal, Journal.open(path)):
        assert reader.read(after, limit) == written[after : after + limit]


@pytest.mark.parametrize("count", [0, 1, STRIDE, 2 * STRIDE + 10])
def test_a_compressed_journal_is_read_like_the_plain_one(journal, path, count):
    written = journal.append([line(number, text="ä" * (number % 9)) for number in range(count)])
    readers = [Journal.open(path), journal]
    if count:
        half = Journal(path)  # Of a server that has seen a part when another compresses it.
        with path.open("r+b") as file:
            file.truncate(len(written[0]) + 1)
            half.refresh()
            file.write(b"\n".join([*written, b""]))
        readers.append(half)
    compress(path)
    journal.close()
    path.unlink()
    assert gzip.decompress(packed_path(path).read_bytes()) == b"".join(each + b"\n" for each in written)
    with open_plain(path) as plain:
        assert plain.read().splitlines() == written
    readers.append(Journal.open(path))
    for reader in readers:
        reader.refresh()
        assert reader.seq == count
        for after in (0, 1, STRIDE - 1, STRIDE, 2 * STRIDE, count - 1):
            assert reader.read(max(0, after), 7) == written[max(0, after) :][:7]
    packed = packed_path(path)
    whole = packed.read_bytes()
    for damaged in (whole[:-9], b"\0" * 40 + whole, whole[:30] + b"\xff" * 9 + whole[39:]):
        packed.write_bytes(damaged)
        if count:
            with pytest.raises(StoreError, match="cannot be read"):
                Journal.open(path).read(0)
    packed.unlink()
    with pytest.raises(NotFound, match="was deleted"):
        Journal.open(path)


def test_a_damaged_journal_keeps_its_numbers_when_it_is_compressed(journal, path):
    written = journal.append([line(number) for number in range(STRIDE + 3)])
    journal.close()
    data = b"\n".join([*written, b"{half"])
    at = data.index(written[STRIDE - 1])
    path.write_bytes(data[: at - 9] + b"\0" * 9 + data[at:])
    plain = Journal.open(path)
    lines = plain.read(0, 1_000)
    compress(path)
    path.unlink()
    for reader in (plain, Journal.open(path)):
        assert (reader.seq, reader.read(0, 1_000)) == (STRIDE + 3, lines)
        assert reader.read(STRIDE, 2) == written[STRIDE : STRIDE + 2]


def test_prompts_are_whole_wherever_a_reader_begins(tmp_path):
    events = [orjson.loads(orjson.dumps(event)) for event in conversation(300, size=9)]
    lines = written(events)
    journal = Journal.create(tmp_path / "job_1.jsonl")
    journal.append([orjson.dumps({**events[0], "type": "note"}), *lines[:-1]])
    journal.hold(lines[-1:])
    for seq in (2, 3, STRIDE, STRIDE + 2, 300, 301):
        assert journal.event(seq) == {"seq": seq, "job_id": "job_1", **events[seq - 2]}
    assert [event["messages"] for event in journal.events()][1:] == [event["messages"] for event in events]
    journal.close()


def test_an_older_journal_is_read_as_it_is(tmp_path):
    lines = [
        b'{"seq":%d,"job_id":"job_1",%b' % (seq, orjson.dumps(event)[1:])
        for seq, event in enumerate(conversation(5), 1)
    ]
    path = tmp_path / "job_1.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    journal = Journal.open(path)
    prompts = journal.prompts()
    assert [prompts.line(line) for line in journal.read()] == lines
    assert [orjson.dumps(event) for event in journal.events()] == lines


def test_behind_the_end_there_is_nothing(journal):
    journal.append([line(1)])
    assert journal.read(1) == journal.read(99) == journal.read(0, 0) == []


def test_what_a_full_disk_takes_half_of_is_taken_back(journal, path, monkeypatch):
    first = journal.append([line(1)])

    def half(out, data):
        if len(data) < 40:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(out, data[: len(data) // 2])

    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space"):
            journal.append([line(2), line(3)])
    assert journal.seq == 1
    assert journal.append([line(2)]) == journal.read(1)
    assert path.read_bytes().splitlines() == [*first, *journal.read(1)]
    assert [orjson.loads(text)["seq"] for text in journal.read()] == [1, 2]


def test_a_torn_last_line_does_not_count_and_is_written_over(journal, path):
    journal.append([line(1), line(2)])
    journal.close()
    with path.open("ab") as file:
        file.write(b'{"seq":3,"job_id":"job_1","ty')
    assert Journal.open(path).seq == 2
    again = Journal.open(path, write=True)
    again.append([line(3)])
    again.close()
    assert [event["seq"] for event in Journal.open(path).events()] == [1, 2, 3]


def test_reading_while_another_writes(journal, path):
    reader = Journal.open(path)
    seen = []
    for number in range(1, 600):
        journal.append([line(number)])
        if number % 7 == 0:
            assert reader.refresh()
            assert not reader.refresh()
            seen += reader.read(len(seen), 10_000)
    reader.refresh()
    seen += reader.read(len(seen), 10_000)
    assert seen == journal.read(0, 10_000)


def test_a_half_written_line_is_read_when_it_is_whole(path):
    first, second = (b'{"seq":%d,"job_id":"job_1",%b' % (number, line(number)[1:]) for number in (1, 2))
    path.write_bytes(first + b"\n" + second[:7])
    reader = Journal.open(path)
    assert reader.read() == [first]
    with path.open("ab") as file:
        file.write(second[7:] + b"\n")
    assert reader.refresh()
    assert reader.read(1) == [second]


def test_a_page_has_a_bound_and_an_event_is_never_cut(journal, monkeypatch):
    monkeypatch.setattr(module, "PAGE_BYTES", 1_000)
    small = journal.append([line(n) for n in range(5)])
    large = journal.append([line(5, text="x" * 5_000)])
    assert journal.read(0) == small
    assert journal.read(5) == large
    assert [event["n"] for event in journal.events()] == [0, 1, 2, 3, 4, 5]


def test_a_journal_is_begun_once(journal, path):
    with pytest.raises(FileExistsError):
        Journal.create(path)


def test_a_journal_that_is_gone(path):
    with pytest.raises(NotFound, match="job_1"):
        Journal.open(path)


def test_a_feed_passes_on_what_comes_and_keeps_its_summary(journal, path):
    mine, theirs = Feed(journal), Feed(Journal.open(path))
    got = []
    leave = mine.subscribe(lambda first, lines: got.append((first, len(lines))))
    theirs.subscribe(lambda first, lines: got.append(("other", first, len(lines))))
    event = {"time": "2024-01-15T10:30:00.000000Z", "type": "execution_status", "status": "queued"}
    mine.append([orjson.dumps(event), line(2)])
    theirs.catch_up()
    leave()
    assert not mine.followed
    mine.append([orjson.dumps({**event, "status": "running"})])
    theirs.catch_up()
    theirs.catch_up()
    assert got == [(1, 2), ("other", 1, 2), ("other", 3, 1)]
    assert mine.summary.status == theirs.summary.status == "running"
    assert mine.summary.seq == theirs.summary.seq == 3


@pytest.mark.parametrize("lost", [0, 1, STRIDE])
@pytest.mark.parametrize("first", [1, 7, STRIDE, STRIDE + 1])
def test_zeros_over_the_ends_of_lines_take_what_they_cover_and_no_more(path, journal, first, lost):
    """A power cut leaves blocks of zeros; this one begins in a line and ends where another begins."""
    count = 2 * STRIDE + 9
    written = journal.append([line(number) for number in range(1, count + 1)])
    ends = [0]
    for text in written:
        ends.append(ends[-1] + len(text) + 1)
    data = bytearray(path.read_bytes())
    begin, end = ends[first - 1] + 9, ends[first + lost]
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    numbers = [*range(1, first), None, *range(first + lost + 1, count + 1)]
    with_more = Journal.open(path, write=True)
    with_more.append([line("more")])
    with_more.close()
    again = Journal.open(path)
    assert [event.get("n") for event in again.events()] == [*numbers, "more"]
    assert [event["seq"] for event in again.events()] == list(range(1, again.seq + 1))
    for after in (0, first - 1, first, first + 1, STRIDE, again.seq - 1):
        assert orjson.loads(again.read(after, 1)[0])["seq"] == after + 1
