"""Runs that leave an earlier one at a place: real CrewAI, and real servers that count what they are asked."""

import orjson
import pytest

from kasal_jupyter.events.event import is_event
from kasal_jupyter.events.steps import Steps, place_of
from kasal_jupyter.schemas.spec import RunEdit
from tests.engine import TIMEOUT, agent, crew, openai_model, task
from tests.replaying import following, journal, live_calls, told
from tests.servers.openai_server import OpenAIServer, Reply
from tests.worker.test_client_tools import LOOKUP, answer

SUM = Reply(calls=(("calculator", {"expression": "2 + 3"}),))
ASKS = {"model": "gpt", "settings": {"stream": False}}


class Forks:
    """Forks of one recorded run, each at a call, with what is changed of it."""

    def __init__(self, engine, spec, record):
        self.engine, self.spec, self.record = engine, spec, record
        self.path = journal(record, spec)
        self.steps = Steps.of(map(orjson.loads, self.path.read_bytes().splitlines()))

    def of(self, kind, at=0):
        """Give the id of a span: the one that the event of a type has begun."""
        return self.record.of(kind)[at]["span_id"]

    def spec_of(self, span, what=None, text="", **changes):
        call = self.steps.call_of(span, what)
        place = place_of(call, self.spec.tasks)
        made = following(self.spec, self.path, "fork", **changes)
        edits = [RunEdit(call=call.key, what=what, text=text, by="ada")] if what is not None else []
        self.said = self.steps.anew(place)
        if what in {"answer", "result"}:
            self.said = [each for each in self.said if each is not call]
        return made.model_copy(
            update={"source": made.source.model_copy(update={"place": place}), "edits": edits}
        )

    def run(self, *args, **changes):
        self.made = self.spec_of(*args, **changes)
        record = self.engine.run(self.made)
        assert all(is_event(event) for event in record.events)
        return record

    def replayed(self, record):
        """Replay a fork: its record is whole, its edits are in it."""
        again = self.engine.run(following(self.made, journal(record, self.made)))
        assert told(again.events) == told(record.events), again.end
        assert live_calls(again) == []


def texts(request):
    return [message["content"] for message in request["messages"]]


@pytest.fixture
def two_tasks(engine, tmp_path):
    """A run of two tasks, the second of which hangs on the first, and the server it has asked."""
    with OpenAIServer(SUM, Reply("Five."), Reply("The sum is five.")) as server:
        spec = crew(
            tmp_path / "job_1",
            [agent("Counter", **ASKS, tools=["calculator"]), agent("Writer", **ASKS)],
            [task("a", "counter", "Add two and three"), task("b", "writer", "Write")],
            models=openai_model(server.url),
        )
        forks = Forks(engine, spec, engine.run(spec))
        assert len(server.requests) == 3
        server.requests.clear()
        server.replies.clear()
        yield forks, server


def test_a_tools_result_is_changed_and_what_hangs_on_it_is_asked(two_tasks):
    forks, server = two_tasks
    server.replies += [Reply("Seven."), Reply("The sum is seven.")]
    record = forks.run(forks.of("tool_call"), "result", "7")
    assert record.end["result"] == "The sum is seven."
    assert len(server.requests) == len(forks.said) == 2
    assert "7" in texts(server.requests[0])
    assert any("Seven." in text for text in texts(server.requests[1]))
    (result,) = record.of("tool_result")
    assert (result["result"], result["recorded"]) == ("7", True)
    assert result["edited"] == {"call": result["key"], "what": "result", "by": "ada"}
    forks.replayed(record)
    assert len(server.requests) == 2


def test_a_models_answer_is_changed(two_tasks):
    forks, server = two_tasks
    server.replies += [Reply("The sum is nine.")]
    # Of the first task: what its agent has said last.
    record = forks.run(forks.of("task_start"), "answer", "Nine.")
    assert (len(server.requests), len(forks.said)) == (1, 1)
    assert any("Nine." in text for text in texts(server.requests[0]))
    assert [event["result"] for event in record.of("task_complete")] == ["Nine.", "The sum is nine."]
    changed = [event for event in record.of("llm_response") if "edited" in event]
    assert [event["text"] for event in changed] == ["Nine."]
    assert changed[0]["recorded"] is True
    forks.replayed(record)
    # No tool is asked for where a text stands in the place of a call.
    server.replies += [Reply("The sum is one.")]
    record = forks.run(forks.of("llm_call"), "answer", "One.")
    assert (record.of("tool_call"), len(server.requests)) == ([], 2)


def test_a_prompt_is_changed_for_the_rest_of_its_conversation(two_tasks):
    forks, server = two_tasks
    server.replies += [SUM, Reply("Ten."), Reply("The sum is ten.")]
    record = forks.run(forks.of("agent_start"), "prompt", "Add four and six")
    assert len(server.requests) == len(forks.said) == 3
    assert [texts(each)[1] for each in server.requests[:2]] == ["Add four and six"] * 2
    calls = record.of("llm_call")
    assert ["edited" in call for call in calls] == [True, False, False]
    assert calls[0]["edited"]["call"] == forks.record.of("llm_call")[0]["key"]
    assert calls[0]["messages"][1]["content"] == "Add four and six"
    forks.replayed(record)
    assert len(server.requests) == 3


def test_without_a_change_all_behind_the_place_is_asked_once_more(two_tasks):
    forks, server = two_tasks
    server.replies += [Reply("Five."), Reply("The sum is five.")]
    record = forks.run(forks.of("llm_call", 1))
    assert record.end["result"] == "The sum is five."
    # Nothing before it, and all behind it, though each question is the same.
    assert len(server.requests) == len(forks.said) == 2
    assert live_calls(record) == ["llm_response"] * 2


def test_what_does_not_hang_on_the_place_is_given(engine, tmp_path):
    with OpenAIServer(Reply("One."), Reply("Two."), Reply("Three."), Reply("Joined.")) as server:
        spec = crew(
            tmp_path / "job_1",
            [agent("Writer", **ASKS)],
            [
                task("a", "writer", "Say a"),
                task("b", "writer", "Say b", context_tasks=[]),
                task("c", "writer", "Say c", ("a",)),
                task("d", "writer", "Say d", ("c",)),
            ],
            models=openai_model(server.url),
        )
        forks = Forks(engine, spec, engine.run(spec))
        server.requests.clear()
        server.replies.clear()
        server.replies += [Reply("Four."), Reply("Five."), Reply("Six.")]
        record = forks.run(forks.of("llm_call"))
        assert [event["result"] for event in record.of("task_complete")] == ["Four.", "Two.", "Five.", "Six."]
        assert len(server.requests) == len(forks.said) == 3


def test_humans_are_asked_again_and_side_effects_are_not_made_twice(engine, tmp_path):
    """Behind the place a tool without side effects is called; one that may have some gives what it gave."""
    spec = crew(
        tmp_path / "job_1",
        [agent("Clerk", tools=["calculator", "price_of", "ask_human"], sandbox={"tool_calls": "native"})],
        [task("t", "clerk", "Do the work")],
        client_tools=[LOOKUP],
    )
    record = engine.launch(spec)
    answer(engine, record, record.wait_for("tool_request")["call_id"], result="17.50")
    answer(engine, record, record.wait_for("input_request")["call_id"], result="green")
    record.exited.result(TIMEOUT)
    forks = Forks(engine, spec, record)
    fork = engine.launch(forks.spec_of(forks.of("llm_call")))
    answer(engine, fork, fork.wait_for("input_request")["call_id"], result="blue")
    fork.exited.result(TIMEOUT)
    assert fork.end["status"] == "completed", fork.end
    assert fork.of("tool_request") == []
    given = {event["tool"]: event.get("recorded", False) for event in fork.of("tool_result")}
    assert given == {"calculator": False, "price_of": True, "ask_human": False}
    # Whoever forks at the call itself wants it made again.
    (place,) = (event["span_id"] for event in record.of("tool_call") if event["tool"] == "price_of")
    fork = engine.launch(forks.spec_of(place))
    answer(engine, fork, fork.wait_for("tool_request")["call_id"], result="18.00")
    answer(engine, fork, fork.wait_for("input_request")["call_id"], result="red")
    fork.exited.result(TIMEOUT)
    results = [event.get("given", event["result"]) for event in fork.of("tool_result")]
    assert "18.00" in results
