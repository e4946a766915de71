"""Disabled users: what they have running costs nobody anything any more."""

from __future__ import annotations

import asyncio
import logging
import time

from kasal_jupyter.errors import Conflict, KasalError, NotFound
from kasal_jupyter.events.event import ErrorInfo
from kasal_jupyter.executions.service import Runs

AGAIN_SECONDS = 30.0
"""How long after a change of users runs are looked for: a request that was let in before it may start one."""

USER_DISABLED = ErrorInfo(code="USER_DISABLED", message="The user whose execution it is was disabled.")

log = logging.getLogger(__name__)


class DisabledOwners:
    """Stops this server's executions of users who were disabled, by whichever server or command.

    Parameters
    ----------
    runs
        The executions.
    """

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._version: int | None = None
        self._until = 0.0
        self._disabled: list[str] = []

    async def stop_runs(self) -> None:
        """Stop what runs or waits of them. It costs microseconds as long as no user has changed."""
        store = self._runs.store
        version = store.users.version()
        if version != self._version:
            self._disabled = [user.id for user in store.users.find() if user.disabled]
            self._version = version
            self._until = time.monotonic() + AGAIN_SECONDS
        if self._runs.active and self._disabled and time.monotonic() < self._until:
            found = [
                execution.id
                for owner in self._disabled
                for status in ("queued", "running", "waiting_for_input")
                for execution in store.executions.find(
                    owner=owner, status=status, server=self._runs.presence.server_id
                )
            ]
            await asyncio.gather(*map(self._stop, found))

    async def _stop(self, job_id: str) -> None:
        try:
            execution = await self._runs.stop(job_id, USER_DISABLED)
        except (Conflict, NotFound):
            # It has just ended.
            return
        except KasalError:
            # It is tried again at the next look.
            log.exception("the execution %s of a disabled user could not be stopped", job_id)
            return
        log.warning("stopped the execution %s: its owner %s was disabled", job_id, execution.owner)
