"""Following a run from the notebook: blocking under the cell, or in the background."""

from __future__ import annotations

import threading

from kasal_jupyter.errors import KasalError
from kasal_jupyter.kernel.client import Client
from kasal_jupyter.kernel.failure import CellError, RunFailed
from kasal_jupyter.kernel.live import View, view_of
from kasal_jupyter.kernel.result import RunResult


def follow(client: Client, job_id: str) -> RunResult:
    """Draw a run under the cell until it ends.

    The kernel's interrupt stops the run on the server, not only the cell.

    Raises
    ------
    RunFailed
        It ended otherwise than completed.
    """
    result = RunResult(job_id)
    view = view_of(result)
    try:
        for event in client.follow(job_id, on_idle=view.tick):
            view.feed(event)
    except KeyboardInterrupt:
        client.stop(job_id)
        for event in client.follow(job_id, after=result.trace.summary.seq):
            view.feed(event)
        if result.status == "completed":
            raise RunFailed(f"{job_id} was interrupted here, but had completed just before") from None
        raise RunFailed(f"{job_id} was stopped, on the server as well") from None
    if result.status != "completed":
        raise RunFailed(failure_text(result))
    return result.drawn()


def follow_in_background(client: Client, job_id: str) -> BackgroundRun:
    """Draw a run under the cell that started it, while the notebook goes on."""
    run = BackgroundRun(job_id)
    view = view_of(run)
    run.begin(client, view)
    return run


class BackgroundRun(RunResult):
    """A run that goes on while the notebook does; its attributes grow with it."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.drawn()
        self.lost: KasalError | None = None
        """Why the run could not be followed to its end, where that is so; the run itself goes on."""
        self._thread: threading.Thread | None = None

    def begin(self, client: Client, view: View) -> None:
        """Follow the run in a thread of its own."""
        self._thread = threading.Thread(
            target=self._follow, args=(client, view), name=f"kasal-{self.job_id}", daemon=True
        )
        self._thread.start()

    def wait(self, timeout: float | None = None) -> RunResult:
        """Wait for the end, at most ``timeout`` seconds, and give the run.

        Raises
        ------
        RunFailed
            It ended otherwise than completed.
        CellError
            It could not be followed to its end.
        """
        if self._thread is not None:
            self._thread.join(timeout)
        if self.lost is not None:
            raise CellError(self.lost.message)
        if self.trace.summary.ended and self.status != "completed":
            raise RunFailed(failure_text(self))
        return self

    def _follow(self, client: Client, view: View) -> None:
        try:
            for event in client.follow(self.job_id, on_idle=view.tick):
                view.feed(event)
        except KasalError as error:
            self.lost = error


def failure_text(result: RunResult) -> str:
    """Say in one line how a run ended, in which task, and why."""
    error = result.trace.summary.error
    if error is None:
        return f"{result.job_id} is {result.status}"
    failed = next((span.name for span in result.trace.roots if span.state == "failed"), None)
    where = f" in task {failed!r}" if failed else ""
    return f"{result.job_id} {result.status}{where}: {error.code}: {error.message}"
