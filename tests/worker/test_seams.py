"""Every run ends, whatever fails in its own process: once, with its place free, and the next run starts."""

from __future__ import annotations

import asyncio
import contextlib
import sys

import pytest

from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.errors import KasalError
from kasal_jupyter.executions import run as run_module
from kasal_jupyter.executions.backends import zygote as zygote_module
from kasal_jupyter.executions.backends.local import LocalBackend
from kasal_jupyter.executions.journal import Journal
from kasal_jupyter.executions.verbs import start
from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.executions import ENDED
from kasal_jupyter.schemas.spec import RunToolAnswer
from kasal_jupyter.store.store import Store
from tests.engine import borrowed_zygotes
from tests.executions.test_faults import bench, until
from tests.sample_crews import crew_body
from tests.thorough import some_or_all
from tests.worker.faulty_zygote import ERRORS, SEAMS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no fork there")

PLACES = 4

HARMLESS = {"_HalvedFile.write", "RunLog.close", "Outbox.close", "McpServers.close", "write"}
"""Where a fault costs what was printed, or comes behind the end."""

OF_OTHER_ENDS = {"StopSignal.stop", "StopSignal.fail", "Outbox.mute", "Report.run_failed", "describe"}
"""What a run that completes does not come by."""

# Of the first calls, and of all from one on, which is worse; each with another error.
ROUNDS = some_or_all([(1, 1), (3, 1_000_000)], [(1, 1), (2, 2), (3, 1_000_000), (9, 9), (20, 1_000_000)])


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A server's runs over real processes that have faults, on a loop of its own."""
    folder = tmp_path_factory.mktemp("house")
    with (
        asyncio.Runner() as runner,
        Store.open(folder, SCHEMAS) as store,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(zygote_module.Zygote, "program", "tests.worker.faulty_zygote")
        backend = LocalBackend(folder)
        runs = bench(folder, store, backend, running=PLACES, running_per_user=PLACES)
        with borrowed_zygotes():
            runner.run(backend.start())
        body = crew_body()
        body["agents"][0]["tools"] = ["ask_human"]
        whole = runner.run(Crews(store).create(CrewCreate.model_validate(body), "ada"))
        yield runner, runs, whole
        runner.run(runs.close())
        runner.run(backend.close())


async def lived(runs, whole, topic, act=None):
    """Have a run live to its end; give its execution."""
    job_id = (await start(runs, whole, {"topic": topic}, "ada")).id
    run = runs._runs[job_id]
    await until(lambda: run.waits or run.ended, 200)
    if not run.ended:
        with contextlib.suppress(KasalError):
            if act is None:
                run.calls.answer(RunToolAnswer(call_id=_question(run), result="Yes"))
            else:
                await act(job_id)
    await until(lambda: run.ended, 200)
    return job_id


def _question(run):
    (question,) = run.feed.summary.questions.values()
    return question.call_id


def told(runs, job_id):
    """Give how a run has ended, which its journal says once."""
    events = list(Journal.open(runs.files.journal(job_id)).events())
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    ends = [event for event in events if event.get("status") in ENDED]
    execution = runs.store.executions.get(job_id)
    assert [event["status"] for event in ends] == [execution.status]
    assert execution.booked
    return execution


@pytest.mark.parametrize("stopped", [False, True], ids=["by itself", "stopped"])
def test_a_run_ends_once_whatever_fails_in_its_process(house, stopped):
    """All seams at the same time, at few places: those that come later have the places of the others."""
    runner, runs, whole = house
    cases = []
    for at, seam in enumerate(SEAMS):
        for number, (first, last) in enumerate(ROUNDS[: len(ROUNDS) // 2] if stopped else ROUNDS):
            error = list(ERRORS)[(at + number) % len(ERRORS)]
            if (seam, error) == ("recv", "EPIPE"):
                error = "EIO"  # By that, the server would be gone.
            cases.append((seam, "any" if seam == "line" else error, first, last))

    async def all_of_them():
        async with asyncio.timeout(240):
            act = runs.stop if stopped else None
            jobs = await asyncio.gather(
                *(lived(runs, whole, f"fault {' '.join(map(str, case))}", act) for case in cases)
            )
            await until(lambda: runs.active == 0)
            after = await lived(runs, whole, "tea")
            await until(lambda: runs.active == 0)
        return jobs, after

    jobs, after = runner.run(all_of_them())
    failed = set()
    for (seam, error, *_), job_id in zip(cases, jobs, strict=True):
        execution = told(runs, job_id)
        assert execution.status in {"completed", "failed", "stopped"}, (seam, execution)
        if execution.status == "failed":
            failed.add(seam)
            reason = "cannot be read" if seam == "line" else str(ERRORS[error]()).partition("] ")[2]
            known = (reason or "of whatever type", "out of memory", "could not send all", "could not begin")
            assert any(words in execution.error.message for words in known), (seam, error, execution.error)
    assert told(runs, after).status == "completed"
    if not stopped:
        # What never fails would not be tested here.
        assert failed >= set(SEAMS) - HARMLESS - OF_OTHER_ENDS


@pytest.mark.parametrize("left", ["asleep", "behind the end", "before the end"])
def test_a_run_ends_whatever_thread_it_leaves_behind(house, left, monkeypatch):
    """One that holds the interpreter's lock lets nobody else do anything: the server ends the process."""
    monkeypatch.setattr(run_module, "LATE_SECONDS", 0.5)
    runner, runs, whole = house

    async def both():
        async with asyncio.timeout(120):
            job_id = (await start(runs, whole, {"topic": f"left {left}"}, "ada")).id
            run = runs._runs[job_id]
            await until(lambda: run.waits)
            run.calls.answer(RunToolAnswer(call_id=_question(run), result="Yes"))
            await until(lambda: run.feed.summary.tasks_done == 2)
            if left == "before the end":
                await runs.stop(job_id)
            process = run._handle
            await until(lambda: runs.active == 0)
            await process.gone()
            after = await lived(runs, whole, "tea")
            await until(lambda: runs.active == 0)
        return job_id, after

    job_id, after = runner.run(both())
    assert told(runs, job_id).status == ("stopped" if left == "before the end" else "completed")
    assert told(runs, after).status == "completed"
