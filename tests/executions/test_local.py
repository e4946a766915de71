"""The local backend: processes that start, stop, die and leave nothing behind."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import psutil
import pytest

from kasal_jupyter.errors import KasalError, Unavailable, WorkerLost
from kasal_jupyter.events.event import FAILING
from kasal_jupyter.executions.backends import child as child_module
from kasal_jupyter.executions.backends import zygote as zygote_module
from kasal_jupyter.executions.backends.backend import Exit
from kasal_jupyter.executions.backends.child import kill_marked
from kasal_jupyter.executions.backends.local import LocalBackend, LocalRun
from kasal_jupyter.executions.backends.zygote import Zygote
from kasal_jupyter.schemas.spec import RunMessage
from kasal_jupyter.warden import MARK
from tests.engine import SECRETS, Engine, agent, borrowed_zygotes, crew, openai_model, task
from tests.servers.openai_server import OpenAIServer, Reply

if sys.platform != "win32":
    import resource

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="process groups are looked at")


def one_task(folder, **fields):
    return crew(folder, [agent("Worker", **fields)], [task("t", "worker", "Work")])


def assert_gone(pid):
    """Wait for a process to be gone: a killed one takes the kernel a moment."""
    deadline = time.monotonic() + 120
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)


@pytest.fixture
def light(tmp_path, monkeypatch):
    """An engine of the test's own, whose zygote is there at once: its runs are no crews."""
    monkeypatch.setattr(Zygote, "program", LIGHT)
    running = Engine(tmp_path)
    yield running
    running.close()


LIGHT = "tests.light_zygote"


def zygote_of(pid):
    return psutil.Process(pid).ppid()


def test_a_run_exits_with_0_after_its_end_event(engine, tmp_path):
    record = engine.run(one_task(tmp_path))
    assert record.exited.result() == 0
    assert record.end["status"] == "completed"
    assert engine.backend.warm
    assert_gone(record.handle.pid)


def test_runs_share_nothing_but_the_zygote(engine, tmp_path):
    records = [
        engine.launch(one_task(tmp_path / str(at), sandbox={"latency": 0.2}, tools=["file_reader"]))
        for at in range(6)
    ]
    for record in records:
        record.wait_for("llm_call")
    assert len({record.handle.pid for record in records}) == 6
    assert {os.getpgid(record.handle.pid) for record in records} == {record.handle.pid for record in records}
    for record in records:
        assert record.exited.result(60) == 0
        assert record.of("tool_result")[0]["result"] == "The folder is empty."


@pytest.mark.parametrize("where", ["model", "tool", "http"])
def test_a_stopped_run_is_gone_and_its_neighbour_is_not(engine, tmp_path, where):
    with OpenAIServer(Reply("Never", hang=True)) as server:
        hanging = {
            "model": {"sandbox": {"latency": 3600}},
            "tool": {"tools": ["wait"]},
            "http": {"model": "gpt"},
        }[where]
        spec = crew(
            tmp_path / "stopped",
            [agent("Worker", **hanging)],
            [task("t", "worker", "Work")],
            models=openai_model(server.url),
        )
        if where == "tool":
            # The tool's example is half a second; a whole minute comes from a model that says so.
            server.replies[0] = Reply(calls=(("wait", {"seconds": 600}),))
            spec = spec.model_copy(update={"agents": [spec.agents[0].model_copy(update={"model": "gpt"})]})
        neighbour = engine.launch(one_task(tmp_path / "neighbour", sandbox={"latency": 0.6}))
        stopped = engine.launch(spec)
        stopped.wait_for("tool_call" if where == "tool" else "llm_call")
        engine.stop(stopped)
        assert stopped.exited.done()
        assert_gone(stopped.handle.pid)
        assert not [event for event in stopped.of("execution_status") if event["status"] != "running"]
        assert not [event for event in stopped.events if event["type"] in FAILING | {"error"}]
        assert neighbour.exited.result(60) == 0
        assert neighbour.end["status"] == "completed"
        if where == "http":
            assert server.gone.wait(120), "the provider still thinks somebody listens"


def test_stopping_a_run_that_is_over_does_nothing(engine, tmp_path):
    record = engine.run(one_task(tmp_path))
    engine.stop(record)
    assert record.exited.result() == 0


def test_a_run_that_was_asked_nicely_exits_by_itself(engine, tmp_path):
    record = engine.launch(one_task(tmp_path, sandbox={"latency": 3600}))
    record.wait_for("llm_call")
    engine.call(_send(record))
    assert record.exited.result(60) == 1


async def _send(record):
    record.handle.send(RunMessage(type="stop"))


def test_a_killed_child_is_noticed_and_its_half_line_dropped(engine, tmp_path):
    record = engine.launch(one_task(tmp_path, sandbox={"latency": 3600}))
    record.wait_for("llm_call")
    os.kill(record.handle.pid, signal.SIGKILL)
    assert record.exited.result(60) == -signal.SIGKILL
    assert all(orjson.loads(line) for line in record.raw)


def test_a_reader_that_pauses_loses_nothing(engine, tmp_path):
    words = {"answer_words": 5000}
    spec = crew(
        tmp_path,
        [agent("Worker", sandbox=words)],
        [task(f"t{at}", "worker", "Say it again " * 2000, context_texts=["word " * 5000]) for at in range(8)],
    )
    record = engine.launch(spec)
    engine.call(_pause(record))
    time.sleep(0.3)
    before = len(record.raw)
    engine.call(_resume(record))
    assert record.exited.result(60) == 0
    assert len(record.of("task_complete")) == 8
    assert before < len(record.raw)


async def _pause(record):
    record.handle.pause_reading()


async def _resume(record):
    record.handle.resume_reading()


def test_no_key_of_the_server_reaches_a_run(engine, tmp_path):
    assert os.environ["OPENAI_API_KEY"] == SECRETS["OPENAI_API_KEY"]
    record = engine.launch(one_task(tmp_path, sandbox={"latency": 3600}))
    record.wait_for("llm_call")
    environ = psutil.Process(record.handle.pid).environ()
    assert not set(SECRETS) & set(environ)
    assert not set(SECRETS.values()) & set(environ.values())
    engine.stop(record)


def test_the_zygote_has_one_thread_and_no_connection(engine, tmp_path):
    record = engine.launch(one_task(tmp_path, sandbox={"latency": 3600}))
    record.wait_for("llm_call")
    zygote = psutil.Process(zygote_of(record.handle.pid))
    assert zygote.num_threads() == 1
    assert zygote.net_connections("inet") == [], (
        "the server it warmed up against is gone, and it calls nobody"
    )
    engine.stop(record)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_zygote_that_dies_or_hangs_is_replaced_and_its_runs_live_on(light, tmp_path, fault, monkeypatch):
    # How long a zygote is waited for that tells nothing.
    monkeypatch.setattr(child_module, "REPORT_SECONDS", 0.1)
    monkeypatch.setattr(zygote_module, "LOOK_SECONDS", 0.1)
    records = [light.launch(one_task(tmp_path / name, sandbox={"latency": 3600})) for name in "abc"]
    for record in records:
        record.wait_for("llm_call")
    first = zygote_of(records[0].handle.pid)
    os.kill(first, fault)
    # One is stopped, and one dies, before anybody has missed the zygote.
    light.stop(records[0])
    os.kill(records[1].handle.pid, signal.SIGKILL)
    records[1].exited.result(60)
    again = light.run(one_task(tmp_path / "d"))
    assert again.exited.result() == 0
    assert again.end["status"] == "completed"
    assert_gone(first)
    assert not records[2].exited.done()
    light.stop(records[2])
    assert_gone(records[2].handle.pid)
    last = light.launch(one_task(tmp_path / "e", sandbox={"latency": 3600}))
    last.wait_for("llm_call")
    second = zygote_of(last.handle.pid)
    light.call(light.backend.close())
    assert_gone(second)
    assert last.exited.result(0) == -signal.SIGKILL


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory can be limited on Linux")


def greedy_crew(folder, times):
    """Describe a run that makes one long text of a short one."""
    tasks = [task("t", "worker", "{text} " * times)]
    return crew(folder, [agent("Worker")], tasks, inputs={"text": "much " * 200_000})


def assert_limited(running, folder):
    """Check that a run which needs more memory than it may have fails with that reason."""
    greedy = running.run(greedy_crew(folder / "greedy", 200))
    assert greedy.exited.result() == 0
    assert greedy.end["status"] == "failed"
    assert greedy.end["error"]["code"] == "OUT_OF_MEMORY"


@linux
def test_a_run_that_needs_more_memory_than_it_may_have_fails_with_that_reason(tmp_path):
    with borrowed_zygotes():
        running = Engine(tmp_path, max_memory=100_000_000)
        running.call(running.backend.start())
    try:
        assert_limited(running, tmp_path)
        modest = running.launch(one_task(tmp_path / "modest", sandbox={"latency": 3600}))
        modest.wait_for("llm_call")
        running.stop(modest)
        assert_gone(modest.handle.pid)
    finally:
        running.close()


@linux
def test_where_the_systems_memory_runs_out_the_greedy_run_goes_alone(small_room, light, tmp_path):
    neighbours = [light.launch(one_task(tmp_path / name, sandbox={"latency": 3600})) for name in "abc"]
    for each in neighbours:
        each.wait_for("llm_call")
    small_room(zygote_of(neighbours[0].handle.pid), *(each.handle.pid for each in neighbours))
    greedy = light.run(greedy_crew(tmp_path / "greedy", 2_000))
    assert greedy.exit == Exit(
        -signal.SIGKILL, "was out of memory: the system has killed it", code="OUT_OF_MEMORY"
    )
    assert not any(each.exited.done() for each in neighbours)
    assert light.run(one_task(tmp_path / "after")).end["status"] == "completed"


@pytest.fixture
def small_room():
    """Put processes, and what they start from then on, where there is little memory: in a cgroup."""
    root = Path("/sys/fs/cgroup/memory")
    room = root / f"kasal-tests-{os.getpid()}"
    try:
        room.mkdir()
        (room / "memory.limit_in_bytes").write_text(str(LITTLE))
    except OSError:
        pytest.skip("this machine lets us make no cgroup")

    def put(*pids):
        for pid in pids:
            (room / "cgroup.procs").write_text(str(pid))

    yield put
    deadline = time.monotonic() + 120
    while (room / "cgroup.procs").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    room.rmdir()


LITTLE = 300_000_000


SERVER = """
import sys
from pathlib import Path
from kasal_jupyter.executions.backends.spares import SpareNursery
from kasal_jupyter.executions.backends.zygote import Zygote
from tests.engine import Engine, agent, crew, task

Zygote.program, SpareNursery.program = "tests.light_zygote", "tests.light_spare"
folder = Path(sys.argv[1])
running = Engine(folder, sys.argv[2])
record = running.launch(
    crew(folder / "run", [agent("Worker", sandbox={"latency": 3600})], [task("t", "worker", "Work")])
)
record.wait_for("llm_call")
print(record.handle.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_when_the_server_is_killed_nothing_is_left(tmp_path, method):
    root = Path(__file__).parents[2]
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(tmp_path), method],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=root,
    )
    with server:
        try:
            child = int(server.stdout.readline())
            below = [one.pid for one in psutil.Process(server.pid).children(recursive=True)]
            assert child in below
        finally:
            server.kill()
    for pid in below:
        assert_gone(pid)


@linux
def test_spawned_processes_run_crews_too(tmp_path):
    running = Engine(tmp_path, "spawn", max_memory=100_000_000)
    try:
        running.call(running.backend.start())
        assert running.backend.warm
        record = running.launch(one_task(tmp_path / "a", sandbox={"latency": 0.1}))
        assert not running.backend.warm, "the next spare takes its time"
        assert record.exited.result(60) == 0
        assert record.end["status"] == "completed"
        assert_limited(running, tmp_path)
    finally:
        running.close()
    assert not [
        one
        for one in psutil.Process().children()
        if "kasal_jupyter.worker.process.spare" in " ".join(one.cmdline())
    ]


def test_an_installation_without_crewai_says_so(tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    (broken / "crewai").mkdir(parents=True)
    (broken / "crewai" / "__init__.py").write_text("raise ImportError('no crewai today')", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    for method in ("fork", "spawn"):
        running = Engine(tmp_path, method)
        with pytest.raises(Unavailable, match="no crewai today"):
            running.call(running.backend.start())
        running.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_closing_while_a_process_warms_up_leaves_none(tmp_path, method):
    async def begin_and_close():
        backend = LocalBackend(tmp_path, start_method=method)
        starting = asyncio.create_task(backend.start())
        while not (tmp_path / "crewai").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
        await backend.close()
        with pytest.raises((Unavailable, asyncio.CancelledError)):
            await starting

    asyncio.run(begin_and_close())
    left = [" ".join(one.cmdline()) for one in psutil.Process().children()]
    assert not [line for line in left if str(tmp_path) in line]


def test_a_closed_backend_launches_nothing(tmp_path):
    running = Engine(tmp_path)
    running.close()

    async def launch():
        backend = LocalBackend(tmp_path)
        await backend.close()
        with pytest.raises(WorkerLost):
            await backend.launch(one_task(tmp_path / "run"), print, print)

    asyncio.run(launch())


def test_a_launch_that_is_cancelled_leaves_no_process_and_confuses_nobody(engine, tmp_path):
    async def launch_and_cancel():
        launching = asyncio.create_task(engine.backend.launch(one_task(tmp_path / "a"), print, print))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        launching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await launching

    for _ in range(3):
        engine.call(launch_and_cancel())
    record = engine.run(one_task(tmp_path / "b"))
    assert record.exited.result() == 0
    assert record.end["status"] == "completed"


def descriptors():
    found = []
    for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        with contextlib.suppress(OSError):  # The one of the listing itself is gone.
            os.fstat(number)
            found.append(number)
    return sorted(found)


@contextlib.contextmanager
def only(free):
    """Let this process open so many more files."""
    taken = descriptors()
    most = [number for number in range(10_000) if number not in taken][free]
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def wait_until(holds, *, seconds=20):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@linux
def test_without_descriptors_a_launch_fails_in_words_and_the_next_one_works(engine, tmp_path):
    engine.run(one_task(tmp_path / "first"))
    before = descriptors()
    for free in range(4):
        with only(free):
            if free < 2:
                with pytest.raises(Unavailable, match="Too many open files"):
                    engine.launch(one_task(tmp_path / str(free)))
            else:
                assert engine.run(one_task(tmp_path / str(free))).exited.result() == 0
        wait_until(lambda: len(descriptors()) <= len(before))
    assert engine.run(one_task(tmp_path / "last")).end["status"] == "completed"


@linux
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_nor_does_the_start_of_the_engine_leave_anything(tmp_path, method):
    running = Engine(tmp_path, method)
    try:
        before = descriptors()
        for free in range(5):
            with only(free), pytest.raises(Unavailable, match="Too many open files"):
                running.call(running.backend.start())
            wait_until(lambda: len(descriptors()) <= len(before))
        assert running.backend.warm is False
    finally:
        running.close()


@pytest.mark.parametrize("broken", ["_start", "pidfd", "connection"])
def test_whatever_fails_in_a_launch_is_told_as_our_own_error(engine, tmp_path, monkeypatch, broken):
    def fail(*_args, **_options):
        raise RuntimeError("can't start new thread")

    if broken == "connection":
        monkeypatch.setattr(engine._loop, "create_connection", fail)
    elif broken == "pidfd":
        monkeypatch.setattr("kasal_jupyter.executions.backends.zygote.Child", fail)
    else:
        monkeypatch.setattr("kasal_jupyter.executions.backends.zygote.socket.send_fds", fail)
    with pytest.raises(WorkerLost, match="can't start new thread"):
        engine.launch(one_task(tmp_path))
    monkeypatch.undo()
    assert engine.run(one_task(tmp_path / "next")).exited.result() == 0


def test_an_event_that_is_too_long_ends_the_run_with_that_reason(engine, tmp_path, monkeypatch):
    monkeypatch.setattr("kasal_jupyter.executions.backends.local.MAX_LINE", 100_000)
    record = engine.run(greedy_crew(tmp_path, 3))
    assert record.exit.reason == "wrote an event of more than 0.1 MB, and was killed"


DETACHED = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(3600)
    os._exit(0)
"""


def test_a_mark_finds_what_nothing_else_leads_to():
    pids = []
    for marked in ("abc-12", "abc-123"):
        started = [sys.executable, "-c", DETACHED]
        done = subprocess.Popen(started, env={**os.environ, MARK: marked}, stdout=subprocess.PIPE)
        with done:
            pids.append(int(done.stdout.readline()))
            done.stdout.close()
    kill_marked("abc-12")
    assert_gone(pids[0])
    assert psutil.pid_exists(pids[1])
    kill_marked("abc")
    assert_gone(pids[1])


@linux
def test_many_starts_stops_kills_and_cancellations_leave_nothing(light, tmp_path):
    chance = random.Random(5)
    at_first = descriptors()

    async def launch(at):
        latency = {"latency": chance.choice([0, 0.1, 3600])}
        spec = one_task(tmp_path / str(at), sandbox=latency)
        ended = asyncio.get_running_loop().create_future()
        launching = asyncio.create_task(light.backend.launch(spec, lambda _: None, ended.set_result))
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            launching.cancel()
        try:
            handle = await launching
        except asyncio.CancelledError:
            return
        await asyncio.sleep(chance.random() / 5)
        match chance.randrange(3) if latency["latency"] < 3600 else 1 + chance.randrange(2):
            case 1:
                await asyncio.gather(handle.stop(), handle.stop())
            case 2:
                with contextlib.suppress(ProcessLookupError):  # It may be over.
                    os.kill(handle.pid, signal.SIGKILL)
        await ended

    async def launch_all():
        await asyncio.gather(*(launch(at) for at in range(30)))

    async def close_while_launching():
        launching = [
            asyncio.create_task(
                light.backend.launch(one_task(tmp_path / f"late{at}"), lambda _: None, lambda _: None)
            )
            for at in range(6)
        ]
        for _ in range(3):
            await asyncio.sleep(0)
        await light.backend.close()
        return await asyncio.gather(*launching, return_exceptions=True)

    record = light.launch(one_task(tmp_path / "a", sandbox={"latency": 3600}))
    record.wait_for("llm_call")
    # Without its warden, nothing of an engine is any good; there is a new one at once.
    os.kill(psutil.Process(zygote_of(record.handle.pid)).ppid(), signal.SIGKILL)
    assert record.exited.result(60) is None
    assert_gone(record.handle.pid)
    last = light.launch(one_task(tmp_path / "b", sandbox={"latency": 3600}))
    zygote = psutil.Process(zygote_of(last.handle.pid))
    light.stop(last)
    before = descriptors()
    light.call(launch_all())
    wait_until(lambda: not zygote.children())
    # Other tests' servers and clients in this process open and close some, too; 30 runs would leave 30.
    wait_until(lambda: len(descriptors()) < len(before) + 6)
    for outcome in light.call(close_while_launching()):
        assert isinstance(outcome, LocalRun | KasalError)
    assert not zygote.is_running()
    wait_until(lambda: len(descriptors()) < len(at_first) + 6)
