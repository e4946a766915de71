"""Deleting what can't be read any more, without the checks for which it would have to be read."""

from __future__ import annotations

import asyncio

from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.errors import DocumentDamaged
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.memory import tables
from kasal_jupyter.memory.findable import sweep, withdraw_orphans
from kasal_jupyter.store.collections import CREWS, EXECUTIONS, KNOWLEDGE, MEMORIES


async def discard(runs: Runs, crews: Crews, damaged: DocumentDamaged) -> None:
    """Delete a damaged document.

    Parameters
    ----------
    runs
        Has the files of executions, and of what crews remember.
    crews
        Knows what belongs to a crew.
    damaged
        Which it is.
    """
    which, store = damaged.document_id, runs.store

    def change() -> None:
        if damaged.collection == CREWS.name:
            crews.drop(which)
        else:
            store.discard(damaged)
        if damaged.collection == EXECUTIONS.name:
            store.run_requests.delete(which)
        if damaged.collection == MEMORIES.name:
            tables.remove_texts(store.connection, [which])
        elif damaged.collection == KNOWLEDGE.name:
            withdraw_orphans(store, damaged.crew_id)

    await store.change(change)
    if damaged.collection in {CREWS.name, KNOWLEDGE.name}:
        await sweep(store)
    if damaged.collection == EXECUTIONS.name:
        if runs.webhooks is not None:
            await runs.webhooks.forget(which)
        await asyncio.to_thread(runs.forget_files, which)
