"""An execution that is only a question to a model: it is stopped when nobody waits for it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from kasal_jupyter.errors import Conflict
from kasal_jupyter.events.event import ErrorInfo
from kasal_jupyter.events.summary import RunSummary
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.executions.verbs import start
from kasal_jupyter.schemas.crews import WholeCrew

REQUEST_ENDED = ErrorInfo(
    code="REQUEST_ENDED",
    message="The request that it was for is over: its client has gone, or its time was up.",
)


async def asked(
    runs: Runs, whole: WholeCrew, owner: str, *, started: Callable[[str], object], unrepeated: bool = False
) -> RunSummary:
    """Run a crew to its end; cancelled, it stops the execution.

    Parameters
    ----------
    runs
        Where it runs.
    whole
        The crew, without inputs.
    owner
        Whose execution it is.
    started
        Takes the execution's id, before it is waited for.
    unrepeated
        Whether a model that fails is not asked again.
    """
    # Not to be cut off in between: an execution that was started must be known, to be stopped.
    starting = asyncio.ensure_future(start(runs, whole, {}, owner, unrepeated=unrepeated))
    try:
        execution = await asyncio.shield(starting)
    except asyncio.CancelledError:
        with suppress(Conflict):
            await runs.stop((await starting).id, REQUEST_ENDED)
        raise
    started(execution.id)
    feed = await runs.feed(execution.id)
    news = asyncio.Event()
    unsubscribe = feed.subscribe(lambda *_: news.set())
    try:
        while not feed.summary.ended:
            news.clear()
            await news.wait()
    except asyncio.CancelledError:
        with suppress(Conflict):
            await runs.stop(execution.id, REQUEST_ENDED)
        raise
    finally:
        unsubscribe()
    return feed.summary
