"""Standing: a caller whose connection stays open is looked at again, as long as it does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from kasal_jupyter.auth.gate import RANK, Caller, Gate
from kasal_jupyter.errors import Unauthorized

LOOK_SECONDS = 1.0
"""How often all who stay are looked at. Whoever sends or gets something is looked at then, besides."""

ASK_SECONDS = 60.0
"""How often Jupyter, which may have to ask its hub, is asked again about those whom it let in."""


class Standing:
    """What a connection was let in with.

    Parameters
    ----------
    gate
        Knows tokens.
    caller
        Whom it was opened by.
    token
        The token of ours that it was opened with; None where Jupyter has let the caller in.
    """

    def __init__(self, gate: Gate, caller: Caller, token: str | None) -> None:
        self._gate = gate
        self._token = token
        self.caller = caller

    @property
    def by_jupyter(self) -> bool:
        """Whether Jupyter knows more than we do."""
        return self._token is None

    def look(self) -> Caller:
        """Give the caller as they are now. It costs a microsecond as long as no user or login has changed.

        Raises
        ------
        Unauthorized
            The token no longer counts, or the caller may do less than when the connection was opened.
        """
        if self._token is None:
            return self.caller
        found = self._gate.recognise(self._token)
        if found is not self.caller:
            if found is None or found.owner != self.caller.owner or RANK[found.role] < RANK[self.caller.role]:
                raise Unauthorized("Your rights have changed; connect again")
            self.caller = found
        return found


class Watched(Protocol):
    """A connection that stays open."""

    def look_again(self) -> bool:
        """Say whether its caller still may have it; where not, it ends."""
        ...

    async def ask_again(self) -> None:
        """Ask Jupyter about its caller, if Jupyter has let them in; where they are gone, it ends."""
        ...


class Watch:
    """All connections of this process that stay open.

    Parameters
    ----------
    one_look
        Lets several looks make do with one at the store's file.
    """

    def __init__(self, one_look: Callable[[], AbstractContextManager[object]]) -> None:
        self.one_look = one_look
        self._watched: set[Watched] = set()

    def add(self, watched: Watched) -> Callable[[], None]:
        """Look at a connection from now on; the answer ends it."""
        self._watched.add(watched)
        return lambda: self._watched.discard(watched)

    def look(self) -> None:
        """Look at all of them."""
        if self._watched:
            with self.one_look():
                for each in tuple(self._watched):
                    each.look_again()

    async def ask(self) -> None:
        """Ask Jupyter about all of them, one after the other."""
        for each in tuple(self._watched):
            await each.ask_again()
