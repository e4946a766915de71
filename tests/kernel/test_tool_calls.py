"""How calls are done: time limits, event loops, threads, and lost connections."""

import asyncio
import signal
import threading
import time

import pytest

from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection
from kasal_jupyter.kernel.functions.notebook_tools import make_tool
from kasal_jupyter.kernel.functions.own_loop import OwnLoop, TimeLimitReached, time_limit
from kasal_jupyter.kernel.functions.tool_calls import CallThread, RunTools, ToolCall
from kasal_jupyter.schemas.crews import CrewCreate
from tests.client.test_client import FOREVER, breaking_line

TIMEOUT = 60


@pytest.fixture
def loop():
    loop = OwnLoop()
    yield loop
    loop.close()


def call_of(seconds=TIMEOUT, number=1):
    return ToolCall(f"call_{number}", "tool", {}, number, time.monotonic() + seconds)


# -- the time limit ------------------------------------------------------------------------------------


def careless(seconds):
    """Do something long within a limit, and swallow every error."""
    with time_limit(seconds):
        try:
            time.sleep(TIMEOUT)
        except Exception:  # noqa: BLE001
            pytest.fail("it is no Exception")


def test_what_takes_too_long_is_interrupted_and_the_timer_before_goes_on():
    rung = threading.Event()
    before = signal.signal(signal.SIGALRM, lambda *_: rung.set())
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0.6)
    try:
        with pytest.raises(TimeLimitReached):
            careless(0.1)
        assert not rung.is_set()
        assert rung.wait(TIMEOUT)
    finally:
        signal.signal(signal.SIGALRM, before)
        # The test's own limit, if it has one.
        signal.setitimer(signal.ITIMER_REAL, left)


def test_what_is_done_in_time_leaves_no_timer_behind():
    handler = signal.getsignal(signal.SIGALRM)
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        with time_limit(TIMEOUT):
            pass
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        assert signal.getsignal(signal.SIGALRM) == handler
    finally:
        signal.setitimer(signal.ITIMER_REAL, left)


def test_on_another_thread_nothing_is_interrupted():
    done = []

    def work():
        with time_limit(0.01):
            time.sleep(0.1)
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


# -- functions of every kind ---------------------------------------------------------------------------


def test_async_functions_share_a_loop_and_are_cancelled_in_time(loop):
    loops, reached = [], []

    async def which():
        loops.append(asyncio.get_running_loop())

    async def slow():
        try:
            await asyncio.sleep(TIMEOUT)
        finally:
            reached.append("cancelled")

    async def fails():
        raise TimeoutError("its own")

    async def blocks():
        time.sleep(TIMEOUT)  # noqa: ASYNC251 - as careless code does

    loop.call(which, [], {}, TIMEOUT)
    loop.call(which, [], {}, TIMEOUT)
    assert loops[0] is loops[1]
    with pytest.raises(TimeLimitReached):
        loop.call(slow, [], {}, 0.1)
    assert reached == ["cancelled"]
    with pytest.raises(TimeoutError, match="its own"):
        loop.call(fails, [], {}, TIMEOUT)
    with pytest.raises(TimeLimitReached):
        loop.call(blocks, [], {}, 0.1)
    # The loop has survived it.
    loop.call(which, [], {}, TIMEOUT)


def test_inside_of_a_running_loop_functions_see_none(loop):
    async def answer():
        await asyncio.sleep(0)
        return "awaited"

    async def cell():
        assert loop.call(answer, [], {}, TIMEOUT) == "awaited"
        assert loop.call(lambda: asyncio.run(answer()), [], {}, TIMEOUT) == "awaited"
        outer = asyncio.get_running_loop()
        await asyncio.sleep(0.01)
        assert asyncio.get_event_loop() is outer

    asyncio.run(cell())


# -- the thread of the background ----------------------------------------------------------------------


def test_calls_come_one_after_the_other_on_one_thread():
    thread = CallThread()
    seen, done = [], threading.Event()

    def serve(call, _loop):
        seen.append((call.call_id, threading.current_thread().name, threading.get_ident()))
        if len(seen) == 3:
            done.set()

    thread.open()
    for number in range(3):
        thread.submit(call_of(number=number), serve)
    assert done.wait(TIMEOUT)
    assert [each[0] for each in seen] == ["call_0", "call_1", "call_2"]
    assert len({each[2] for each in seen}) == 1
    thread.close()


def test_one_that_does_not_end_is_left_to_itself_and_the_thread_ends_with_the_last_run():
    thread = CallThread()
    stuck, done = threading.Event(), threading.Event()
    thread.open()
    thread.submit(call_of(0.05), lambda *_: stuck.wait(TIMEOUT))
    thread.submit(call_of(), lambda *_: done.set())
    while not done.wait(0.05):
        thread.mind()
    workers = [each for each in threading.enumerate() if each.name == "kasal-tools"]
    thread.close()
    stuck.set()
    for each in workers:
        each.join(TIMEOUT)
        assert not each.is_alive()


# -- what comes over the line --------------------------------------------------------------------------


def request(number, seq=0):
    return {
        "type": "tool_request",
        "call_id": f"call_{number}",
        "tool": "mine",
        "arguments": {},
        "span_id": number,
        "seq": seq,
    }


def result(number):
    return {"type": "tool_result", "span_id": number, "tool": "mine", "result": "1"}


def mine():
    return "mine"


def ids(tools):
    return [call.call_id for call in tools.waiting()]


def test_requests_of_the_past_that_were_answered_are_not_done():
    tools = RunTools({"mine": make_tool(mine)})
    tools.connected()
    for event in (request(1), result(1), request(2)):
        tools.take(event)
    assert ids(tools) == []
    tools.caught_up()
    assert ids(tools) == ["call_2"]
    # From now on they come as they happen, and each once.
    tools.take(request(3))
    tools.take(request(2))
    assert ids(tools) == ["call_3"]
    tools.take(request(4) | {"tool": "of_somebody_else"})
    assert ids(tools) == []


def test_whoever_follows_the_run_again_goes_on_with_its_calls():
    tools = RunTools({"mine": make_tool(mine)})
    tools.take(request(1))
    tools.end()
    assert not tools.attended
    tools.reopen()
    tools.take(request(2))
    assert [tools.next_call().call_id, tools.next_call().call_id] == ["call_1", "call_2"]
    tools.end()
    assert tools.next_call() is None


def test_an_answer_that_is_late_is_dropped_with_its_frames(loop):
    tools = RunTools({"mine": make_tool(mine)})
    tools.take(request(1))
    (call,) = tools.waiting()
    tools.take(result(1))
    tools.serve(None, "job_1", call, loop)
    assert tools.frames == {}


CREW = {
    "name": "Called",
    "agents": [{"name": "a", "role": "A", "goal": "Ask", "model": "sandbox", "tools": ["first", "second"]}],
    "tasks": [{"description": "Ask", "expected_output": "Text", "agent": "a"}],
}


def test_across_broken_lines_each_call_is_done_once(client, live_server, loop):
    done = []

    def first(what: str = "x"):
        done.append("first")
        return "one"

    def second(what: str = "x"):
        done.append("second")
        return "two"

    tools = {function.__name__: make_tool(function) for function in (first, second)}
    crew = client.create_crew(CrewCreate.model_validate(CREW))
    job_id = client.start(crew.id, {}, [each.definition for each in tools.values()]).job_id
    run_tools = RunTools(tools)
    events = []

    def serve():
        for call in run_tools.waiting():
            # Before the answer the line breaks again, wherever it is by then.
            run_tools.serve(client, job_id, call, loop)

    def idle():
        run_tools.caught_up()
        serve()

    lengths = [1_200, 2_600, 3_000, 4_000, FOREVER]
    with breaking_line(live_server.url, lengths) as url:
        line = Client(Connection(url, live_server.token))
        for event in line.follow(job_id, on_idle=idle, serve=True, on_connect=run_tools.connected):
            events.append(event)
            run_tools.take(event)
            serve()
        line.close()
    assert done == ["first", "second"]
    assert events[-1]["status"] == "completed"
    assert [each["result"] for each in events if each["type"] == "tool_result"] == ["one", "two"]
    assert len(lengths) < 4
