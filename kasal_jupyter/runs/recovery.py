"""What a server that is gone left unfinished is ended, and its summary made from the journal again."""

from __future__ import annotations

from pathlib import Path

import orjson

from kasal_jupyter.errors import NotFound
from kasal_jupyter.runs.journal import Journal
from kasal_jupyter.runs.ledger import settle
from kasal_jupyter.schemas.base import utc_now, utc_now_precise
from kasal_jupyter.schemas.executions import ENDED
from kasal_jupyter.schemas.summary import RunSummary, summarise
from kasal_jupyter.store.store import Store

INTERRUPTED = {
    "code": "INTERRUPTED",
    "message": "The server that ran it ended before the execution did; start it again",
}


def interrupted_event() -> bytes:
    """Give the event that ends a run whose server is going or gone."""
    return orjson.dumps(
        {"time": utc_now_precise(), "type": "execution_status", "status": "interrupted", "error": INTERRUPTED}
    )


def recover(store: Store, path: Path, job_id: str) -> None:
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
    """
    execution = store.executions.get(job_id)
    if execution is None or execution.status in ENDED:
        return
    try:
        journal = Journal.open(path, write=True)
    except NotFound:
        fields = {"status": "interrupted", "ended_at": utc_now(), "error": {**INTERRUPTED, "task": None}}
        settle(store, execution, RunSummary(), fields)
        return
    summary = summarise(journal.events())
    if not summary.ended:
        for line in journal.append([interrupted_event()]):
            summary.feed(orjson.loads(line))
        journal.sync()
    settle(store, execution, summary, summary.fields())
    journal.close()
