"""The feeds of runs that this server does not run: those of other servers on the folder, and past ones."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path

from kasal_jupyter.runs.feed import POLL_SECONDS, Feed

OPEN_FEEDS = 64
"""Idle feeds kept at hand; one is a few kilobytes."""


class Feeds:
    """Feeds opened from their journals, the last used kept.

    Parameters
    ----------
    folder
        Where the journals are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._feeds: OrderedDict[str, Feed] = OrderedDict()
        self._watched: set[str] = set()

    async def get(self, job_id: str) -> Feed:
        """Give a run's feed.

        Raises
        ------
        NotFound
            Its journal is gone.
        """
        if feed := self._feeds.get(job_id):
            self._feeds.move_to_end(job_id)
            return feed
        # To fold a long journal takes longer than the loop may be held up.
        opened = await asyncio.to_thread(Feed.open, self._folder / f"{job_id}.jsonl")
        if feed := self._feeds.get(job_id):
            # Somebody else asked meanwhile, and may follow that one already.
            return feed
        self.remember(opened)
        return opened

    def remember(self, feed: Feed) -> None:
        """Keep a feed at hand, and let go of the idle ones that were used the longest ago."""
        self._feeds[feed.job_id] = feed
        idle = [job_id for job_id, other in self._feeds.items() if not other.followed]
        for job_id in idle[: max(0, len(self._feeds) - OPEN_FEEDS)]:
            del self._feeds[job_id]

    def forget(self, job_id: str) -> None:
        """Let go of a feed whose journal was changed by somebody else, or is gone."""
        self._feeds.pop(job_id, None)

    def claim(self, feed: Feed) -> bool:
        """Say whether a run needs somebody to look for its new events: the first who asks is to do it."""
        if feed.summary.ended or feed.job_id in self._watched:
            return False
        self._watched.add(feed.job_id)
        return True

    async def watch(self, feed: Feed, look: Callable[[], Awaitable[object]]) -> None:
        """Follow a claimed run, until it ends or nobody follows it any more.

        Parameters
        ----------
        feed
            The run's.
        look
            Called now and then: has the run ended if its server is gone.
        """
        try:
            # Give the subscriber a turn to come in.
            await asyncio.sleep(POLL_SECONDS)
            while not feed.summary.ended and feed.followed:
                await look()
                feed.catch_up()
                await asyncio.sleep(POLL_SECONDS)
        finally:
            self._watched.discard(feed.job_id)
