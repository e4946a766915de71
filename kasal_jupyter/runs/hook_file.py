"""Where the delivery of a run's webhooks stands, in a file beside the journal.

``<job>.hook`` while there is something to deliver, ``<job>.hooked`` behind the last event: a server that
starts looks for the first alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from kasal_jupyter.schemas.webhooks import HookState


class HookFiles:
    """The files of a folder.

    Parameters
    ----------
    folder
        Where the journals are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, state: HookState) -> None:
        """Keep where a delivery stands; whoever reads sees the old state or the new one."""
        path = self._folder / f"{state.id}.hook"
        aside = path.with_suffix(".hook-part")
        # It has an address that may be a secret, as some services have them.
        aside.touch(mode=0o600)
        aside.write_bytes(state.model_dump_json().encode())
        if state.done:
            aside.replace(path.with_suffix(".hooked"))
            path.unlink(missing_ok=True)
        else:
            aside.replace(path)

    def read(self, job_id: str) -> HookState | None:
        """Give where a run's delivery stands; None where it has no webhook."""
        for suffix in ("hooked", "hook"):
            try:
                return HookState.model_validate_json((self._folder / f"{job_id}.{suffix}").read_bytes())
            except FileNotFoundError:
                continue
            except ValidationError:
                # Of another version: there is nothing to be gone on with.
                return None
        return None

    def pending(self) -> Iterator[HookState]:
        """Give the deliveries that are not done, whichever server they are of."""
        for path in sorted(self._folder.glob("*.hook")):
            if (state := self.read(path.stem)) is not None and not state.done:
                yield state

    def delete(self, job_id: str) -> None:
        """Delete what is kept of a run."""
        for suffix in ("hook", "hooked", "hook-part"):
            (self._folder / f"{job_id}.{suffix}").unlink(missing_ok=True)
