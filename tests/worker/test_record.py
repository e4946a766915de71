"""Runs that are never paid for twice: recorded by real CrewAI and real servers, and replayed without any."""

import json
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from kasal_jupyter.events.event import is_event
from kasal_jupyter.memory.tables import Record
from kasal_jupyter.schemas.executions import Budget
from kasal_jupyter.schemas.spec import RunMemory, RunToolSettings
from tests.engine import TIMEOUT, agent, crew, openai_model, task
from tests.engine import Record as Cut
from tests.memory.conftest import Known
from tests.replaying import following, journal, live_calls, told
from tests.servers.endpoint_server import endpoint_server
from tests.servers.mcp_server import McpNotes, http_mcp_server, stdio
from tests.servers.openai_server import OpenAIServer, Reply
from tests.worker.test_client_tools import LOOKUP, answer
from tests.worker.test_mcp_sessions import served


@pytest.fixture
def replayed(engine):
    """Replays a run that has been recorded, and holds it to the same story, with no call that is live."""

    def replay(spec, record, **changes):
        second = engine.run(following(spec, journal(record, spec), **changes))
        assert told(second.events) == told(record.events), second.end
        assert all(is_event(event) for event in second.events)
        assert live_calls(second) == []
        return second

    return replay


def altered(spec, **fields):
    return spec.model_copy(update=fields)


SUM = Reply(calls=(("calculator", {"expression": "2 + 3"}),))


def test_a_sequential_crew_with_a_tool(engine, replayed, tmp_path):
    with OpenAIServer(SUM, Reply("Five."), Reply("Six.")) as server:
        spec = crew(
            tmp_path / "job_1",
            [agent("Counter", model="gpt", tools=["calculator"]), agent("Writer", model="gpt")],
            [task("a", "counter", "Add two and three"), task("b", "writer", "Write")],
            models=openai_model(server.url),
        )
        record = engine.run(spec)
    assert record.end["status"] == "completed", record.end
    assert len(server.requests) == 3
    assert [event["result"] for event in record.of("tool_result")] == ["5"]
    second = replayed(spec, record)
    assert len(server.requests) == 3
    # What it took then, for whoever adds up what is saved.
    assert [event["usage"]["total_tokens"] for event in second.of("llm_response")] == [25, 25, 25]


def test_a_hierarchical_crew(engine, replayed, tmp_path):
    spec = crew(
        tmp_path / "job_1",
        [agent("Boss"), agent("Researcher", tools=["calculator"]), agent("Writer")],
        [
            task("research", None, "Research {topic}", output_file="notes/{topic}.md"),
            task("report", "writer", "Report on {topic}", ("research",)),
        ],
        inputs={"topic": "tea"},
        process="hierarchical",
        manager_agent="boss",
    )
    record = engine.run(spec)
    assert record.end["status"] == "completed", record.end
    second = replayed(spec, record)
    # What is delegated is done again, and what it asks is found.
    assert any("key" not in event for event in second.of("tool_call"))
    assert len(second.of("agent_start")) == 4


PLAN = {"list_of_plans_per_task": [{"task_number": 1, "task": "Find facts", "plan": "1. Look.\n2. List."}]}


def test_a_crew_that_plans(engine, replayed, tmp_path):
    with OpenAIServer(Reply(json.dumps(PLAN)), Reply("Facts.")) as server:
        spec = crew(
            tmp_path / "job_1",
            [agent("Researcher", model="gpt")],
            [task("facts", "researcher", "Find facts")],
            models=openai_model(server.url),
            planning=True,
            planning_model="gpt",
        )
        record = engine.run(spec)
    assert record.of("plan"), record.end
    replayed(spec, record)


def test_tasks_at_the_same_time_that_ask_the_same_keep_their_own_answers(engine, replayed, tmp_path):
    with OpenAIServer(*(Reply(f"Answer {number}.") for number in range(5))) as server:
        spec = crew(
            tmp_path / "job_1",
            [agent("Twin", model="gpt"), agent("Writer", model="gpt")],
            [
                *(task(f"t{at}", "twin", "Say something", async_execution=True) for at in range(4)),
                task("join", "writer", "Join", tuple(f"t{at}" for at in range(4))),
            ],
            models=openai_model(server.url),
        )
        record = engine.run(spec)
    assert len({event["result"] for event in record.of("task_complete")}) == 5, record.end
    for _ in range(3):
        replayed(spec, record)


def test_equal_calls_at_once_keep_their_own_answers(engine, replayed, tmp_path):
    """A model asks for one tool twice with the same arguments; both calls are made at the same time."""
    same = (("python", {"code": "import os; print(os.urandom(4).hex())"}),) * 4
    with OpenAIServer(Reply(calls=same), Reply("Done.")) as server:
        spec = crew(
            tmp_path / "job_1",
            [agent("Counter", model="gpt", tools=["python"])],
            [task("a", "counter", "Draw")],
            models=openai_model(server.url),
        )
        spec = altered(spec, tool_settings=RunToolSettings(python=True))
        record = engine.run(spec)
    assert len({event["result"] for event in record.of("tool_result")}) == 4, record.end
    for _ in range(3):
        replayed(spec, record)


def verdict(valid, feedback=None):
    return Reply(json.dumps({"valid": valid, "feedback": feedback}))


def test_a_guardrail_that_refuses_once(engine, replayed, tmp_path):
    replies = (Reply("Roses."), verdict(False, "Not about tea."), Reply("Tea."), verdict(True))
    with OpenAIServer(*replies) as server:
        spec = crew(
            tmp_path / "job_1",
            [agent("Poet", model="gpt")],
            [task("rhyme", "poet", "Rhyme", guardrail="It is about tea.", guardrail_max_retries=2)],
            models=openai_model(server.url),
        )
        record = engine.run(spec)
    assert [event["accepted"] for event in record.of("guardrail")] == [False, True]
    replayed(spec, record)


@pytest.mark.parametrize("style", ["native", "react"])
def test_delegation_in_both_ways_of_calling_tools(engine, replayed, tmp_path, style):
    sandbox = {"tool_calls": style}
    spec = crew(
        tmp_path / "job_1",
        [
            agent("Lead", allow_delegation=True, sandbox=sandbox),
            agent("Researcher", tools=["calculator", "file_writer", "file_reader"], sandbox=sandbox),
        ],
        [task("do", "lead", "Research tea"), task("more", "researcher", "Read it")],
    )
    record = engine.run(spec)
    assert record.end["status"] == "completed", record.end
    replayed(spec, record)
    # What its tools have written is there, though none was called.
    written = [path.read_text() for path in sorted((tmp_path / "job_1").glob("*.txt"))]
    (folder,) = (path for path in tmp_path.glob("job_*") if path.is_dir() and path.name != "job_1")
    assert written
    assert [path.read_text() for path in sorted(folder.glob("*.txt"))] == written


KNOWN = (
    Record("memory_1", "short_term", "Research solar power: prices fell", None, "2024-01-15T10:00:00Z"),
    Record("memory_2", "long_term", "Reports on solar power name sources", "style", "2024-01-15T10:00:00Z"),
)


def test_what_agents_are_reminded_of_is_recorded_and_nothing_is_remembered_of_a_replay(
    engine, replayed, tmp_path
):
    known = Known(tmp_path / "known.db")
    with closing(known.connection):
        known.add(KNOWN, crew="crew_1")
    spec = crew(tmp_path / "job_1", [agent("Researcher")], [task("t", "researcher", "Research solar power")])
    spec = altered(spec, memory=RunMemory(file=str(known.file), remember=True))
    record = engine.run(spec)
    (recalled,) = record.of("memory_recalled")
    assert len(recalled["memories"]) == 2
    known.file.unlink()
    second = replayed(spec, record)
    assert second.of("memory_recalled")[0]["memories"] == recalled["memories"]
    assert record.of("memory_stored")
    assert second.of("memory_stored") == []


@pytest.mark.parametrize("style", ["native", "react"])
def test_mcp_tools_the_clients_tools_and_humans_answers(engine, replayed, tmp_path, style):
    notes = McpNotes(tmp_path / "notes")
    tools = ["calc_add", "price_of", "ask_human"]
    spec = crew(
        tmp_path / "job_1",
        [agent("Clerk", tools=tools, sandbox={"tool_calls": style})],
        [task("t", "clerk", "Do the work")],
        client_tools=[LOOKUP],
        allowed_hosts=["127.0.0.1"],
    )
    spec = altered(spec, mcp_servers=[served("calc", stdio(notes.path), "add")])
    record = engine.launch(spec)
    answer(engine, record, record.wait_for("tool_request")["call_id"], result="17.50")
    answer(engine, record, record.wait_for("input_request")["call_id"], result="green")
    record.exited.result(TIMEOUT)
    # In words, agents are told of their tools' names again behind every third result.
    given = {event.get("given", event["result"]) for event in record.of("tool_result")}
    assert given == {"17.50", "green", "5"}, record.end
    second = replayed(spec, record)
    assert second.of("tool_request") == second.of("input_request") == []
    assert len(notes.lines("call add")) == len(notes.lines("session")) == 1


SCHEMA = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}


def test_failures_fallbacks_and_objects(engine, replayed, tmp_path):
    busy = Reply("Slow down.", status=429, headers={"retry-after-ms": "1"})
    picky = Reply("Unsupported value: 'temperature' does not support 0.25 with this model.", status=400)
    gone = Reply("There is no such model.", status=404)
    with (
        OpenAIServer(busy, Reply("Sorry.", status=500), picky, gone) as server,
        OpenAIServer(Reply("It is five."), Reply('Sure: {"sum": 5}'), Reply("Done.")) as other,
    ):
        models = openai_model(server.url) | {
            "other": {**openai_model(other.url)["gpt"], "name": "other"},
        }
        spec = crew(
            tmp_path / "job_1",
            [agent("Counter", model="gpt", fallbacks=["other"], settings={"temperature": 0.25})],
            [task("a", "counter", "Add two and three", output_schema=SCHEMA), task("b", "counter", "End")],
            models=models,
        )
        record = engine.run(spec)
    assert record.end["status"] == "completed", record.end
    assert (len(server.requests), len(other.requests)) == (4, 3)
    assert len(record.of("llm_retry")) == 4
    replayed(spec, record)


def test_a_conversation_that_was_too_long(engine, replayed, tmp_path):
    too_long = Reply("This model's maximum context length is 10.", status=400, code="context_length_exceeded")
    with OpenAIServer(SUM, too_long, Reply("A summary."), Reply("Five.")) as server:
        spec = crew(
            tmp_path / "job_1",
            [agent("Counter", model="gpt", tools=["calculator"])],
            [task("a", "counter", "Add two and three")],
            models=openai_model(server.url),
        )
        record = engine.run(spec)
    assert record.end["status"] == "completed", record.end
    replayed(spec, record)


@pytest.mark.parametrize("reply", [Reply("No.", status=401), Reply("No.", status=500)])
def test_a_run_that_failed_fails_again_in_the_same_way(engine, replayed, tmp_path, reply):
    with OpenAIServer(SUM, reply) as server:
        spec = counting(tmp_path, server.url)
        record = engine.run(spec)
    assert record.end["status"] == "failed"
    replayed(spec, record)


def test_a_run_that_came_to_the_end_of_its_budget_does_so_again(engine, replayed, tmp_path):
    counted = {"prompt_tokens": 300, "completion_tokens": 5, "total_tokens": 305}
    calls = [Reply(calls=(("calculator", {"expression": f"2 + {at}"}),), usage=counted) for at in range(9)]
    with OpenAIServer(*calls) as server:
        spec = counting(tmp_path, server.url)
        spec = altered(spec, budget=Budget(max_tokens=1_000))
        record = engine.run(spec)
    assert record.end["error"]["code"] == "BUDGET_EXCEEDED", record.end
    assert 1 <= len(server.requests) < 9
    replayed(spec, record)


def counting(tmp_path, url, *, tools=("calculator",), tasks=1, **fields):
    """Describe a crew of one agent with tools."""
    return crew(
        tmp_path / "job_1",
        [agent("Counter", model="gpt", tools=list(tools), **fields)],
        [task(f"t{at}", "counter", f"Add two and {at}") for at in range(tasks)],
        models=openai_model(url),
    )


def changed(spec, **fields):
    return {"agents": [spec.agents[0].model_copy(update=fields)]}


def test_a_journal_of_before_prompts_were_named_is_gone_on_with(engine, tmp_path):
    with OpenAIServer(SUM, Reply("Five."), SUM, Reply("Six.")) as server:
        spec = counting(tmp_path, server.url, tasks=2)
        record = engine.run(spec)
        assert any(b'"whole":[[' in line for line in record.raw)
        before = Cut(events=record.events, raw=[orjson.dumps(event) for event in record.events])
        assert all(b'"whole":[[' not in line for line in before.raw)
        for recorded in (record, before):
            second = engine.run(following(spec, journal(recorded, spec)))
            assert second.end["result"] == record.end["result"]
            assert told(second.events) == told(record.events)
            cut = cut_off(recorded, spec, "task_complete")
            third = engine.run(following(spec, cut, "resume"))
            assert third.end["status"] == "completed", third.end
            missed = engine.run(following(spec, cut, **changed(spec, goal="Count differently")))
<<<<<<< HEAD
            assert "and said …“r personal goal" in missed.end["error"]["message"], missed.end
=======
            assert "and said " in missed.end["error"]["message"], missed.end
>>>>>>> main


def test_a_changed_crew_is_a_miss_that_says_in_what(engine, tmp_path):
    with OpenAIServer(SUM, Reply("Five.")) as server:
        spec = counting(tmp_path, server.url, settings={"temperature": 0.5})
        record = engine.run(spec)
        path = journal(record, spec)

        def missed(**changes):
            second = engine.run(following(spec, path, **changes))
            assert second.end["error"]["code"] == "REPLAY_MISS", second.end
            assert second.of("error")[0]["task_id"] == "t0"
            return second.end["error"]["message"]

        text = spec.tasks[0].model_copy(update={"description": "Add two and 7"})
        named = spec.tasks[0].model_copy(update={"name": "Adding"})
        other = {"other": spec.models["gpt"].model_copy(update={"name": "other"})}
        begin = "job_1 has recorded no answer: Counter, in the task “Add two and 0”, asks gpt"
        assert missed(**changed(spec, tools=["calculator", "wait"])) == (
            f"{begin}. The nearest call there differs: wait is offered."
        )
        assert missed(**changed(spec, goal="Be quick")) == (
            f"{begin}. The nearest call there differs: message 1 (system) says …“ersonal goal is: Be quick”, "
            "and said …“ersonal goal is: Be a good counter”."
        )
        hotter = spec.agents[0].settings.model_copy(update={"temperature": 0.75})
        assert missed(**changed(spec, settings=hotter)).endswith("temperature is 0.75, and was 0.5.")
        assert missed(**changed(spec, model="other"), models=spec.models | other).endswith("gpt was asked.")
        assert "“Adding”, asks gpt, and did nothing like it there." in missed(tasks=[named])
        assert "did nothing like it there" in missed(tasks=[text])
    assert len(server.requests) == 2


def test_what_was_too_long_to_be_recorded_is_a_miss_that_says_so(engine, tmp_path):
    spec = crew(
        tmp_path / "job_1",
        [agent("Clerk", tools=["price_of"])],
        [task("t", "clerk", "Do the work")],
        client_tools=[LOOKUP],
    )
    record = engine.launch(spec)
    answer(engine, record, record.wait_for("tool_request")["call_id"], result="x" * 300_000)
    record.exited.result(TIMEOUT)
    second = engine.run(following(spec, journal(record, spec)))
    assert second.end["error"] == {
        "code": "REPLAY_MISS",
        "message": "job_1 has recorded no answer: Clerk, in the task “Do the work”, calls price_of, as it "
        "did there, but 100,000 characters of the answer were not recorded.",
    }


# -- resume --------------------------------------------------------------------------------------------------


def test_a_run_that_failed_in_the_middle_is_resumed_without_asking_anything_twice(engine, tmp_path):
    script = [SUM, Reply("Two."), SUM, Reply("Three."), Reply("Four.")]
    with OpenAIServer(*script) as server:
        undisturbed = engine.run(counting(tmp_path / "whole", server.url, tasks=3))
    with OpenAIServer(*script[:3], Reply("No.", status=401)) as server:
        spec = counting(tmp_path, server.url, tasks=3)
        record = engine.run(spec)
        assert record.end["status"] == "failed"
        assert len(server.requests) == 4
        server.replies.clear()
        server.replies.extend(script[3:])
        second = engine.run(following(spec, journal(record, spec), "resume"))
        assert second.end["status"] == "completed", second.end
        assert len(server.requests) == 6
    assert unkeyed(told(second.events)) == unkeyed(told(undisturbed.events))
    assert live_calls(second) == ["llm_response", "llm_response"]
    assert [event.get("recorded") for event in second.of("tool_result")] == [True, True]


def unkeyed(story):
    return json.loads(json.dumps(story).replace("whole/", ""))


def test_a_failure_that_the_run_went_on_after_is_given_again(engine, tmp_path):
    failing = Reply("Sorry.", status=500, headers={"retry-after-ms": "1"})
    with OpenAIServer(failing, Reply("Two."), failing) as server:
        spec = counting(tmp_path, server.url, tasks=2)
        record = engine.run(spec)
        assert [len(record.of("llm_failed")), len(server.requests)] == [4, 5]
        server.replies.clear()
        server.replies.append(Reply("Three."))
        second = engine.run(following(spec, journal(record, spec), "resume"))
    assert second.end["status"] == "completed", second.end
    assert len(server.requests) == 6
    assert [event.get("recorded") for event in second.of("llm_failed")] == [True] * 3
    assert live_calls(second) == ["llm_response"]


def test_another_model_goes_on_with_the_answers_of_the_one_before(engine, tmp_path):
    with OpenAIServer(SUM, Reply("Two."), Reply("No.", status=401)) as server:
        spec = counting(tmp_path, server.url, tasks=2)
        record = engine.run(spec)
    with OpenAIServer(Reply("Three.")) as server:
        other = {"other": spec.models["gpt"].model_copy(update={"name": "other", "base_url": server.url})}
        changes = {**changed(spec, model="other"), "models": other}
        second = engine.run(following(spec, journal(record, spec), "resume", **changes))
        assert second.end["status"] == "completed", second.end
        assert len(server.requests) == 1
    assert [event["model"] for event in second.of("llm_response")] == ["gpt", "gpt", "other"]
    # And it can be replayed: its calls are those of the crew as it ran.
    resumed = following(spec, journal(record, spec), "resume", **changes)
    third = engine.run(following(resumed, journal(second, resumed), **changes))
    assert third.end["result"] == second.end["result"]
    assert live_calls(third) == []


def cut_off(record, spec, kind):
    """Write the journal of a run that was cut off behind the first event of a type."""
    at = next(at for at, event in enumerate(record.events) if event["type"] == kind)
    return journal(Cut(raw=record.raw[: at + 1]), spec)


@pytest.mark.parametrize("style", ["native", "react"])
@pytest.mark.parametrize("said", ["call it again", "do without it", None])
def test_a_tool_that_was_at_work_is_not_called_again_without_asking(engine, tmp_path, style, said):
    spec = crew(
        tmp_path / "job_1",
        [agent("Counter", tools=["price_of"], sandbox={"tool_calls": style})],
        [task("t", "counter", "Find the price")],
        client_tools=[LOOKUP],
    )
    record = engine.launch(spec)
    answer(engine, record, record.wait_for("tool_request")["call_id"], result="17.50")
    record.exited.result(TIMEOUT)
    second = engine.launch(following(spec, cut_off(record, spec, "tool_call"), "resume"))
    question = second.wait_for("input_request")
    assert question["question"].startswith(
        'The call price_of({"what":"tea","days":3}) had begun when the run ended'
    )
    assert question["choices"] == ["call it again", "do without it"]
    assert second.of("tool_request") == []
    how = {"error": "Nobody is there"} if said is None else {"result": said}
    answer(engine, second, question["call_id"], **how)
    if said == "call it again":
        answer(engine, second, second.wait_for("tool_request")["call_id"], result="18")
    second.exited.result(TIMEOUT)
    assert second.end["status"] == "completed", second.end
    if said == "call it again":
        assert second.of("tool_result")[0]["result"] == "18"
    else:
        assert "It was not called again" in second.of("tool_failed")[0]["error"]["message"]
        assert second.of("tool_request") == []


@pytest.mark.parametrize(
    ("tool", "client"), [("calculator", []), ("price_of", [{**LOOKUP, "idempotent": True}])]
)
def test_a_tool_that_may_be_called_twice_is(engine, tmp_path, tool, client):
    spec = crew(
        tmp_path / "job_1",
        [agent("Counter", tools=[tool])],
        [task("t", "counter", "Find the price")],
        client_tools=client,
    )
    record = engine.launch(spec)
    if client:
        answer(engine, record, record.wait_for("tool_request")["call_id"], result="17.50")
    record.exited.result(TIMEOUT)
    second = engine.launch(following(spec, cut_off(record, spec, "tool_call"), "resume"))
    if client:
        answer(engine, second, second.wait_for("tool_request")["call_id"], result="17.50")
    second.exited.result(TIMEOUT)
    assert second.of("input_request") == []
    assert told(second.events) == told(record.events)


ORDER = {
    "name": "order_tea",
    "description": "Orders tea",
    "parameters": {"type": "object", "properties": {"kilos": {"type": "integer", "examples": [3]}}},
}


def test_what_is_done_once_has_a_key_that_stays_and_is_recorded_before(engine, tmp_path):
    """A custom tool, MCP servers over both ways, each of them twice: keyed alike by all attempts."""
    notes = McpNotes(tmp_path / "notes")
    with endpoint_server() as endpoint, http_mcp_server(tmp_path / "web") as web:
        tools = ["order_tea", "stock_keyed", "web_keyed"]
        spec = crew(
            tmp_path / "job_1",
            [agent("Clerk", tools=tools)],
            [task("t", "clerk", "Do the work"), task("u", "clerk", "Do it again")],
            tools=[{**ORDER, "endpoint": f"{endpoint.url}/order"}],
            allowed_hosts=["127.0.0.1"],
        )
        servers = [
            served("stock", stdio(notes.path), "keyed"),
            served("web", {"transport": "http", "url": web.url}, "keyed"),
        ]
        spec = altered(spec, mcp_servers=servers)
        record = engine.launch(spec, keeps=False)
        # A server that dies now knows nothing of the call: it is not made.
        with record.seen:
            assert record.seen.wait_for(lambda: record.unkept, TIMEOUT)
        assert record.of("tool_call")
        assert endpoint.asked == []
        record.keeps = True
        engine.keep(record)
        record.exited.result(TIMEOUT)
        assert record.end["status"] == "completed", record.end

        def keys():
            asked = [each.headers["idempotency-key"] for each in endpoint.asked]
            return asked + notes.lines("call keyed") + web.notes.lines("call keyed")

        first = keys()
        assert len(set(first)) == len(first) == 6
        assert "None" not in first
        # The first attempt, and one that goes on with it.
        path = cut_off(record, spec, "tool_call")
        again = following(spec, path, "resume")
        again = altered(again, source=again.source.model_copy(update={"lineage": "job_1"}))
        second = engine.launch(again)
        answer(engine, second, second.wait_for("input_request")["call_id"], result="call it again")
        second.exited.result(TIMEOUT)
        assert sorted(keys()) == sorted(first * 2)
        # Another run, and one that begins a lineage of its own with what lies behind it, has others.
        other = following(spec, path, "resume")
        third = engine.launch(other)
        answer(engine, third, third.wait_for("input_request")["call_id"], result="call it again")
        third.exited.result(TIMEOUT)
        assert len(set(keys())) == 12


def test_an_attempt_that_was_cut_off_early_loses_nothing_of_the_one_before(engine, tmp_path):
    write = {"path": "tea.txt", "content": "Tea"}
    script = [Reply(calls=(("file_writer", write),)), Reply("One."), SUM, Reply("Two."), Reply("Three.")]
    with OpenAIServer(*script) as server:
        spec = counting(tmp_path, server.url, tasks=3, tools=["file_writer", "calculator"])
        record = engine.run(spec)
        assert record.end["status"] == "completed", record.end
        path = journal(Cut(raw=record.raw[:-4]), spec)
        early = following(spec, path, "resume")
        # It had begun with what it was given, and had taken no file over.
        cut = Cut(raw=record.raw[:4])
        last = following(early, journal(cut, early), "resume")
        last = altered(last, source=last.source.model_copy(update={"before": early.source}))
        server.replies.append(Reply("Three."))
        resumed = engine.run(last)
        assert resumed.end["status"] == "completed", resumed.end
        assert live_calls(resumed) == ["llm_response"]
        assert len(server.requests) == 6
    assert (Path(last.folder) / "tea.txt").read_text() == "Tea"


def test_a_run_that_is_resumed_again_and_again_knows_its_folder_by_no_name(engine, tmp_path):
    """What tools say of the run's own folder is said of another one by each run that follows."""
    code = {"code": "import os; print(os.getcwd())"}
    script = [Reply(calls=(("python", code),)), Reply("One."), Reply("Two."), Reply("Three.")]
    with OpenAIServer(*script) as server:
        spec = counting(tmp_path, server.url, tasks=3, tools=["python"])
        spec = altered(spec, tool_settings=RunToolSettings(python=True))
        record = engine.run(spec)
        assert str(spec.folder) in record.of("tool_result")[0]["result"]
        for _ in range(3):
            path = cut_off(record, spec, "task_complete")
            spec = following(spec, path, "resume")
            record = engine.run(spec)
            assert record.end["status"] == "completed", record.end
            assert live_calls(record) == ["llm_response"] * 2
            assert str(spec.folder) in record.of("tool_result")[0]["result"]
        assert len(server.requests) == 4 + 3 * 2


# -- the one seam --------------------------------------------------------------------------------------------


def test_no_request_goes_beside_the_seam(engine, tmp_path):
    """Planner, manager, agents, guardrails, objects, summaries, distilling: each request is a keyed call."""
    known = Known(tmp_path / "known.db")
    known.connection.close()
    too_long = Reply("This model's maximum context length is 10.", status=400, code="context_length_exceeded")
    script = [
        Reply(json.dumps(PLAN)),
        Reply(calls=(("delegate_work_to_coworker", {"task": "t", "context": "c", "coworker": "Counter"}),)),
        SUM,
        too_long,
        Reply("A summary."),
        Reply("Five."),
        Reply("It is five."),
        Reply('{"sum": 5}'),
        verdict(True),
        Reply('{"sum": 5}'),
        Reply("[]"),
    ]
    with OpenAIServer(*script) as server:
        models = openai_model(server.url)
        spec = crew(
            tmp_path / "job_1",
            [agent("Boss", model="gpt"), agent("Counter", model="gpt", tools=["calculator"])],
            [task("a", "counter", "Add two and three", output_schema=SCHEMA, guardrail="It is a sum.")],
            models=models,
            process="hierarchical",
            manager_agent="boss",
            planning=True,
            planning_model="gpt",
        )
        spec = altered(spec, memory=RunMemory(file=str(known.file), remember=True, model="gpt"))
        record = engine.run(spec)
    kinds = [event["type"] for event in record.events]
    calls = record.of("llm_call")
    assert kinds.count("plan") == kinds.count("guardrail") == kinds.count("memory_stored") == 1, record.end
    assert len(server.requests) == len(calls) == len(script), record.events
    keys = [event["key"] for event in calls]
    assert len(set(keys)) == len(keys)
    ended = [event["key"] for event in record.of("llm_response") + record.of("llm_failed")]
    assert sorted(ended) == sorted(keys)
    second = engine.run(following(spec, journal(record, spec)))
    assert told(second.events) == told(record.events), second.end
    assert len(server.requests) == len(script)
