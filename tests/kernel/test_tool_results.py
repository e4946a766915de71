"""What a tool gave, as the text that its agent is told."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from kasal_jupyter.kernel.functions.notebook_tools import error_text, result_text
from tests.kernel.test_frames import FRAMES


class Thing:
    def __str__(self):
        return "a thing"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (None, "Done; there is no result."),
        ({"a": [1, "ä"]}, '{"a":[1,"ä"]}'),
        (dt.date(2024, 1, 2), "2024-01-02"),
        (pd.Timestamp("2024-01-02"), "2024-01-02T00:00:00"),
        ([pd.Series([1]).iloc[0]], "[1]"),
        ([np.float32(0.1), np.array([0.1, 2], "float32")], "[0.1,[0.1,2.0]]"),
        (np.array([[1, 2**62]]), "[[1,4611686018427387904]]"),
        ([np.datetime64("2024-01-01T00:00:00.123456789")], '["2024-01-01T00:00:00.123456789"]'),
        ([2**70, Decimal("0.10")], '[1180591620717411303424,"0.10"]'),
        (Thing(), "a thing"),
        ([Thing()], '["a thing"]'),
        (pa.chunked_array([[1]]), str(pa.chunked_array([[1]]))),
    ],
)
def test_results_are_text_for_the_agent(value, text):
    assert result_text(value, 1_000, []) == text


def test_a_result_that_contains_itself_is_text():
    loop = []
    loop.append(loop)
    assert result_text(loop, 100, []) == "[[...]]"


def test_frames_in_a_list_or_a_dictionary_are_found():
    frames = []
    text = result_text({"a": FRAMES["pandas"], "b": [FRAMES["polars"]]}, 500, frames)
    assert frames[0] is FRAMES["pandas"]
    assert frames[1] is FRAMES["polars"]
    assert "A table of 300 rows" in text


@pytest.mark.parametrize("library", FRAMES)
@pytest.mark.parametrize("most", [1, 30, 200, 5_000])
def test_what_is_too_long_is_cut(library, most):
    assert len(result_text("x" * 100_000, most, [])) <= max(most, 60)
    assert len(result_text(FRAMES[library], most, [])) <= max(most, 60)


def test_an_error_is_one_line_with_its_type():
    assert error_text(ValueError("no\n such   tea")) == "ValueError: no such tea"
    assert error_text(ValueError()) == "ValueError"
    assert len(error_text(ValueError("x" * 100_000))) == 1_000
