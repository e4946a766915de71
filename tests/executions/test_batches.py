"""Batches: what becomes of their rows, whoever fails, stops or dies."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.errors import Conflict, InvalidRequest, NotRunnable, QuotaExceeded
from kasal_jupyter.executions.batches import rows
from kasal_jupyter.executions.batches.batches import Batches, GivenRow, Wanted
from kasal_jupyter.executions.verbs import start
from kasal_jupyter.schemas.batches import BatchChange, BatchOptions, row_keys
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.executions import Budget
from kasal_jupyter.store.quota import Quota
from tests.executions.test_faults import until
from tests.executions.test_life import live
from tests.fake_backend import call, completes, event, goes_on, span, status
from tests.sample_crews import crew_body


class Plan:
    """What rows do, by their topic; what is not said completes."""

    def __init__(self, **scripts):
        self.scripts = scripts
        self.asked = []

    async def __call__(self, run):
        topic = run.spec.inputs["topic"]
        self.asked.append(topic)
        await self.scripts.get(topic, completes)(run)


def fails(code="MODEL_UNREACHABLE", message="No"):
    async def script(run):
        error = {"code": code, "message": message}
        run.say(status("running"), *call(1, 10), event("error", **error), status("failed", error=error))
        run.exit()

    return script


async def fails_at_a_call(run):
    error = {"code": "MODEL_UNREACHABLE", "message": "No"}
    run.say(
        status("running"),
        span("llm_call", 1, messages=[], tools=[], model="m", key="1:abc:1"),
        span("llm_failed", 1, model="m", error=error, usage=None, cost=0.0),
        event("error", **error),
        status("failed", error=error),
    )
    run.exit()


class Bench:
    """A server's batches."""

    def __init__(self, world, *scripts, **limits):
        self.world = world
        self.runs = world.runs(*scripts, **{"running": 8, **limits})
        self.batches = Batches(self.runs, Crews(world.store), most_bytes=1 << 20)
        self.store = world.store

    async def make(self, *topics, **options):
        budgets = {name: options.pop(name) for name in ("budget", "run_budget") if name in options}
        wanted = Wanted(BatchOptions(crew_id=self.world.whole.crew.id, **options), **budgets)
        given = [GivenRow({"topic": topic}, expected=index) for index, topic in enumerate(topics)]
        return await self.batches.make(wanted, lambda: given, "ada", size=len(given))

    def told(self, batch):
        return self.batches.told_now(batch)

    def rows(self, batch, **asked):
        return rows.page(self.store, self.batches.get(batch.id), **asked)

    def states(self, batch):
        return [row.status for row in self.rows(batch)]

    async def ended(self, batch, *states):
        wanted = states or ("completed",)
        await until(lambda: self.batches.get(batch.id).status in wanted)
        await until(lambda: not self.told(batch).counts.running)
        return self.told(batch)


@asynccontextmanager
async def bench(world, *scripts, **limits):
    if world.whole.crew.memory:
        # One whose answers hang on its inputs alone.
        world.whole = await Crews(world.store).create(CrewCreate.model_validate(crew_body()), "ada")
    made = Bench(world, *scripts, **limits)
    try:
        yield made
    finally:
        made.batches.end()


def test_rows_are_known_by_their_inputs():
    one, two = {"a": 1, "b": [2, None]}, {"b": [2, None], "a": 1}
    keys = list(row_keys([one, {"a": 2}, two, one]))
    assert keys[0].partition(":")[0] == keys[2].partition(":")[0]
    assert [key.partition(":")[2] for key in keys] == ["0", "0", "1", "2"]
    assert list(row_keys([two, one, one, {"a": 2}])) == [keys[0], keys[2], keys[3], keys[1]]


def test_rows_that_fail_cost_only_themselves_and_are_done_again(tmp_path):
    async def work(world):
        plan = Plan(bad=fails(), worse=fails_at_a_call)
        async with bench(world, plan) as at:
            batch, new = await at.make("tea", "bad", "tea", "worse", "milk", name="letters")
            assert new
            told = await at.ended(batch)
            assert (told.total, told.counts.completed, told.counts.failed) == (5, 3, 2)
            # Each of two equal rows has a run of its own.
            assert sorted(plan.asked) == ["bad", "milk", "tea", "tea", "worse"]
            assert (told.cost, told.tokens, told.forecast_cost) == (2.0, 40, 2.0)
            found = at.rows(batch)
            assert [row.index for row in found] == [0, 1, 2, 3, 4]
            assert [row.expected for row in found] == [0, 1, 2, 3, 4]
            assert [row.key for row in found] == list(row_keys([row.inputs for row in found]))
            good, bad = found[0], found[1]
            assert (good.output, good.attempts, good.tokens, good.cost, good.error) == (
                "Tea",
                1,
                10,
                0.5,
                None,
            )
            assert (bad.output, bad.error.code, bad.cost) == (None, "MODEL_UNREACHABLE", 0.5)
            assert at.store.executions.get(good.job_id).batch == batch.id
            assert [row.index for row in at.rows(batch, status="failed")] == [1, 3]
            assert [row.index for row in at.rows(batch, after=2, limit=1)] == [3]
            # Asked for again, in another order: it is the same, and nothing is done.
            again, new = await at.make("worse", "tea", "bad", "tea", "milk", name="letters")
            assert (again.id, new, again.status) == (batch.id, False, "completed")
            other, new = await at.make("worse", "tea", "bad", "tea", name="letters")
            assert new
            await at.ended(other)
            # Those that have completed were answered by the earlier ones, second by second.
            assert [row.recorded for row in at.rows(other)] == [False, True, False, True]
            assert [row.job_id for row in at.rows(other)][1::2] == [found[0].job_id, found[2].job_id]
            assert at.told(other).cost == 0.5
            plan.scripts.clear()
            plan.asked.clear()
            before = {row.index: row.job_id for row in found}
            await at.batches.retry(batch.id)
            told = await at.ended(batch)
            assert told.counts.completed == 5
            assert sorted(plan.asked) == ["bad", "worse"]
            assert [row.attempts for row in at.rows(batch)] == [1, 2, 1, 2, 1]
            # What failed at a call goes on there, what failed at its answer is asked anew.
            verbs = [at.store.executions.get(at.rows(batch)[index].job_id).verb for index in (1, 3)]
            assert verbs == ["run", "resume"]
            assert all(at.rows(batch)[index].job_id == before[index] for index in (0, 2, 4))
            # The attempt that failed was paid for, too.
            assert (at.rows(batch)[1].cost, told.cost) == (1.0, 3.0)
            with pytest.raises(Conflict, match="No row"):
                await at.batches.retry(batch.id)
            with pytest.raises(Conflict, match="completed"):
                await at.batches.resume(batch.id)

    live(work, tmp_path)


def test_equal_rows_share_a_run_where_they_may(tmp_path):
    async def work(world):
        plan = Plan()
        async with bench(world, plan) as at:
            batch, _ = await at.make("tea", "milk", "tea", "tea", dedupe=True)
            told = await at.ended(batch)
            assert (told.counts.completed, told.counts.shared, sorted(plan.asked)) == (2, 2, ["milk", "tea"])
            found = at.rows(batch)
            assert [row.shared_with for row in found] == [None, None, 0, 0]
            assert {row.job_id for row in found if row.inputs == {"topic": "tea"}} == {found[0].job_id}
            assert found[3].output == "Tea"
            assert [row.index for row in at.rows(batch, status="shared")] == [2, 3]

    live(work, tmp_path)


def test_it_is_paused_bounded_stopped_and_gone_on_with(tmp_path):
    async def work(world):
        held = asyncio.Event()

        async def waits(run):
            run.say(status("running"))
            await held.wait()
            run.say(*call(1, 10), status("completed", result="Late"))
            run.exit()

        topics = [f"t{number}" for number in range(60)]
        plan = Plan(**dict.fromkeys(topics, waits))
        async with bench(world, plan) as at:
            batch, _ = await at.make(*topics, concurrency=3)
            await until(lambda: len(plan.asked) == 3)
            assert at.told(batch).counts.running == 3
            await at.batches.change(batch.id, BatchChange(concurrency=5))
            await until(lambda: at.told(batch).counts.running == 5)
            await at.batches.change(batch.id, BatchChange(concurrency=None))
            # Few wait for a place, so that others come in between.
            await until(lambda: at.told(batch).counts.running >= 8)
            own = await start(at.runs, world.whole, {"topic": "own"}, "ada")
            assert at.runs.position(own.id) <= 17
            await at.batches.pause(batch.id)
            held.set()
            await until(lambda: not at.told(batch).counts.running)
            paused = at.told(batch)
            assert (paused.status, paused.counts.waiting) == ("paused", 60 - paused.counts.completed)
            assert paused.counts.waiting > 20
            await until(lambda: not at.batches.active)
            held.clear()
            await at.batches.resume(batch.id)
            await until(lambda: at.told(batch).counts.running >= 8)
            stopped = await at.batches.stop(batch.id)
            assert stopped.ended_at is not None
            await until(lambda: not at.told(batch).counts.running)
            told = at.told(batch)
            assert (told.status, told.counts.waiting) == ("stopped", 0)
            assert told.counts.stopped == 60 - told.counts.completed
            assert at.rows(batch, status="waiting") == []
            assert len(at.rows(batch, status="stopped")) == told.counts.stopped
            held.set()
            await at.batches.resume(batch.id)
            await until(lambda: at.told(batch).status == "completed")
            # What was stopped in the middle is done again when it is asked for.
            left = at.told(batch).counts.stopped
            assert left + at.told(batch).counts.completed == 60
            assert left >= 8
            await at.batches.retry(batch.id)
            assert (await at.ended(batch)).counts.completed == 60
            await at.batches.delete(batch.id)
            assert at.store.batch_rows.count() == 0
            assert at.store.executions.count(batch=batch.id) >= 60

    live(work, tmp_path)


def test_what_is_wrong_is_told_by_row_and_field_and_nothing_is_stored(tmp_path):
    async def work(world):
        async with bench(world) as at:
            crew_id = world.whole.crew.id
            given = [GivenRow({"topic": "tea"}), GivenRow({"tpoic": 1}), GivenRow({})] + [GivenRow({})] * 300
            wanted = Wanted(BatchOptions(crew_id=crew_id))
            with pytest.raises(NotRunnable) as refused:
                await at.batches.make(wanted, lambda: given, "ada", size=303)
            faults = refused.value.faults
            assert [fault.field for fault in faults[:2]] == ["rows[1].inputs.topic", "rows[2].inputs.topic"]
            assert "'tpoic'" in faults[0].reason
            assert faults[-1].field == "errors"
            with pytest.raises(InvalidRequest):
                await at.make("tea", budget=Budget(max_seconds=3))
            with pytest.raises(InvalidRequest):
                await at.make()
            with pytest.raises(NotRunnable) as refused:
                await at.make("tea", model="gpt-4")
            assert refused.value.faults[0].field == "model"
            # What does not fit in leaves nothing either.
            at.store.quota = Quota(most_bytes=60_000, everybody=True)
            with pytest.raises(QuotaExceeded):
                await at.make(*[f"topic {number}" for number in range(900)])
            await until(lambda: at.store.batch_rows.count() == 0)
            assert at.store.batches.count() == 0

    live(work, tmp_path)


def test_a_crew_that_is_gone_ends_its_batch_and_a_used_up_budget_pauses_it(tmp_path):
    async def work(world):
        spent = "$5 of the $5 that the batch may cost are spent or reserved."
        plan = Plan(dear=fails("BUDGET_EXCEEDED", spent), own=fails("BUDGET_EXCEEDED", "Its own"))
        async with bench(world, plan) as at:
            budget = Budget(max_cost=5)
            batch, _ = await at.make("tea", "own", "dear", budget=budget)
            await until(lambda: at.batches.get(batch.id).status == "paused")
            told = await at.ended(batch, "paused")
            assert (told.reason.code, told.reason.message) == ("BUDGET_EXCEEDED", spent)
            assert at.states(batch) == ["completed", "failed", "waiting"]
            assert all(run.spec.allowances == [batch.id] for run in at.runs.backend.runs)
            plan.scripts.clear()
            await at.batches.change(batch.id, BatchChange(budget=Budget(max_cost=10)))
            await at.batches.resume(batch.id)
            told = await at.ended(batch)
            assert at.states(batch) == ["completed", "failed", "completed"]
            assert at.store.executions.get(at.rows(batch)[2].job_id).verb == "resume"
            # One that gets a budget as it goes on has spent what its rows have cost.
            dear, _ = await at.make("a", "b", once=False)
            await at.ended(dear)
            await at.batches.change(dear.id, BatchChange(budget=Budget(max_cost=1.0)))
            assert at.store.allowances.get(dear.id).spent.cost == 1.0
            plan.scripts["a"] = fails()
            again, _ = await at.make("a", "b", once=False)
            await at.ended(again)
            await at.batches.change(again.id, BatchChange(budget=Budget(max_cost=1.0)))
            await at.batches.retry(again.id)
            told = await at.ended(again, "paused")
            assert (told.reason.code, told.counts.waiting) == ("BUDGET_EXCEEDED", 1)
            other, _ = await at.make("a", "b", "c", once=False, concurrency=1)
            await at.batches.pause(other.id)
            await Crews(at.store).delete(world.whole.crew.id)
            await until(lambda: not at.batches.active)
            at.batches._going.clear()
            await at.batches.resume(other.id)
            told = await at.ended(other, "failed", "completed")
            assert (told.status, told.reason.code) == ("failed", "NOT_FOUND")

    live(work, tmp_path)


def test_another_server_goes_on_where_one_has_died(tmp_path):
    async def work(world):
        plan = Plan(**dict.fromkeys(("t3", "t7"), goes_on))
        topics = [f"t{number}" for number in range(40)]
        async with bench(world, plan) as first, bench(world) as second:
            batch, _ = await first.make(*topics)
            await until(lambda: first.told(batch).counts.completed > 20)
            await second.batches.settle()
            assert second.batches.active == 0
            # It is killed: nothing of it goes on, and its lock is free.
            first.runs._closing = True
            first.batches.end()
            await until(lambda: not first.batches.active)
            first.runs.presence.close()
            await second.batches.settle()
            told = await second.ended(batch)
            assert told.counts.completed == 40
            done = [run.spec.inputs["topic"] for run in (*first.runs.backend.runs, *second.runs.backend.runs)]
            cut = [row for row in second.rows(batch) if row.attempts > 1]
            # Those that only waited for their turn were not begun before.
            assert {row.attempts for row in second.rows(batch)} == {1, 2}
            assert {"t3", "t7"} <= {row.inputs["topic"] for row in cut}
            assert all(second.store.executions.get(row.job_id).verb == "resume" for row in cut)
            assert len(done) == 40 + len(cut)
            assert len(second.store.executions.find(batch=batch.id, status="completed")) == 40

    live(work, tmp_path)
