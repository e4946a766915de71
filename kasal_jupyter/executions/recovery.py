"""What a server that is gone left unfinished is ended, and what it left lying about is taken away."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from kasal_jupyter.errors import NotFound, StoreError
from kasal_jupyter.events.summary import RunSummary
from kasal_jupyter.executions.feed import Feed, event_of
from kasal_jupyter.executions.files import RunFiles
from kasal_jupyter.executions.ledger import settle
from kasal_jupyter.executions.lineage import why_left
from kasal_jupyter.schemas.base import utc_now
from kasal_jupyter.schemas.executions import ENDED
from kasal_jupyter.store.store import Store

_ENDED_BEFORE = "The server that ran it ended before the execution did"

INTERRUPTED = {"code": "INTERRUPTED", "message": f"{_ENDED_BEFORE}; `%kasal resume` goes on with it"}

SURE_SECONDS = 600.0
"""How old files must be that belong to no execution, where another server may just be accepting one."""


def interrupted_event(time: str) -> bytes:
    """Give the event that ends a run whose server is going or gone."""
    return event_of(time, "execution_status", status="interrupted", error=INTERRUPTED)


def cut_off_event(time: str, why_not: str | None) -> bytes:
    """Give the event that ends a run which a server was to go on with; ``why_not`` says why none does."""
    if why_not is None:
        error = INTERRUPTED | {"message": f"{_ENDED_BEFORE}; it is resumed"}
        return event_of(time, "execution_status", status="interrupted", error=error, resuming=True)
    error = INTERRUPTED | {"message": f"{_ENDED_BEFORE}; it is not resumed by itself: {why_not}"}
    return event_of(time, "execution_status", status="interrupted", error=error)


def recover(store: Store, path: Path, job_id: str, *, resumes: bool = False) -> None:
    """End an execution that nobody runs any more.

    It is called inside a change of the store, whose lock keeps two servers from doing it at once.

    Parameters
    ----------
    store
        Where the summary is kept.
    path
        The execution's journal.
    job_id
        The execution.
    resumes
        Whether it is noted as one to go on with, where that may be.

    Raises
    ------
    StoreError
        Its end cannot be written at the moment.
    """
    execution = store.executions.get(job_id)
    if execution is None or execution.status in ENDED:
        return
    try:
        feed = Feed.open(path, write=True)
    except NotFound:
        fields = {"status": "interrupted", "ended_at": utc_now(), "error": {**INTERRUPTED, "task": None}}
        settle(store, execution, RunSummary(), fields)
        return
    except OSError as error:
        raise StoreError(f"The journal of execution {job_id} cannot be opened: {error.strerror}") from error
    try:
        noted: dict[str, Any] = {}
        if not feed.summary.ended:
            last = interrupted_event(feed.now())
            # A batch goes on with its rows itself.
            if resumes and execution.verb != "replay" and execution.batch is None:
                why_not = why_left(store, execution, feed.summary)
                last, noted = cut_off_event(feed.now(), why_not), {"to_resume": why_not is None}
            for line in feed.journal.append([last]):
                feed.summary.feed(orjson.loads(line))
            feed.journal.sync()
        settle(store, execution, feed.summary, feed.summary.fields() | noted)
    except OSError as error:
        raise StoreError(f"The end of execution {job_id} cannot be written: {error.strerror}") from error
    finally:
        feed.journal.close()


def left_over(store: Store, files: RunFiles, *, alone: bool) -> Iterable[str]:
    """Find the runs of which there are files and no execution: a server was killed as it accepted them.

    Parameters
    ----------
    store
        Where the executions are.
    files
        Where the files are.
    alone
        Whether no other server runs on the folder. Where one does, it may be accepting a run.
    """
    found: dict[str, float] = {}
    for job_id, entry in files.found():
        # Another server may delete a run at this moment.
        with suppress(OSError):
            found[job_id] = max(found.get(job_id, 0.0), entry.stat().st_mtime)
    sure = time.time() - SURE_SECONDS
    # The executions are looked up behind the files: what was accepted meanwhile is known by now. All at once:
    # one by one, ten thousand take half a second.
    known = set(store.executions.ids())
    return [job_id for job_id, changed in found.items() if (alone or changed < sure) and job_id not in known]


def forget_requests(store: Store) -> None:
    """Delete requests to stop what has ended, within a change: it may have ended as they were made."""
    for job_id in store.stop_requests.ids():
        execution = store.executions.readable(job_id)
        if execution is None or execution.status in ENDED:
            store.stop_requests.delete(job_id)
