"""Schedules: crews that are run by the clock.

A time of a schedule is a *slot*. Its row is stored in the very change that creates the execution, so that of
several servers on a folder one starts it, and once; a server that is killed before that change has started
nothing, and one that is killed behind it has left an execution, which ends or goes on as any other does. A
server that is up looks every other second; where nothing is due, that takes microseconds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache, partial
from itertools import islice
from typing import Any

from kasal_jupyter.auth.gate import SERVER_OWNER
from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.errors import (
    BudgetUsedUp,
    Conflict,
    Fault,
    InvalidRequest,
    KasalError,
    StoreError,
    TooManyRequests,
    Unavailable,
)
from kasal_jupyter.executions.acceptance import Asked
from kasal_jupyter.executions.allowances import bound
from kasal_jupyter.executions.recovery import never_begun
from kasal_jupyter.executions.service import Runs
from kasal_jupyter.executions.verbs import start
from kasal_jupyter.places import Chores, beside_loop
from kasal_jupyter.schemas.base import new_id, parse_time, utc_now
from kasal_jupyter.schemas.crews import WholeCrew
from kasal_jupyter.schemas.executions import ENDED, Execution
from kasal_jupyter.schemas.schedules import (
    MOST_SCHEDULES,
    NEXT,
    Schedule,
    ScheduleCreate,
    ScheduleDetails,
    ScheduleUpdate,
    Slot,
    SlotDetails,
    SlotState,
    TotalBudget,
)

LATE_SECONDS = 60
"""How late a run may start in any case: a server that has much to do looks a little later."""

KEPT_SLOTS = 50
"""Slots of a schedule that are remembered."""

INVALID_SCHEDULE = "Invalid schedule"

log = logging.getLogger(__name__)

Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


class Schedules:
    """The schedules of a data folder.

    Parameters
    ----------
    runs
        Where they are run.
    crews
        What they run.
    open_
        Says whether runs may be started at the moment; where they may not, they wait for that.
    clock
        Tells the time.
    """

    def __init__(
        self, runs: Runs, crews: Crews, open_: Callable[[], bool] = lambda: True, clock: Clock = _now
    ) -> None:
        self._runs = runs
        self._store = runs.store
        self._crews = crews
        self._open = open_
        self._clock = clock
        self._chores = Chores()
        self._looking = False
        self._seen: int | None = None
        self._active: list[Schedule] = []

    # -- what users ask for --------------------------------------------------------------------------

    async def create(self, body: ScheduleCreate, owner: str) -> Schedule:
        """Store a schedule; its crew is checked whole first, as before a run.

        Raises
        ------
        InvalidRequest
            Its cron expression or its zone is none.
        NotRunnable
            The crew cannot run like this.
        Conflict
            The owner has as many as one may have.
        """
        require_times(body.cron, body.timezone)
        whole = await self._crews.read(body.crew_id, owner, body.crew_version)
        await self._check(whole, body.inputs, owner, body)
        now = utc_now()
        schedule = Schedule(
            **body.model_dump(),
            id=new_id("schedule"),
            owner=owner,
            crew_name=whole.crew.name,
            handled=_text(self._clock()),
            created_at=now,
            updated_at=now,
        )

        def insert() -> None:
            if self._store.schedules.count(owner=owner) >= MOST_SCHEDULES:
                raise Conflict(f"You have {MOST_SCHEDULES} schedules, and may have no more; delete one")
            self._store.schedules.insert(schedule)
            self._bound(schedule.id, body.total_budget)

        await self._store.change(insert, bounded=True)
        return schedule

    async def update(self, schedule: Schedule, body: ScheduleUpdate) -> Schedule:
        """Change what the body gives; another expression or zone counts from now on.

        Raises
        ------
        KasalError
            As of :meth:`create`.
        """
        fields = body.model_dump(exclude_unset=True, mode="json")
        wanted = Schedule.model_validate({**schedule.dump(), **fields})
        require_times(wanted.cron, wanted.timezone)
        whole = await self._crews.read(schedule.crew_id, schedule.owner, wanted.crew_version)
        await self._check(whole, wanted.inputs, schedule.owner, wanted)
        if fields.keys() & {"cron", "timezone"}:
            fields |= {"handled": _text(self._clock()), "waiting": None}

        def change() -> Schedule:
            if "total_budget" in fields:
                self._bound(schedule.id, body.total_budget)
            return self._store.schedules.update(schedule.id, {**fields, "updated_at": utc_now()})

        return await self._store.change(change, bounded=True)

    async def pause(self, schedule_id: str, reason: str | None = None) -> Schedule:
        """Start no more runs of a schedule."""
        fields = {"paused": True, "reason": reason, "waiting": None, "updated_at": utc_now()}
        return await self._store.change(lambda: self._store.schedules.update(schedule_id, fields))

    async def resume(self, schedule_id: str) -> Schedule:
        """Start runs of a schedule again, from now on: what it has missed is not made good."""
        fields = {"paused": False, "reason": None, "failures": 0, "handled": _text(self._clock())}
        fields["updated_at"] = utc_now()
        return await self._store.change(lambda: self._store.schedules.update(schedule_id, fields))

    async def run(self, schedule: Schedule) -> Execution:
        """Start a run of a schedule now, whether or not it is paused or another goes on.

        Raises
        ------
        KasalError
            As :func:`~kasal_jupyter.executions.verbs.start` does.
        """

        def claim(job_id: str) -> None:
            self._store.schedules.update(schedule.id, {"last_job": job_id, "pending": job_id})

        return await self._start(schedule, claim)

    async def delete(self, schedule_id: str) -> None:
        """Delete a schedule; its runs stay, and go on."""

        def delete() -> None:
            self._store.schedules.delete(schedule_id)
            self._store.slots.delete_where(schedule=schedule_id)
            self._store.allowances.delete(schedule_id)

        await self._store.change(delete)

    def details(self, schedule: Schedule) -> ScheduleDetails:
        """Give what an answer shows of a schedule."""
        since = max(self._clock(), _time(schedule.handled))
        shown = schedule.model_dump(include=set(ScheduleDetails.model_fields))
        slots = self._store.slots.page(order="newest", limit=NEXT, schedule=schedule.id).documents
        allowance = self._runs.allowances.get(schedule.id)
        return ScheduleDetails(
            **shown,
            next=[each.isoformat() for each in islice(times(schedule.cron, schedule.timezone, since), NEXT)],
            slots=[SlotDetails(**each.model_dump(include=set(SlotDetails.model_fields))) for each in slots],
            cost=allowance.taken.cost if allowance is not None else None,
            tokens=allowance.taken.tokens if allowance is not None else None,
        )

    # -- what the clock asks for ---------------------------------------------------------------------

    @property
    def active(self) -> int:
        """How many schedules are not paused."""
        return self._store.schedules.count(paused=False)

    def look(self) -> None:
        """Begin to start what is due, where anything is; it costs microseconds where nothing is."""
        if self._looking or not self._open():
            return
        version = self._store.schedules.version()
        if version != self._seen:
            self._active = self._store.schedules.find(paused=False)
            self._seen = version
        now = _text(self._clock())
        due = [each for each in self._active if each.pending is not None or _next(each) <= now]
        if due:
            self._looking = True
            self._chores.begin(self._work(due))

    async def fire(self) -> None:
        """Start all that is due now."""
        await self._work(self._store.schedules.find(paused=False))

    async def close(self) -> None:
        """Start nothing more."""
        self._looking = True
        await self._chores.finish(1.0)

    async def _work(self, schedules: list[Schedule]) -> None:
        try:
            for schedule in schedules:
                try:
                    await self._serve(schedule)
                except KasalError:
                    # It is tried again at the next look.
                    log.exception("the schedule %s could not be served", schedule.id)
        finally:
            self._looking = False

    async def _serve(self, schedule: Schedule) -> None:
        going = await self._account(schedule)
        now_known = self._store.schedules.readable(schedule.id)
        if now_known is None or now_known.paused:
            return
        schedule = now_known
        found = due_of(schedule, self._clock())
        if found is None:
            return
        if found.latest is None:
            why = "No server was up in time"
            await self._note(schedule, found.first, "missed", why, through=found.through)
        elif not going:
            await self._take(schedule, found.latest)
        elif schedule.overlap == "skip":
            await self._note(schedule, found.latest, "skipped", f"{going} goes on still")
        elif schedule.waiting != found.latest:
            waits = {"waiting": found.latest}
            await self._store.change(partial(self._store.schedules.update, schedule.id, waits))

    async def _account(self, schedule: Schedule) -> str | None:
        """Count how the run before has ended; give its id where it goes on."""
        pending = schedule.pending
        if pending is None:
            return None
        execution = self._store.executions.readable(pending)
        while execution is not None and execution.resumed_by is not None:
            execution = self._store.executions.readable(execution.resumed_by)
        if execution is not None and (execution.status not in ENDED or self._goes_on(execution)):
            # It may be one of a server that is gone.
            execution = (await self._runs.current([execution]))[0]
            if execution.status not in ENDED or self._goes_on(execution):
                return execution.id
        await self._store.change(partial(self._count, schedule.id, pending, execution))
        return None

    def _goes_on(self, execution: Execution) -> bool:
        """Say whether a server is to go on with a run that has been cut off."""
        return execution.to_resume and (self._runs.resumes or never_begun(execution))

    def _count(self, schedule_id: str, pending: str, execution: Execution | None) -> None:
        """Count how a run has ended, within a change."""
        schedule = self._store.schedules.readable(schedule_id)
        if schedule is None or schedule.pending != pending:
            return
        fields: dict[str, Any] = {"pending": None}
        if execution is not None and execution.status == "completed":
            fields["failures"] = 0
        elif execution is not None and execution.status == "failed":
            # What was stopped, or whose server has ended, has failed at nothing.
            why = execution.error.message if execution.error is not None else "failed"
            fields |= _failed(schedule, f"{execution.id}: {why}")
        self._store.schedules.update(schedule_id, fields)

    async def _take(self, schedule: Schedule, slot: str) -> None:
        """Start the run of a slot, where nobody has."""

        def claim(job_id: str) -> None:
            self._claim(schedule.id, slot, "started", job_id=job_id)

        try:
            if (reason := self._why_not(schedule)) is not None:
                await self.pause(schedule.id, reason)
                return
            await self._start(schedule, claim)
        except (TooManyRequests, Unavailable, StoreError):
            # There is no room; it is tried again until it is too late.
            return
        except Conflict:
            # Another server was quicker, or it is paused by now.
            return
        except BudgetUsedUp as error:
            await self._note(schedule, slot, "refused", error.message)
            allowance = self._runs.allowances.get(schedule.id)
            if allowance is not None and allowance.used_up:
                await self.pause(schedule.id, error.message)
        except KasalError as error:
            faults = "; ".join(f"{fault.field}: {fault.reason}" for fault in error.faults)
            await self._note(schedule, slot, "refused", f"{error.message} {faults}".strip(), failed=True)

    async def _start(self, schedule: Schedule, claim: Callable[[str], None]) -> Execution:
        whole = await self._crews.read(schedule.crew_id, schedule.owner, schedule.crew_version)
        return await start(
            self._runs,
            whole,
            schedule.inputs,
            schedule.owner,
            budget=schedule.budget,
            schedule=schedule.id,
            allowances=[schedule.id],
            within=claim,
        )

    def _why_not(self, schedule: Schedule) -> str | None:
        """Say why nobody may run a schedule's crew any more; None where its owner may."""
        user = self._store.users.readable(schedule.owner)
        if user is not None and (user.disabled or user.role == "viewer"):
            return "Its user may run nothing any more"
        crew = self._store.crews.readable(schedule.crew_id)
        all_crews = schedule.owner == SERVER_OWNER if user is None else user.role == "admin"
        if crew is None or not (all_crews or crew.owner == schedule.owner):
            return "Its crew is gone"
        return None

    def _claim(
        self,
        schedule_id: str,
        slot: str,
        state: SlotState,
        *,
        job_id: str | None = None,
        reason: str | None = None,
        through: str = "",
    ) -> Schedule:
        """Have a slot be dealt with, within a change: by one server, and once.

        Raises
        ------
        Conflict
            It is already, or nothing of the schedule is to be run.
        """
        schedule = self._store.schedules.readable(schedule_id)
        if schedule is None or schedule.paused:
            raise Conflict(f"The schedule {schedule_id} is paused or gone")
        about = {"job_id": job_id, "reason": reason}
        slot_id = f"{schedule_id}/{slot}"
        self._store.slots.insert(Slot(id=slot_id, schedule=schedule_id, slot=slot, state=state, **about))
        for old in self._store.slots.page(
            order="newest", offset=KEPT_SLOTS, limit=KEPT_SLOTS, schedule=schedule_id
        ).documents:
            self._store.slots.delete(old.id)
        fields: dict[str, Any] = {"handled": max(slot, through, schedule.handled), "waiting": None}
        if job_id is not None:
            fields |= {"last_job": job_id, "pending": job_id}
        return self._store.schedules.update(schedule_id, fields)

    async def _note(
        self,
        schedule: Schedule,
        slot: str,
        state: SlotState,
        reason: str,
        *,
        failed: bool = False,
        through: str = "",
    ) -> None:
        """Note that a slot is not run, and why."""

        def note() -> None:
            now = self._claim(schedule.id, slot, state, reason=reason, through=through)
            if failed:
                self._store.schedules.update(schedule.id, _failed(now, reason))

        try:
            await self._store.change(note)
        except Conflict:
            return
        log.info("the run of %s at %s is %s: %s", schedule.id, slot, state, reason)

    async def _check(
        self, whole: WholeCrew, inputs: dict[str, Any], owner: str, body: ScheduleCreate | Schedule
    ) -> None:
        asked = Asked(whole, inputs, owner, budget=body.budget)
        checked = await beside_loop(lambda: self._runs.checked("", asked), size=whole.size, owner=owner)
        checked.required()

    def _bound(self, schedule_id: str, total: TotalBudget | None) -> None:
        if total is None:
            self._store.allowances.delete(schedule_id)
        else:
            bound(self._store, schedule_id, total.max_cost, total.max_tokens)


def _failed(schedule: Schedule, why: str) -> dict[str, Any]:
    """Give what changes of a schedule by a run that has failed."""
    failures = schedule.failures + 1
    if failures < schedule.most_failures:
        return {"failures": failures}
    times_ = "once" if failures == 1 else f"{failures} times"
    return {
        "failures": failures,
        "paused": True,
        "reason": f"It has failed {times_}, the last: {why}"[:1_000],
    }


# Times.


def require_times(cron: str, timezone: str) -> None:
    """See to it that a cron expression has times, and that its zone is one.

    Raises
    ------
    InvalidRequest
        It has not, or it is none.
    """
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(timezone)
    except (LookupError, ValueError, OSError):
        reason = f"{timezone!r} is no IANA zone; one is Europe/Berlin, for example"
        raise InvalidRequest(INVALID_SCHEDULE, faults=[Fault("timezone", reason)]) from None
    from cronsim import CronSimError

    try:
        first = next(times(cron, timezone, datetime.now(UTC)), None)
    except CronSimError as error:
        reason = (
            f"{error}; five fields are wanted, as '0 7 * * MON-FRI' has them: minute, hour, day, month, day"
        )
        raise InvalidRequest(INVALID_SCHEDULE, faults=[Fault("cron", f"{reason} of the week")]) from None
    if first is None:
        raise InvalidRequest(INVALID_SCHEDULE, faults=[Fault("cron", "it is never due")])


def times(cron: str, timezone: str, after: datetime) -> Iterator[datetime]:
    """Give the times of an expression behind a moment, in the zone.

    Where clocks go on, what lies in the gap is due right behind it; where they go back, what is due at fixed
    hours is due once, and what is due every hour, or every few minutes, in both: as Debian's cron does.

    Raises
    ------
    cronsim.CronSimError
        It is none.
    """
    from zoneinfo import ZoneInfo

    from cronsim import CronSim, CronSimError

    if len(cron.split()) != 5:
        # A sixth would be seconds.
        raise CronSimError("Wrong number of fields")
    return iter(CronSim(cron, after.astimezone(ZoneInfo(timezone))))


@lru_cache(maxsize=1_000)
def _following(cron: str, timezone: str, after: str) -> str:
    first = next(times(cron, timezone, _time(after)), None)
    return _text(first) if first is not None else "9999"


def _next(schedule: Schedule) -> str:
    """Give the first time that is not dealt with."""
    return schedule.waiting or _following(schedule.cron, schedule.timezone, schedule.handled)


@dataclass(frozen=True, slots=True)
class Due:
    """What of a schedule is due.

    Attributes
    ----------
    latest
        The time that is run: the latest of several; None where it is too late for all.
    first
        The first that is not dealt with: it stands for all where it is too late.
    through
        Up to when all is dealt with then.
    """

    latest: str | None
    first: str
    through: str


def due_of(schedule: Schedule, now: datetime) -> Due | None:
    """Say what of a schedule is due; None where nothing is."""
    first = _next(schedule)
    if first > _text(now):
        return None
    bound_ = now - timedelta(seconds=max(schedule.catch_up_seconds, LATE_SECONDS))
    since = max(_time(schedule.handled), bound_ - timedelta(seconds=1))
    latest = schedule.waiting
    for each in times(schedule.cron, schedule.timezone, since):
        if each > now:
            break
        latest = _text(each)
    return Due(latest, first, _text(now))


def _text(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(text: str) -> datetime:
    return parse_time(text)
