"""The seam between the server and wherever runs are executed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from kasal_jupyter.schemas.cluster import ClusterReport
from kasal_jupyter.schemas.spec import RunMessage, RunSpec

OnLines = Callable[[list[bytes]], None]
"""Takes a run's events as they arrive: complete lines of JSON, without their newline, in order."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a run's process has ended.

    Attributes
    ----------
    status
        Its exit status; negative for a signal, None where nobody knows.
    reason
        Why, in words, where more is known than the status tells: that it was out of memory, say.
    code
        The code of the run's failure, where that is its end.
    interrupted
        Whether what the run was on is gone, through no fault of the run's.
    """

    status: int | None
    reason: str | None = None
    code: str = "WORKER_LOST"
    interrupted: bool = False


OnExit = Callable[[Exit], None]
"""Takes a run's exit, once, after its last line."""


class RunHandle(Protocol):
    """A run that was launched."""

    @property
    def pid(self) -> int:
        """The process that executes it."""
        ...

    def send(self, message: RunMessage) -> None:
        """Send the run a message; nothing happens when it is over."""
        ...

    async def stop(self) -> None:
        """End the run: ask it, and 300 ms later kill it and all it has started. Returns when it is gone."""
        ...

    def pause_reading(self) -> None:
        """Take no more lines for now; the run waits when its socket is full."""
        ...

    def resume_reading(self) -> None:
        """Take lines again."""
        ...


class Backend(Protocol):
    """Launches runs. Both callbacks are called on the event loop, and must not block it."""

    @property
    def warm(self) -> bool:
        """Whether a run launched now starts at once."""
        ...

    @property
    def places(self) -> int | None:
        """How many runs fit at the same time; None: as many as this machine holds."""
        ...

    async def start(self) -> None:
        """Get ready; launching does it too, but then the first run waits for it."""
        ...

    async def launch(self, spec: RunSpec, on_lines: OnLines, on_exit: OnExit) -> RunHandle:
        """Start a run.

        Parameters
        ----------
        spec
            The run; its folder exists.
        on_lines
            Called with its events.
        on_exit
            Called once when its process is gone. A run without an end event has died.

        Raises
        ------
        Unavailable
            No process can be started here.
        """
        ...

    async def close(self) -> None:
        """Kill every run and leave no process behind."""
        ...


@runtime_checkable
class FarBackend(Backend, Protocol):
    """Launches runs elsewhere, where they outlive this server.

    A launch may wait there for a place, for as long as that takes; when it is cancelled, nothing is launched.
    """

    async def attach(
        self,
        job_id: str,
        folder: Path,
        recorded: Callable[[], Iterable[bytes]],
        on_lines: OnLines,
        on_exit: OnExit,
    ) -> RunHandle | None:
        """Find a run again that a server which is gone has launched; None where it is not there any more.

        Parameters
        ----------
        job_id
            Its id.
        folder
            Its folder.
        recorded
            Gives the lines that were taken of it, and others between them; called in a thread.
        on_lines
            Called with its events from there on.
        on_exit
            Called once when it is gone.
        """
        ...

    def let_go(self, handle: RunHandle) -> None:
        """Have a run go on without this server."""
        ...

    async def examined(self) -> ClusterReport:
        """Look at what runs are executed on."""
        ...
