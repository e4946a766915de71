"""How long executions are kept: what goes by which rule, what stays, and what is told of it."""

from __future__ import annotations

import asyncio
import gzip

import pytest
from filelock import FileLock

from kasal_jupyter.errors import Conflict, NotFound
from kasal_jupyter.events.packed import packed_path
from kasal_jupyter.executions.artifacts import list_artifacts
from kasal_jupyter.executions.cassettes import record_of
from kasal_jupyter.executions.lineage import asked_of
from kasal_jupyter.executions.retention import Retention
from kasal_jupyter.executions.traces import compared, trace_rows
from kasal_jupyter.executions.usage_report import usage_of
from kasal_jupyter.executions.verbs import once, replay, resume
from kasal_jupyter.schemas.executions import ExecutionResume
from kasal_jupyter.schemas.retention import PruneRequest, RetentionRules
from kasal_jupyter.schemas.usage import UsageQuery
from tests.executions.test_faults import until
from tests.executions.test_life import live
from tests.executions.test_lineage import failing, spec_of
from tests.fake_backend import call, goes_on, status

NOTHING = dict.fromkeys(RetentionRules.model_fields, 0)


def talking(calls):
    async def script(run):
        run.say(status("running"))
        for number in range(1, calls + 1):
            run.say(*call(number, 10))
        run.say(status("completed", result="Tea"))
        run.exit()

    return script


async def ended(world, runs, job_id, day):
    """Have a run end, and have ended on a day long ago."""
    await world.state(runs, job_id)
    await until(lambda: not runs.followed(job_id))
    moment = f"2024-01-{day:02}T10:30:00Z"
    await world.store.change(lambda: world.store.executions.update(job_id, {"ended_at": moment}))


def told(report):
    return [(step.action, step.rule, step.executions) for step in report.steps]


def on_disk(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("job_*"))


def test_what_is_old_is_compressed_then_thinned_out_then_deleted_and_the_books_stay(tmp_path):
    async def work(world):
        runs, other = world.runs(*[talking(300)] * 3), world.runs()
        jobs = [await world.start(runs) for _ in range(3)]
        for day, job_id in enumerate(jobs, 1):
            await ended(world, runs, job_id, day)
        first, _, third = jobs
        folder = runs.files.workspace(first)
        (folder / "output.log").write_text("said\n" * 2_000)
        (folder / "notes").mkdir()
        (folder / "notes" / "tea.md").write_text("tea" * 100)
        (folder / "result.txt").write_text("all of it")
        await world.store.change(lambda: world.store.executions.update(first, {"result_file": "result.txt"}))
        books = await usage_of(runs, UsageQuery(), {}, "ada")
        feed, journal = await other.feed(first), runs.files.journal(first)
        seen = feed.journal.read(250, 9)
        rows = trace_rows(feed.journal, 0, 10_000)
        asked, execution = (
            asked_of(world.store, world.store.executions.get(first)),
            await runs.execution(first),
        )
        record = b"".join(record_of(execution, asked, journal))
        plain, there = journal.read_bytes(), on_disk(tmp_path)

        retention = Retention(runs, RetentionRules(**NOTHING))
        assert told(await retention.prune()) == []
        rules = {"compress_days": 1, "dry_run": True}
        would = await retention.prune(PruneRequest(**rules))
        assert (told(would), on_disk(tmp_path)) == ([("compress", "age", 3)], there)
        assert (would.executions, would.held) == (3, 0)
        assert would.bytes == sum(path.stat().st_size for path in runs.folder.rglob("*") if path.is_file())
        sizes = [runs.files.journal(each).stat().st_size for each in jobs]
        assert would.steps[0].bytes == sum(sizes) + 10_000

        done = await retention.prune(PruneRequest(compress_days=1))
        assert (told(done), done.bytes < would.bytes / 3) == (told(would), True)
        assert not journal.exists()
        assert gzip.decompress(packed_path(journal).read_bytes()) == plain
        assert gzip.decompress((folder / "output.log.gz").read_bytes()) == b"said\n" * 2_000
        assert told(await retention.prune(PruneRequest(compress_days=1))) == []
        # A server that had it open, and one that opens it now; the whole of it and each kind of look.
        assert feed.journal.read(250, 9) == seen
        runs._feeds.forget(first)
        again = await runs.feed(first)
        assert (again.summary.fields(), trace_rows(again.journal, 0, 10_000)) == (feed.summary.fields(), rows)
        assert b"".join(record_of(execution, asked, journal)) == record
        assert all(step.a == step.b for step in compared(again.journal, feed.journal).steps)
        copy = await replay(runs, first, "ada")
        await ended(world, runs, copy.id, 9)
        assert spec_of(runs, copy.id).source.journal == str(journal)
        assert [each.name for each in list_artifacts(folder)] == ["notes/tea.md", "result.txt"]

        thinner = await retention.prune(PruneRequest(artifact_days=1, log_days=1))
        assert told(thinner) == [("delete_files", "age", 1), ("delete_log", "age", 1)]
        assert [path.name for path in folder.iterdir()] == ["result.txt"]

        keep = PruneRequest(executions=2)
        would = await retention.prune(keep.model_copy(update={"dry_run": True}))
        fewer = await retention.prune(keep)
        assert (told(fewer), fewer.executions) == ([("delete", "number", 2)], 2)
        assert (told(would), would.executions) == (told(fewer), 2)
        assert {each.id for each in world.store.executions.find()} == {third, copy.id}
        assert not any(first in name for name in on_disk(tmp_path))
        for server in (runs, other):
            with pytest.raises(NotFound, match=first):
                await server.feed(first)
        with pytest.raises(NotFound, match="was deleted"):
            feed.journal.read(0)
        small = await retention.prune(PruneRequest(bytes=1))
        assert (told(small), small.executions, on_disk(tmp_path)) == ([("delete", "size", 2)], 0, [])
        assert await usage_of(runs, UsageQuery(), {}, "ada") == books

    live(work, tmp_path)


def test_a_run_that_others_hang_on_stays(tmp_path):
    async def work(world):
        runs = world.runs(failing(), failing("2:abc"), goes_on, goes_on)
        first = await world.start(runs)
        await ended(world, runs, first, 1)
        second = (await resume(runs, first, "ada", ExecutionResume())).id
        retention = Retention(runs, RetentionRules(**NOTHING | {"execution_days": 1}))
        await world.state(runs, second)
        await until(lambda: not runs.followed(second))
        # What could be gone on with would take answers of the first as well.
        assert (told(await retention.prune()), (await retention.prune()).held) == ([], 1)
        await ended(world, runs, second, 2)
        third = (await resume(runs, second, "ada", ExecutionResume())).id
        assert (await retention.prune()).held == 2
        for earlier in (first, second):
            with pytest.raises(Conflict, match=f"{third} takes its answers from {earlier}"):
                await runs.delete(earlier)
        await runs.stop(third)
        await ended(world, runs, third, 3)
        followed = (await runs.feed(third)).subscribe(lambda *_: None)
        # The last goes when nobody follows it any more, and those before it when it is gone.
        assert (told(await retention.prune()), world.store.executions.count()) == ([], 3)
        followed()
        report = await retention.prune()
        assert (told(report), report.held) == ([("delete", "age", 1)], 0)
        assert (told(await retention.prune()), world.store.executions.count()) == ([("delete", "age", 2)], 0)
        with pytest.raises(NotFound):
            await resume(runs, second, "ada", ExecutionResume())

    live(work, tmp_path)


def test_who_is_answered_by_a_run_that_goes_meanwhile_is_told(tmp_path):
    async def work(world):
        runs = world.runs(*[talking(1)] * 3)
        source = await world.start(runs)
        await ended(world, runs, source, 1)
        retention = Retention(runs, RetentionRules(**NOTHING | {"execution_days": 1}))
        begin = runs.begin

        async def late(*args, **options):
            await retention.prune()
            return await begin(*args, **options)

        runs.begin = late
        with pytest.raises(NotFound, match=f"no execution {source} any more"):
            await replay(runs, source, "ada")
        assert (world.store.executions.count(), on_disk(tmp_path)) == (0, [])
        # An answer of old that is gone is asked for anew.
        inputs = {"topic": "tea"}
        for _ in range(2):
            execution, earlier = await once(runs, world.whole, inputs, "ada")
            assert not earlier
            await ended(world, runs, execution.id, 2)

    live(work, tmp_path)


def test_one_server_at_a_time_prunes_and_takes_away_what_a_killed_one_has_left(tmp_path):
    async def work(world):
        runs = world.runs(talking(300))
        job_id = await world.start(runs)
        await ended(world, runs, job_id, 1)
        half = runs.folder / f".{job_id}.jsonl.gz-x1y2.part"
        half.write_bytes(b"half")
        retention = Retention(runs, RetentionRules(**NOTHING | {"compress_days": 1}))
        with FileLock(tmp_path / "retention.lock"), pytest.raises(Conflict, match="at this moment"):
            await retention.prune()
        # Killed in between, it has left both.
        packed_path(runs.files.journal(job_id)).write_bytes(b"old")
        events = world.events(runs, job_id)
        await asyncio.gather(retention.prune(), runs.feed(job_id))
        assert (half.exists(), runs.files.journal(job_id).exists()) == (False, False)
        assert world.events(runs, job_id) == events
        await runs.delete(job_id)
        assert on_disk(tmp_path) == []

    live(work, tmp_path)
