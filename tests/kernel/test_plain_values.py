"""Values of a notebook as a run's inputs: exactly, or refused by name."""

import datetime as dt
import enum
import uuid
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath

import numpy as np
import orjson
import pandas as pd
import pytest
from pydantic import BaseModel

from kasal_jupyter.kernel.plain_values import NotPlain, plain

BERLIN = "Europe/Berlin"


class Colour(enum.Enum):
    RED = "red"
    NUMBER = Decimal("1.50")


class Level(enum.IntEnum):
    HIGH = 3


@dataclass
class Order:
    number: int
    at: dt.date


class Customer(BaseModel):
    id: int
    since: dt.date


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (None, None),
        (True, True),
        ("tea", "tea"),
        (2**63, 9223372036854775808),
        (2**64 - 1, 18446744073709551615),
        (-(2**63), -9223372036854775808),
        (2**64, "18446744073709551616"),
        (-(2**63) - 1, "-9223372036854775809"),
        ([10**30], ["1" + "0" * 30]),
        (0.1, 0.1),
        (1e22, 1e22),
        (Decimal("0.10"), "0.10"),
        (Decimal("12345678901234567890.123456789"), "12345678901234567890.123456789"),
        (Fraction(1, 3), "1/3"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (PurePosixPath("a/b"), "a/b"),
        (dt.date(2024, 1, 2), "2024-01-02"),
        (dt.time(10, 5), "10:05:00"),
        (dt.datetime(2024, 1, 2, 3, 4, 5, 6, dt.UTC), "2024-01-02T03:04:05.000006+00:00"),
        (dt.timedelta(days=1, seconds=1), "1 day, 0:00:01"),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        ((1, (2,)), [1, [2]]),
        (range(3), [0, 1, 2]),
        (Colour.RED, "red"),
        (Colour.NUMBER, "1.50"),
        (Level.HIGH, 3),
        (Order(2**70, dt.date(2024, 1, 2)), {"number": str(2**70), "at": "2024-01-02"}),
        (Customer(id=1, since=dt.date(2024, 1, 2)), {"id": 1, "since": "2024-01-02"}),
        ({1: {"a": Decimal(2)}}, {"1": {"a": "2"}}),
        (np.int64(2**62 + 1), 2**62 + 1),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.float32(0.1), 0.1),
        (np.float64(0.1), 0.1),
        (np.longdouble("0.1"), "0.1"),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.datetime64("2024-01-01T00:00:00.123456789"), "2024-01-01T00:00:00.123456789"),
        (np.timedelta64(5, "ns"), "5 nanoseconds"),
        (np.array([0.1, 2], dtype="float32"), [0.1, 2.0]),
        (np.array(["2024-01-01"], dtype="M8[D]"), ["2024-01-01"]),
        (np.array(3), 3),
        (pd.Timestamp("2024-01-01 10:00:00.123456789", tz=BERLIN), "2024-01-01T10:00:00.123456789+01:00"),
        (pd.Timedelta("1D"), "1 days 00:00:00"),
        (pd.Period("2024-01"), "2024-01"),
        (pd.NA, None),
        (pd.NaT, None),
        (pd.Index([2**62 + 1]), [2**62 + 1]),
    ],
)
def test_a_value_is_sent_with_every_digit(value, sent):
    made = plain(value, "x")
    assert made == sent
    assert type(made) is type(sent)
    assert orjson.loads(orjson.dumps(made)) == sent


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (float("nan"), "x is nan"),
        ([1, {"a": float("inf")}], r"x\[1\]\['a'\] is inf"),
        (np.float32("nan"), "x is nan"),
        (b"bytes", "x is bytes"),
        (object(), "x is of the type object"),
        ([1, 2j], r"x\[1\] is of the type complex"),
        (print, "x is of the type builtin"),
        (Customer, "x is of the type ModelMetaclass"),
        ((each for each in "ab"), "x is of the type generator"),
        ({(1, 2): 3}, "a key of x is a tuple"),
        ({1: 1, "1": 2}, "x has two keys that are written '1'"),
        (np.zeros((2, 2)), r"x is an array of 4 values.*pandas.DataFrame\(x\)"),
        (range(10_000), "x is an array of 10,000 values"),
    ],
)
def test_what_has_no_such_form_is_refused_by_name(value, told):
    with pytest.raises(NotPlain, match=told):
        plain(value, "x")


def test_what_contains_itself_is_refused():
    loop = []
    loop.append(loop)
    with pytest.raises(NotPlain, match="x is nested more than 90 levels"):
        plain(loop, "x")
