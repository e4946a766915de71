"""Feeds: a run's events as they come, to whoever follows it."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from kasal_jupyter.errors import KasalError, NotFound
from kasal_jupyter.events.event import Event, is_event
from kasal_jupyter.events.summary import RunSummary, summarise
from kasal_jupyter.executions.journal import Journal
from kasal_jupyter.schemas.base import utc_now_precise
from kasal_jupyter.schemas.executions import ENDED, Execution

POLL_SECONDS = 0.1
"""How often the journal of a run that another server runs is looked at."""

OPEN_FEEDS = 64
"""Idle feeds kept at hand; one is a few kilobytes."""

Deliver = Callable[[int, list[bytes]], None]
"""Takes the number of the first event, and the events as they stand in the journal."""

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Feed:
    """One run's events, to any number of subscribers.

    Attributes
    ----------
    journal
        Where the events are kept; a subscriber that comes late reads there what it missed.
    summary
        The run's state, folded from the events as they come.
    """

    journal: Journal
    summary: RunSummary = field(default_factory=RunSummary)
    _latest: str = ""
    _subscribers: set[Deliver] = field(default_factory=set)

    @classmethod
    def open(cls, path: Path, *, write: bool = False) -> Feed:
        """Open the feed of a run that another server runs, or that has ended.

        Parameters
        ----------
        path
            Its journal.
        write
            Whether to go on where the process that wrote it died.

        Raises
        ------
        NotFound
            Its journal is gone.
        StoreError
            Its journal cannot be read at the moment.
        """
        feed = cls(Journal.open(path, write=write))
        feed._take_in()
        return feed

    @classmethod
    def begin(cls, journal: Journal, event: bytes) -> Feed:
        """Begin a run's feed with its first event.

        Raises
        ------
        OSError
            It could not be written.
        """
        feed = cls(journal)
        for line in journal.append([event]):
            feed._fold(orjson.loads(line))
        return feed

    @property
    def job_id(self) -> str:
        """The run's id."""
        return self.journal.job_id

    @property
    def followed(self) -> bool:
        """Whether anybody follows the run."""
        return bool(self._subscribers)

    def subscribe(self, deliver: Deliver) -> Callable[[], None]:
        """Have every event from now on delivered; the answer ends it.

        Events up to ``journal.seq`` have passed: a subscriber first reads those from the journal, and
        subscribes, without giving way in between, when it has read the last.
        """
        self._subscribers.add(deliver)
        return lambda: self._subscribers.discard(deliver)

    def now(self) -> str:
        """Give the time for an event of the server's own: it is not before the run's last event.

        The clock may have been set back.
        """
        return max(utc_now_precise(), self._latest)

    def append(self, lines: list[bytes]) -> None:
        """Take in events of a run of this server, write them, and pass them on.

        Nothing of that may fail, since the run goes on or has ended: what is no event is noted as a damaged
        one, and what the disk does not take is held in memory.
        """
        taken = [self._sound(line) for line in lines]
        first = self.journal.seq + 1
        try:
            numbered = self.journal.hold(taken)
        except BaseException:
            # They were folded, and are not there: an end among them is none.
            self.summary = summarise(self.journal.written())
            raise
        self.summary.seq = self.journal.seq
        try:
            self.journal.flush()
        except Exception as error:  # noqa: BLE001 - whatever it is, the events are held
            log.warning("the journal of %s could not be written, its events are held: %s", self.job_id, error)
        self._pass_on(first, numbered)

    def catch_up(self) -> None:
        """Take in and pass on what another server has written.

        Raises
        ------
        NotFound
            The journal is gone.
        StoreError
            It cannot be read at the moment.
        """
        for first, lines in self._take_in():
            self._pass_on(first, lines)

    def conclude(self, execution: Execution | None) -> None:
        """Tell the end that the journal has lost, in memory alone, as the store knows it.

        Parameters
        ----------
        execution
            The run as it is stored; None where it was deleted.
        """
        fields: dict[str, Any] = {"status": "interrupted"}
        if execution is not None:
            fields["status"] = execution.status
            if execution.result is not None:
                fields["result"] = execution.result
            if execution.error is not None:
                fields["error"] = execution.error.model_dump(include={"code", "message"})
        event = event_of(self.now(), "execution_status", **fields)
        first = self.journal.seq + 1
        self._fold(orjson.loads(event))
        self._pass_on(first, self.journal.hold([event]))
        self.summary.seq = self.journal.seq

    def _take_in(self) -> list[tuple[int, list[bytes]]]:
        """Fold what the journal has that is new, and give it."""
        self.journal.refresh()
        seen, news = self.summary.seq, []
        while lines := self.journal.read(seen):
            for line in lines:
                self._fold(orjson.loads(line))
            news.append((seen + 1, lines))
            seen += len(lines)
            self.summary.seq = seen
        return news

    def _sound(self, line: bytes) -> bytes:
        """Fold an event of the run's process, and give it; a damaged one in the place of what is none."""
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError:
            event = None
        if line.startswith(b"{") and is_event(event) and self._fold(event):
            return line
        log.warning("a line of %s is no event: %.200r", self.job_id, line)
        return event_of(self.now(), "damaged")

    def _fold(self, event: Event) -> bool:
        """Take an event into the summary; say whether it could be."""
        try:
            self.summary.feed(event)
        except Exception:
            # Its fields are there, and hold what nobody has foreseen.
            log.exception("an event of %s could not be read", self.job_id)
            return False
        self._latest = max(self._latest, event["time"])
        return True

    def _pass_on(self, first: int, lines: list[bytes]) -> None:
        for deliver in tuple(self._subscribers):
            try:
                deliver(first, lines)
            except Exception:
                # The others are to be told nevertheless.
                log.exception("a follower of %s could not be told", self.job_id)


class Feeds:
    """The feeds of runs that this server does not run: those of other servers on the folder, and past ones.

    They are opened from their journals, and the last used are kept.

    Parameters
    ----------
    folder
        Where the journals are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._feeds: OrderedDict[str, Feed] = OrderedDict()
        self._watches: dict[str, asyncio.Task[None]] = {}

    async def get(self, job_id: str) -> Feed:
        """Give a run's feed.

        Raises
        ------
        NotFound
            Its journal is gone.
        StoreError
            Its journal cannot be read at the moment.
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

    def followed(self, job_id: str) -> bool:
        """Say whether somebody follows a run here."""
        feed = self._feeds.get(job_id)
        return feed is not None and feed.followed

    def watch(self, feed: Feed, look: Callable[[], Awaitable[Execution]]) -> None:
        """Look for a run's new events, until it ends or nobody follows it any more; one watch a run.

        Parameters
        ----------
        feed
            The run's.
        look
            Called now and then, gives how the run stands: has it ended where its server is gone.
        """
        if not feed.summary.ended and feed.job_id not in self._watches:
            self._watches[feed.job_id] = asyncio.create_task(self._watch(feed, look))

    async def close(self) -> None:
        """Watch nothing any more."""
        watches = list(self._watches.values())
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    async def _watch(self, feed: Feed, look: Callable[[], Awaitable[Execution]]) -> None:
        failing = False
        try:
            # Give the subscriber a turn to come in.
            await asyncio.sleep(POLL_SECONDS)
            while not feed.summary.ended and feed.followed:
                try:
                    execution = await look()
                    feed.catch_up()
                    if execution.status in ENDED and not feed.summary.ended:
                        feed.conclude(execution)
                    failing = False
                except NotFound:
                    # It was deleted: nothing will come any more.
                    feed.conclude(None)
                except (KasalError, OSError):
                    if not failing:
                        log.exception("%s cannot be followed at the moment", feed.job_id)
                    failing = True
                await asyncio.sleep(POLL_SECONDS)
        finally:
            del self._watches[feed.job_id]


def event_of(time: str, kind: str, **fields: Any) -> bytes:
    """Write an event of the server's own."""
    return orjson.dumps({"time": time, "type": kind, **fields})
