"""A run's life, with a backend that launches nothing: what is held, what comes late, who has to wait."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Mapping
from types import MappingProxyType

import orjson
import pytest

from kasal_jupyter.api.listing import list_page
from kasal_jupyter.crews.crews import Crews
from kasal_jupyter.errors import Conflict, StoreError, TooManyRequests, Unavailable
from kasal_jupyter.executions import journal as journal_module
from kasal_jupyter.executions import run as run_module
from kasal_jupyter.executions.acceptance import KeyedRequest
from kasal_jupyter.executions.disabled_users import USER_DISABLED
from kasal_jupyter.executions.journal import Journal
from kasal_jupyter.executions.recovery import SURE_SECONDS
from kasal_jupyter.executions.usage_report import usage_of
from kasal_jupyter.executions.verbs import start
from kasal_jupyter.memory.findable import SCHEMAS
from kasal_jupyter.schemas.executions import ENDED, Budget, ExecutionQuery
from kasal_jupyter.schemas.usage import UsageQuery
from kasal_jupyter.store.repository import Page
from kasal_jupyter.store.store import Store
from tests.executions.test_faults import bench, body, until
from tests.fake_backend import FakeBackend, call, completes, event, goes_on, span, status


class World:
    """A server's runs on a data folder, and a crew."""

    def __init__(self, folder, store, whole):
        self.folder, self.store, self.whole = folder, store, whole
        self.servers = []

    def runs(self, *scripts, **limits):
        runs = bench(self.folder, self.store, FakeBackend(*scripts), **limits)
        self.servers.append(runs)
        return runs

    async def start(self, runs, owner="ada", **options):
        return (await start(runs, self.whole, {"topic": "tea"}, owner, **options)).id

    async def state(self, runs, job_id, *states):
        async with asyncio.timeout(30):
            while (await runs.execution(job_id)).status not in (states or ENDED):  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        return await runs.execution(job_id)

    def events(self, runs, job_id):
        return list(Journal.open(runs.files.journal(job_id)).events())


def live(work, folder):
    """Do something in a world of its own, and close all that was opened."""

    async def lived():
        with Store.open(folder, SCHEMAS) as store:
            world = World(folder, store, await Crews(store).create(body(), "ada"))
            try:
                async with asyncio.timeout(60):
                    return await work(world)
            finally:
                for runs in world.servers:
                    async with asyncio.timeout(20):
                        await runs.close()

    return asyncio.run(lived())


class Disk:
    """The disk of the journals, which can be full, or slow."""

    def __init__(self, patch):
        self.full = False
        self.free = threading.Event()
        self.free.set()
        self._os = os
        for name in ("O_RDWR", "O_CREAT", "O_EXCL", "O_APPEND", "open", "close", "ftruncate"):
            setattr(self, name, getattr(os, name))
        patch.setattr(journal_module, "os", self)

    def write(self, out, data):
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._os.write(out, data)

    def fsync(self, out):
        self.free.wait(30)
        self._os.fsync(out)


@pytest.fixture
def disk(monkeypatch):
    disk = Disk(monkeypatch)
    yield disk
    disk.free.set()


# -- the disk ------------------------------------------------------------------------------------------


def test_a_run_outlives_a_disk_that_is_full_for_a_moment(tmp_path, disk):
    async def work(world):
        room = asyncio.Event()

        async def script(run):
            run.say(status("running"))
            disk.full = True
            run.say(*call(1, 10))
            await room.wait()
            disk.full = False
            run.say(*call(2, 5), status("completed", result="Tea"))
            run.exit()

        runs = world.runs(script)
        job_id = await world.start(runs)
        feed = await runs.feed(job_id)
        await until(lambda: feed.journal.held)
        # What the disk has not taken can be read nevertheless.
        assert [orjson.loads(line)["seq"] for line in feed.journal.read(2)] == [3, 4]
        assert (await runs.execution(job_id)).usage.total_tokens == 10
        room.set()
        ended = await world.state(runs, job_id)
        assert (ended.status, ended.result, ended.usage.total_tokens) == ("completed", "Tea", 15)
        await until(lambda: not runs.active)
        assert [each["seq"] for each in world.events(runs, job_id)] == [1, 2, 3, 4, 5, 6, 7]

    live(work, tmp_path)


def test_what_no_memory_could_hold_fails_the_run(tmp_path, disk, monkeypatch):
    monkeypatch.setattr(run_module, "HELD_BYTES", 100)

    async def work(world):
        async def script(run):
            run.say(status("running"))
            disk.full = True
            run.say(*call(1, 10))
            await asyncio.Event().wait()

        runs = world.runs(script, completes)
        job_id = await world.start(runs)
        ended = await world.state(runs, job_id)
        assert (ended.status, ended.error.code) == ("failed", "STORE_ERROR")
        assert runs.backend.runs[0].stopped
        with pytest.raises(StoreError, match="No space"):
            await world.start(runs)
        disk.full = False
        await until(lambda: not runs.active)
        assert world.store.executions.get(job_id).status == "failed"
        assert (await world.state(runs, await world.start(runs))).status == "completed"

    live(work, tmp_path)


def test_an_end_that_no_disk_takes_is_made_again_by_the_next_server(tmp_path, disk):
    async def work(world):
        runs = world.runs(goes_on)
        job_id = await world.start(runs)
        await world.state(runs, job_id, "running")
        await until(lambda: world.store.executions.get(job_id).status == "running")
        disk.full = True
        assert (await runs.stop(job_id)).status == "stopped"
        await runs.close()
        world.servers.clear()
        assert world.store.executions.get(job_id).status == "running"
        disk.full = False
        after = world.runs()
        await after.settle()
        assert world.store.executions.get(job_id).status == "interrupted"
        assert [each.get("status") for each in world.events(after, job_id)] == [
            "queued",
            "running",
            "interrupted",
        ]

    live(work, tmp_path)


async def listed(runs, query):
    """List executions as ``GET /executions`` does."""
    page = await list_page(
        runs.store.executions,
        query,
        {"owner": "ada", "status": query.status},
        searched=("crew_name", "result"),
        newer=runs.unstored(),
    )
    return Page(await runs.current(page.documents), page.total)


def test_nobody_who_reads_waits_for_a_slow_disk(tmp_path, disk):
    async def work(world):
        gate = asyncio.Event()

        async def script(run):
            run.say(status("running"))
            await gate.wait()
            run.say(*call(1, 10), status("completed", result="Tea"))
            run.exit()

        runs = world.runs(script)
        job_id = await world.start(runs)
        await world.state(runs, job_id, "running")
        disk.free.clear()
        gate.set()
        assert (await world.state(runs, job_id)).status == "completed"
        assert [each.status for each in runs.unstored().values()] == ["completed"]
        await runs.put_away(world.whole.crew.id)
        assert world.store.executions.get(job_id).status != "completed"
        for query, count in [
            ({}, 1),
            ({"status": "completed"}, 1),
            ({"status": "running"}, 0),
            ({"search": "tea"}, 1),
            ({"search": "coffee"}, 0),
            ({"status": "completed", "page": 2, "per_page": 1}, 1),
        ]:
            page = await listed(runs, ExecutionQuery(**query))
            assert page.total == count, query
            assert [each.status for each in page.documents] == ["completed"] * count * ("page" not in query)
        used = await usage_of(runs, UsageQuery(), {}, "ada")
        assert (used.whole.runs, used.whole.total_tokens) == (1, 10)
        disk.free.set()
        await until(lambda: not runs.active)
        assert runs.unstored() == {}
        used = await usage_of(runs, UsageQuery(), {}, "ada")
        assert (used.whole.runs, used.whole.total_tokens) == (1, 10)
        assert world.store.executions.get(job_id).status == "completed"

    live(work, tmp_path)


def test_an_execution_whose_journal_could_not_be_synced_is_not_there(tmp_path, disk, monkeypatch):
    async def work(world):
        def fails(out):
            raise OSError(errno.EIO, "Input/output error")

        runs = world.runs(completes)
        with monkeypatch.context() as patch:
            patch.setattr(disk, "fsync", fails)
            with pytest.raises(StoreError, match="Input/output"):
                await world.start(runs)
        assert (world.store.executions.find(), list(runs.folder.iterdir()), runs.active) == ([], [], 0)
        assert (await world.state(runs, await world.start(runs))).status == "completed"

    live(work, tmp_path)


# -- lines that are no events --------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"\0" * 40, b"[1]", b'{"time":1}', b"{", b'{"type":"x"}', b'"x"', b""])
def test_a_damaged_line_is_an_event_of_its_own_and_the_others_count_on(tmp_path, damage):
    async def work(world):
        runs = world.runs(completes)
        job_id = await world.start(runs)
        await until(lambda: not runs.active)
        path = runs.files.journal(job_id)
        lines = path.read_bytes().splitlines()
        path.write_bytes(b"\n".join([*lines[:2], damage, *lines[3:]]) + b"\n")
        again = world.runs()
        await again.settle()
        feed = await again.feed(job_id)
        kinds = [orjson.loads(line)["type"] for line in feed.journal.read()]
        assert kinds == [
            "execution_status",
            "execution_status",
            "damaged",
            "llm_response",
            "execution_status",
        ]
        assert [orjson.loads(line)["seq"] for line in feed.journal.read()] == [1, 2, 3, 4, 5]
        assert feed.summary.status == "completed"

    live(work, tmp_path)


def test_lines_whose_ends_were_swallowed_leave_the_others_numbered_by_their_place(tmp_path):
    path = tmp_path / "job_1.jsonl"
    journal = Journal.create(path)
    journal.append([status("queued"), *call(1, 1), *call(2, 2), status("completed")])
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\0" * len(lines[1] + lines[2]) + b"".join(lines[3:]))
    events = list(Journal.open(path).events())
    # The zeros stand on the line of the event behind them, which is whole.
    assert [each["type"] for each in events] == [
        "execution_status",
        "damaged",
        "llm_call",
        "llm_response",
        "execution_status",
    ]
    assert [each["seq"] for each in events] == [1, 2, 3, 4, 5]


def test_what_a_process_says_that_is_no_event_is_never_written(tmp_path):
    async def work(world):
        async def script(run):
            run.say(status("running"), b"nonsense", b"[]", b'{"type":"llm_chunk"}', b"\0\0")
            run.say(event("execution_status", status="of no kind"), event("of a later version"))
            run.say(status("completed", result="Tea"))
            run.exit()

        runs = world.runs(script)
        job_id = await world.start(runs)
        assert (await world.state(runs, job_id)).result == "Tea"
        await until(lambda: not runs.active)
        assert [each["type"] for each in world.events(runs, job_id)] == [
            *["execution_status"] * 2,
            *["damaged"] * 4,
            "of a later version",
            "execution_status",
        ]

    live(work, tmp_path)


@pytest.mark.parametrize("fields", [{"result": 7}, {"error": "no"}, {"error": {"code": 1, "message": 2}}])
def test_an_end_of_which_no_summary_can_be_made_is_an_end(tmp_path, fields):
    async def work(world):
        async def script(run):
            run.say(status("running"), status("failed", **fields))
            run.exit()

        runs = world.runs(script)
        job_id = await world.start(runs)
        assert (await world.state(runs, job_id)).status == "failed"
        await until(lambda: not runs.active)
        assert world.store.executions.get(job_id).status == "failed"

    live(work, tmp_path)


def test_a_server_stamps_no_event_before_the_last_one(tmp_path):
    async def work(world):
        async def script(run):
            run.say(orjson.dumps({**orjson.loads(status("running")), "time": "2999-01-01T00:00:00.000000Z"}))
            await asyncio.Event().wait()

        runs = world.runs(script)
        job_id = await world.start(runs)
        await world.state(runs, job_id, "running")
        await runs.stop(job_id)
        await until(lambda: not runs.active)
        times = [each["time"] for each in world.events(runs, job_id)]
        assert times == sorted(times)
        assert world.store.executions.get(job_id).duration == 0

    live(work, tmp_path)


# -- what comes behind the end -------------------------------------------------------------------------


def remembers(gate):
    """Complete, and distil what is to be remembered when the gate opens."""

    async def script(run):
        run.say(status("running"), status("completed", result="Tea"))
        await gate.wait()
        run.say(*call(9, 100), status("failed"), event("error", code="X", message="y"))
        memory = {"id": "mem_1", "type": "long_term", "content": "Tea is hot", "category": "tea"}
        run.say(event("memory_stored", memories=[memory]))
        run.exit()

    return script


def test_the_result_is_there_when_the_tasks_are_done_and_memories_come_after(tmp_path):
    async def work(world):
        gate = asyncio.Event()
        runs = world.runs(remembers(gate), completes)
        job_id = await world.start(runs)
        assert (await world.state(runs, job_id)).result == "Tea"
        # It is stored, its place is free, and nobody can stop it any more.
        await until(lambda: world.store.executions.get(job_id).status == "completed")
        assert (await world.state(runs, await world.start(runs))).status == "completed"
        with pytest.raises(Conflict):
            await runs.stop(job_id)
        followed = []
        (await runs.feed(job_id)).subscribe(lambda _first, lines: followed.extend(lines))
        gate.set()
        await until(lambda: not runs.active)
        stored = world.store.executions.get(job_id)
        assert (stored.status, stored.result, stored.error) == ("completed", "Tea", None)
        assert stored.usage.total_tokens == 100
        assert sum(entry.usage.total_tokens for entry in world.store.ledger.find()) == 110
        assert [each.content for each in world.store.memories.find()] == ["Tea is hot"]
        kinds = [orjson.loads(line)["type"] for line in followed]
        assert kinds == ["llm_call", "llm_response", "memory_stored"]
        assert [each["type"] for each in world.events(runs, job_id)][3:] == kinds

    live(work, tmp_path)


def test_what_comes_behind_the_end_comes_soon_or_never(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "LATE_SECONDS", 0.01)

    async def work(world):
        runs = world.runs(remembers(asyncio.Event()))
        job_id = await world.start(runs)
        await until(lambda: not runs.active)
        assert runs.backend.runs[0].stopped
        assert world.store.executions.get(job_id).booked

    live(work, tmp_path)


def test_a_run_that_is_remembered_still_is_deleted_at_once(tmp_path):
    async def work(world):
        runs = world.runs(remembers(asyncio.Event()))
        job_id = await world.start(runs)
        await world.state(runs, job_id)
        await runs.delete(job_id)
        assert not runs.active
        assert list(runs.folder.iterdir()) == []

    live(work, tmp_path)


def test_files_that_cannot_be_deleted_are_deleted_later(tmp_path, monkeypatch):
    async def work(world):
        runs = world.runs(completes)
        job_id = await world.start(runs)
        await world.state(runs, job_id)
        (runs.files.workspace(job_id) / "written.txt").touch()
        with monkeypatch.context() as full:
            full.setattr(os, "scandir", fails_for_want_of_descriptors)
            full.setattr(os, "open", fails_for_want_of_descriptors)
            await runs.delete(job_id)
            await runs.clear_away()
        assert runs.files.workspace(job_id).exists()
        await runs.clear_away()
        assert list(runs.folder.iterdir()) == []

    live(work, tmp_path)


def test_a_refused_run_leaves_no_folder_even_without_descriptors(tmp_path, monkeypatch):
    async def work(world):
        runs = world.runs(completes)
        with monkeypatch.context() as full:
            full.setattr(os, "scandir", fails_for_want_of_descriptors)
            full.setattr(os, "open", fails_for_want_of_descriptors)
            full.setattr("builtins.open", fails_for_want_of_descriptors)
            full.setattr("io.open", fails_for_want_of_descriptors)
            with pytest.raises(StoreError):
                await world.start(runs)
        assert list(runs.folder.iterdir()) == []

    live(work, tmp_path)


def fails_for_want_of_descriptors(*_arguments, **_options):
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


# -- the watch outside ---------------------------------------------------------------------------------


def test_a_run_ends_when_its_time_is_over_whatever_its_process_does(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "GRACE_SECONDS", 0.01)

    async def work(world):
        runs = world.runs(goes_on)
        job_id = await world.start(runs, budget=Budget(max_seconds=0.01))
        ended = await world.state(runs, job_id)
        assert (ended.status, ended.error.code) == ("failed", "BUDGET_EXCEEDED")
        await until(lambda: not runs.active)
        assert runs.backend.runs[0].stopped

    live(work, tmp_path)


@pytest.mark.parametrize("mute", ["launch", "process"])
def test_a_run_that_does_not_begin_fails(tmp_path, monkeypatch, mute):
    monkeypatch.setattr(run_module, "PREPARE_SECONDS", 0.01)

    async def work(world):
        late = asyncio.Event()

        async def silent(run):
            await asyncio.Event().wait()

        # Long enough to get as far as the launch on a machine that does much else.
        runs = world.runs(silent, completes, launch_seconds=1.0)
        if mute == "launch":
            launch = runs.backend.launch

            async def hangs(*args):
                monkeypatch.undo()
                await late.wait()
                return await launch(*args)

            monkeypatch.setattr(runs.backend, "launch", hangs)
        job_id = await world.start(runs)
        ended = await world.state(runs, job_id)
        assert (ended.status, ended.error.code) == ("failed", "SERVICE_UNAVAILABLE")
        await until(lambda: not runs.active)
        # What comes of the launch in the end is ended as it comes.
        late.set()
        await until(lambda: runs.backend.runs and runs.backend.runs[0].stopped)
        assert [each.get("status") for each in world.events(runs, job_id)] == ["queued", None, "failed"]

    live(work, tmp_path)


def test_a_process_that_cannot_be_ended_keeps_nobody_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "STOP_SECONDS", 0.02)

    async def work(world):
        runs = world.runs(goes_on, completes)
        job_id = await world.start(runs)
        await world.state(runs, job_id, "running")
        monkeypatch.setattr(runs.backend.runs[0], "stop", asyncio.Event().wait)
        assert (await runs.stop(job_id)).status == "stopped"
        await until(lambda: not runs.active)
        assert (await world.state(runs, await world.start(runs))).status == "completed"

    live(work, tmp_path)


# -- the queue -----------------------------------------------------------------------------------------


def test_owners_come_in_turn_and_each_run_knows_its_place(tmp_path):
    async def work(world):
        gate = asyncio.Event()

        async def waits(run):
            await gate.wait()
            await completes(run)

        runs = world.runs(waits)
        first = await world.start(runs, "ada")
        many = [await world.start(runs, "ada") for _ in range(4)]
        other = [await world.start(runs, "bob") for _ in range(2)]
        line = [many[0], other[0], many[1], other[1], *many[2:]]
        assert [runs.position(job_id) for job_id in line] == [1, 2, 3, 4, 5, 6]
        assert runs.position(first) is None
        await runs.stop(many[1])
        assert runs.position(many[2]) == 3
        gate.set()
        await until(lambda: not runs.active)
        line.remove(many[1])
        assert [each.spec.job_id for each in runs.backend.runs] == [
            first,
            many[0],
            other[0],
            many[2],
            other[1],
            many[3],
        ]

    live(work, tmp_path)


def test_limits_of_one_owner_leave_room_for_others(tmp_path):
    async def work(world):
        runs = world.runs(goes_on, running=3, running_per_user=2, queued=4, queued_per_user=2)
        mine = [await world.start(runs, "ada") for _ in range(4)]
        await until(lambda: len(runs.backend.runs) == 2)
        with pytest.raises(TooManyRequests, match="max_queued_per_user"):
            await world.start(runs, "ada")
        other = await world.start(runs, "bob")
        await world.state(runs, other, "running")
        for _ in range(2):
            await world.start(runs, "bob")
        with pytest.raises(Unavailable, match="max_queued"):
            await world.start(runs, "eve")
        assert [(await runs.execution(job_id)).status for job_id in mine] == ["running"] * 2 + ["queued"] * 2

    live(work, tmp_path)


def test_a_run_that_waits_for_a_person_holds_no_place(tmp_path):
    async def work(world):
        answered = asyncio.Event()

        async def asking(run):
            run.say(status("running"))
            run.say(span("tool_call", 7, tool="ask_human", arguments={}))
            run.say(span("input_request", 7, call_id="c", question="Tea?", choices=[], timeout=86400.0))
            await answered.wait()
            run.say(span("tool_result", 7, tool="ask_human", result="Yes"))
            await asyncio.Event().wait()

        runs = world.runs(asking, asking, asking, goes_on, running=1, asking_per_user=2)
        first, second = [await world.start(runs) for _ in range(2)]
        await until(lambda: len(runs.backend.runs) == 2)
        third, last = [await world.start(runs) for _ in range(2)]
        await until(lambda: len(runs.backend.runs) == 3)
        # Two of an owner may wait without a place: the third keeps its own.
        await world.state(runs, third, "waiting_for_input")
        assert runs.position(last) == 1
        # Those that are answered go on at once, and the others wait for all of them.
        answered.set()
        for job_id in (first, second):
            await until(lambda job_id=job_id: not runs._runs[job_id].waits)
        await runs.stop(first)
        await runs.stop(second)
        assert runs.position(last) == 1
        await runs.stop(third)
        await world.state(runs, last, "running")

    live(work, tmp_path)


def test_of_two_requests_with_one_key_the_run_takes_the_free_place(tmp_path):
    async def work(world):
        runs = world.runs(completes)
        request = KeyedRequest("ada/key", "digest")
        jobs = await asyncio.gather(*(world.start(runs, request=request) for _ in range(5)))
        assert len(set(jobs)) == 1
        assert (await world.state(runs, jobs[0])).status == "completed"
        await until(lambda: not runs.active)
        assert sorted(path.name for path in runs.folder.iterdir()) >= [jobs[0]]
        assert len(list(runs.folder.glob("*.jsonl"))) == 1

    live(work, tmp_path)


def test_a_thousand_waiting_runs_cost_no_more_each_than_ten():
    from kasal_jupyter.executions.queue import RunLimits, RunQueue

    class Waits:
        compared = 0
        keys: Mapping[str, str] = MappingProxyType({})

        def __init__(self, owner):
            self.owner = owner

        def __eq__(self, other):
            Waits.compared += 1
            return self is other

        __hash__ = object.__hash__

    queue = RunQueue(RunLimits(running=1))
    runs = [Waits("ada") for _ in range(1_000)]
    for run in runs:
        queue.add(run)
    assert queue.position(runs[-1]) == 1_000
    for run in reversed(runs[1:]):
        queue.leave(run)
    assert queue.next() is runs[0]
    assert queue.waiting == 0
    assert Waits.compared < 2_000


# -- other servers -------------------------------------------------------------------------------------


def test_another_servers_run_is_stopped_once_and_otherwise_refused(tmp_path):
    async def work(world):
        async def ends(run):
            run.say(status("running"))
            while not first.store.stop_requests.has(run.spec.job_id):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            run.say(status("completed", result="Tea"))
            run.exit()

        first, second = world.runs(goes_on, ends), world.runs()
        job_id = await world.start(first)
        await world.state(second, job_id, "running")
        assert (await second.stop(job_id)).status == "stopped"
        # It completes as the other server is about to stop it.
        job_id = await world.start(first)
        await world.state(second, job_id, "running")
        with pytest.raises(Conflict, match="completed"):
            await second.stop(job_id)

    live(work, tmp_path)


def test_the_server_that_stops_a_run_for_another_is_told_why(tmp_path):
    async def work(world):
        first, second = world.runs(goes_on), world.runs()
        job_id = await world.start(first)
        await world.state(second, job_id, "running")
        stopped = await second.stop(job_id, USER_DISABLED)
        assert (stopped.status, stopped.error.code) == ("stopped", "USER_DISABLED")
        await until(lambda: not first.active)
        assert world.store.stop_requests.ids() == []

    live(work, tmp_path)


def test_one_that_hangs_as_it_is_stopped_holds_up_no_other_that_another_server_stops(tmp_path, monkeypatch):
    async def work(world):
        first, second = world.runs(goes_on, goes_on, running=2), world.runs()
        jobs = [await world.start(first) for _ in range(2)]
        for job_id in jobs:
            await world.state(first, job_id, "running")
        monkeypatch.setattr(first.backend.runs[0], "stop", asyncio.Event().wait)
        monkeypatch.setattr(run_module, "STOP_SECONDS", 0.5)
        stopped = await asyncio.gather(*(second.stop(job_id) for job_id in jobs))
        assert [each.status for each in stopped] == ["stopped", "stopped"]

    live(work, tmp_path)


def test_whoever_follows_a_run_whose_journal_has_lost_its_end_hears_it(tmp_path):
    async def work(world):
        runs = world.runs(completes)
        job_id = await world.start(runs)
        await until(lambda: not runs.active)
        path = runs.files.journal(job_id)
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:-1]))
        again = world.runs()
        feed = await again.feed(job_id)
        last = orjson.loads(feed.journal.read(feed.journal.seq - 1)[0])
        assert (last["seq"], last["status"], last["result"]) == (len(lines), "completed", "Tea")
        assert feed.summary.ended

    live(work, tmp_path)


def test_a_server_closes_while_another_ones_run_is_followed(tmp_path):
    async def work(world):
        first, second = world.runs(goes_on), world.runs()
        job_id = await world.start(first)
        await world.state(first, job_id, "running")
        feed = await second.feed(job_id)
        feed.subscribe(lambda *_: None)
        async with asyncio.timeout(5):
            await second.close()
        world.servers.remove(second)

    live(work, tmp_path)


def test_what_a_server_that_was_killed_has_left_unbooked_is_booked_by_the_next_who_looks(tmp_path):
    async def work(world):
        first, second = world.runs(remembers(asyncio.Event())), world.runs()
        job_id = await world.start(first)
        await until(lambda: world.store.executions.get(job_id).status == "completed")
        # Its server lives: it books it itself.
        await second.execution(job_id)
        await second._chores.finish(5)
        assert world.store.executions.get(job_id).booked is None
        first.presence.close()
        await second.execution(job_id)
        await until(lambda: world.store.executions.get(job_id).booked)
        assert sum(entry.runs for entry in world.store.ledger.find()) == 1

    live(work, tmp_path)


@pytest.mark.parametrize("neighbour", [False, True])
def test_what_was_never_acknowledged_is_swept_away_and_what_is_just_accepted_is_not(tmp_path, neighbour):
    async def work(world):
        runs = world.runs(completes)
        kept = await world.start(runs)
        await until(lambda: not runs.active)
        for name in ("job_old", "job_new"):
            (runs.folder / name).mkdir()
            (runs.folder / f"{name}.jsonl").write_bytes(b"")
        for path in runs.folder.glob("job_old*"):
            os.utime(path, (0, path.stat().st_mtime - 2 * SURE_SECONDS))
        others = [world.runs()] if neighbour else []
        await runs.close()
        world.servers.remove(runs)
        after = world.runs()
        await after.settle()
        left = {path.name.split(".")[0] for path in after.folder.iterdir()}
        assert left == ({kept, "job_new"} if others else {kept})

    live(work, tmp_path)


def test_an_execution_that_its_own_server_has_lost_hold_of_is_ended(tmp_path):
    async def work(world):
        runs = world.runs(goes_on)
        job_id = await world.start(runs)
        await world.state(runs, job_id, "running")
        lost = runs._runs.pop(job_id)
        assert (await runs.execution(job_id)).status == "interrupted"
        await lost.interrupt()

    live(work, tmp_path)
