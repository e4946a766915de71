"""Files that are sent to the server: they go to the disk as they come, and never into memory whole."""

from __future__ import annotations

import tempfile
from typing import IO, BinaryIO, cast

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.errors import StoreError

HELD = 16 << 20
"""Bytes that a file counts of those that a caller may have under way: so that a few come at once."""


class UploadHandler(ApiHandler):
    """What takes a file as its body."""

    _file: IO[bytes] | None = None
    _taken = 0
    _failure: OSError | None = None

    @property
    def body_limit(self) -> int:
        """The most bytes of a file that are taken in."""
        return self.parts.archive_limit

    def held_of(self, size: int) -> int:
        """Count no more of a file than what it may keep others of its sender's from."""
        return min(size, HELD)

    def data_received(self, chunk: bytes) -> None:
        """Write a piece of the file, or let it pass."""
        if not self._keeps_body or self._failure is not None:
            return
        self._taken += len(chunk)
        self._overflown = self._taken > self.body_limit
        try:
            if self._overflown:
                self._let_go()
                return
            if self._file is None:
                self._file = self._new_file()
            self._file.write(chunk)
        except OSError as error:
            self._failure = error

    def uploaded(self) -> BinaryIO:
        """Give the file, from its beginning.

        Raises
        ------
        InvalidRequest
            It is too large.
        StoreError
            The disk has not taken it.
        """
        if self._overflown:
            raise self._too_large()
        if self._failure is not None:
            reason = self._failure.strerror or self._failure
            raise StoreError(f"What is sent cannot be stored: {reason}") from self._failure
        # A body may come slowly.
        self.let_in_with().look()
        if self._file is None:
            self._file = self._new_file()
        self._file.seek(0)
        return cast("BinaryIO", self._file)

    def on_finish(self) -> None:
        """Let go of the file."""
        super().on_finish()
        self._let_go()

    def on_connection_close(self) -> None:
        """Let go of the file: the client is gone before it came."""
        super().on_connection_close()
        self._let_go()

    def _new_file(self) -> IO[bytes]:
        # Where it will be stored has room for it; nobody else sees it. The request's end closes it.
        return tempfile.TemporaryFile(dir=self.parts.runs.folder)

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
