"""The journal of a run: every event, one JSON line each, numbered without a gap.

The journal is the run: status, progress, traces and every view are read from it.
Line *n* of the file is the event with ``seq`` *n*, so a page anywhere in a journal is
found by the offset of every 256th line, and is served as the bytes that were written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import orjson

from kasal_jupyter.errors import NotFound
from kasal_jupyter.schemas.events import Event

STRIDE = 256
"""Every how many lines the file offset is kept."""

PAGE_BYTES = 1 << 20
"""About how many bytes one :meth:`Journal.read` gives at the most; one event is always given whole."""


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
        """The number of complete events known so far."""
        self._offsets = [0]
        self._size = 0
        self._out: int | None = None

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
        """
        if not path.is_file():
            raise NotFound(f"The journal of execution {path.stem} is gone")
        journal = cls(path)
        journal.refresh()
        if write:
            journal._out = os.open(path, os.O_RDWR | os.O_APPEND)
            # The writer may have died in the middle of a line.
            os.ftruncate(journal._out, journal._size)
        return journal

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
        """
        assert self._out is not None, "the journal was opened for reading"
        job_id = self.job_id.encode()
        numbered = [
            b'{"seq":%d,"job_id":"%b",%b' % (seq, job_id, line[1:])
            for seq, line in enumerate(lines, self.seq + 1)
        ]
        try:
            self._write(b"".join(line + b"\n" for line in numbered))
        except OSError:
            # A full disk, say: half a line would spoil the one behind it.
            os.ftruncate(self._out, self._size)
            raise
        # Only now: another thread may read, and must not look for what is not there yet.
        for seq, line in enumerate(numbered, self.seq + 1):
            self._size += len(line) + 1
            if seq % STRIDE == 0:
                self._offsets.append(self._size)
            self.seq = seq
        return numbered

    def read(self, after: int = 0, limit: int = STRIDE) -> list[bytes]:
        """Give the events behind number ``after``, in order, as they were written.

        Parameters
        ----------
        after
            The number of the last event already known; 0 for none.
        limit
            Most events to give. Fewer come where a page would pass 1 MB.
        """
        if after >= self.seq or limit <= 0:
            return []
        skip = after % STRIDE
        lines: list[bytes] = []
        size = 0
        with self.path.open("rb") as file:
            file.seek(self._offsets[after // STRIDE])
            for _ in range(skip):
                file.readline()
            for _ in range(min(limit, self.seq - after)):
                line = file.readline()
                size += len(line)
                if lines and size > PAGE_BYTES:
                    break
                lines.append(line[:-1])
        return lines

    def events(self) -> Iterator[Event]:
        """Give all events, parsed."""
        after = 0
        while lines := self.read(after):
            after += len(lines)
            for line in lines:
                yield cast("Event", orjson.loads(line))

    def refresh(self) -> bool:
        """Look for events that another process has written since, and say whether there are any."""
        found = False
        with self.path.open("rb") as file:
            file.seek(self._size)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                found = True
                self.seq += 1
                self._size += len(line)
                if self.seq % STRIDE == 0:
                    self._offsets.append(self._size)
        return found

    def sync(self) -> None:
        """Wait until what was written is on the disk. It may take milliseconds: call it in a thread."""
        if self._out is not None:
            os.fsync(self._out)

    def close(self) -> None:
        """Stop writing; reading goes on to work."""
        if self._out is not None:
            os.close(self._out)
            self._out = None

    def _write(self, data: bytes) -> None:
        assert self._out is not None
        written = os.write(self._out, data)
        while written < len(data):
            written += os.write(self._out, data[written:])
