"""Built-in tools in real runs: the sandbox model calls them, and each call is made exactly once."""

import pytest

from kasal_jupyter.schemas.spec import RunMessage, RunToolAnswer
from tests.engine import TIMEOUT, agent, crew, task
from tests.servers.search_server import KEY, search_server
from tests.servers.site_server import site_server

SETTINGS = {"python": True}


@pytest.fixture
def spec(tmp_path):
    """Describes a run of one agent with some built-in tools."""

    def describe(*tools, style="native", inputs=None, allowed=(), **settings):
        worker = agent("Worker", tools=list(tools), sandbox={"tool_calls": style})
        made = crew(
            tmp_path / "run",
            [worker],
            [task("t", "worker", "Do it")],
            inputs=inputs,
            allowed_hosts=list(allowed),
        )
        changed = made.tool_settings.model_validate(SETTINGS | settings)
        return made.model_copy(update={"tool_settings": changed})

    return describe


@pytest.mark.parametrize("style", ["native", "react"])
@pytest.mark.parametrize(
    ("tool", "inputs", "reason"),
    [
        ("calculator", {"expression": "1 / 0"}, "divides by zero"),
        ("file_reader", {"path": "../x"}, "outside the run's folder"),
        ("file_reader", {"path": "output.log"}, "the run's own log"),
        ("web_page", {"url": "http://127.0.0.1:1/"}, "only public hosts may be called"),
        ("python", {"code": "1 / 0"}, "ZeroDivisionError"),
    ],
)
def test_a_tool_that_fails_is_called_once_and_the_agent_goes_on(  # noqa: PLR0917
    engine, spec, style, tool, inputs, reason
):
    record = engine.run(spec(tool, style=style, inputs=inputs))
    assert record.end["status"] == "completed"
    assert [call["arguments"] | inputs for call in record.of("tool_call")] == [
        call["arguments"] for call in record.of("tool_call")
    ]
    assert len(record.of("tool_call")) == 1
    (failed,) = record.of("tool_failed")
    assert failed["error"]["code"] == "TOOL_ERROR"
    assert reason in failed["error"]["message"]
    assert reason in record.end["result"]


def test_files_and_code_and_sql_work_on_one_folder(engine, spec, tmp_path):
    inputs = {
        "path": "sales.csv",
        "content": "tea,price\ngreen,10\n",
        "code": "print(open('sales.csv').read().upper())",
        "statement": "SELECT price * 2 AS twice FROM 'sales.csv'",
    }
    record = engine.run(spec("file_writer", "python", "sql_query", inputs=inputs))
    assert record.end["status"] == "completed", record.end
    results = {each["tool"]: each["result"] for each in record.of("tool_result")}
    assert results["file_writer"] == "Wrote sales.csv: 19 bytes."
    assert "GREEN,10" in results["python"]
    assert "| 20 |" in results["sql_query"]
    assert (tmp_path / "run" / "sales.csv").exists()


def test_the_web_is_searched_and_read_and_no_key_is_left(engine, spec, tmp_path):
    with search_server() as engines, site_server() as site:
        search = {"engine": "brave", "base_url": engines.url, "api_key": KEY, "guarded": False}
        inputs = {"query": "tea", "url": f"{site.url}/tea"}
        record = engine.run(
            spec(
                "web_search", "web_page", "http_request", inputs=inputs, allowed=["127.0.0.1"], search=search
            )
        )
    results = {each["tool"]: each["result"] for each in record.of("tool_result")}
    assert results["web_search"].startswith("1. Green tea\n   https://example.com/tea")
    assert "Boil the water" in results["web_page"]
    assert results["http_request"].startswith("HTTP 200 OK")
    left = b"\n".join([*record.raw, *(each.read_bytes() for each in (tmp_path / "run").iterdir())])
    assert KEY.encode() not in left


# -- asking --------------------------------------------------------------------------------------------


def answer(engine, record, **said):
    with record.seen:
        assert record.seen.wait_for(lambda: record.of("input_request"), TIMEOUT), record.events
    call_id = record.of("input_request")[0]["call_id"]
    engine.send(record, RunMessage(type="tool_answer", answer=RunToolAnswer(call_id=call_id, **said)))


@pytest.mark.parametrize("style", ["native", "react"])
def test_a_human_is_asked_within_the_tools_span_and_the_answer_reaches_the_agent(engine, spec, style):
    inputs = {"question": "Which tea?", "choices": ["green", "black"], "timeout": 600}
    record = engine.launch(spec("ask_human", style=style, inputs=inputs))
    answer(engine, record, result="green")
    record.exited.result(TIMEOUT)
    (asked,), (call,) = record.of("input_request"), record.of("tool_call")
    assert asked["span_id"] == call["span_id"]
    assert (asked["question"], asked["choices"], asked["timeout"]) == (
        "Which tea?",
        ["green", "black"],
        600,
    )
    assert record.of("tool_result")[0]["result"] == "green"
    assert "ask_human says: green" in record.end["result"]


@pytest.mark.parametrize("style", ["native", "react"])
def test_that_nobody_is_there_is_the_agents_to_deal_with(engine, spec, style):
    record = engine.launch(spec("ask_human", style=style))
    answer(engine, record, error="Nobody is here to answer")
    record.exited.result(TIMEOUT)
    assert record.end["status"] == "completed"
    assert record.of("tool_failed")[0]["error"]["message"] == "Nobody is here to answer"
    assert len(record.of("input_request")) == 1


@pytest.mark.parametrize(
    ("tool", "inputs"), [("ask_human", {}), ("wait", {"seconds": 600}), ("python", {"code": "while 1: pass"})]
)
def test_a_stop_ends_what_takes_long(engine, spec, tool, inputs):
    record = engine.launch(spec(tool, inputs=inputs))
    record.wait_for("input_request" if tool == "ask_human" else "tool_call")
    engine.stop(record)
    # What only waits leaves by itself, and is not killed.
    status = record.exited.result(TIMEOUT)
    assert status == 1 or tool == "python"
