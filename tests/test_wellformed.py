"""Text that no UTF-8 can hold, replaced in one place."""

import json

import orjson
import pytest

from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.store.layout import decode, encode
from kasal_jupyter.wellformed import text_of, well_formed, well_formed_json


@pytest.mark.parametrize(
    ("given", "mended"),
    [
        ("plain", "plain"),
        ("größer 😀", "größer 😀"),
        ("a\ud800b", "a\ufffdb"),
        ("\udfff\udfff", "\ufffd\ufffd"),
        # Two halves that belong together mean a character.
        ("\ud83d\ude00", "😀"),
        ({"\ud800": ["\udc00", ("\ud800", 1)]}, {"\ufffd": ["\ufffd", ("\ufffd", 1)]}),
        (None, None),
        (1.5, 1.5),
    ],
)
def test_what_cannot_be_written_is_replaced(given, mended):
    assert well_formed(given) == mended
    json.dumps(well_formed(given), ensure_ascii=False).encode()


def test_what_can_be_written_is_given_back_itself():
    for value in ("größer", {"a": ["b", {"c": "d"}]}, ["x"], ("y",)):
        assert well_formed(value) is value


@pytest.mark.parametrize(
    ("given", "mended"),
    [
        (rb'"\ud800"', "\ufffd"),
        (rb'"\uDC00x\ud83d\ude00"', "\ufffdx😀"),
        # A backslash that is escaped begins no escape.
        (rb'"\\ud800 \\\ud800"', "\\ud800 \\\ufffd"),
        (rb'{"\ud800": ["\udfff"]}', {"\ufffd": ["\ufffd"]}),
        (b'"\xc3\xb6"', "ö"),
    ],
)
def test_json_that_names_half_of_a_pair_is_read(given, mended):
    assert orjson.loads(well_formed_json(given)) == mended


def test_an_exception_has_a_text_whatever_its_class_does():
    class Broken(Exception):
        def __str__(self):
            raise RuntimeError

    assert text_of(Broken()) == "Broken"
    assert text_of(ValueError("bad \udcff name")) == "bad \ufffd name"


def test_refusals_and_documents_can_always_be_written():
    refusal = InvalidRequest("no \ud800", faults=[Fault("inputs.\udfff", "is \udc00")])
    assert orjson.loads(orjson.dumps(refusal.body()))["error"]["message"] == "no \ufffd"
    assert decode(encode({"name": "\ud800", "big": 2**70})) == {"name": "\ufffd", "big": 2**70}
