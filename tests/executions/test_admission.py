"""How many runs go on at once: what the machine holds, and what the providers bear."""

from __future__ import annotations

import asyncio

import pytest

from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.executions.admission import FIRST, PAUSE_SECONDS, Admission
from kasal_jupyter.executions.queue import RunLimits, RunQueue
from kasal_jupyter.models.catalog import ModelCatalog
from kasal_jupyter.schemas.crews import CrewCreate
from tests.executions.test_faults import until
from tests.executions.test_life import live
from tests.fake_backend import FakeBackend, span, status
from tests.sample_crews import crew_body


class Machine:
    room = True

    def has_room(self):
        return self.room


class Time:
    now = 100.0

    def __call__(self):
        return self.now


class Waits:
    def __init__(self, owner="ada", **keys):
        self.owner, self.keys = owner, keys


@pytest.fixture
def made():
    time, machine, backend = Time(), Machine(), FakeBackend()
    admission = Admission(64, backend, machine, time)
    limits = RunLimits(running=64, running_per_user=64)
    return admission, RunQueue(limits, admission), time, machine, backend


def begun(queue):
    return list(iter(queue.next, None))


def test_a_keys_window_grows_with_answers_and_shrinks_by_a_fifth_with_refusals(made):
    admission, queue, time, _machine, _backend = made
    for _ in range(200):
        queue.add(Waits(m="key"))
    running = begun(queue)
    assert len(running) == FIRST
    while len(running) < 64:
        admission.answered("key")
        more = begun(queue)
        assert len(more) <= 1
        running += more
    for _ in range(200):
        admission.answered("key")
    assert begun(queue) == []
    # Those that run are refused together: that is one refusal.
    for _ in range(20):
        admission.refused("key")
    for run in running[:13]:
        queue.leave(run)
    assert begun(queue) == []
    queue.leave(running[13])
    assert len(begun(queue)) == 1
    time.now += PAUSE_SECONDS
    admission.refused("key")
    for run in running[14:26]:
        queue.leave(run)
    assert len(begun(queue)) == 1
    # From where it was refused, it grows slowly: a run for each round of answers.
    answers = 0
    while not begun(queue):
        admission.answered("key")
    while not begun(queue):
        admission.answered("key")
        answers += 1
    assert 38 < answers < 43


def test_however_often_a_key_is_refused_one_of_its_runs_goes_on(made):
    admission, queue, time, _machine, _backend = made
    for _ in range(100):
        time.now += PAUSE_SECONDS
        admission.refused("key")
    queue.add(Waits(m="key"))
    queue.add(Waits(m="key"))
    assert len(begun(queue)) == 1


def test_one_key_that_is_refused_holds_up_no_other(made):
    admission, queue, _time, _machine, _backend = made
    for _ in range(FIRST + 1):
        queue.add(Waits(m="busy"))
    others = [Waits(m="other"), Waits(), Waits("bob", m="busy", n="other"), Waits("bob", m="other")]
    for run in others:
        queue.add(run)
    assert admission.refused("busy", 30.0) == 30.0
    assert begun(queue) == [others[0], others[3], others[1]]
    assert queue.held_up


def test_what_a_provider_asks_to_wait_holds_for_all_and_only_the_longest_is_told(made):
    admission, queue, time, _machine, _backend = made
    queue.add(Waits(m="key"))
    (run,) = begun(queue)
    assert admission.refused("key", 10.0) == 10.0
    assert admission.refused("key", 5.0) is None
    assert admission.refused("key") is None
    assert admission.refused("key", 1_000.0) == 120.0
    time.now += 100.0
    assert admission.held("key") == 20.0
    assert admission.held("other") == 0.0
    queue.leave(run)
    queue.add(Waits(m="key"))
    assert begun(queue) == []
    time.now += 20.0
    assert len(begun(queue)) == 1


def test_a_machine_that_is_short_takes_no_more_than_a_few(made):
    _admission, queue, _time, machine, backend = made
    machine.room = False
    for _ in range(20):
        queue.add(Waits())
    running = begun(queue)
    assert len(running) == FIRST
    machine.room = True
    assert len(begun(queue)) == 12
    # Elsewhere, it is not this machine that counts.
    machine.room, backend.places = False, 21
    for _ in range(4):
        queue.add(Waits())
    assert len(begun(queue)) == 1


def test_runs_of_a_key_hear_what_its_provider_has_asked_another_to_wait(tmp_path):
    def refused(wait):
        error = {"code": "RATE_LIMIT", "message": "m: too many"}
        return [
            span("llm_call", 1, model="gpt-4", messages=[], tools=[]),
            span("llm_failed", 1, model="gpt-4", error=error, failure={"passing": True, "wait": wait}),
        ]

    other = asyncio.Event()

    async def is_refused(run):
        run.say(status("running"))
        await other.wait()
        run.say(*refused(40.0))
        await asyncio.Event().wait()

    async def waits(run):
        run.say(status("running"))
        other.set()
        await asyncio.Event().wait()

    async def work(world):
        runs = world.runs(is_refused, waits, running=3)
        runs.catalog = ModelCatalog(environ={"OPENAI_API_KEY": "sk-of-the-server"})
        asked = {**crew_body(), "agents": [{**each, "model": "gpt-4"} for each in crew_body()["agents"]]}
        world.whole = await Crews(world.store).create(CrewCreate.model_validate(asked), "ada")
        await world.start(runs)
        await world.start(runs)
        await until(lambda: len(runs.backend.runs) == 2 and runs.backend.runs[1].sent)
        first, second = runs.backend.runs
        (hold,) = [message.hold for message in second.sent]
        assert list(hold) == ["gpt-4"]
        assert 40.0 <= hold["gpt-4"] <= 50.0
        assert first.sent == []
        # Nobody begins meanwhile only to wait.
        await world.start(runs)
        assert runs.waiting == 1

    live(work, tmp_path)
