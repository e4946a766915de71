"""Where a run stands in its server's line: no event tells it, since others come and go."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from kasal_jupyter.errors import KasalError

if TYPE_CHECKING:
    from kasal_jupyter.kernel.client import Client
    from kasal_jupyter.schemas.trace import Trace

LOOK_SECONDS = 1.0
"""How often it is asked for, at the most."""


class Waiting:
    """Asks for it while the run waits; whoever follows the run calls :meth:`look` while nothing comes.

    Parameters
    ----------
    client
        The server.
    trace
        What is known of the run.

    Attributes
    ----------
    position
        Its place, counted from 1; None where it does not wait, or nobody knows.
    """

    def __init__(self, client: Client, trace: Trace) -> None:
        self.position: int | None = None
        self._client = client
        self._trace = trace
        self._next = 0.0

    def look(self) -> None:
        """Ask the server, if the run waits and it is time to."""
        # Before its first event nothing is known of it, not even that it waits.
        if self._trace.summary.status != "queued" or not self._trace.summary.seq:
            self.position = None
            return
        if time.monotonic() < self._next:
            return
        # A server that is away is told of by the stream that follows the run.
        with suppress(KasalError):
            self.position = self._client.execution(self._trace.job_id).queue_position
        self._next = time.monotonic() + LOOK_SECONDS


def place_text(position: int) -> str:
    """Write a place in the line: ``number 3 in the queue``."""
    return f"number {position:,} in the queue"
