"""Events to lines, in order, from any thread."""

import socket
import threading

import orjson
import pytest

from kasal_jupyter.hiding import Hider
from kasal_jupyter.worker.process.outbox import Outbox, encode


@pytest.fixture
def out():
    """Give an outbox, and what it has sent once it is closed."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        outbox = Outbox(ours, Hider(["sk-secret-1234", 'sk-"quoted"', "none", "tool_call", "x"]))

        def sent():
            outbox.close(5)
            ours.close()
            data = b""
            while piece := theirs.recv(65_536):
                data += piece
            return [orjson.loads(line) for line in data.splitlines()]

        yield outbox, sent


def chunk(span, text):
    return {"type": "llm_chunk", "span_id": span, "text": text}


def test_events_are_stamped_and_keep_their_order(out):
    outbox, sent = out
    for at in range(100):
        outbox.emit({"type": "x", "at": at})
    events = sent()
    assert [event["at"] for event in events] == list(range(100))
    assert all(event["time"].endswith("Z") for event in events)


def test_pieces_of_an_answer_are_gathered_and_come_before_what_follows(out):
    outbox, sent = out
    for piece in ("a", "b"):
        outbox.emit(chunk(1, piece))
        outbox.emit(chunk(2, piece.upper()))
    outbox.emit({"type": "llm_response", "span_id": 1})
    outbox.emit(chunk(2, "!"))
    assert [(event["type"], event.get("text")) for event in sent()] == [
        ("llm_chunk", "ab"),
        ("llm_chunk", "AB"),
        ("llm_response", None),
        ("llm_chunk", "!"),
    ]


def test_a_piece_that_nothing_follows_is_sent_after_the_window():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(10)
        outbox = Outbox(ours)
        outbox.emit(chunk(1, "alone"))
        assert orjson.loads(theirs.recv(65_536))["text"] == "alone"
        outbox.close(5)


def test_many_threads_may_emit_while_the_reader_is_slow():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        outbox = Outbox(ours)
        text = "x" * 100_000

        def talk(name):
            for at in range(40):
                outbox.emit({"type": "x", "name": name, "at": at, "text": text})

        threads = [threading.Thread(target=talk, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        data = bytearray()
        while data.count(b"\n") < 160:
            data += theirs.recv(1_000_000)
        for thread in threads:
            thread.join()
        outbox.close(5)
    events = [orjson.loads(line) for line in data.splitlines()]
    for name in range(4):
        assert [event["at"] for event in events if event["name"] == name] == list(range(40))


def test_a_key_never_gets_out_and_a_word_is_no_key(out):
    outbox, sent = out
    outbox.emit({"type": "x", "text": 'Use sk-secret-1234 or sk-"quoted" or none.'})
    assert sent()[0]["text"] == "Use [secret] or [secret] or none."


def test_a_reader_that_is_gone_does_not_hold_anybody_up():
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        outbox = Outbox(ours)
        for _ in range(100):
            outbox.emit({"type": "x", "text": "x" * 1_000_000})
        outbox.close(5)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ({"a": {1, 2}}, {"a": "{1, 2}"}),
        ({1: "a"}, {"1": "a"}),
        ("half \ud83d", "half \ufffd"),
        ({"deep": ["\ud800", 2**70]}, {"deep": ["\ufffd", str(2**70)]}),
        (float("nan"), None),
        (ValueError("x"), "x"),
    ],
)
def test_whatever_comes_is_made_json(value, read):
    assert orjson.loads(encode(value)) == read


def test_a_key_that_is_streamed_in_pieces_does_not_get_out(out):
    """Whoever puts the pieces together must not have it, whatever comes between them."""
    outbox, sent = out
    for piece in ("Yours is sk-s", "ecret-", "1234", ", and not sk-se"):
        outbox.emit(chunk(1, piece))
        # Another call's event has what was gathered sent.
        outbox.emit({"type": "tool_call", "span_id": 2})
    outbox.emit({"type": "llm_response", "span_id": 1})
    events = sent()
    pieces = [event["text"] for event in events if event["type"] == "llm_chunk"]
    assert "".join(pieces) == "Yours is [secret], and not sk-se"
    assert events[-1]["type"] == "llm_response"
    # What cannot be a key's beginning has not waited.
    assert pieces[0] == "Yours is "


def test_what_may_be_a_keys_beginning_is_sent_at_the_end(out):
    outbox, sent = out
    outbox.emit(chunk(1, "It begins with sk-"))
    assert "".join(event["text"] for event in sent()) == "It begins with sk-"


def test_whole_numbers_lose_no_digit_and_stay_numbers_as_far_as_64_bits_go():
    given = {"more": 2**64, "most": 2**64 - 1, "least": -(2**63), "less": -(2**63) - 1, "yes": True}
    assert orjson.loads(encode(given)) == {**given, "more": str(2**64), "less": str(-(2**63) - 1)}
