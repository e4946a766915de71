"""The sandbox model's policy, as a function of what it is asked."""

import json

import pytest

from kasal_jupyter.models.sandbox.model import GUARDRAIL, SandboxRequest, answer, count_tokens
from kasal_jupyter.schemas.agents import SandboxSettings
from kasal_jupyter.tools.tool import find_tool

SYSTEM = {
    "role": "system",
    "content": "You are Researcher. You know things.\nYour personal goal is: Know more",
}
REACT = {
    "role": "system",
    "content": "You are Researcher. \nAction: an action\nAction Input: its input\nObservation: result",
}


def prompt(task="Find three facts. Be brief.", context=""):
    given = f"\n\nThis is the context you're working with:\n{context}" if context else ""
    return {
        "role": "user",
        "content": f"\nCurrent Task: {task}\n\nThis is the expected criteria for your final answer: facts\n"
        f"you MUST return the actual complete content as the final answer, not a summary.{given}",
    }


def schema(name):
    tool = find_tool(name)
    described = {"name": name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": described}


def called(name, result):
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": "{}"}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "name": name, "content": result},
    ]


DELEGATE = {
    "type": "function",
    "function": {
        "name": "delegate_work_to_coworker",
        "description": "Delegate to one of the following coworkers: Writer, Data Analyst\nThe input",
        "parameters": {
            "type": "object",
            "properties": {name: {"type": "string"} for name in ("task", "context", "coworker")},
        },
    },
}
ASK = {
    "type": "function",
    "function": {
        "name": "ask_question_to_coworker",
        "description": "Ask a specific question to one of the following coworkers: Writer\nThe input",
        "parameters": {
            "type": "object",
            "properties": {name: {"type": "string"} for name in ("question", "context", "coworker")},
        },
    },
}


def test_a_plain_answer_names_the_role_the_task_the_context_and_the_inputs():
    reply = answer(
        SandboxRequest([SYSTEM, prompt(context="[sandbox] Earlier: 12 kg.")], inputs={"topic": "solar power"})
    )
    assert reply.text == (
        '[sandbox] Researcher on "Find three facts": The context says: Earlier: 12 kg. '
        "It was asked for topic = solar power."
    )
    assert reply.calls == ()


def test_an_agent_with_nothing_to_go_by_says_so():
    assert answer(SandboxRequest([SYSTEM, prompt()])).text.endswith("done, with nothing to look up.")


def test_every_tool_is_called_once_and_its_result_quoted():
    tools = [schema("calculator"), schema("wait")]
    (first,) = answer(SandboxRequest([SYSTEM, prompt()], tools)).calls
    assert (first.name, json.loads(first.arguments)) == ("calculator", {"expression": "6 * 7"})
    messages = [SYSTEM, prompt(), *called("calculator", "42")]
    (second,) = answer(SandboxRequest(messages, tools)).calls
    assert second.name == "wait"
    reply = answer(SandboxRequest([*messages, *called("wait", "Waited 0.5 seconds.")], tools))
    assert "wait says: Waited 0.5 seconds." in reply.text


def test_react_text_is_written_where_that_is_set_and_read_back():
    settings = SandboxSettings(tool_calls="react")
    tools = [schema("calculator")]
    reply = answer(SandboxRequest([REACT, prompt()], tools, settings=settings))
    assert reply.text == (
        'Thought: I need calculator for this.\nAction: calculator\nAction Input: {"expression": "6 * 7"}'
    )
    observed = {"role": "assistant", "content": f"{reply.text}\nObservation: 42"}
    final = answer(SandboxRequest([REACT, prompt(), observed], tools, settings=settings))
    assert final.text.startswith("Thought: I now know the final answer\nFinal Answer: [sandbox] Researcher")
    assert "calculator says: 42." in final.text


@pytest.mark.parametrize(
    ("task", "coworker"), [("Analyse the data", "Data Analyst"), ("Write it", "Writer"), ("Sing", "Writer")]
)
def test_work_is_delegated_to_the_coworker_whose_role_fits(task, coworker):
    (call,) = answer(SandboxRequest([SYSTEM, prompt(task)], [DELEGATE, ASK])).calls
    given = json.loads(call.arguments)
    assert (given["coworker"], given["task"]) == (coworker, task)


def test_a_manager_answers_with_its_coworkers_result_and_asks_nobody_else():
    messages = [SYSTEM, prompt(), *called("delegate_work_to_coworker", "[sandbox] It is done.")]
    reply = answer(SandboxRequest(messages, [DELEGATE, ASK]))
    assert reply.text == "[sandbox] It is done."


def test_a_last_word_calls_no_tool():
    last = {"role": "user", "content": "Now it's time you MUST give your absolute best final answer."}
    reply = answer(SandboxRequest([SYSTEM, prompt(), last], [schema("calculator")]))
    assert reply.calls == ()
    assert reply.text.startswith("[sandbox]")


def test_answers_are_as_long_as_they_may_be():
    request = SandboxRequest(
        [SYSTEM, prompt(context="word " * 100)], settings=SandboxSettings(answer_words=5)
    )
    assert answer(request).text == '[sandbox] Researcher on "Find three facts": …'


def test_a_structured_answer_is_json():
    wanted = {"type": "object", "properties": {"fact": {"type": "string"}}, "required": ["fact"]}
    reply = answer(SandboxRequest([SYSTEM, prompt()], response_schema=wanted))
    assert json.loads(reply.text) == {"fact": "[sandbox] Find three facts"}


def test_tokens_are_characters_by_four_rounded_up():
    assert [count_tokens(text) for text in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]
    request = SandboxRequest([SYSTEM, prompt()], [schema("calculator")])
    assert request.prompt_tokens > SandboxRequest([SYSTEM, prompt()]).prompt_tokens > 0
    assert answer(request).completion_tokens > 0


def test_messages_made_of_parts_are_read_too():
    parts = {"role": "user", "content": [{"type": "text", "text": "\nCurrent Task: See this"}]}
    assert '"See this"' in answer(SandboxRequest([SYSTEM, parts])).text


def test_messages_that_follow_no_prompt_file_are_answered_all_the_same():
    assert answer(SandboxRequest([{"role": "user", "content": "Hello?"}])).text == (
        '[sandbox] Agent on "Hello": done, with nothing to look up.'
    )
    assert answer(SandboxRequest([])).text.startswith("[sandbox]")


def test_as_a_guardrail_it_accepts_unless_it_is_told_not_to():
    asked = [{"role": "user", "content": f"{GUARDRAIL}\n\nGuardrail:\nShort.\n\nTask result:\nTea."}]
    assert json.loads(answer(SandboxRequest(asked)).text) == {"valid": True, "feedback": None}
    refused = json.loads(answer(SandboxRequest(asked, refused=True)).text)
    assert refused["valid"] is False
    assert refused["feedback"].startswith("[sandbox]")


def test_as_a_planner_it_plans_for_each_task():
    tasks = "\n\nTask Number 1 - Find facts\nAgent: any\n\nTask Number 2 - Write: 1. all"
    asked = [{"role": "user", "content": f"Current Task: Based on these tasks summary: {tasks} \n Plan."}]
    plans = json.loads(answer(SandboxRequest(asked)).text)["list_of_plans_per_task"]
    assert [(plan["task_number"], plan["task"]) for plan in plans] == [
        (1, "Find facts"),
        (2, "Write: 1. all"),
    ]
