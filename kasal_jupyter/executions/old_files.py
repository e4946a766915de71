"""Files by which earlier versions kept what is in the store now: they are read once.

``<job>.stop`` was a request to stop a run, ``<job>.hook`` where the delivery of its webhooks stood,
``<job>.hooked`` the same of one that is done; a ``.hook-part`` was being written, and a ``.hook-damaged`` had
been set aside.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from pydantic import ValidationError

from kasal_jupyter.schemas.base import utc_now
from kasal_jupyter.schemas.executions import ENDED, StopRequest
from kasal_jupyter.schemas.webhooks import HookState
from kasal_jupyter.store.collections import DELIVERIES
from kasal_jupyter.store.store import Store

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
