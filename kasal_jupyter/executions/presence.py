"""Which servers are alive: several may share a data folder, and each run belongs to one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from kasal_jupyter.schemas.base import new_id


class Presence:
    """A server's sign of life: a lock that the operating system lets go of however the process ends.

    Parameters
    ----------
    folder
        The ``servers`` folder of the data folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        self.server_id = new_id("server")
        self._lock = FileLock(self._path(self.server_id))
        self._lock.acquire(timeout=0)

    def alive(self, server_id: str) -> bool:
        """Say whether a server still runs."""
        path = self._path(server_id)
        if server_id == self.server_id:
            return True
        if not path.exists():
            return False
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        except OSError:
            # No descriptor is left, say: nobody knows, and whoever lives must not be taken for dead.
            return True
        lock.release()
        path.unlink(missing_ok=True)
        return False

    def others(self) -> bool:
        """Say whether other servers run on the folder."""
        names = [path.stem for path in self.folder.glob("*.lock")]
        return any(self.alive(name) for name in names if name != self.server_id)

    def close(self) -> None:
        """Give up the sign of life."""
        self._lock.release()
        # What is left of it is taken away by the next server that asks.
        with suppress(OSError):
            self._path(self.server_id).unlink(missing_ok=True)

    def _path(self, server_id: str) -> Path:
        return self.folder / f"{server_id}.lock"
