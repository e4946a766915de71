"""A frame's rows as inputs, and what has come of them as columns: for each library, and with one alone."""

import datetime as dt
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.frames.batch_frames import (
    ResultColumns,
    Table,
    missing_note,
    plan_inputs,
    with_rows,
)
from kasal_jupyter.schemas.batches import BatchRow

DATA = {
    "topic": ["tea", None, "maté"],
    "year": [2020, None, 2022],
    "day": [dt.date(2024, 1, 15)] * 3,
    "tags": [["a", "b"], [], ["c"]],
    "status": ["mine"] * 3,
}
FRAMES = {
    "pandas": pd.DataFrame(DATA, index=[7, 7, 9]),
    "polars": pl.DataFrame(DATA),
    "pyarrow": pa.table(DATA),
}


def row(index, **fields):
    whole = {
        "index": index,
        "key": "k",
        "inputs": {},
        "status": "completed",
        "job_id": f"job_{index}",
        "attempts": 1,
        "output": f"said {index}",
        "error": None,
        "tokens": 3,
        "cost": 0.5,
        "duration": 1.5,
    }
    return BatchRow.model_validate(whole | fields)


ROWS = [
    row(0, structured={"score": 1, "topic": "t", "status": "s", "parts": ["x"]}),
    row(1, status="failed", output=None, cost=None, error={"code": "BUDGET_EXCEEDED", "message": "too dear"}),
    row(2, structured={"score": 2.5, "parts": []}),
]


def plan(table, *wanted, **more):
    return plan_inputs("Tea", wanted, table.columns, source=table.name, **more)


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_rows_become_inputs_and_the_result_has_the_frames_order_index_and_library(frame):
    table = Table.of(frame, "df")
    same = {"lang": "de", "gone": float("nan")}
    named = {"when": "day", "year": "year"}
    wanted = ("topic", "year", "when", "tags", "lang", "gone")
    inputs = table.inputs(plan(table, *wanted, columns=named, values=same))
    rest = {"when": "2024-01-15", "lang": "de", "gone": None}
    assert inputs == [
        {"topic": "tea", "year": 2020, "tags": ["a", "b"], **rest},
        {"topic": None, "year": None, "tags": [], **rest},
        {"topic": "maté", "year": 2022, "tags": ["c"], **rest},
    ]
    # A whole number stays one where another row's is missing, as pandas has it: the text would be "2020.0".
    assert type(inputs[0]["year"]) is int
    assert "1 row without topic, 1 row without year: there" in missing_note(inputs, "df")

    columns = ResultColumns(set(table.columns))
    found = table.with_columns(columns.of(ROWS))
    assert type(found) is type(frame)
    names = list(getattr(found, "column_names", None) or found.columns)
    assert names[: len(DATA)] == list(DATA)
    assert names[len(DATA) :] == [
        *("output", "score", "output.topic", "output.status", "parts"),
        *("batch.status", "error", "tokens", "cost", "duration", "job_id"),
    ]
    assert "status is batch.status" in columns.note("df")
    if isinstance(found, pd.DataFrame):
        assert list(found.index) == [7, 7, 9]
        assert list(with_rows(found, [False, True, True]).index) == [7, 9]
    as_pandas = found if isinstance(found, pd.DataFrame) else found.to_pandas()
    assert list(as_pandas["job_id"]) == ["job_0", "job_1", "job_2"]
    assert list(as_pandas["error"])[1] == "BUDGET_EXCEEDED: too dear"
    assert [math.isnan(each) for each in as_pandas["cost"]] == [False, True, False]
    assert list(as_pandas["score"])[::2] == [1.0, 2.5]
    assert list(as_pandas["parts"].iloc[0]) == ["x"]
    assert "output" not in getattr(frame, "column_names", frame.columns), "the input is as it was"
    # What came of a batch may be mapped over in its turn.
    again = ResultColumns(set(names))
    assert "batch.status_" in again.of(ROWS)
    assert len(Table.of(with_rows(found, [True, False, False]), "df")) == 1


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pd.DataFrame({"a": [1, object()]}, index=["x", "y"]), "Row 1 (index 'y'), column 'a' of df"),
        (pl.DataFrame({"a": [1.0, math.inf]}), "Row 1, column 'a' of df: its value is inf"),
        (
            pd.DataFrame({"a": [None, pd.DataFrame()]}),
            "its value is a DataFrame; frames in rows get no tools",
        ),
        (pd.DataFrame({"a": [{"b": [1, b"x"]}]}), "Row 0, column 'a' of df: its value['b'][1] is bytes"),
        (pd.DataFrame({"a": []}), "df has no rows"),
        (pl.LazyFrame({"a": [1]}), "pass df.collect()"),
        ({"a": [1]}, "df is of the type dict"),
        ([1, 2], "df is of the type list"),
    ],
    ids=lambda given: given if isinstance(given, str) else type(given).__name__,
)
def test_what_cannot_be_sent_is_named_by_row_and_column(frame, said):
    def read():
        table = Table.of(frame, "df")
        table.inputs(plan(table, "a"))

    with pytest.raises(CellError) as refused:
        read()
    assert said in refused.value.message


@pytest.mark.parametrize(
    ("wanted", "there", "more", "said"),
    [
        (["topic"], ["Topic", "x"], {}, ["takes {topic}", "--columns topic=Topic?"]),
        (["topic"], ["topics", "x"], {}, ["--columns topic=topics?"]),
        (["topic"], ["The topic"], {}, ['--columns "topic=The topic"?']),
        (["topic", "lang"], ["a", "b"], {}, ["{topic}", "{lang}", "it has a, b", "lang=VALUE"]),
        (["topic"], ["product"], {"columns": {"product": "topic"}}, ["other way round", "topic=product"]),
        (["topic"], ["topic"], {"columns": {"topik": "topic"}}, ["no input 'topik'", "'topic'?"]),
        (["topic"], ["topic"], {"columns": {"topic": "topik"}}, ["no column 'topik'", "'topic'?"]),
        (["topic"], ["topic"], {"values": {"topik": 1}}, ["no input 'topik'", "'topic'?"]),
        (["topic"], ["x"], {"values": {"topic": 1}}, ["No column of df is an input"]),
        ([], ["x"], {}, ["no {placeholders}"]),
    ],
)
def test_columns_and_placeholders_are_compared_before_anything_is_sent(wanted, there, more, said):
    with pytest.raises(CellError) as refused:
        plan_inputs("Tea", wanted, there, source="df", **more)
    assert all(each in refused.value.message for each in said), refused.value.message


def test_columns_that_the_crew_has_no_place_for_make_no_row_another():
    table = Table.of(pd.DataFrame({"topic": ["a"], "id": [np.int64(1)]}), "df")
    assert table.inputs(plan(table, "topic")) == [{"topic": "a"}]


def test_a_list_of_mappings_and_a_column_are_frames_as_well():
    assert Table.of([{"a": 1}, {"b": 2}], "df").columns == ["a", "b"]
    assert Table.of(pd.Series(["x"], name="topic"), "df").columns == ["topic"]
    assert Table.of(pd.DataFrame({"topic": ["x"]}).set_index("topic"), "df").columns == ["topic"]


@pytest.mark.parametrize(("library", "others"), [("pandas", ("polars",)), ("polars", ("pandas",))])
def test_one_library_is_enough(library, others):
    program = f"""
import sys
sys.modules.update(dict.fromkeys({(*others, "pyarrow")!r}))
import {library}
from kasal_jupyter.kernel.frames.batch_frames import ResultColumns, Table, plan_inputs, with_rows
from kasal_jupyter.schemas.batches import BatchRow
row = BatchRow(index=0, key="k", inputs={{}}, status="completed", job_id="job_1", attempts=1, output="x",
               structured={{"score": 1}}, error=None, tokens=3, cost=None, duration=1.5)
table = Table.of({library}.DataFrame({{"topic": ["tea"]}}), "df")
print(table.inputs(plan_inputs("Tea", ["topic"], table.columns, source="df")))
found = table.with_columns(ResultColumns({{"topic"}}).of([row]))
assert type(found) is {library}.DataFrame and len(with_rows(found, [True])) == 1
assert type(Table.of([{{"topic": "tea"}}], "df").native) is {library}.DataFrame
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "[{'topic': 'tea'}]\n", done.stderr
