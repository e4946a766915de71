"""Bodies: what is wrong with one is told within bounds, whatever is wrong with it."""

import orjson
import pytest
from pydantic_core import ValidationError

from kasal_jupyter.api import body
from kasal_jupyter.errors import MOST_FAULTS, InvalidRequest
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.executions import ExecutionCreate
from kasal_jupyter.wellformed import has_more_values

AGENT = {"role": "r", "goal": "g"}


def refused(given):
    with pytest.raises(InvalidRequest) as caught:
        body.read_body(CrewCreate, orjson.dumps(given), "no")
    return caught.value.faults


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({f"f{n}": 1 for n in range(40_000)}, "f0"),
        ({"name": "n", "agents": [{**AGENT, **{f"f{n}": 1 for n in range(200)}}] * 200}, "agents[0].f0"),
        ({"name": "n", "agents": [{"tools": [""] * 64}] * 200, "tasks": [{}] * 1_000}, "agents[0].tools[0]"),
    ],
)
def test_of_very_many_faults_the_first_are_told_and_the_others_counted(monkeypatch, given, field):
    written, tell = [], body.faults_of

    def count(error):
        written.append(error.error_count())
        return tell(error)

    monkeypatch.setattr(body, "faults_of", count)
    faults = refused(given)
    assert field in {fault.field for fault in faults}
    assert len(faults) <= MOST_FAULTS + 1
    assert "more; correct those before them first" in faults[-1].reason
    assert max(written) <= body.MANY_FAULTS
    with pytest.raises(ValidationError):
        CrewCreate.model_validate(given)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"agents": [{}] * 300_000}, "more than 50,000 values"),
        ({"agents": [[0] * 1_000 for _ in range(300)]}, "more than 50,000 values"),
    ],
)
def test_a_body_of_very_many_values_is_refused(given, reason):
    (fault,) = refused(given)
    assert fault.field == "body"
    assert reason in fault.reason


@pytest.mark.parametrize("value", [{}, [], 0, {"a": "b"}, '"', "\\"])
def test_a_body_of_very_many_values_is_not_even_read(value, monkeypatch):
    monkeypatch.setattr(body.orjson, "loads", None)
    assert "values" in refused({"agents": [value] * 110_000})[0].reason


@pytest.mark.parametrize("bit", ["a,b\n", "[{", '",[]', "\\,[", '\\",'])
def test_what_stands_in_texts_does_not_count_as_values(bit):
    assert not has_more_values(orjson.dumps({"a": bit * 200_000, "b": [bit] * 9_000}), body.MOST_VALUES)


@pytest.mark.parametrize(
    ("inputs", "fields"),
    [
        ('{"n": 18446744073709551616}', ["inputs.n"]),
        ('{"n": -9223372036854775809, "m": [1, {"x": 1' + "0" * 300 + "}]}", ["inputs.m[1].x", "inputs.n"]),
    ],
)
def test_a_whole_number_that_would_lose_digits_is_refused_by_name(inputs, fields):
    with pytest.raises(InvalidRequest) as caught:
        body.read_body(ExecutionCreate, b'{"crew_id": "c", "inputs": %b}' % inputs.encode(), "no")
    assert sorted(fault.field for fault in caught.value.faults) == fields
    assert "more than 64 bits would lose digits; write it as a text" in caught.value.faults[0].reason


def test_whole_numbers_of_64_bits_keep_every_digit():
    inputs = {
        "a": 2**63,
        "b": 2**64 - 1,
        "c": -(2**63),
        "d": "1" * 40,
        "e": 1e300,
        "f": 12345678901234567890.5,
    }
    made = body.read_body(ExecutionCreate, orjson.dumps({"crew_id": "c", "inputs": inputs}), "no")
    assert made.inputs == inputs
    assert all(type(made.inputs[name]) is type(value) for name, value in inputs.items())
    assert orjson.loads(made.model_dump_json())["inputs"] == inputs
