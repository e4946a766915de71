"""Where the delivery of a run's webhooks stands, in a file beside the journal.

``<job>.hook`` while there is something to deliver, ``<job>.hooked`` behind the last event: a server that
starts looks for the first alone. ``<job>.hook-damaged`` is one that could not be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from kasal_jupyter.schemas.webhooks import HookState


class HookDamaged(Exception):
    """A file that does not say any more where a delivery stands."""


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
        """Keep where a delivery stands; whoever reads sees the old state or the new one.

        Raises
        ------
        OSError
            It could not be written; the old state is there still.
        """
        path = self._folder / f"{state.id}.hook"
        aside = path.with_suffix(".hook-part")
        try:
            # It has an address that may be a secret, as some services have them.
            aside.touch(mode=0o600)
            aside.write_bytes(state.model_dump_json().encode())
            if state.done:
                aside.replace(path.with_suffix(".hooked"))
                path.unlink(missing_ok=True)
            else:
                aside.replace(path)
        except OSError:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise

    def read(self, job_id: str) -> HookState | None:
        """Give where a run's delivery stands; None where it has no webhook.

        Raises
        ------
        HookDamaged
            Its file does not say.
        """
        for suffix in ("hooked", "hook"):
            path = self._folder / f"{job_id}.{suffix}"
            try:
                state = HookState.model_validate_json(path.read_bytes())
            except FileNotFoundError:
                continue
            except (OSError, ValidationError) as error:
                raise HookDamaged(f"{path.name} can't be read: {_reason(error)}") from error
            if state.id != job_id:
                raise HookDamaged(f"{path.name} is of another run")
            return state
        if (self._folder / f"{job_id}.hook-damaged").exists():
            raise HookDamaged(f"{job_id}.hook was set aside")
        return None

    def pending(self) -> list[str]:
        """Give the runs whose deliveries are not done, whichever server they are of."""
        # One that was set aside by a server that was killed before it had made it anew.
        aside = [
            path.stem
            for path in self._folder.glob("*.hook-damaged")
            if not path.with_suffix(".hooked").exists()
        ]
        return sorted({*aside, *(path.stem for path in self._folder.glob("*.hook"))})

    def set_aside(self, job_id: str) -> None:
        """Put files that can't be read where nobody looks for them."""
        for suffix in ("hooked", "hook"):
            path = self._folder / f"{job_id}.{suffix}"
            with suppress(FileNotFoundError):
                path.replace(path.with_suffix(".hook-damaged"))

    def delete(self, job_id: str) -> None:
        """Delete what is kept of a run."""
        for path in self._all(job_id):
            path.unlink(missing_ok=True)

    def _all(self, job_id: str) -> Iterator[Path]:
        for suffix in ("hook", "hooked", "hook-part", "hook-damaged"):
            yield self._folder / f"{job_id}.{suffix}"


def _reason(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    first = error.errors(include_url=False, include_input=False)[0]
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
