"""Questions of agents in the notebook: asked by the kernel's input, answered by a command, or by nobody."""

import json
from contextlib import suppress
from queue import Empty

import pytest

from kasal_jupyter.events.trace import Trace
from kasal_jupyter.kernel.runs.questions import HumanQuestion, chosen, prompt_of
from kasal_jupyter.kernel.views.view_html import render_live
from kasal_jupyter.kernel.views.view_text import render_text
from tests.api.test_tool_calls import answer
from tests.kernels import SECONDS, kernel_of
from tests.sample_crews import new_crew, wait_for

CREW = {
    "agents": [{"role": "Asker", "goal": "Ask", "model": "sandbox", "tools": ["ask_human"]}],
    "tasks": [{"description": "Ask", "expected_output": "An answer", "agent": "Asker"}],
}

INPUTS = 'question="Which tea?" choices=teas'


@pytest.fixture(scope="module")
def kernel(live_server, tmp_path_factory):
    with live_server.client() as api:
        new_crew(api, {"name": "Asking", **CREW})
    with kernel_of(live_server, tmp_path_factory.mktemp("asking")) as running:
        running.run('teas = ["Green", "Black"]')
        yield running


def prompt(kernel, cell):
    """Wait until a cell asks for input; give what it asks with. One that has ended will not."""
    asked = []

    def is_over():
        with suppress(Empty):
            asked.append(kernel.client.get_stdin_msg(timeout=0.1)["content"]["prompt"])
        return asked or cell.ended

    kernel.until(is_over)
    assert asked, (cell.text, cell.error, cell.updates[-1:])
    return asked[0]


def open_question(api, job_id):
    """Wait for a run's question."""
    return wait_for(api, job_id, "waiting_for_input")["questions"][0]


@pytest.mark.parametrize(
    ("text", "choices", "meant"),
    [
        ("Green", ["Green", "Black"], "Green"),
        (" black ", ["Green", "Black"], "Black"),
        ("2", ["Green", "Black"], "Black"),
        ("3", ["Green", "Black"], None),
        ("0", ["Green", "Black"], None),
        ("2", ["1", "2", "3"], "2"),
        ("oolong", ["Green", "Black"], None),
        (" oolong ", [], "oolong"),
        ("  ", [], None),
    ],
)
def test_what_is_typed_means_a_choice_its_number_or_itself(text, choices, meant):
    assert chosen(text, choices) == meant


def event(**fields):
    known = {
        "seq": 1,
        "job_id": "job_1",
        "time": "2024-01-15T10:30:00.000000Z",
        "span_id": 1,
        "parent_id": None,
    }
    return {**known, "task_id": "task_1", "task": "Ask", "agent": "Asker", **fields}


def asking(question="Which tea?", choices=("Green", "Black")):
    trace = Trace()
    status = {"crew_name": "Asking", "tasks": []}
    trace.feed(event(type="execution_status", status="queued", **status))
    trace.feed(event(type="execution_status", status="running", seq=2))
    trace.feed(event(type="task_start", seq=3))
    trace.feed(event(type="tool_call", seq=4, span_id=2, parent_id=1, tool="ask_human", arguments={}))
    request = event(
        type="input_request",
        seq=5,
        span_id=2,
        parent_id=1,
        call_id="call_1",
        question=question,
        choices=list(choices),
        timeout=60,
    )
    trace.feed(request)
    return trace, request


def test_a_question_stands_out_in_the_views_with_how_to_answer_it():
    trace, _ = asking("Which tea? <b>")
    html = render_live(trace)
    assert "Waiting for an answer" in html
    assert "Asker asks: Which tea? &lt;b&gt;" in html
    assert "%kasal answer job_1 &quot;Green&quot;" in html
    assert "waiting for an answer: Which tea?" in render_text(trace)
    trace.feed(event(type="tool_result", seq=6, span_id=2, parent_id=1, tool="ask_human", result="Green"))
    assert "Waiting for an answer" not in render_live(trace)
    assert "Which tea? &lt;b&gt; → Green" in render_live(trace)


def test_what_an_agent_asks_cannot_act_on_a_terminal():
    _, request = asking("\x1b]0;evil\x07Which?\u202e", ["\x1b[31mred"])
    shown = prompt_of(HumanQuestion.of(request))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert shown.startswith("Asker asks: ")


def test_while_a_run_blocks_the_notebook_asks_until_it_has_an_answer(kernel):
    cell = kernel.start(f"result = %kasal run Asking {INPUTS}")
    assert prompt(kernel, cell) == "Asker asks: Which tea?\n  1. Green\n  2. Black\nAnswer: "
    kernel.client.input("oolong")
    assert prompt(kernel, cell) == "One of these, or its number: "
    kernel.until(lambda: any("Waiting for an answer" in str(each) for each in cell.updates))
    kernel.client.input("2")
    kernel.until(lambda: cell.ended)
    # The cell is in the way of the command that answers elsewhere.
    asked = [str(each) for each in cell.updates if "Waiting for an answer" in str(each)]
    assert all("type it below" in each and "%kasal answer" not in each for each in asked)
    assert cell.status == "ok", cell.error
    assert "ask_human says: Black" in kernel.value("result.output")


def test_an_answer_from_elsewhere_ends_the_asking(kernel, api):
    cell = kernel.start(f"result = %kasal run Asking {INPUTS}")
    prompt(kernel, cell)
    job_id = api.get("/executions", params={"per_page": 1}).json()["executions"][0]["job_id"]
    assert answer(api, job_id, open_question(api, job_id)["call_id"], result="Green").status_code == 200
    kernel.until(lambda: cell.ended)
    assert cell.status == "ok", cell.error
    assert "no longer open" in cell.text
    assert "ask_human says: Green" in kernel.value("result.output")


def test_the_interrupt_stops_a_run_that_asks(kernel):
    cell = kernel.start(f"result = %kasal run Asking {INPUTS}")
    prompt(kernel, cell)
    kernel.interrupt()
    kernel.until(lambda: cell.ended)
    assert "was stopped, on the server as well" in cell.error


def test_where_nobody_can_be_asked_the_run_goes_on(kernel):
    message = kernel.client.execute(
        f"result = %kasal run Asking {INPUTS}", stop_on_error=False, allow_stdin=False
    )
    reply = kernel.client.get_shell_msg(timeout=SECONDS)
    while reply["parent_header"].get("msg_id") != message:
        reply = kernel.client.get_shell_msg(timeout=SECONDS)
    assert reply["content"]["status"] == "ok"
    assert "Nobody is here to answer" in kernel.value("result.output")


def test_in_the_background_a_command_answers(kernel, api):
    cell = kernel.run(f"result = %kasal run Asking {INPUTS} --bg")
    job_id = kernel.value("result.job_id")
    open_question(api, job_id)
    kernel.until(lambda: any("Waiting for an answer" in str(each) for each in cell.updates))
    shown = kernel.run("%kasal answer")
    assert "Which tea?" in json.dumps(shown.shown)
    assert "waits for an answer" in json.dumps(kernel.run("%kasal ps --limit 1").shown)
    refused = kernel.run(f"%kasal answer {job_id} oolong")
    assert "Answer one of these: Green, Black" in refused.error
    answered = kernel.run(f"%kasal answer {job_id} 1")
    assert answered.text == "Answered Asker: Which tea?\n"
    assert kernel.run("result.wait()").status == "ok"
    assert "ask_human says: Green" in kernel.value("result.output")
    assert "waits for no answer" in kernel.run("%kasal answer green").error
