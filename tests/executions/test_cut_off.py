"""Runs whose server has died, and another that goes on with them of itself."""

from __future__ import annotations

import asyncio

import pytest

from kasal_jupyter.errors import Unavailable
from kasal_jupyter.executions import verbs
from kasal_jupyter.executions.cut_off import LOOKS, CutOffRuns
from kasal_jupyter.executions.verbs import replay, resume
from kasal_jupyter.schemas.executions import Budget, ExecutionResume
from kasal_jupyter.schemas.users import User
from tests.executions.test_faults import until
from tests.executions.test_life import live
from tests.fake_backend import call, completes, goes_on, span, status

NOW = "2024-01-15T10:30:00Z"


def asking(key="1:a:1", *before):
    """Begin, and ask what is never answered."""

    async def script(run):
        run.say(status("running"), *before, span("llm_call", 9, model="m", messages=[], tools=[], key=key))
        await asyncio.Event().wait()

    return script


class Folder:
    """A data folder on which servers die."""

    def __init__(self, world):
        self.world = world
        self.open = True
        self.lost = []

    def server(self, *scripts, resumes=True, **limits):
        runs = self.world.runs(*scripts, **limits)
        runs.resumes = resumes
        return runs, CutOffRuns(runs, lambda: self.open)

    async def started(self, runs, **options):
        job_id = await self.world.start(runs, **options)
        await self.world.state(runs, job_id, "running")
        return job_id

    async def killed(self, runs):
        """Have a server's locks be gone, and what it runs be nobody's."""
        await until(lambda: all(run.feed.summary.status == "running" for run in runs._runs.values()))
        self.lost += runs._runs.values()
        runs._runs.clear()
        runs.presence.close()

    async def successor(self, runs, job_id):
        (source,) = await runs.current([self.world.store.executions.get(job_id)])
        return await runs.execution(source.resumed_by) if source.resumed_by else None


def on_a_folder(work, tmp_path):
    async def inner(world):
        folder = Folder(world)
        try:
            await work(world, folder)
        finally:
            for run in folder.lost:
                await run.interrupt()

    live(inner, tmp_path)


def test_the_server_that_finds_a_run_cut_off_goes_on_with_it_and_once(tmp_path):
    async def work(world, folder):
        first, _ = folder.server(asking())
        job_id = await folder.started(first, tools=[], budget=Budget(max_cost=3, max_seconds=60))
        webhooks = set(world.store.deliveries.ids())
        await folder.killed(first)
        second, going_on = folder.server(goes_on)
        third, also = folder.server(goes_on)
        await second.settle()
        await asyncio.gather(*(each.go_on() for each in (going_on, also) * 3))
        made = await folder.successor(third, job_id)
        assert (made.verb, made.parent, made.attempt, made.owner) == ("resume", job_id, 2, "ada")
        # Its budget, its receiver and its lineage are the run's.
        assert made.budget == Budget(max_cost=3, max_seconds=60)
        assert set(world.store.deliveries.ids()) == webhooks | {made.id}
        assert world.store.executions.count() == 2
        await until(lambda: [*second.backend.runs, *third.backend.runs])
        (launched,) = [*second.backend.runs, *third.backend.runs]
        assert (launched.spec.source.verb, launched.spec.lineage) == ("resume", job_id)
        former = await third.execution(job_id)
        assert (former.status, former.resumed_by) == ("interrupted", made.id)
        assert former.error.message.endswith("it is resumed")
        assert world.events(third, job_id)[-1]["resuming"] is True
        # The one that goes on is cut off as well: what goes on with that reads both.
        await folder.killed(second if second.backend.runs else third)
        fourth, more = folder.server(completes)
        for _ in range(LOOKS):
            await more.go_on()
        last = await folder.successor(fourth, made.id)
        assert (last.attempt, (await world.state(fourth, last.id)).status) == (3, "completed")
        (spec,) = (run.spec for run in fourth.backend.runs)
        assert (spec.source.job_id, spec.source.before.job_id, spec.source.before.before) == (
            *(made.id, job_id),
            None,
        )
        assert spec.lineage == job_id

    on_a_folder(work, tmp_path)


def test_by_default_nothing_goes_on_of_itself(tmp_path):
    async def work(world, folder):
        first, _ = folder.server(asking())
        job_id = await folder.started(first)
        await folder.killed(first)
        second, going_on = folder.server(resumes=False)
        await second.settle()
        await going_on.go_on()
        state = await second.execution(job_id)
        assert (state.status, state.resumed_by) == ("interrupted", None)
        assert "resuming" not in world.events(second, job_id)[-1]
        # Nor does a server that comes later, with what was told to have ended.
        third, later = folder.server()
        await later.go_on()
        assert third.backend.runs == []
        made = await resume(third, job_id, "ada", ExecutionResume())
        assert (await third.execution(job_id)).resumed_by == made.id

    on_a_folder(work, tmp_path)


def test_whoever_is_up_ends_what_is_left_and_takes_over_what_waits_for_a_person(tmp_path):
    """Nobody has to ask for it: a question's time runs on its new server."""

    async def asks(run):
        about = {"call_id": "c", "question": "Tea?", "choices": [], "timeout": 86_400.0}
        run.say(status("running"), span("tool_call", 7, tool="ask_human", arguments={}))
        run.say(span("input_request", 7, **about))
        await asyncio.Event().wait()

    async def work(world, folder):
        first, _ = folder.server(asks, asking(), running=2)
        waiting = await world.start(first)
        await world.state(first, waiting, "waiting_for_input")
        left = await folder.started(first)
        second, looks = folder.server(resumes=False)
        folder.lost += first._runs.values()
        first._runs.clear()
        first.presence.close()
        for _ in range(LOOKS):
            await looks.go_on()
        stored = world.store.executions.get(waiting)
        assert (stored.status, stored.server) == ("waiting_for_input", second.presence.server_id)
        assert world.store.executions.get(left).status == "interrupted"
        await second.stop(waiting)

    on_a_folder(work, tmp_path)


def _disabled(world):
    user = {"id": "ada", "email": "ada@kasal.test", "password_hash": "", "tier": "free", "role": "editor"}
    world.store.users.insert(User(**user, disabled=True, created_at=NOW, updated_at=NOW))


def _crew_gone(world):
    world.store.crews.delete(world.whole.crew.id)


@pytest.mark.parametrize(
    ("change", "why", "late"),
    [
        (_disabled, "user was disabled", False),
        (_disabled, "", True),
        (_crew_gone, "crew is gone", False),
        (_crew_gone, "", True),
        (None, "used up", False),
    ],
)
def test_what_nobody_may_start_any_more_is_not_gone_on_with(tmp_path, change, why, late):
    async def work(world, folder):
        first, _ = folder.server(asking("1:a:1", *call(1, 10)))
        budget = Budget(max_tokens=10) if change is None else None
        job_id = await folder.started(first, budget=budget)
        await folder.killed(first)
        second, going_on = folder.server()
        if change is not None and not late:
            await world.store.change(lambda: change(world))
        await second.settle()
        if late:
            await world.store.change(lambda: change(world))
        await going_on.go_on()
        assert second.backend.runs == []
        former = world.store.executions.get(job_id)
        assert (former.status, former.to_resume, former.resumed_by) == ("interrupted", False, None)
        if not late:
            assert why in former.error.message

    on_a_folder(work, tmp_path)


def test_what_may_not_start_now_waits(tmp_path, monkeypatch):
    async def work(world, folder):
        first, _ = folder.server(asking())
        job_id = await folder.started(first)
        await folder.killed(first)
        folder.open = False
        second, going_on = folder.server()
        await second.settle()
        await going_on.go_on()
        assert await folder.successor(second, job_id) is None
        # The server that has found it dies, too, and the next one has no room at first.
        second.presence.close()
        third, later = folder.server()
        await third.settle()
        folder.open = True
        begin = third.begin

        async def full(*_args, **_options):
            monkeypatch.setattr(third, "begin", begin)
            raise Unavailable("The queue is full")

        monkeypatch.setattr(third, "begin", full)
        await later.go_on()
        assert await folder.successor(third, job_id) is None
        await later.go_on()
        assert (await folder.successor(third, job_id)).verb == "resume"

    on_a_folder(work, tmp_path)


def test_what_ends_its_server_again_and_again_is_left(tmp_path):
    async def work(world, folder):
        first, _ = folder.server(asking("1:bad:1"))
        job_id = await folder.started(first)
        await folder.killed(first)
        # An attempt that comes further, or that was not at work, is no such end.
        for keys in ("1:other:1", "1:bad:1", "1:bad:2"):
            runs, going_on = folder.server(asking(keys))
            await runs.settle()
            await going_on.go_on()
            made = await folder.successor(runs, job_id)
            assert made is not None, keys
            await world.state(runs, made.id, "running")
            await folder.killed(runs)
            job_id = made.id
        last, going_on = folder.server()
        await last.settle()
        await going_on.go_on()
        former = await last.execution(job_id)
        assert former.resumed_by is None
        assert "3 attempts have ended like this at the same call, the model m" in former.error.message
        # Whoever asks for it may try it once more: it has failed at nothing.
        assert (await resume(last, job_id, "ada", ExecutionResume())).attempt == 5

    on_a_folder(work, tmp_path)


def test_a_replay_is_left_and_what_is_deleted_meanwhile_is_passed_over(tmp_path, monkeypatch):
    async def work(world, folder):
        first, _ = folder.server(completes, goes_on, asking(), running=2)
        source = await world.state(first, await world.start(first))
        replayed = await replay(first, source.id, "ada")
        await world.state(first, replayed.id, "running")
        job_id = await folder.started(first)
        await folder.killed(first)
        second, going_on = folder.server()
        await second.settle()
        assert not world.store.executions.get(replayed.id).to_resume
        asked_of = verbs.asked_of

        def deleted(store, execution):
            store.change_now(lambda: store.executions.delete(job_id))
            return asked_of(store, execution)

        monkeypatch.setattr(verbs, "asked_of", deleted)
        await going_on.go_on()
        assert len(world.store.executions.find(to_resume=True)) == 0

    on_a_folder(work, tmp_path)
