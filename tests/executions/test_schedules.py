"""Crews that are run by the clock: each time once, in every zone, and whatever dies meanwhile."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest

from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.errors import Conflict, InvalidRequest, NotRunnable
from kasal_jupyter.executions.schedules import Schedules, due_of, require_times, times
from kasal_jupyter.schemas.schedules import ScheduleCreate, ScheduleUpdate
from kasal_jupyter.store.store import Store
from tests.executions.test_cut_off import on_a_folder
from tests.executions.test_faults import bench, until
from tests.executions.test_life import live
from tests.fake_backend import FakeBackend, completes, event, goes_on, status

BERLIN, LORD_HOWE = "Europe/Berlin", "Australia/Lord_Howe"

SPRING = {
    # At two the clocks go on to three; what would be between is due at three.
    (BERLIN, "30 2 * * *", "2026-03-28T12:00"): ["29 03:00+02:00", "30 02:30+02:00"],
    (BERLIN, "30 * * * *", "2026-03-29T00:00"): ["29 00:30+01:00", "29 01:30+01:00", "29 03:30+02:00"],
    # There, half an hour is left out at two.
    (LORD_HOWE, "15 2 * * *", "2026-10-03T12:00"): ["04 02:30+11:00", "05 02:15+11:00"],
    (LORD_HOWE, "*/15 * * * *", "2026-10-04T01:30"): ["04 01:45+10:30", "04 02:30+11:00", "04 02:45+11:00"],
}

AUTUMN = {
    # At three the clocks go back to two; what is due at half past two is due once.
    (BERLIN, "30 2 * * *", "2026-10-24T12:00"): ["25 02:30+02:00", "26 02:30+01:00"],
    (BERLIN, "30 * * * *", "2026-10-25T01:45"): ["25 02:30+02:00", "25 02:30+01:00", "25 03:30+01:00"],
    # There, half an hour comes twice.
    (LORD_HOWE, "45 1 * * *", "2026-04-04T12:00"): ["05 01:45+11:00", "06 01:45+10:30"],
    (LORD_HOWE, "*/15 * * * *", "2026-04-05T01:40"): [
        *("05 01:45+11:00", "05 01:30+10:30", "05 01:45+10:30", "05 02:00+10:30")
    ],
}


@pytest.mark.parametrize(("asked", "wanted"), [*SPRING.items(), *AUTUMN.items()], ids=str)
def test_times_across_both_changes_of_the_clocks(asked, wanted):
    zone, cron, since = asked
    begin = datetime.fromisoformat(since).replace(tzinfo=ZoneInfo(zone))
    found = list(islice(times(cron, zone, begin), 40))
    assert [f"{each:%d %H:%M}{each.isoformat()[-6:]}" for each in found[: len(wanted)]] == wanted
    moments = [each.astimezone(UTC) for each in found]
    assert moments == sorted(set(moments))
    # Whoever looks from any moment on, in any zone, finds the same.
    for earlier, later in pairwise(moments):
        for after in (earlier, earlier + (later - earlier) / 2, later - timedelta(seconds=1)):
            assert next(times(cron, zone, after)).astimezone(UTC) == later


@pytest.mark.parametrize(
    ("cron", "zone", "field"),
    [
        ("0 7 * *", "UTC", "cron"),
        ("0 7 * * * *", "UTC", "cron"),
        ("@daily now and then", "UTC", "cron"),
        ("61 7 * * *", "UTC", "cron"),
        ("0 0 31 2 *", "UTC", "cron"),
        ("0 7 * * *", "Europe/Nowhere", "timezone"),
        ("0 7 * * *", "../../etc/passwd", "timezone"),
        ("0 7 * * *", "", "timezone"),
    ],
)
def test_what_is_no_time_is_refused(cron, zone, field):
    with pytest.raises(InvalidRequest) as refusal:
        require_times(cron, zone)
    assert [fault.field for fault in refusal.value.faults] == [field]


class Hand:
    """A clock that is set by hand."""

    def __init__(self, now):
        self.now = datetime.fromisoformat(now)

    def __call__(self):
        return self.now

    def on(self, **time):
        self.now += timedelta(**time)


def body(world, **fields):
    about = {
        "name": "Tea",
        "crew_id": world.whole.crew.id,
        "inputs": {"topic": "tea"},
        "cron": "*/10 * * * *",
    }
    return ScheduleCreate.model_validate({**about, "budget": {"max_tokens": 1_000}, **fields})


async def scheduled(world, runs, clock, **fields):
    schedules = Schedules(runs, Crews(runs.store), clock=clock)
    return schedules, await schedules.create(body(world, **fields), "ada")


def slots(world, schedule):
    found = world.store.slots.find(order="created", schedule=schedule.id)
    return [(each.slot[11:16], each.state) for each in found]


async def over(world, runs, schedule):
    """Wait for the run of a schedule to be over; give the schedule."""
    now = world.store.schedules.get(schedule.id)
    await world.state(runs, now.last_job)
    await until(lambda: now.last_job not in runs._runs)
    return now


async def fails(run):
    error = {"code": "MODEL_AUTH", "message": "No key"}
    run.say(status("running"), event("error", **error), status("failed", error=error))
    run.exit()


def test_of_two_servers_one_starts_each_time_and_once(tmp_path):
    async def work(world):
        with Store.open(tmp_path) as other:
            clock = Hand("2026-03-28T22:05:00+00:00")
            servers = [world.runs(running=4), bench(tmp_path, other, FakeBackend(), running=4)]
            world.servers.append(servers[1])
            _, schedule = await scheduled(world, servers[0], clock, cron="30 * * * *", timezone=BERLIN)
            several = [Schedules(runs, Crews(runs.store), clock=clock) for runs in servers]
            for _ in range(20):
                await asyncio.gather(*(each.fire() for each in several for _ in range(2)))
                clock.on(minutes=15)
                for runs in servers:
                    await until(lambda runs=runs: not runs._runs)
            runs_of_it = world.store.executions.find(schedule=schedule.id)
            found = [each.slot for each in world.store.slots.find(order="created", schedule=schedule.id)]
            # Across the hour that is left out, in UTC.
            assert found == [f"2026-03-{day}" for day in ("28T22:30:00Z", "28T23:30:00Z", *_NIGHT)]
            assert len(runs_of_it) == len(found)
            assert {each.status for each in runs_of_it} == {"completed"}
            assert {each.budget.max_tokens for each in runs_of_it} == {1_000}
            # What one slot has, nobody has again.
            with pytest.raises(Conflict):
                await other.change(lambda: several[1]._claim(schedule.id, found[-1], "started"))

    live(work, tmp_path)


_NIGHT = ("29T00:30:00Z", "29T01:30:00Z", "29T02:30:00Z")


def test_a_time_is_left_out_or_waits_where_the_run_before_goes_on(tmp_path):
    async def work(world):
        clock = Hand("2026-01-05T10:00:05+00:00")
        runs = world.runs(goes_on, goes_on, completes, running=9)
        schedules, skips = await scheduled(world, runs, clock)
        _, queues = await scheduled(world, runs, clock, overlap="queue", catch_up_seconds=0)
        for _ in range(4):
            clock.on(minutes=10)
            await schedules.fire()
        expected = [("10:10", "started"), ("10:20", "skipped"), ("10:30", "skipped"), ("10:40", "skipped")]
        assert slots(world, skips) == expected
        assert slots(world, queues) == [("10:10", "started")]
        for each in (skips, queues):
            await runs.stop(world.store.schedules.get(each.id).last_job)
        clock.on(minutes=4)
        await schedules.fire()
        # The latest of those that have waited, however long that was.
        assert slots(world, queues) == [("10:10", "started"), ("10:40", "started")]
        assert slots(world, skips) == expected
        # What a person has stopped has failed at nothing.
        assert world.store.schedules.get(skips.id).failures == 0

    live(work, tmp_path)


def test_after_an_outage_one_run_stands_for_all_that_were_missed_and_none_where_it_is_too_late(tmp_path):
    async def work(world):
        clock = Hand("2026-01-05T10:05:00+00:00")
        runs = world.runs(running=9)
        schedules, schedule = await scheduled(world, runs, clock, catch_up_seconds=600)
        _, rare = await scheduled(world, runs, clock, cron="0 12 * * *", catch_up_seconds=600)
        clock.on(hours=3)
        await schedules.fire()
        assert slots(world, schedule) == [("13:00", "started")]
        assert slots(world, rare) == [("12:00", "missed")]
        await over(world, runs, schedule)
        # Months later, each is looked for no longer than it may be late.
        clock.on(days=400, minutes=8)
        await schedules.fire()
        await schedules.fire()
        assert slots(world, schedule) == [("13:00", "started"), ("13:10", "started")]
        assert slots(world, rare) == [("12:00", "missed"), ("12:00", "missed")]
        assert due_of(world.store.schedules.get(rare.id), clock()) is None
        # Of a time when it was paused, nothing is made good.
        await schedules.pause(schedule.id)
        clock.on(minutes=25)
        await schedules.fire()
        await schedules.resume(schedule.id)
        await schedules.fire()
        assert slots(world, schedule)[2:] == []
        next_times = schedules.details(world.store.schedules.get(schedule.id)).next
        assert next_times[:2] == ["2027-02-09T13:40:00+00:00", "2027-02-09T13:50:00+00:00"]

    live(work, tmp_path)


def test_a_schedule_is_paused_where_it_fails_or_has_no_more_to_spend(tmp_path):
    async def work(world):
        clock, store = Hand("2026-01-05T10:05:00+00:00"), world.store
        runs = world.runs(completes, fails, running=9)
        schedules, schedule = await scheduled(world, runs, clock, most_failures=2)
        for _ in range(5):
            clock.on(minutes=10)
            await schedules.fire()
            await over(world, runs, schedule)
        now = store.schedules.get(schedule.id)
        assert (now.paused, now.failures) == (True, 2)
        assert now.reason == f"It has failed 2 times, the last: {now.last_job}: No key"
        assert len(slots(world, schedule)) == 3
        # By hand it can be run all the same.
        job = await schedules.run(now)
        assert (await world.state(runs, job.id)).schedule == schedule.id
        await schedules.resume(schedule.id)
        assert store.schedules.get(schedule.id).failures == 0
        await schedules.delete(schedule.id)
        assert not store.slots.find(schedule=schedule.id)
        assert store.executions.find(schedule=schedule.id)

        # Of what all of its runs may spend, this one has taken all.
        _, poor = await scheduled(world, runs, clock, total_budget={"max_tokens": 10})
        await store.change(lambda: store.allowances.update(poor.id, {"spent": {"tokens": 10, "cost": 0.1}}))
        clock.on(minutes=10)
        await schedules.fire()
        now = store.schedules.get(poor.id)
        assert now.paused
        assert now.reason.startswith("10 of the 10 tokens that the schedule may take are used")
        assert slots(world, poor) == [("11:00", "refused")]

        _, orphan = await scheduled(world, runs, clock)
        await Crews(store).delete(world.whole.crew.id)
        clock.on(minutes=10)
        await schedules.fire()
        now = store.schedules.get(orphan.id)
        assert (now.paused, now.reason, slots(world, orphan)) == (True, "Its crew is gone", [])

    live(work, tmp_path)


def test_a_crew_that_could_not_run_is_not_scheduled_and_a_change_counts_from_now_on(tmp_path):
    async def work(world):
        clock = Hand("2026-01-05T10:05:00+00:00")
        runs = world.runs()
        schedules, schedule = await scheduled(world, runs, clock)
        with pytest.raises(NotRunnable):
            await schedules.create(body(world, inputs={}), "ada")
        with pytest.raises(NotRunnable):
            await schedules.update(schedule, ScheduleUpdate(inputs={"tpic": "tea"}))
        with pytest.raises(ValueError, match="needs a budget with max_cost or max_tokens"):
            body(world, budget={"max_seconds": 10})
        clock.on(hours=2)
        changed = await schedules.update(schedule, ScheduleUpdate(cron="7 * * * *", timezone=LORD_HOWE))
        await schedules.fire()
        assert slots(world, schedule) == []
        assert schedules.details(changed).next[0] == "2026-01-05T23:07:00+11:00"

    live(work, tmp_path)


def test_a_server_that_dies_around_the_claim_has_the_run_be_started_once(tmp_path):
    async def work(world, folder):
        clock, store = Hand("2026-01-05T10:05:00+00:00"), world.store
        first, _ = folder.server(goes_on, running=1)
        schedules, schedule = await scheduled(world, first, clock)
        blocker = await folder.started(first)
        clock.on(minutes=6)
        # Before the change that stores it: nothing is there.
        first.store.change, change = _dies, first.store.change
        with pytest.raises(asyncio.CancelledError):
            await schedules.fire()
        first.store.change = change
        assert (slots(world, schedule), store.executions.find(schedule=schedule.id)) == ([], [])
        # Behind it: it waits for a place, and its server is gone.
        await schedules.fire()
        (queued,) = store.executions.find(schedule=schedule.id)
        assert (queued.status, slots(world, schedule)) == ("queued", [("10:10", "started")])
        folder.lost += first._runs.values()
        first._runs.clear()
        first.presence.close()
        second, cut_off = folder.server(completes, running=4)
        again = Schedules(second, Crews(store), clock=clock)
        await asyncio.gather(again.fire(), second.settle())
        await cut_off.go_on()
        await until(lambda: not second._runs)
        # A server goes on with it, as with any run; the schedule starts no other for it.
        first_try, resumed = store.executions.find(schedule=schedule.id)
        assert (first_try.resumed_by, resumed.status) == (resumed.id, "completed")
        await again.fire()
        assert slots(world, schedule) == [("10:10", "started")]
        assert store.schedules.get(schedule.id).pending is None
        assert blocker != first_try.id

    on_a_folder(work, tmp_path)


async def _dies(_work, **_options):
    raise asyncio.CancelledError
