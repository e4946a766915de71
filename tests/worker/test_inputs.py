"""Inputs on their way into a crew's prompts: each filled in once, wherever CrewAI fills in something."""

import json

import pytest

from tests.engine import agent, crew, openai_model, task
from tests.servers.openai_server import OpenAIServer, Reply

WORDS = "{goal} {role} {backstory} {input} {tools} {tool_names} {secret} {topic} {{x}}"
"""What CrewAI replaces, in one place or another, and what our crews might."""


def prompts(record):
    """Give all that the models were told."""
    return json.dumps([event["messages"] for event in record.of("llm_call")], ensure_ascii=False)


@pytest.mark.parametrize("tool_calls", ["native", "react"])
@pytest.mark.parametrize("process", ["sequential", "hierarchical"])
def test_what_an_input_says_is_filled_in_nowhere(engine, tmp_path, tool_calls, process):
    sandbox = {"tool_calls": tool_calls}
    texts = {"goal": "Tell {a}", "backstory": "Knows {a}", "sandbox": sandbox, "tools": ["calculator"]}
    record = engine.run(
        crew(
            tmp_path,
            [agent("Teller", **texts)],
            [
                task("t", "teller", "Say {a}", expected_output="All of {a}", guardrail="It has {a}"),
                task("u", "teller", "Go on", ("t",), context_texts=["Mind {a}"]),
            ],
            inputs={"a": WORDS, "secret": "s3cret", "topic": "t0pic", "x": "xxx"},
            process=process,
            planning=True,
        )
    )
    assert record.end["status"] == "completed", record.end
    told = prompts(record)
    for begins in ("Say", "Tell", "Knows", "All of", "Mind", "It has"):
        assert f"{begins} {WORDS}" in told, begins


def test_braces_that_are_meant_reach_the_model(engine, tmp_path):
    description = r'Explain \frac{{a}}{{b}}, ${{HOME}}, {"json": {"x": [1]}} and {größe}'
    record = engine.run(
        crew(tmp_path, [agent("Teller")], [task("t", "teller", description)], inputs={"größe": 2**64 - 1})
    )
    said = record.of("llm_call")[0]["messages"][-1]["content"]
    assert r'Explain \frac{a}{b}, ${HOME}, {"json": {"x": [1]}} and 18446744073709551615' in said


def test_a_task_gets_the_results_that_it_is_said_to_get(engine, tmp_path):
    with OpenAIServer(*(Reply(text=f"RESULT-{letter}") for letter in "ABCDE")) as server:
        alone = {**task("c", "teller", "Three"), "context_tasks": []}
        record = engine.run(
            crew(
                tmp_path,
                [agent("Teller", model="gpt")],
                [
                    task("a", "teller", "One"),
                    task("b", "teller", "Two"),
                    alone,
                    task("d", "teller", "Four", ("a",)),
                    task("e", "teller", "Five"),
                ],
                models=openai_model(server.url),
            )
        )
    assert record.end["status"] == "completed"
    seen = [
        [letter for letter in "ABCDE" if f"RESULT-{letter}" in json.dumps(call["messages"])]
        for call in record.of("llm_call")
    ]
    assert seen == [[], ["A"], [], ["A"], ["A", "B", "C", "D"]]
