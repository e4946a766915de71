"""What a run's prompts say again is written once, and read as it was asked."""

import random
import tracemalloc

import orjson
import pytest

from kasal_jupyter.events.prompts import RECENT_CHARACTERS, Prompts
from kasal_jupyter.events.trace import Trace
from kasal_jupyter.hiding import Hider
from kasal_jupyter.worker.process import said_once
from kasal_jupyter.worker.process.outbox import encode
from kasal_jupyter.worker.process.said_once import SaidOnce

TIME = "2024-01-15T10:30:00.000000Z"


def call(span, *messages, **fields):
    about = {"span_id": span, "parent_id": None, "task_id": "t", "task": "T", "agent": "Ada"}
    told = {"time": TIME, "type": "llm_call", "messages": list(messages), "tools": [], **fields}
    return {**told, **about, "model": "m"}


def start(span, prompt):
    about = {"span_id": span, "parent_id": None, "task_id": "t", "task": "T", "agent": "Ada"}
    return {"time": TIME, "type": "agent_start", "prompt": prompt, "tools": [], **about}


def said(text, role="user"):
    return {"role": role, "content": text}


def written(events, hider=None):
    """Give the lines of a journal, as a run's process writes them."""
    once = SaidOnce(encode, (hider or Hider(())).json)
    return [encode(once.named(event)) for event in events]


def reader(lines):
    calls = {event["span_id"]: event for event in map(orjson.loads, lines) if event["type"] == "llm_call"}
    asked = []

    def find(span):
        asked.append(span)
        return calls.get(span)

    return Prompts(find), asked


def conversation(calls, first=1, size=700):
    """One agent's: each call has all that was said before."""
    messages = [said("You are Ada.", "system"), said("Count.")]
    for at in range(calls):
        yield call(first + at, *messages)
        messages += [said(f"I look at {at}. {'x' * size}", "assistant"), said(f"{at} is {at * at}.", "tool")]


def tasks(count, size=900):
    """A crew's whose tasks each have the results of all before."""
    results = []
    for at in range(count):
        context = "\n\n----------\n\n".join(results)
        prompt = f"Current Task: Write part {at}\n\nThis is the context:\n{context}\n\nBegin! Part {at}."
        yield start(2 * at + 1, prompt)
        yield call(2 * at + 2, said("You are Ada.", "system"), said(f"\n{prompt}\n\nNow, {at}"))
        results.append(f"Part {at} is this: {chr(97 + at % 26) * size} and so on.")


def crowd(seed):
    """Several agents at once, some of whom say the same again, forget, or have their prompts changed."""
    chance = random.Random(seed)
    texts = [said(f"text {at} {chr(97 + at) * chance.choice((3, 3_000))}") for at in range(9)]
    lists = [[said("Be kind.", "system")] for _ in range(3)]
    for span in range(1, 120):
        messages = lists[chance.randrange(3)]
        match chance.randrange(12):
            case 0:
                messages.clear()
            case 1:
                messages[:1] = [said(f"It is {span} o'clock", "system")]
            case 2:
                del messages[len(messages) // 3 : len(messages) // 2]
            case 3:
                # What earlier ones say stands within it.
                quoted = "".join(chance.choice(texts)["content"] for _ in range(4))
                messages.append(said(f"{span} {quoted} é€😀 {span}"))
            case _:
                messages += chance.choices(texts, k=chance.randrange(3))
        yield call(span, *messages)


@pytest.mark.parametrize("events", [conversation(60), tasks(40), crowd(1), crowd(2), crowd(3)])
def test_what_is_named_is_read_as_it_was_asked_from_anywhere(events):
    events = [orjson.loads(orjson.dumps(event)) for event in events]
    lines = written(events)
    assert sum(map(len, lines)) < sum(len(encode(event)) for event in events)
    whole = [encode(event) for event in events]
    in_order, _ = reader(lines)
    assert [in_order.line(line) for line in lines] == whole
    for at in (len(lines) // 3, len(lines) - 1):
        from_there, _ = reader(lines)
        assert [from_there.line(line) for line in lines[at:]] == whole[at:]
    trace = Trace()
    assert [encode(trace.feed(orjson.loads(line))) for line in lines] == whole


@pytest.mark.parametrize("kind", [conversation, tasks])
def test_bytes_are_linear_in_calls(kind):
    few, many = (sum(map(len, written(kind(count)))) for count in (20, 200))
    assert many < 10.5 * few
    # The same, where every message is written in every call.
    assert sum(len(encode(event)) for event in kind(200)) > 40 * few


def test_a_text_is_in_the_journal_once():
    lines = b"".join(written([*conversation(20), *conversation(20, first=101)]))
    for text in (b"You are Ada.", b"I look at 7.", b'"7 is 49."'):
        assert lines.count(text) == 1


def test_changed_beginnings_and_equal_messages_take_a_word_each():
    again = said("I could not do it.")
    events = [
        call(at, said(f"It is {at} o'clock", "system"), *[again] * at, said("Go on")) for at in range(1, 90)
    ]
    named = [orjson.loads(line).get("whole", []) for line in written(events)]
    assert max(map(len, named)) <= 5


def test_a_reader_in_the_middle_looks_at_each_call_once_and_then_at_none():
    lines = written(conversation(200))
    prompts, asked = reader(lines)
    prompts.line(lines[150])
    assert len(asked) == len(set(asked)) <= 150
    asked.clear()
    for line in lines[151:]:
        prompts.line(line)
    assert asked == []


def test_a_reader_keeps_no_more_than_it_may():
    lines = written(call(at, said(f"{at} {'x' * 1_000_000}")) for at in range(1, 30))
    prompts, _ = reader(lines)
    tracemalloc.start()
    for line in lines:
        prompts.event(orjson.loads(line))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1.5 * RECENT_CHARACTERS


def test_what_was_forgotten_is_written_once_more(monkeypatch):
    monkeypatch.setattr(said_once, "MOST_KNOWN", 30)
    events = [orjson.loads(orjson.dumps(event)) for event in conversation(60)]
    lines = written(events)
    prompts, _ = reader(lines)
    assert [prompts.event(orjson.loads(line)) for line in lines] == events


def test_a_key_is_hidden_before_anything_is_named():
    key = "sk-secret-1234567890"
    events = [
        call(1, said(f"{'a' * 3_000} {key} {'b' * 3_000}")),
        call(
            2, said(f"{'a' * 3_000} {key} {'b' * 3_000}"), said(f"Yes {'a' * 3_000} {key} {'b' * 3_000} no")
        ),
    ]
    hider = Hider([key])
    lines = written(events, hider)
    assert key.encode() not in b"".join(lines)
    assert b'"quotes":[' in lines[1]
    prompts, _ = reader(lines)
    assert [prompts.line(line) for line in lines] == [hider.json(encode(event)) for event in events]


def test_what_a_disk_has_damaged_is_said():
    prompts = Prompts(lambda _span: None)
    lines = written([*conversation(3), *tasks(4)])
    for line in lines:
        whole = prompts.event(orjson.loads(line))
        assert "whole" not in whole
    named = Prompts(lambda _span: None).event(orjson.loads(lines[2]))
    assert "cannot be read any more" in named["messages"][0]["content"]


def test_an_older_journals_calls_are_as_they_are():
    event = call(1, said("You are Ada."), said("Count."))
    assert Prompts(lambda _span: None).event(event) == event
    assert Prompts(lambda _span: None).line(encode(event)) == encode(event)
