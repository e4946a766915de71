"""Whole crews, executed by real CrewAI in a child of the real zygote."""

import json

import jsonschema
import pytest

from kasal_jupyter.events.event import COMPLETING, FAILING, OPENING
from kasal_jupyter.events.trace import build_trace
from tests.engine import agent, crew, openai_model, task
from tests.servers.openai_server import OpenAIServer, Reply


def check_spans(record):
    """Every span is opened once, closed once, inside a span that is open, and children end before parents."""
    open_spans = {}
    closed = set()
    for event in record.events:
        kind = event["type"]
        if kind in OPENING:
            assert event["span_id"] not in open_spans
            assert event["span_id"] not in closed
            assert event["parent_id"] is None or event["parent_id"] in open_spans
            assert (event["parent_id"] is None) == (kind == "task_start")
            open_spans[event["span_id"]] = event
        elif kind in COMPLETING | FAILING:
            opened = open_spans.pop(event["span_id"])
            assert opened["type"].split("_")[0] == kind.split("_")[0]
            assert opened["parent_id"] == event["parent_id"]
            assert not any(other["parent_id"] == event["span_id"] for other in open_spans.values())
            closed.add(event["span_id"])
        elif kind == "llm_chunk":
            assert open_spans[event["span_id"]]["type"] == "llm_call"
    assert not open_spans
    times = [event["time"] for event in record.events]
    assert times == sorted(times)


def tree(record):
    """Draw the trace as indented names."""
    return ["  " * depth + f"{span.kind} {span.name}" for depth, span in build_trace(record.events).walk()]


def test_a_sequential_crew_runs_its_tasks_in_order_and_hands_results_on(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Researcher", tools=["calculator"]), agent("Writer")],
            [
                task("research", "researcher", "Research {topic}"),
                task("write", "writer", "Write about {topic}", ("research",), context_texts=["Be {brief}."]),
            ],
            inputs={"topic": "solar power"},
        )
    )
    assert record.events[0]["status"] == "running"
    assert record.end["status"] == "completed"
    check_spans(record)
    assert tree(record) == [
        "task Research {topic}",
        "  agent Researcher",
        "    llm sandbox",
        "    tool calculator",
        "    llm sandbox",
        "task Write about {topic}",
        "  agent Writer",
        "    llm sandbox",
    ]
    researched, written = record.of("task_complete")
    assert researched["task_id"] == "research"
    assert researched["result"].startswith(
        '[sandbox] Researcher on "Research solar power": calculator says: 42.'
    )
    assert record.end["result"] == written["result"]
    assert "calculator says: 42" in written["result"]
    prompt = record.of("llm_call")[-1]["messages"][-1]["content"]
    assert researched["result"] in prompt
    assert "- Be {brief}." in prompt


def test_the_same_crew_and_inputs_get_the_same_answer(engine, tmp_path):
    spec = crew(
        tmp_path, [agent("Poet", tools=["calculator"])], [task("t", "poet", "Rhyme on {x}")], inputs={"x": 1}
    )
    assert engine.run(spec).end["result"] == engine.run(spec).end["result"]


def test_a_model_call_is_reported_whole(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Counter", tools=["calculator"], settings={"temperature": 0.5, "max_tokens": 100})],
            [task("t", "counter", "Count")],
        )
    )
    first, second = record.of("llm_call")
    assert first["model"] == "sandbox"
    assert first["tools"] == ["calculator"]
    assert first["settings"]["stream"] is True
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert second["messages"][-1]["role"] in {"tool", "user"}
    asked, answered = record.of("llm_response")
    assert asked["text"] is None
    assert asked["finish_reason"] == "tool_calls"
    assert json.loads(asked["tool_calls"][0]["arguments"]) == {"expression": "6 * 7"}
    assert answered["tool_calls"] == []
    assert "".join(chunk["text"] for chunk in record.of("llm_chunk")) == answered["text"]
    assert record.of("tool_call")[0]["arguments"] == {"expression": "6 * 7"}
    assert record.of("tool_result")[0]["result"] == "42"
    assert record.of("agent_start")[0]["tools"] == ["calculator"]
    for response in (asked, answered):
        usage = response["usage"]
        assert usage["prompt_tokens"] > 0 < usage["completion_tokens"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_manager_delegates_each_task_to_the_fitting_coworker(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Writer"), agent("Researcher", tools=["calculator"])],
            [task("t", None, "Research solar power"), task("u", "writer", "Write it up", ("t",))],
            process="hierarchical",
        )
    )
    assert record.end["status"] == "completed"
    check_spans(record)
    assert tree(record) == [
        "task Research solar power",
        "  agent Crew Manager",
        "    llm sandbox",
        "    tool delegate_work_to_coworker",
        "      agent Researcher",
        "        llm sandbox",
        "        tool calculator",
        "        llm sandbox",
        "    llm sandbox",
        "task Write it up",
        "  agent Crew Manager",
        "    llm sandbox",
        "    tool delegate_work_to_coworker",
        "      agent Writer",
        "        llm sandbox",
        "    llm sandbox",
    ]
    assert {event["task_id"] for event in record.of("agent_start")[:2]} == {"t"}
    assert record.of("task_complete")[0]["result"].startswith("[sandbox] Researcher on")


def test_an_agent_that_may_delegate_asks_a_coworker(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Editor", allow_delegation=True), agent("Checker")],
            [task("t", "editor", "Check the facts")],
        )
    )
    check_spans(record)
    assert [event["agent"] for event in record.of("agent_start")] == ["Editor", "Checker"]


def test_tools_are_called_in_react_text_where_that_is_set(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Counter", tools=["calculator", "file_reader"], sandbox={"tool_calls": "react"})],
            [task("t", "counter", "Count")],
        )
    )
    assert record.end["status"] == "completed"
    check_spans(record)
    assert record.of("llm_call")[0]["tools"] == []
    assert "Action: calculator" in record.of("llm_response")[0]["text"]
    assert [event["tool"] for event in record.of("tool_result")] == ["calculator", "file_reader"]
    assert record.end["result"].startswith("[sandbox] Counter")
    assert "42" in record.end["result"]


def test_a_tasks_tools_come_on_top_of_its_agents(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Counter", tools=["calculator"])],
            [task("t", "counter", "Count", tools=["file_reader", "calculator"])],
        )
    )
    assert [event["tool"] for event in record.of("tool_call")] == ["calculator", "file_reader"]


def test_a_failing_tool_is_told_to_the_agent_which_goes_on(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Reader", tools=["file_reader"])],
            [task("t", "reader", "Read {path}")],
            inputs={"path": "../secret"},
        )
    )
    # The schema's default goes before the input, so the tool is pointed at a missing file by the model below.
    assert record.end["status"] == "completed"
    with OpenAIServer(Reply(calls=(("file_reader", {"path": "../secret"}),)), Reply("I may not.")) as server:
        record = engine.run(
            crew(
                tmp_path,
                [agent("Reader", tools=["file_reader"], model="gpt")],
                [task("t", "reader", "Read it")],
                models=openai_model(server.url),
            )
        )
    check_spans(record)
    (failed,) = record.of("tool_failed")
    assert failed["error"] == {
        "code": "TOOL_ERROR",
        "message": "'../secret' is outside the run's folder; use a path inside it, e.g. notes.txt.",
    }
    assert record.end["result"].strip() == "I may not."


OUTPUT = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 3},
        "score": {"type": "integer", "minimum": 5, "maximum": 9},
        "tags": {"type": "array", "items": {"enum": ["red", "green"]}, "minItems": 1},
        "author": {"$ref": "#/$defs/author"},
    },
    "required": ["title", "score", "tags", "author"],
    "$defs": {"author": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}},
}


@pytest.mark.parametrize("tools", [[], ["calculator"]])
@pytest.mark.parametrize("process", ["sequential", "hierarchical"])
def test_a_structured_result_validates_against_its_schema(engine, tmp_path, tools, process):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Judge", tools=tools)],
            [task("t", "judge", "Judge the book", output_schema=OUTPUT)],
            process=process,
        )
    )
    assert record.end["status"] == "completed", record.end
    (done,) = record.of("task_complete")
    jsonschema.validate(done["structured"], OUTPUT)
    assert done["structured"]["title"].startswith("[sandbox]")
    assert json.loads(done["result"]) == done["structured"]


def test_async_tasks_run_side_by_side_even_on_one_agent(engine, tmp_path):
    slow = agent("Runner", tools=["calculator"], sandbox={"latency": 0.15})
    record = engine.run(
        crew(
            tmp_path,
            [slow, agent("Judge")],
            [
                task("a", "runner", "Run to the left", async_execution=True),
                task("b", "runner", "Run to the right", async_execution=True),
                task("c", "judge", "Judge both runs", ("a", "b")),
            ],
        )
    )
    assert record.end["status"] == "completed", record.end
    check_spans(record)
    kinds = [(event["type"], event.get("task_id")) for event in record.events]
    assert kinds.index(("task_start", "b")) < kinds.index(("task_complete", "a"))
    spans = {event["span_id"]: event for event in record.events if event["type"] in OPENING}
    for event in spans.values():
        if event["parent_id"] is not None:
            assert spans[event["parent_id"]]["task_id"] == event["task_id"]
    judged = record.of("task_complete")[-1]["result"]
    assert "Run to the left" in judged


def test_a_model_that_fails_ends_the_run_with_one_readable_error(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Counter", tools=["calculator"], sandbox={"fail_at": 2}), agent("Writer")],
            [task("t", "counter", "Count"), task("u", "writer", "Write")],
        )
    )
    check_spans(record)
    message = "sandbox: call 2 of this agent was set to fail."
    assert [event["type"] for event in record.events[-5:]] == [
        "llm_failed",
        "agent_failed",
        "task_failed",
        "error",
        "execution_status",
    ]
    assert record.end["status"] == "failed"
    assert record.end["error"] == {"code": "MODEL_ERROR", "message": message}
    (error,) = record.of("error")
    assert (error["message"], error["task_id"], error["agent"]) == (message, "t", "Counter")
    assert len(record.of("llm_call")) == 2
    assert len(record.of("task_start")) == 1


def test_a_coworkers_failing_model_is_not_taken_for_its_answer(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Writer", sandbox={"fail_at": 1})],
            [task("t", None, "Write a poem")],
            process="hierarchical",
        )
    )
    check_spans(record)
    assert record.end["status"] == "failed"
    assert record.end["error"]["code"] == "MODEL_ERROR"
    assert record.of("task_failed")[0]["error"] == record.end["error"]
    (error,) = record.of("error")
    assert (error["task_id"], error["agent"]) == ("t", "Writer")
    assert len(record.of("llm_call")) == 2


def test_an_async_task_that_fails_ends_the_run_and_closes_its_neighbours_spans(engine, tmp_path):
    # Many, so that some notice the end of the run before the one that is its reason has failed.
    slow = [f"slow{at}" for at in range(8)]
    record = engine.run(
        crew(
            tmp_path,
            [
                agent("Bad", sandbox={"fail_at": 1, "latency": 0.5}),
                agent("Slow", sandbox={"latency": 20}),
                agent("Last"),
            ],
            [
                *(task(name, "slow", "Take long", async_execution=True) for name in slow),
                task("bad", "bad", "Fail", async_execution=True),
                task("last", "last", "Never begun", ("bad", *slow)),
            ],
        )
    )
    check_spans(record)
    assert record.end["status"] == "failed"
    (error,) = record.of("error")
    assert (error["task_id"], error["agent"]) == ("bad", "Bad")
    assert error["message"] == record.end["error"]["message"]


def test_what_crewai_refuses_is_said_in_its_words(engine, tmp_path):
    tasks = [task(name, "one", "Do it", async_execution=True) for name in ("a", "b")]
    record = engine.run(crew(tmp_path, [agent("One")], tasks))
    assert record.end["error"] == {
        "code": "CREW_INVALID",
        "message": "CrewAI refuses this crew: The crew must end with at most one asynchronous task.",
    }


def test_braces_that_name_no_input_stay_as_they_are(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("One")],
            [task("t", "one", "Fill {known}", context_texts=["Use {unknown} as it is"])],
            inputs={"known": "this"},
        )
    )
    assert record.end["status"] == "completed"
    assert "Use {unknown} as it is" in record.of("agent_start")[0]["prompt"]
    assert "Fill this" in record.of("agent_start")[0]["prompt"]


def test_max_iter_ends_an_agents_tool_calls(engine, tmp_path):
    record = engine.run(
        crew(
            tmp_path,
            [agent("Eager", tools=["calculator", "file_reader", "wait"], max_iter=1)],
            [task("t", "eager", "Use everything")],
        )
    )
    assert record.end["status"] == "completed"
    check_spans(record)
    assert len(record.of("tool_call")) < 3


def test_what_is_printed_goes_to_the_runs_log(engine, tmp_path):
    engine.run(crew(tmp_path, [agent("One", sandbox={"fail_at": 1})], [task("t", "one", "Fail")]))
    assert "set to fail" in (tmp_path / "output.log").read_text(encoding="utf-8")
