"""What completion asks the server: the answer in time, or the one before, or none; never an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar, cast

from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection
from kasal_jupyter.client.finding import find_server
from kasal_jupyter.errors import KasalError
from kasal_jupyter.kernel.session import Session

T = TypeVar("T")

COMPLETION_SECONDS = 2.0
"""How long a key pressed for completion waits for the server: the kernel does nothing else meanwhile."""

PATIENCE_SECONDS = 15.0
"""After an answer that did not come, how long the server is not asked again."""


class Lookups:
    """One kernel's questions to its server.

    Parameters
    ----------
    session
        Whose server is asked. Where it has found none yet, one is looked for but none is started:
        a key pressed for completion is no reason to.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[tuple[object, ...], object] = {}
        self._silent_until = 0.0

    def ask(self, key: tuple[object, ...], question: Callable[[Client], T], otherwise: T) -> T:
        """Ask the server.

        Parameters
        ----------
        key
            What the question is known by.
        question
            Asks it.
        otherwise
            What to take where there is no answer and was none before.
        """
        known = cast("T", self._known.get(key, otherwise))
        if time.monotonic() < self._silent_until:
            return known
        answers: list[T] = []

        def work() -> None:
            try:
                client = Client(self._connection(), seconds=COMPLETION_SECONDS)
                try:
                    answers.append(question(client))
                finally:
                    client.close()
            except KasalError:
                # No server, or no such thing on it: no names.
                answers.append(otherwise)

        # A thread may be left behind, which no time limit of a request alone would be enough for:
        # a server that sends a byte now and then answers in time each time.
        thread = threading.Thread(target=work, name="kasal-completion", daemon=True)
        thread.start()
        thread.join(COMPLETION_SECONDS)
        if not answers:
            self._silent_until = time.monotonic() + PATIENCE_SECONDS
            return known
        self._known[key] = answers[0]
        return answers[0]

    def _connection(self) -> Connection:
        found = self._session.connection or find_server(start=False)
        # Without its origin: a private server that has ended is not started again for this.
        return Connection(found.url, found.token)
