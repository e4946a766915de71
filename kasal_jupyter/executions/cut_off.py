"""Runs whose server is gone: another on the folder ends them, or goes on with them where it may."""

from __future__ import annotations

import logging
from collections.abc import Callable

from kasal_jupyter.errors import Conflict, KasalError, TooManyRequests, Unavailable
from kasal_jupyter.executions.lineage import left_of, why_not_unasked
from kasal_jupyter.executions.recovery import never_begun
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.executions.verbs import resume
from kasal_jupyter.schemas.executions import Execution, ExecutionResume
from kasal_jupyter.store.store import Store

LOOKS = 5
"""Every how many looks it is seen whether another server on the folder has died."""

log = logging.getLogger(__name__)


class CutOffRuns:
    """Sees to the runs of servers that die while this one is up.

    They end; those that wait for people are taken over. Where the server is set to, it goes on with what
    :func:`~kasal_jupyter.executions.recovery.recover` has noted for it; with runs of schedules that had not
    begun, in any case. Of several servers on a folder one
    does, and once: the note goes in the change that stores the run which goes on.

    Parameters
    ----------
    runs
        The executions.
    open_
        Says whether runs may be started at the moment; where they may not, they wait for that.
    """

    def __init__(self, runs: Runs, open_: Callable[[], bool]) -> None:
        self._runs = runs
        self._open = open_
        self._version: int | None = None
        self._looks = 0

    async def go_on(self) -> None:
        """End what servers have left that are gone, take over what rests, and go on with what was cut off.

        It costs microseconds as long as there is nothing.
        """
        self._looks += 1
        if self._looks % LOOKS == 0:
            await self._runs.recover_all()
        store = self._runs.store
        version = store.executions.version()
        if version == self._version or not self._open():
            return
        self._version = version
        for execution in store.executions.find(to_resume=True):
            if not (self._runs.resumes or never_begun(execution)):
                continue
            if not await self._go_on(execution):
                # At the next look.
                self._version = None

    async def _go_on(self, execution: Execution) -> bool:
        """Go on with a run, within what is left of its budget; say whether that is settled."""
        store, job_id = self._runs.store, execution.id
        try:
            if (reason := why_not_unasked(store, execution, execution.usage)) is not None:
                raise Conflict(reason)
            left = left_of(execution.budget, execution.usage) if execution.budget is not None else None
            change = ExecutionResume(budget=left)
            made = await resume(self._runs, job_id, execution.owner, change, unasked=True)
        except (TooManyRequests, Unavailable):
            return False
        except KasalError as error:
            faults = "; ".join(f"{fault.field}: {fault.reason}" for fault in error.faults)
            log.warning("%s is not resumed: %s %s", job_id, error.message, faults)
            await store.change(lambda: _drop(store, job_id))
        else:
            log.info("%s goes on as %s", job_id, made.id)
        return True


def _drop(store: Store, job_id: str) -> None:
    """Have nobody go on with a run of itself, within a change."""
    if store.executions.has(job_id):
        store.executions.update(job_id, {"to_resume": False})
