"""Answers that take their time: whoever loses the right to one meanwhile does not get the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from functools import cached_property
from typing import Any, TypeVar

from tornado.iostream import StreamClosedError

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.auth.standing import Standing
from kasal_jupyter.errors import KasalError, Unauthorized

T = TypeVar("T")


class LongAnswer(ApiHandler):
    """What is answered with a stream or with files."""

    refused: KasalError | None = None
    """Why the rest is not given."""

    @cached_property
    def standing(self) -> Standing:
        """What the request was let in with."""
        return self.let_in_with()

    def look_again(self) -> bool:
        """Say whether the caller still may have the answer; where not, it ends."""
        if self.refused is None:
            try:
                self.standing.look()
            except KasalError as error:
                self.refuse(error)
        return self.refused is None

    async def ask_again(self) -> None:
        """Ask Jupyter about a caller whom it has let in; where they are gone, the answer ends."""
        if self.standing.by_jupyter and not await self.known_to_jupyter(self.sent_token()):
            self.refuse(Unauthorized("Jupyter no longer knows you; log in again"))

    def refuse(self, error: KasalError) -> None:
        """Give nothing more."""
        self.refused = error

    def cut(self) -> None:
        """End the connection in the middle of an answer, so that nobody takes what came for the whole."""
        connection: Any = self.request.connection
        connection.close()


class AwaitedAnswer(ApiHandler):
    """What is worked on while its client waits for it, and no longer."""

    _work: asyncio.Task[Any] | None = None
    _gone = False

    def on_connection_close(self) -> None:
        """Leave the work: nobody waits for its answer any more."""
        super().on_connection_close()
        self._gone = True
        if self._work is not None:
            self._work.cancel()

    async def while_awaited(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Do what takes long; give what came of it, and None where the client has gone before.

        Raises
        ------
        Unauthorized
            The caller has lost the right to it meanwhile.
        """
        task: asyncio.Task[T] = asyncio.ensure_future(work)
        self._work = task
        try:
            found = await task
        except asyncio.CancelledError:
            if not self._gone:
                raise
            return None
        except KasalError:
            # Because its execution was stopped, say, as that of somebody who was disabled.
            await self.ask_once_more()
            raise
        await self.ask_once_more()
        return found


class PouredAnswer(LongAnswer):
    """What is answered as it comes from a file; what is broken off is not taken for the whole."""

    async def pour(self, pieces: Iterator[bytes]) -> None:
        """Give all pieces, none of which is empty; they are made in a thread, at the client's pace."""
        unwatch = self.parts.doors.watch.add(self)
        try:
            while self.request.method != "HEAD" and (data := await asyncio.to_thread(next, pieces, b"")):
                if not self.look_again():
                    return
                self.write(data)
                await self.flush()
            self.finish()
        except StreamClosedError:
            # The client has gone.
            return
        finally:
            unwatch()

    def refuse(self, error: KasalError) -> None:
        """Break off."""
        super().refuse(error)
        self.cut()
