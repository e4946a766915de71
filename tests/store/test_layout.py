import datetime as dt
import gc
import math

import pytest

from kasal_jupyter.store.layout import decode, encode


@pytest.mark.parametrize(
    "document",
    [
        {"text": 'こんにちは " \\ \n \0 🙂', "none": None, "list": [1, 2.5, True, {"a": []}]},
        {"big": 2**63, "bigger": 10**40, "negative": -(10**40)},
        {"float": 0.1, "tiny": 5e-324, "huge": 1.7976931348623157e308},
        {},
    ],
)
def test_what_is_json_comes_back_as_it_was(document):
    assert decode(encode(document)) == document


def test_to_encode_again_changes_nothing():
    for document in ({"a": 1.0, "b": [None]}, {"big": 10**30}, {"text": "\ud800"}):
        body = encode(document)
        assert encode(decode(body)) == body


def test_what_no_utf_8_can_hold_becomes_a_mark():
    assert decode(encode({"\ud800": ["\udfff", 2**70]})) == {"\ufffd": ["\ufffd", 2**70]}


def test_tuples_and_keys_become_what_json_has():
    assert decode(encode({"pair": (1, 2), 7: "seven"})) == {"pair": [1, 2], "7": "seven"}


def test_what_json_has_no_number_for_becomes_null():
    assert decode(encode({"x": math.nan, "y": math.inf})) == {"x": None, "y": None}


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", dt.datetime(2024, 1, 1, tzinfo=dt.UTC)])
def test_what_is_no_json_is_refused(value):
    with pytest.raises(TypeError):
        encode({"value": value})


def test_equal_numbers_of_other_types_are_told_apart():
    assert encode({"a": 1}) != encode({"a": True})
    assert encode({"a": 1}) != encode({"a": 1.0})


def test_only_an_object_is_a_document():
    with pytest.raises(ValueError, match="not a JSON object"):
        decode(b"[1]")


def test_rows_give_the_garbage_collector_nothing_to_walk_through(notes):
    notes.insert({"owner": "ada", "topic": "first"})
    gc.collect()
    before = len(gc.get_objects())
    notes.insert_multiple({"owner": "ada", "topic": "same", "nested": {"list": [n]}} for n in range(2_000))
    gc.collect()

    # Documents as dictionaries would be 6,000 objects more.
    assert len(gc.get_objects()) - before < 200
