"""`@kasal.tool`: functions of a real kernel, called by crews that run in a real server's workers."""

import signal
import time

import pytest

from tests.kernels import kernel_of
from tests.sample_crews import wait_for

CREW = """\
%%kasal crew {name}
agents:
  buyer:
    role: Buyer
    goal: Buy well
    llm: sandbox
    tools: [{tools}]
tasks:
  price:
    description: Find the price
    expected_output: A number
    agent: buyer
"""


@pytest.fixture(scope="module")
def kernel(live_server, tmp_path_factory):
    with kernel_of(live_server, tmp_path_factory.mktemp("kernel")) as running:
        assert running.run("from kasal_jupyter.kernel.functions.notebook_tools import tool").status == "ok"
        yield running


def crew(kernel, name, *tools):
    cell = kernel.run(CREW.format(name=name, tools=", ".join(tools)))
    assert cell.status == "ok", cell.error


def outcome(kernel, name, words=""):
    """Run a crew in the foreground; give the cell and the run's events by their types."""
    cell = kernel.run(f"r = %kasal run {name} {words}")
    assert cell.status == "ok", cell.error
    return cell, {kind: [] for kind in ("tool_result", "tool_failed")} | kernel.value(
        "{kind: [e for e in r.events if e['type'] == kind] for kind in {e['type'] for e in r.events}}"
    )


def test_a_function_is_called_in_the_kernel_with_its_live_variables(kernel):
    kernel.run(
        "prices = {'tea': 17.5}\n"
        "import threading\n"
        "@tool\n"
        "def price_of(product: str = 'tea', days: int = 3):\n"
        "    '''Tell a price.\n\n    Args:\n        product: Its name.\n    '''\n"
        "    print('asked for', product, threading.current_thread() is threading.main_thread())\n"
        "    return {'price': prices[product], 'days': days}"
    )
    crew(kernel, "Live", "price_of")
    cell, events = outcome(kernel, "Live")
    assert events["tool_result"][0]["result"] == '{"price":17.5,"days":3}'
    assert "asked for tea True" in cell.text
    kernel.run("prices['tea'] = 18")
    assert outcome(kernel, "Live")[1]["tool_result"][0]["result"] == '{"price":18,"days":3}'
    # Decorated again, it is another tool; the plain function is what it was.
    kernel.run("@tool\ndef price_of(product: str = 'tea'):\n    return 'free'")
    assert outcome(kernel, "Live")[1]["tool_result"][0]["result"] == "free"
    assert kernel.value("price_of()") == "free"


def test_an_async_function_runs_on_the_main_thread_although_the_kernels_loop_does(kernel):
    kernel.run(
        "import asyncio, threading\n"
        "@tool\n"
        "async def fetch(what: str = 'tea'):\n"
        "    first, second = await asyncio.gather(asyncio.sleep(0.01, 'a'), asyncio.to_thread(str, 'b'))\n"
        "    process = await asyncio.create_subprocess_exec('true')\n"
        "    main = threading.current_thread() is threading.main_thread()\n"
        "    return [first, second, await process.wait(), main]\n"
        "@tool\n"
        "def asks_for_a_loop(what: str = 'tea'):\n"
        "    return asyncio.run(asyncio.sleep(0.01, 'of its own'))"
    )
    crew(kernel, "Async", "fetch", "asks_for_a_loop")
    _, events = outcome(kernel, "Async")
    assert [each["result"] for each in events["tool_result"]] == ['["a","b",0,true]', "of its own"]
    # The kernel's own loop is the cells' again.
    assert kernel.run("await asyncio.sleep(0.01); asyncio.get_event_loop().is_running()").shown == [
        {"text/plain": "True"}
    ]


def test_an_error_goes_back_to_the_agent_as_one_line(kernel):
    kernel.run(
        "@tool\ndef broken(what: str = 'x'):\n    return {}['no\\n\\nsuch <b>key</b>']\n"
        "@tool\ndef leaves(what: str = 'x'):\n    raise SystemExit('bye')"
    )
    crew(kernel, "Errors", "broken", "leaves")
    _, events = outcome(kernel, "Errors")
    assert [each["error"]["message"] for each in events["tool_failed"]] == [
        r"KeyError: 'no\n\nsuch <b>key</b>'",
        "SystemExit: bye",
    ]
    assert events["execution_status"][-1]["status"] == "completed"


def test_a_call_has_its_time_and_the_function_is_interrupted(kernel):
    kernel.run(
        "import time\nreached = []\n"
        "@tool(timeout=0.5)\ndef slow(what: str = 'x'):\n"
        "    try:\n        time.sleep(600)\n    except Exception:\n        reached.append('swallowed')\n"
        "@tool(timeout=0.5)\nasync def slow_too(what: str = 'x'):\n"
        "    try:\n        await asyncio.sleep(600)\n    finally:\n        reached.append('cancelled')\n"
        "@tool\ndef quick(what: str = 'x'):\n    return 'in time'"
    )
    crew(kernel, "Slow", "slow", "slow_too", "quick")
    _, events = outcome(kernel, "Slow")
    for failed, name in zip(events["tool_failed"], ["slow", "slow_too"], strict=True):
        # Whichever of the two clocks rings first, the agent's or the kernel's.
        assert failed["error"]["message"] in {
            f"{name} did not answer within 0.5 seconds",
            f"{name} took longer than 0.5 seconds",
        }
    assert events["tool_result"][0]["result"] == "in time"
    assert kernel.value("reached") == ["cancelled"]


def test_a_long_result_is_cut_with_a_note(kernel):
    kernel.run("@tool(max_chars=300)\ndef long(what: str = 'x'):\n    return 'a' * 5000")
    crew(kernel, "Long", "long")
    result = outcome(kernel, "Long")[1]["tool_result"][0]["result"]
    assert len(result) <= 300
    assert result.endswith("of 5,000 characters]")


def test_a_frame_is_a_table_for_the_agent_and_whole_in_the_result(kernel):
    kernel.run(
        "import pandas as pd\n"
        "@tool(max_chars=400)\ndef rows(what: str = 'x'):\n    return pd.DataFrame({'n': range(1000)})"
    )
    crew(kernel, "Frames", "rows")
    _, events = outcome(kernel, "Frames")
    told = events["tool_result"][0]["result"]
    assert told.startswith("A table of 1,000 rows")
    assert ":\nn\n0\n1\n" in told
    assert kernel.value("[len(each) for each in r.frames['rows']]") == [1000]


def test_wrong_arguments_are_told_to_the_agent(kernel):
    kernel.run("from typing import Literal\n@tool\ndef even(n: Literal['a'] = 'a'):\n    return n")
    crew(kernel, "Wrong", "even")
    # The agent was told of another schema than the function has by now.
    kernel.run(
        "@tool\ndef change(x: str = 'x'):\n"
        "    @tool\n    def even(m: int, n: int = 2):\n        return n\n    return 'changed'"
    )
    crew(kernel, "Wrong", "change", "even")
    _, events = outcome(kernel, "Wrong")
    message = events["tool_failed"][0]["error"]["message"]
    assert message.startswith("Wrong arguments: m is missing; n: Input should be a valid integer")


def test_the_interrupt_inside_a_tool_stops_the_run_on_the_server(kernel, api):
    kernel.run("import time\n@tool\ndef endless(what: str = 'x'):\n    print('in it')\n    time.sleep(600)")
    crew(kernel, "Endless", "endless")
    cell = kernel.start("%kasal run Endless")
    kernel.until(lambda: "in it" in cell.text)
    began = time.monotonic()
    kernel.interrupt()
    kernel.until(lambda: cell.ended)
    assert "was stopped, on the server as well" in cell.error
    assert "RunFailed" in cell.error
    assert time.monotonic() - began < 30
    (latest,) = api.get("/executions", params={"per_page": 1}).json()["executions"]
    assert latest["status"] == "stopped"


def test_in_the_background_one_thread_does_the_calls_while_the_notebook_goes_on(kernel):
    kernel.run(
        "import asyncio, threading\nlevel, go = 1, threading.Event()\n"
        "@tool\ndef waits(what: str = 'x'):\n"
        "    go.wait(60)\n    print('level', level)\n"
        "    return [level, threading.current_thread() is threading.main_thread()]\n"
        "@tool\nasync def awaits(what: str = 'x'):\n    await asyncio.sleep(0.01)\n    return level"
    )
    crew(kernel, "Background", "waits", "awaits")
    started = kernel.run("b = %kasal run Background --bg")
    assert started.status == "ok"
    kernel.until(lambda: "waits" in str(started.updates))
    other = kernel.run("level = 7; go.set()")
    assert kernel.run("b.wait()").status == "ok"
    assert kernel.value("[e['result'] for e in b.events if e['type'] == 'tool_result']") == ["[7,false]", "7"]
    assert kernel.value("sum(span.from_client for span in b.trace.spans.values())") == 2
    # What a function prints stands under the cell that started the run.
    kernel.until(lambda: "level 7" in started.text)
    assert other.text == ""


def test_a_function_that_does_not_end_holds_nobody_up_in_the_background(kernel):
    kernel.run(
        "stuck = threading.Event()\n"
        "@tool(timeout=0.5)\ndef hangs(what: str = 'x'):\n    stuck.wait(60)\n"
        "@tool\ndef goes_on(what: str = 'x'):\n    return 'on'"
    )
    crew(kernel, "Hung", "hangs", "goes_on")
    kernel.run("b = %kasal run Hung --bg")
    assert kernel.run("b.wait()").status == "ok"
    assert kernel.value("[e['result'] for e in b.events if e['type'] == 'tool_result']") == ["on"]
    assert kernel.value("stuck.is_set()") is False
    kernel.run("stuck.set()")


def test_a_kernel_that_has_gone_is_a_tool_error_and_the_run_goes_on_to_its_end(live_server, api, tmp_path):
    with kernel_of(live_server, tmp_path) as kernel:
        kernel.run(
            "from kasal_jupyter.kernel.functions.notebook_tools import tool\nimport time\n"
            "@tool(timeout=3000)\ndef never(what: str = 'x'):\n    print('in it')\n    time.sleep(3000)\n"
            "@tool(timeout=3000)\ndef later(what: str = 'x'):\n    return 'never'"
        )
        crew(kernel, "Restarted", "never", "later")
        cell = kernel.start("%kasal run Restarted")
        kernel.until(lambda: "in it" in cell.text)
        # A restart would interrupt the cell first, which might stop the run in time.
        kernel.manager.signal_kernel(signal.SIGKILL)
        (latest,) = api.get("/executions", params={"per_page": 1}).json()["executions"]
        assert wait_for(api, latest["job_id"])["status"] == "completed"
        events = api.get(f"/executions/{latest['job_id']}/events").json()["events"]
        failed = [each["error"]["message"] for each in events if each["type"] == "tool_failed"]
        assert [each.partition(":")[0] for each in failed] == [
            "The notebook that has the tool never is no longer connected",
            "The notebook that has the tool later is no longer connected",
        ]


def test_who_only_watches_answers_nothing(kernel, live_server, api, tmp_path):
    kernel.run(
        "go = threading.Event()\n@tool\ndef mine(what: str = 'x'):\n    go.wait(60)\n    return 'the first'"
    )
    crew(kernel, "Watched", "mine")
    kernel.run("b = %kasal run Watched --bg")
    job_id = kernel.value("b.job_id")
    with kernel_of(live_server, tmp_path) as other:
        other.run(
            "from kasal_jupyter.kernel.functions.notebook_tools import tool\n"
            "@tool\ndef mine(what: str = 'x'):\n    return 'the second'"
        )
        watching = other.run(f"%kasal status {job_id}")
        other.until(lambda: "mine" in str(watching.updates))
        again = kernel.run(f"c = %kasal status {job_id}")
        assert again.status == "ok"
        kernel.run("go.set()")
        assert wait_for(api, job_id)["status"] == "completed"
    kernel.run("c.wait()")
    assert kernel.value("[e['result'] for e in c.events if e['type'] == 'tool_result']") == ["the first"]


FRAME_CREW = """\
%%kasal crew {name}
agents:
  analyst:
    role: Analyst
    goal: Look at the data
    llm: sandbox
tasks:
  look:
    description: "Look at this: {{data}}"
    expected_output: Facts
    agent: analyst
"""


def test_a_frame_as_input_is_a_card_for_the_prompt_and_tools_for_the_agent(kernel):
    kernel.run("import pandas as pd\ndf = pd.DataFrame({'price': range(5000), 'note': ['n' * 50] * 5000})")
    assert kernel.run(FRAME_CREW.format(name="Framed")).status == "ok"
    cell = kernel.run("r = %kasal run Framed data=$df")
    assert cell.status == "ok", cell.error
    prompt = kernel.value("[e['prompt'] for e in r.events if e['type'] == 'agent_start'][0]")
    assert "data: a table of 5,000 rows" in prompt
    assert len(prompt) < 4_000
    called = kernel.value("[(e['tool'], e['result'][:40]) for e in r.events if e['type'] == 'tool_result']")
    assert [name for name, _ in called] == [
        f"data_{each}" for each in ("head", "describe", "query", "value_counts", "sql")
    ]
    assert kernel.value("{name: [len(f) for f in found] for name, found in r.frames.items()}") == {
        "data_head": [10],
        "data_query": [20],
        "data_value_counts": [1],
        "data_sql": [1],
    }


def test_two_calls_that_are_open_at_the_same_time_are_both_answered(kernel):
    kernel.run("@tool\ndef twice(what: str = 'x'):\n    time.sleep(0.2)\n    return 'done'")
    cell = kernel.run(
        """\
%%kasal crew Parallel
agents:
  a: {role: A, goal: Ask, llm: sandbox, tools: [twice]}
  b: {role: B, goal: Ask, llm: sandbox, tools: [twice]}
  c: {role: C, goal: Sum up, llm: sandbox}
tasks:
  one: {description: Ask, expected_output: Text, agent: a, async_execution: true}
  two: {description: Ask too, expected_output: Text, agent: b, async_execution: true}
  three: {description: Sum up, expected_output: Text, agent: c, context: [one, two]}
"""
    )
    assert cell.status == "ok", cell.error
    _, events = outcome(kernel, "Parallel")
    assert [each["result"] for each in events["tool_result"]] == ["done", "done"]
    assert {each["agent"] for each in events["tool_result"]} == {"a", "b"}


def test_a_failed_run_names_the_task_and_the_cause(kernel):
    cell = kernel.run(
        """\
%%kasal crew Failing
agents:
  a: {role: A, goal: Ask, llm: sandbox, sandbox: {fail_at: 1}}
tasks:
  one: {description: Ask, expected_output: Text, agent: a}
"""
    )
    assert cell.status == "ok", cell.error
    cell = kernel.run("%kasal run Failing")
    assert cell.status == "error"
    assert "failed in task 'one' of a: MODEL_ERROR: " in cell.error
    assert "Traceback" not in cell.error
    kernel.run("try:\n    %kasal run Failing\nexcept Exception as error:\n    failed = error")
    assert kernel.value("[type(failed).__name__, failed.result.status]") == ["RunFailed", "failed"]


def test_the_interrupt_while_nothing_is_called_stops_the_run_and_while_waiting_it_does_not(kernel, api):
    kernel.run(
        CREW.format(name="Sleepy", tools="").replace(
            "llm: sandbox", "llm: sandbox\n    sandbox: {latency: 600}"
        )
    )
    cell = kernel.start("%kasal run Sleepy")
    kernel.until(lambda: "running" in str(cell.updates))
    kernel.interrupt()
    kernel.until(lambda: cell.ended)
    assert "was stopped, on the server as well" in cell.error
    kernel.run("b = %kasal run Sleepy --bg")
    waiting = kernel.start(f"%kasal wait {kernel.value('b.job_id')}")
    kernel.until(lambda: waiting.updates)
    kernel.interrupt()
    kernel.until(lambda: waiting.ended)
    assert "goes on" in waiting.error
    assert api.get(f"/executions/{kernel.value('b.job_id')}").json()["status"] in {"queued", "running"}
    kernel.run("%kasal stop")
