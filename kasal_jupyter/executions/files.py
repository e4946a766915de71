"""What lies on disk: the files of each run, and of each server that is alive."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from kasal_jupyter.events.packed import packed_path
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.executions import ENDED, StopRequest
from kasal_jupyter.schemas.webhooks import HookState
from kasal_jupyter.store.collections import DELIVERIES
from kasal_jupyter.store.store import Store
from kasal_jupyter.tools.workspace import LOG_NAME

JOURNAL = ".jsonl"

RUN_LOGS = (LOG_NAME, f"{LOG_NAME}.gz")
"""What a run has printed, in its folder: plain, and compressed."""

_NAME = re.compile(r"(job_[0-9a-z]+)((?:\.[a-z-]+)*)")


@dataclass(slots=True)
class Sizes:
    """How many bytes lie on disk of a run, by what they are."""

    journal: int = 0
    packed: int = 0
    cassette: int = 0
    plain_log: int = 0
    packed_log: int = 0
    files: int = 0

    @property
    def logs(self) -> int:
        """The log's, compressed or not."""
        return self.plain_log + self.packed_log

    @property
    def whole(self) -> int:
        """All of them."""
        return self.journal + self.packed + self.cassette + self.logs + self.files


@dataclass(frozen=True, slots=True)
class RunFiles:
    """Where the files of runs are.

    Attributes
    ----------
    folder
        The ``runs`` folder of the data folder.
    """

    folder: Path

    def journal(self, job_id: str) -> Path:
        """Give where a run's events are."""
        return self.folder / f"{job_id}{JOURNAL}"

    def workspace(self, job_id: str) -> Path:
        """Give the folder that a run writes its files in."""
        return self.folder / job_id

    def cassette(self, job_id: str) -> Path:
        """Give where what a run's cassette has recorded is, where it has one."""
        return self.folder / f"{job_id}.cassette"

    def delete(self, job_id: str) -> None:
        """Delete all that there is of a run.

        Raises
        ------
        OSError
            Something of it cannot be deleted now.
        """
        workspace = self.workspace(job_id)
        try:
            workspace.rmdir()  # Of one that is empty: it needs no descriptor; there may be none.
        except FileNotFoundError:
            pass
        except OSError:
            shutil.rmtree(workspace)
        journal = self.journal(job_id)
        # The plain one last, as it is the first: one that is being compressed is found by it.
        for path in (self.cassette(job_id), packed_path(journal), journal):
            path.unlink(missing_ok=True)

    def found(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Give all that lies there of runs, by their ids. Others may add and delete meanwhile."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                if match := _NAME.fullmatch(entry.name):
                    yield match[1], entry

    def sizes(self) -> dict[str, Sizes]:
        """Say how much lies there of each run. It looks at every file, and takes its time."""
        sizes: defaultdict[str, Sizes] = defaultdict(Sizes)
        for job_id, entry in self.found():
            # Whoever owns it may delete it at this moment.
            with suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    _count_folder(sizes[job_id], entry.path)
                elif kind := _KINDS.get(entry.name.removeprefix(job_id)):
                    setattr(sizes[job_id], kind, entry.stat(follow_symlinks=False).st_size)
        return sizes


_KINDS = {JOURNAL: "journal", f"{JOURNAL}.gz": "packed", ".cassette": "cassette"}


def _count_folder(sizes: Sizes, folder: str) -> None:
    level = [folder]
    while level:
        within = level.pop()
        with os.scandir(within) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    level.append(entry.path)
                    continue
                size = entry.stat(follow_symlinks=False).st_size
                if within == folder and entry.name in RUN_LOGS:
                    kind = "plain_log" if entry.name == LOG_NAME else "packed_log"
                    setattr(sizes, kind, size)
                else:
                    sizes.files += size


# Files by which earlier versions kept what is in the store now: they are read once.
#
# ``<job>.stop`` was a request to stop a run, ``<job>.hook`` where the delivery of its webhooks stood,
# ``<job>.hooked`` the same of one that is done; a ``.hook-part`` was being written, and a
# ``.hook-damaged`` had been set aside.

AT_ONCE = 200
"""Files that one change takes in."""

_SUFFIXES = (".hooked", ".hook", ".hook-damaged", ".hook-part", ".stop")

_log = logging.getLogger(__name__)


def take_in_files(store: Store, folder: Path) -> None:
    """Store what the files say, and delete them. It blocks.

    Parameters
    ----------
    store
        The store.
    folder
        Where the journals are.
    """
    found = [path for path in folder.iterdir() if path.suffix in _SUFFIXES]
    found.sort(key=lambda path: _SUFFIXES.index(path.suffix))
    for start in range(0, len(found), AT_ONCE):
        paths = found[start : start + AT_ONCE]
        store.change_now(partial(_store, store, paths))
        for path in paths:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                _log.warning("%s was read, and can't be deleted: %s", path.name, error)


def _store(store: Store, paths: Iterable[Path]) -> None:
    for path in paths:
        execution = store.executions.readable(path.stem)
        if path.suffix == ".hook-part" or not store.executions.has(path.stem):
            continue
        if path.suffix == ".stop":
            if execution and execution.status not in ENDED and not store.stop_requests.has(path.stem):
                store.stop_requests.insert(
                    StopRequest(id=path.stem, server=execution.server, created_at=utc_now())
                )
        elif not store.deliveries.has(path.stem):
            _store_delivery(store, path)


def _store_delivery(store: Store, path: Path) -> None:
    try:
        state = HookState.model_validate_json(path.read_bytes())
        if state.id == path.stem:
            store.deliveries.insert(state)
            return
        _log.warning("%s is of another run", path.name)
    except (OSError, ValidationError) as error:
        _log.warning("%s can't be read: %s", path.name, error)
    # Known to be damaged, it is made anew from the crew, as any other.
    store.db.table(DELIVERIES.name).insert({"id": path.stem, "done": False})


# Which servers are alive: several may share a data folder, and each run belongs to one.


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
