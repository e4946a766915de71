"""Answers of any size: a run goes on with all of it, and records what fits."""

import json

import pytest

from kasal_jupyter.worker.process.outbox import encode
from kasal_jupyter.worker.process.sizes import MOST_EVENT, MOST_RESULT, MOST_TEXT, fitted, left_out
from tests.engine import agent, crew, openai_model, task
from tests.servers.openai_server import OpenAIServer, Reply


def nested(levels):
    value = "core"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "made",
    [
        lambda: "x" * 20_000_000,
        lambda: {"x" * 5_000_000: "y"},
        lambda: ["x" * 900_000] * 100,
        lambda: list(range(3_000_000)),
        lambda: {number: number for number in range(200_000)},
        lambda: [[number] * 9_000 for number in range(1_000)],
        lambda: nested(100_000),
        lambda: {"a": {"b": {"c": ["x" * 30_000_000]}}},
        lambda: 10**100_000,
        lambda: {"text": "\U0001f600" * 5_000_000},
    ],
    ids=["text", "key", "texts", "list", "object", "lists", "nest", "deep", "number", "faces"],
)
def test_an_event_is_never_larger_than_it_may_be_and_says_what_is_missing(made):
    value = made()
    event = fitted({"type": "tool_call", "span_id": 7, "arguments": value})
    line = encode(event)
    assert len(line) < 4.5 * MOST_EVENT
    assert json.loads(line)["span_id"] == 7
    assert event.get("cut", 0) > 0 or isinstance(value, int)
    assert "left out" in line.decode() or "[…]" in line.decode()


def test_what_fits_stays_as_it_is():
    for value in ("x" * MOST_TEXT, {"a": [1, 2.5, None, True, {"b": "c" * 3_000}]}, 7, None):
        event = {"type": "tool_call", "arguments": value}
        assert fitted(event) == event


def test_no_beginning_of_a_secret_is_left_where_a_text_is_cut():
    event = fitted(
        {"text": "x" * (MOST_TEXT - 4) + "sk-secret"}, clean=lambda text: text.removesuffix("sk-s")
    )
    assert event["text"] == "x" * (MOST_TEXT - 4) + "\n" + left_out(9)
    assert event["cut"] == 9


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_an_answer_of_20_mb_is_recorded_by_its_beginning_and_kept_whole(engine, tmp_path, stream):
    # A word a piece: as large as a stream's pieces get.
    text = " ".join(["y" * 99_999] * 200)
    with OpenAIServer(Reply(text)) as server:
        record = engine.run(
            crew(
                tmp_path,
                [agent("Counter", model="gpt", settings={"stream": stream})],
                [task("t", "counter", "Add two and three")],
                models=openai_model(server.url),
            )
        )
    assert record.end["status"] == "completed"
    whole = (tmp_path / record.end["result_file"]).read_text()
    assert whole.strip() == text
    assert record.end["result"] == f"{whole[:MOST_RESULT]}\n{left_out(len(whole) - MOST_RESULT)}"
    assert record.end["cut"] == len(whole) - MOST_RESULT
    assert sum(map(len, record.raw)) < 5_000_000
    for kind, field in (("llm_response", "text"), ("agent_complete", "result"), ("task_complete", "result")):
        (event,) = record.of(kind)
        assert event[field].endswith("characters left out]")
        assert event["cut"] == len(whole) - MOST_TEXT


def test_a_run_that_has_recorded_all_it_may_ends_and_its_spans_with_it(engine, tmp_path):
    args = {"path": "tea.txt", "content": "tea " * 5_000}
    replies = [Reply(calls=(("file_writer", args),)) for _ in range(30)]
    with OpenAIServer(*replies) as server:
        spec = crew(
            tmp_path,
            [agent("Counter", model="gpt", tools=["file_writer"], max_iter=40)],
            [task("t", "counter", "Add two and three")],
            models=openai_model(server.url),
        )
        record = engine.run(spec.model_copy(update={"journal_bytes": 200_000}))
    assert record.end["status"] == "failed"
    assert record.end["error"]["code"] == "JOURNAL_FULL"
    assert "max_journal_bytes" in record.end["error"]["message"]
    assert sum(map(len, record.raw)) < 400_000
    opened = {event["span_id"] for event in record.events if event["type"] in {"llm_call", "tool_call"}}
    ended = {
        event["span_id"]
        for event in record.events
        if event["type"] in {"llm_response", "llm_failed", "tool_result", "tool_failed"}
    }
    assert opened == ended


def test_a_result_that_finds_a_folder_in_its_place_is_told_by_its_beginning(engine, tmp_path):
    (tmp_path / "result.txt").mkdir()
    with OpenAIServer(Reply("z" * 300_000)) as server:
        record = engine.run(
            crew(
                tmp_path,
                [agent("Counter", model="gpt")],
                [task("t", "counter", "Add two and three")],
                models=openai_model(server.url),
            )
        )
    assert record.end["status"] == "completed"
    assert "result_file" not in record.end
    assert record.end["result"].startswith("z" * MOST_RESULT + "\n[… 44,")
