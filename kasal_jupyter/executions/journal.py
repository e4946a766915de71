"""The journal of a run: every event, one JSON line each, numbered without a gap.

The journal is the run: status, progress, traces and every view are read from it.
Line *n* of the file is the event with ``seq`` *n*, so a page anywhere in a journal is
found by the offset of every 256th line, and is served as the bytes that were written.

The journal of a run that has ended may be compressed (:mod:`kasal_jupyter.events.packed`), at any moment and
by another process: it is read the same, and whoever reads it need not know.

A line that a crash or a disk has damaged is read as an event of type ``damaged``, in its
place; what is behind it counts on. What the disk does not take at the moment is held in
memory, is read from there, and is written as soon as there is room.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson

from kasal_jupyter.errors import NotFound, StoreError
from kasal_jupyter.events.event import Event, is_event
from kasal_jupyter.events.packed import members, pack, packed_path, unpacking
from kasal_jupyter.events.prompts import Prompts
from kasal_jupyter.whole_file import whole_file

STRIDE = 256
"""Every how many lines the file offset is kept."""

PAGE_BYTES = 1 << 20
"""About how many bytes one :meth:`Journal.read` gives at the most; one event is always given whole."""

NO_TIME = "1970-01-01T00:00:00.000000Z"
"""When a damaged event was, as far as anybody knows."""

_RESUMED = b'\0{"seq":'
"""Where an event begins behind zeros."""

_NUMBER = re.compile(rb'\{"seq":(\d+),')

_HEAD = re.compile(rb'\{"seq":\d+,"job_id":"[^"]*",')


class Journal:
    """One run's events on disk.

    Parameters
    ----------
    path
        The ``.jsonl`` file. One process writes it; any number may read it meanwhile.

    Notes
    -----
    Appending is one ``write`` into the page cache (2 µs a line): the end of this process loses nothing.
    :meth:`sync` makes it safe from a power failure as well; it is called when a run is accepted and when
    it ends.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.job_id = path.stem
        self.seq = 0
        """The number of complete events known so far, held ones included."""
        self._offsets = [0]
        self._size = 0
        # What is in the file, and what waits behind that: one value, since another thread may read.
        self._tail: tuple[int, list[bytes]] = (0, [])
        self._held_bytes = 0
        self._mended: set[int] = set()
        self._members: list[int] = []
        self._torn = False
        self._out: int | None = None
        # Where the calls of models are, by their spans: up to which line, spans that count up, and lines.
        self._looked = 0
        self._calls = (array("Q"), array("Q"))
        self._looking = threading.Lock()

    @classmethod
    def create(cls, path: Path) -> Journal:
        """Begin a new journal, to be written by this process."""
        journal = cls(path)
        journal._out = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        return journal

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> Journal:
        """Open a journal that exists; with ``write``, to go on where a process that died left off.

        Raises
        ------
        NotFound
            There is no such journal.
        StoreError
            It cannot be read at the moment.
        """
        journal = cls(path)
        journal.refresh()
        if write:
            journal._out = os.open(path, os.O_RDWR | os.O_APPEND)
            # The writer may have died in the middle of a line.
            os.ftruncate(journal._out, journal._size)
        return journal

    @property
    def held(self) -> int:
        """How many bytes wait in memory for the disk to take them."""
        return self._held_bytes

    def append(self, lines: list[bytes]) -> list[bytes]:
        """Write events, numbered.

        Parameters
        ----------
        lines
            JSON objects without ``seq`` and ``job_id``, as a run's process sends them.

        Returns
        -------
        list of bytes
            The numbered events as written, without their line ends.

        Raises
        ------
        OSError
            They could not be written; then they are not in the journal.
        """
        numbered = self.hold(lines)
        try:
            self.flush()
        except OSError:
            # More may have been held before these.
            held = self._tail[1]
            self.seq -= len(lines)
            del held[len(held) - len(lines) :]
            self._held_bytes = sum(map(len, held))
            raise
        return numbered

    def hold(self, lines: list[bytes]) -> list[bytes]:
        """Take events in, numbered, to be written by the next :meth:`flush`; they can be read at once."""
        job_id = self.job_id.encode()
        numbered = [
            b'{"seq":%d,"job_id":"%b",%b' % (seq, job_id, line[1:])
            for seq, line in enumerate(lines, self.seq + 1)
        ]
        self._tail[1].extend(numbered)
        self._held_bytes += sum(map(len, numbered))
        self.seq += len(numbered)
        return numbered

    def flush(self) -> None:
        """Write what is held.

        Raises
        ------
        OSError
            It could not be written; it is held still.
        """
        written, held = self._tail
        if not held:
            return
        assert self._out is not None, "the journal was opened for reading"
        try:
            if self._torn:
                os.ftruncate(self._out, self._size)
                self._torn = False
            self._write(b"".join(line + b"\n" for line in held))
        except OSError:
            # A full disk, say: half a line would spoil the one behind it.
            self._torn = True
            with suppress(OSError):
                os.ftruncate(self._out, self._size)
                self._torn = False
            raise
        for seq, line in enumerate(held, written + 1):
            self._count(seq, len(line) + 1)
        self._tail = (written + len(held), [])
        self._held_bytes = 0

    def read(self, after: int = 0, limit: int = STRIDE) -> list[bytes]:
        """Give the events behind number ``after``, in order, as they were written.

        Parameters
        ----------
        after
            The number of the last event already known; 0 for none.
        limit
            Most events to give. Fewer come where a page would pass 1 MB.

        Raises
        ------
        NotFound
            The journal is gone.
        StoreError
            It cannot be read at the moment.
        """
        if after >= self.seq or limit <= 0:
            return []
        written, held = self._tail
        if after >= written:
            return held[after - written :][:limit]
        lines: list[bytes] = []
        size = 0
        with self._behind(after) as wanted:
            for seq, line in zip(range(after + 1, min(after + limit, written) + 1), wanted, strict=False):
                size += len(line)
                if lines and size > PAGE_BYTES:
                    break
                lines.append(_mended(seq, self.job_id, line) if seq in self._mended else line[:-1])
        return lines

    def events(self) -> Iterator[Event]:
        """Give all events, parsed, and with whole prompts."""
        prompts = self.prompts()
        for event in self.written():
            yield cast("Event", prompts.event(cast("Mapping[str, Any]", event)))

    def written(self) -> Iterator[Event]:
        """Give all events, parsed, as they are written: for who does not look at what models are asked."""
        after = 0
        while lines := self.read(after):
            after += len(lines)
            for line in lines:
                yield cast("Event", orjson.loads(line))

    def event(self, seq: int, prompts: Prompts | None = None) -> dict[str, Any]:
        """Give an event by its number, parsed, and with its whole prompt; several by the same ``prompts``."""
        (line,) = self.read(seq - 1, 1)
        return (prompts or self.prompts()).event(orjson.loads(line))

    def prompts(self) -> Prompts:
        """Give what makes prompts whole that lines name; for one reader, who keeps the latest at hand."""
        return Prompts(self._call)

    def _call(self, span_id: int) -> dict[str, Any] | None:
        """Give the event that begins a model's call; the lines are looked through once."""
        spans, places = self._calls
        with self._looking:
            while (not spans or spans[-1] < span_id) and (lines := self.read(self._looked)):
                for line in lines:
                    self._looked += 1
                    event = orjson.loads(line) if b'"llm_call"' in line else {}
                    if event.get("type") == "llm_call" and (not spans or spans[-1] < event["span_id"]):
                        spans.append(event["span_id"])
                        places.append(self._looked)
            at = bisect_left(spans, span_id)
        if at == len(spans) or spans[at] != span_id:
            return None
        [line] = self.read(places[at] - 1, 1)
        event = orjson.loads(line)
        return event if event.get("span_id") == span_id else None

    def refresh(self) -> bool:
        """Look for events that another process has written since, and say whether there are any.

        Raises
        ------
        NotFound
            The journal is gone.
        StoreError
            It cannot be read at the moment.
        """
        found = False
        with self._behind(self._tail[0]) as news:
            for line in news:
                found = True
                seq = self._tail[0] + 1
                if not _is_sound(seq, line):
                    self._mended.add(seq)
                self._count(seq, len(line))
                self._tail = (seq, self._tail[1])
                self.seq = seq + len(self._tail[1])
        return found

    def sync(self) -> None:
        """Wait until what was written is on the disk. It may take milliseconds: call it in a thread."""
        if self._out is not None:
            os.fsync(self._out)

    def close(self) -> None:
        """Stop writing; reading goes on to work."""
        if self._out is not None:
            out, self._out = self._out, None
            os.close(out)

    def _count(self, seq: int, size: int) -> None:
        """Note that the file has another line."""
        self._size += size
        if seq % STRIDE == 0:
            self._offsets.append(self._size)

    def _write(self, data: bytes) -> None:
        assert self._out is not None
        written = os.write(self._out, data)
        while written < len(data):
            written += os.write(self._out, data[written:])

    @contextmanager
    def _behind(self, seq: int) -> Iterator[Iterator[bytes]]:
        """Give the lines of the file behind a number."""
        try:
            with ExitStack() as opened:
                skipped = seq % STRIDE
                try:
                    file: BinaryIO = opened.enter_context(self.path.open("rb"))
                except FileNotFoundError:
                    file = opened.enter_context(self._unpacking(seq // STRIDE))
                else:
                    at_end = seq == self._tail[0]
                    file.seek(self._size if at_end else self._offsets[seq // STRIDE])
                    skipped = 0 if at_end else skipped
                yield islice(_lines(file), skipped, None)
        except FileNotFoundError:
            raise NotFound(f"The journal of execution {self.job_id} is gone; it was deleted") from None
        except OSError as error:
            raise StoreError(
                f"The journal of execution {self.job_id} cannot be read: {error.strerror or error}"
            ) from error

    @contextmanager
    def _unpacking(self, stride: int) -> Iterator[BinaryIO]:
        """Read the compressed journal from a stride's beginning."""
        if stride >= len(self._members):
            self._members = members(self.path)
        if stride >= len(self._members):
            # It ends with a whole stride.
            yield BytesIO()
            return
        with unpacking(self.path, self._members[stride]) as file:
            yield file


def compress(path: Path) -> None:
    """Compress a journal that nobody writes any more; the plain one stays. It takes its time.

    Raises
    ------
    OSError
        It cannot be read or written, or is read otherwise than it was written.
    """
    with path.open("rb") as file, whole_file(packed_path(path), private=True, durable=True) as out:
        pack(_lines(file), out, STRIDE)
    if not _is_packed(path):
        packed_path(path).unlink(missing_ok=True)
        raise OSError(errno.EIO, "It is not read as it was written", str(path))


def _is_packed(path: Path) -> bool:
    """Say whether a compressed journal has what the plain one has."""
    try:
        with path.open("rb") as file, unpacking(path) as again:
            # What its writer has died in is no line.
            return all(line == next(again, b"") for line in iter(file.readline, b"") if line.endswith(b"\n"))
    except OSError:
        return False


def unnumbered(line: bytes) -> bytes:
    """Give an event as it was before it had a number."""
    match = _HEAD.match(line)
    return b"{" + line[match.end() :] if match else line


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Give the lines of a journal from where it is read, the last but where its writer has died in it.

    Zeros that have swallowed the end of a line, and maybe more, have put the event behind them on its line.
    """
    for line in iter(file.readline, b""):
        if not line.endswith(b"\n"):
            return
        # JSON writes a zero in other words.
        begun = line.rfind(_RESUMED) + 1 if b"\0" in line else 0
        if begun:
            yield line[:begun]
        yield line[begun:]


def _is_sound(seq: int, line: bytes) -> bool:
    """Say whether a line of the file is the event with a number."""
    number = _NUMBER.match(line)
    if number is None or int(number[1]) != seq:
        return False
    try:
        return is_event(orjson.loads(line))
    except orjson.JSONDecodeError:
        return False


def _mended(seq: int, job_id: str, line: bytes) -> bytes:
    """Give the event that a line which is not sound is read as."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        event = None
    if not is_event(event):
        return orjson.dumps({"seq": seq, "job_id": job_id, "time": NO_TIME, "type": "damaged"})
    # Zeros may have swallowed the ends of lines before it: its number is its place.
    return orjson.dumps({**event, "seq": seq, "job_id": job_id})
