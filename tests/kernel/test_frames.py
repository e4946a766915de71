"""Frames as inputs, and as results: the same words for pandas, polars, pyarrow and what is like them."""

import datetime as dt
import gc
import json
import random
import tempfile
from decimal import Decimal

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.frames import row_filter
from kasal_jupyter.kernel.frames.frame_tools import FrameTools, StatementRefused, tools_of
from kasal_jupyter.kernel.frames.frames import CARD_BYTES, is_frame, profile_card, read_frame, table_text
from kasal_jupyter.kernel.frames.row_filter import ConditionRefused, read_condition
from kasal_jupyter.kernel.functions.notebook_tools import result_text
from kasal_jupyter.kernel.runs.runner import read_values
from kasal_jupyter.schemas.crews import CrewDetails
from tests.engine import TIME

pytestmark = pytest.mark.usefixtures("lent_programs")

ROWS = 300
FIRST = dt.datetime(2024, 1, 1)  # noqa: DTZ001 - as most frames have them
DATA = {
    "price": [float(each) for each in range(ROWS)],
    "region": [("EU", "US", None)[each % 3] for each in range(ROWS)],
    "day": [FIRST + dt.timedelta(days=each) for each in range(ROWS)],
    "sold": [each % 2 == 0 for each in range(ROWS)],
    "order id": [f"o{each}" for each in range(ROWS)],
    "tags": [["a", "b"]] * ROWS,
}


class Interchange:
    """A frame of a library that offers the interchange alone."""

    def __init__(self, frame):
        self._frame = frame

    def __dataframe__(self, *args, **kwargs):
        return self._frame.__dataframe__(*args, **kwargs)


class Stream:
    """A frame of a library that offers Arrow's stream alone."""

    def __init__(self, frame):
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema=None):
        return self._frame.__arrow_c_stream__(requested_schema)


FRAMES = {
    "pandas": pd.DataFrame(DATA),
    "polars": pl.DataFrame(DATA),
    "pyarrow": pa.table(DATA),
    "interchange": Interchange(pa.table({name: DATA[name] for name in DATA if name != "tags"})),
    "stream": Stream(pl.DataFrame(DATA)),
}


@pytest.fixture(params=FRAMES)
def frame(request):
    return FRAMES[request.param]


def tools(frame, name="data", card=None):
    return {tool.name: tool for tool in tools_of(read_frame(frame, name), name, card)}


def ask(frame, tool, frames=None, **arguments):
    """Ask as an agent does."""
    made = tools(frame)[f"data_{tool}"]
    args, kwargs = made.signature.bind(arguments)
    return result_text(made.function(*args, **kwargs), made.max_chars, [] if frames is None else frames)


def crew(description="Look at {data}"):
    agent = {"id": "a", "name": "A", "role": "Analyst", "goal": "Look", "backstory": "", "model": "sandbox"}
    task = {"id": "t", "description": description, "expected_output": "Facts", "agent_id": "a"}
    stamps = {"owner": "ada", "created_at": TIME, "updated_at": TIME, "crew_id": "c", "position": 0}
    return CrewDetails.model_validate(
        {
            "id": "c",
            "name": "C",
            "owner": "ada",
            "created_at": TIME,
            "updated_at": TIME,
            "version": 1,
            "description": "",
            "status": "active",
            "configuration": {"process": "sequential", "manager_model": None},
            "agents": [{**stamps, **agent}],
            "tasks": [{**stamps, **task}],
        }
    )


# -- the card ------------------------------------------------------------------------------------------


def test_the_card_tells_types_missing_values_ranges_and_a_few_rows(frame):
    assert is_frame(frame)
    card = profile_card(read_frame(frame, "data"), "data")
    assert len(card.encode()) <= CARD_BYTES
    lines = card.splitlines()
    assert lines[0].startswith("data: a table of 300 rows")
    assert "- price (float64): 0 to 299" in lines
    assert '- region (text): 100 missing, "EU" (100), "US" (100)' in lines
    assert "- day (datetime): 2024-01-01 00:00:00 to 2024-10-26 00:00:00" in lines
    assert '- order id (text): all different, e.g. "o0", "o1", "o2"' in lines
    assert "o2" in lines[-1]
    assert "o3" not in lines[-1]


def test_a_wide_frame_is_cut_with_a_note():
    wide = pd.DataFrame({f"column {each} {'x' * 100}": [each] for each in range(400)})
    card = profile_card(read_frame(wide, "wide"), "wide")
    assert len(card.encode()) <= CARD_BYTES
    assert "columns more" in card


@pytest.mark.parametrize(
    "odd",
    [
        pd.DataFrame(),
        pd.DataFrame({"a": []}),
        pd.DataFrame({"a": [None, None]}),
        pd.DataFrame({"a": [1, "x", None, {"b": 1}, [2]]}),
        pd.DataFrame({"a": ["ä" * 5000, "|", "\x1b[31m\n"]}),
        pd.DataFrame({1: [1], ("a", "b"): [2]}),
        pd.DataFrame({"t": pd.to_timedelta([1, 2], unit="s"), "c": pd.Categorical(["x", "y"])}),
        pl.DataFrame({"a": [None]}),
        pa.table({"t": pa.array([1, 2], pa.duration("s")), "b": [b"\xff", None]}),
        pd.Series([1, 2], name="s"),
        pl.Series("s", [1, 2]),
    ],
)
def test_odd_frames_have_a_card_and_tools_all_the_same(odd):
    card = profile_card(read_frame(odd, "data"), "data")
    assert len(card.encode()) <= CARD_BYTES
    for name in read_frame(odd, "data").columns:
        assert ask(odd, "value_counts", column=name)
    assert ask(odd, "describe")
    assert ask(odd, "head")


def test_pandas_index_and_levels_become_columns():
    indexed = pd.DataFrame({("a", "x"): [1], ("a", "y"): [2]}, index=pd.Index(["k"], name="key"))
    assert read_frame(indexed, "data").columns == ["key", "a x", "a y"]
    assert read_frame(pd.DataFrame({"a": [1]}), "data").columns == ["a"]
    assert read_frame(pd.DataFrame({"index": [1]}, index=["k"]), "data").columns == ["index_", "index"]


def test_columns_of_one_name_are_refused_by_name():
    with pytest.raises(CellError, match="data has several columns called 'a'"):
        read_frame(pd.DataFrame([[1, 2]], columns=["a", "a"]), "data")


# -- the tools -----------------------------------------------------------------------------------------


def test_the_tools_answer_alike_whatever_the_library(frame):
    frames = []
    assert ask(frame, "head", frames, rows=2, columns=["order id"]).endswith("order id\no0\no1")
    found = ask(
        frame,
        "query",
        frames,
        where="price >= 100 and region == 'EU'",
        sort_by="price",
        descending=True,
        limit=1,
    )
    assert found.startswith("66 rows of 300 match.")
    assert "297 | EU" in found
    counts = ask(frame, "value_counts", frames, column="region")
    assert "EU | 100" in counts
    assert "mean 149.5" in ask(frame, "describe", column="price")
    assert ask(frame, "sql", frames, statement="SELECT max(price) AS top FROM data").endswith("top\n299")
    assert [read_frame(each, "x").shape for each in frames] == [
        (2, 1),
        (1, len(read_frame(frame, "x").columns)),
        (3, 2),
        (1, 1),
    ]
    native = type(read_frame(frame, "x").to_native())
    assert {type(each) for each in frames} == {native}


def test_every_tool_is_for_all_and_its_examples_work(frame):
    made = tools(frame)
    assert list(made) == ["data_head", "data_describe", "data_query", "data_value_counts", "data_sql"]
    for tool in made.values():
        assert tool.definition.for_all
        examples = {
            name: part["examples"][0]
            for name, part in tool.definition.parameters["properties"].items()
            if "examples" in part
        }
        args, kwargs = tool.signature.bind(examples)
        assert result_text(tool.function(*args, **kwargs), 500, [])


@pytest.mark.parametrize(
    ("condition", "count"),
    [
        ("price > 200", 99),
        ("100 <= price < 110", 10),
        ("region in ['EU', 'US'] and not sold", 100),
        ("region not in ['EU']", None),
        ("region == None", 100),
        ("region != None or price == 2", 201),
        ("`order id` == 'o7'", 1),
        ("(price < 3) | (price > 297)", 5),
        ("price * 2 - 1 == 9", 1),
        ("price > -1 and sold == True", 150),
        ("day >= '2024-10-25'", 2),
        ("day in ['2024-01-01']", 1),
        ("sold", 150),
    ],
)
def test_conditions(frame, condition, count):
    data = read_frame(frame, "data")
    found = data.filter(read_condition(condition, data.schema))
    if count is not None:
        assert len(found) == count


@pytest.mark.parametrize(
    "hostile",
    [
        "__import__('os').system('true')",
        "price.__class__",
        "price.__class__.__mro__[1].__subclasses__()",
        "@os.system('true')",
        "price[0]",
        "(lambda: 1)() == 1",
        "[each for each in price]",
        "f'{price}' == '1'",
        "price ** price > 1",
        "region == 'a' * 1000000000",
        "region == 1000000000 * 'a'",
        "region * 1000000000 == 'a'",
        "region + region == 'EUEU'",
        "region == 'a' + 'a'",
        "price * ('a' + region) == 1",
        "price == True * 2",
        "tags + tags == price",
        "sold * 1000 == 1",
        "price == {}",
        "(price := 1) == 1",
        "open('/etc/passwd')",
        "eval == 1",
        "price > 1; import os",
        "(" * 500,
        "not " * 240 + "sold",
        "-" * 900 + "1 == price",
        "price == " + "9" * 900,
        "+".join(["price"] * 160) + " > 1",
        "x" * 2000,
        "\x00",
        "",
        "`",
        "day > 'tomorrow'",
    ],
)
def test_nothing_else_is_understood_and_nothing_is_run(hostile):
    data = read_frame(FRAMES["pandas"], "data")
    with pytest.raises(ConditionRefused):
        data.filter(read_condition(hostile, data.schema))


def written_condition(chance, depth=3):
    """Make a condition that wants much: repeated and joined texts, and numbers beyond all bounds."""

    def value(depth):
        if depth == 0 or chance.random() < 0.3:
            return chance.choice(
                ("price", "region", "sold", "day", "`order id`", "'a'", "'ab'", "2", "1.5", "100000", "True")
            )
        return f"({value(depth - 1)} {chance.choice('+-*/')} {value(depth - 1)})"

    return f"{value(depth)} {chance.choice(('==', '<', '!='))} {value(depth)}"


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_no_step_of_a_condition_takes_more_room_than_a_column_of_numbers(library, monkeypatch):
    data = read_frame(FRAMES[library], "data")
    steps = 0

    def looked_at(call):
        def step(*operands):
            nonlocal steps
            steps += 1
            for operand in operands:
                assert data.head(1).select(operand.alias("given"))["given"].dtype.is_numeric()
            return call(*operands)

        return step

    for kind, call in row_filter._CALCULATED.items():
        monkeypatch.setitem(row_filter._CALCULATED, kind, looked_at(call))
    chance = random.Random(12)
    refused = 0
    for _ in range(400):
        try:
            read_condition(written_condition(chance), data.schema)
        except ConditionRefused:
            refused += 1
    assert steps > 50
    assert refused > 100


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("COPY data TO '{file}'", "Only one SELECT"),
        ("SELECT * FROM read_csv('/etc/passwd')", "not for agents"),
        ("SELECT * FROM '/etc/passwd.csv'", "DuckDB says"),
        ("SELECT * FROM secret_frame", "DuckDB says"),
        ("SELECT * FROM DATA_OF_OTHERS", "DuckDB says"),
        ("nonsense", "DuckDB says"),
        ("SELECT length(repeat('x', 1500000000)) FROM data", "(?i)memory"),
        ("SELECT repeat('x', 100000) AS x FROM data, range(40)", "(?i)memory"),
        ("SELECT repeat('x', 10000) AS x FROM data, range(40)", "The result is too large"),
    ],
)
def test_sql_sees_the_frame_and_nothing_else(statement, reason, tmp_path):
    secret_frame = pd.DataFrame({"secret": [1]})
    file = tmp_path / "written"
    with pytest.raises(StatementRefused, match=reason):
        ask(FRAMES["pandas"], "sql", statement=statement.format(file=file))
    assert len(secret_frame) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_file_that_statements_read_goes_with_the_frames_tools(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    asked = FrameTools(read_frame(FRAMES["pandas"], "data"), "data")
    first = asked.sql("SELECT count(*) AS n FROM data")
    [made] = tmp_path.iterdir()
    second = asked.sql('SELECT count(*) AS n FROM "data" WHERE price > 10')
    assert (int(first["n"][0]), int(second["n"][0])) == (300, 289)
    assert list(tmp_path.iterdir()) == [made]
    assert made.stat().st_mode & 0o077 == 0
    del asked
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_sql_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr("kasal_jupyter.tools.confined_sql.MOST_SECONDS", 0.5)
    with pytest.raises(StatementRefused, match="longer than"):
        ask(
            FRAMES["pandas"],
            "sql",
            statement="SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE a.range < b.range",
        )


def test_a_misspelt_column_gets_the_nearest():
    with pytest.raises(ConditionRefused, match="no column 'prise'; did you mean 'price'"):
        ask(FRAMES["polars"], "head", columns=["prise"])


# -- inputs --------------------------------------------------------------------------------------------


def test_an_input_that_is_a_frame_is_a_card_and_tools(frame):
    given = read_values({"data": frame, "topic": "tea", "on": dt.date(2024, 1, 2)}, crew())
    assert given.inputs["topic"] == "tea"
    assert given.inputs["on"] == "2024-01-02"
    assert given.inputs["data"].startswith("data: a table of 300 rows")
    assert len(json.dumps(given.inputs)) < 2_500
    assert given.tools.keys() == tools(frame).keys()
    assert "first rows" not in given.tools["data_describe"].definition.description


def test_a_frame_that_no_text_mentions_is_described_by_its_tool():
    given = read_values({"data": FRAMES["pandas"]}, crew("Look"))
    assert "first rows" in given.tools["data_describe"].definition.description


def test_names_of_inputs_become_names_of_tools():
    given = read_values({"my-data": FRAMES["pandas"], "2nd": FRAMES["polars"]}, crew())
    assert "my_data_head" in given.tools
    assert "data_2nd_head" in given.tools
    with pytest.raises(CellError, match="rename one of them"):
        read_values({"my-data": FRAMES["pandas"], "my_data": FRAMES["polars"]}, crew())


def test_what_cannot_be_sent_is_named():
    import numpy as np

    assert read_values({"small": np.arange(3)}, crew()).inputs == {"small": [0, 1, 2]}
    with pytest.raises(CellError, match=r"matrix is an array of 4 values.*pandas.DataFrame\(matrix\)"):
        read_values({"matrix": np.zeros((2, 2))}, crew())
    with pytest.raises(CellError, match="array of 100,000 values"):
        read_values({"long": np.zeros(100_000)}, crew())
    with pytest.raises(CellError, match=r"lazy\.collect\(\)"):
        read_values({"lazy": pl.LazyFrame({"a": [1]})}, crew())
    with pytest.raises(CellError, match="thing is of the type object, which cannot be sent"):
        read_values({"thing": object()}, crew())


# -- exactly -------------------------------------------------------------------------------------------

EXACT = {
    "customer": [10234567.0, 10234568.0],
    "amount": [1234567.891, 1234567.892],
    "number": [2**60 + 1, 2**60 + 2],
    "at": [
        dt.datetime(2024, 1, 1, 0, 0, 0, 5, dt.UTC),
        dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
    ],
    "text": ["a | b\nc ", "null"],
}


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame, pa.table])
def test_values_are_written_exactly(library):
    lines = ask(library(EXACT), "head").splitlines()
    assert lines == [
        "The first 2 of 2 rows. A table of 2 rows × 5 columns:",  # noqa: RUF001 - the sign it is
        "customer | amount | number | at | text",
        r'10234567 | 1234567.891 | 1152921504606846977 | 2024-01-01 00:00:00.000005+00:00 | "a | b\nc "',
        '10234568 | 1234567.892 | 1152921504606846978 | 2024-01-02 00:00:00+00:00 | "null"',
    ]
    card = profile_card(read_frame(library(EXACT), "data"), "data")
    assert "- customer (float64): 10234567 to 10234568" in card
    assert "1152921504606846977 to 1152921504606846978" in card


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_short_floats_and_fine_moments_have_their_own_digits(library):
    made = pd.DataFrame(
        {"f": pd.array([0.1, 16777216], dtype="float32"), "t": pd.to_datetime([1_700_000_000_123_456_789, 0])}
    )
    lines = ask(made if library == "pandas" else pl.from_pandas(made), "head").splitlines()
    assert lines[2] == "0.1 | 2023-11-14 22:13:20.123456789"
    assert lines[3].startswith("16777216 | 1970-01-01 00:00:00")


def test_missing_decimals_and_large_whole_numbers_keep_their_digits():
    made = pd.DataFrame({"d": [Decimal("0.10"), None], "n": [2**70, 10**25], "m": [pd.NA, pd.NaT]})
    assert ask(made, "head").splitlines()[2:] == [
        "0.10 | 1180591620717411303424 | null",
        "null | 10000000000000000000000000 | null",
    ]


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_sql_keeps_them_too(library):
    pytest.importorskip("duckdb")
    made = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.table}[library](
        {"id": [2**62, 2**62 + 1]}
    )
    nothing = "(select id from data where false) as n"
    asked = f"select sum(id) as s, max(id) as m, {nothing}, 1.50::decimal(9, 2) as d from data"
    answer = ask(made, "sql", statement=asked).splitlines()
    assert answer[-1] == "9223372036854775809 | 4611686018427387905 | null | 1.50"


def test_moments_keep_their_nanoseconds():
    moment, day, lasts = 1704067200123456789, 45296123456789, 1234567891
    fine = pl.DataFrame(
        {
            "at": pl.Series([moment, None]).cast(pl.Datetime("ns")),
            "there": pl.Series([moment, None]).cast(pl.Datetime("ns", "Europe/Berlin")),
            "time": pl.Series([day, None]).cast(pl.Time),
            "took": pl.Series([lasts, -1]).cast(pl.Duration("ns")),
            "each": pl.Series([[moment, None], None]).cast(pl.List(pl.Datetime("ns"))),
            "both": pl.Series([{"a": lasts, "b": "x"}, None]).cast(
                pl.Struct({"a": pl.Duration("ns"), "b": pl.String})
            ),
        }
    )
    first, second = table_text(read_frame(fine, "data"), 2_000).splitlines()[1:]
    assert first.split(" | ") == [
        "2024-01-01 00:00:00.123456789",
        "2024-01-01 01:00:00.123456789+01:00",
        "12:34:56.123456789",
        "0:00:01.234567891",
        '["2024-01-01 00:00:00.123456789", null]',
        '{"a": "0:00:01.234567891", "b": "x"}',
    ]
    assert second == "null | null | null | -1 day, 23:59:59.999999999 | null | null"
    card = profile_card(read_frame(fine, "data"), "data")
    assert "2024-01-01 00:00:00.123456789 to 2024-01-01 00:00:00.123456789" in card
    assert "0:00:01.234567891" in card
    arrow = pa.table({"time": pa.array([day, None], pa.time64("ns"))})
    assert table_text(read_frame(arrow, "data"), 2_000).splitlines()[1:] == ["12:34:56.123456789", "null"]


def test_texts_are_whole_as_far_as_there_is_room_and_what_is_left_out_is_said():
    review = "word " * 2_000 + "END"
    made = pd.DataFrame({"id": range(20), "review": [review] * 20})
    frame = read_frame(made, "data")
    whole = table_text(frame, 25_000).splitlines()
    assert whole[1] == f"0 | {review}"
    assert whole[2:] == [f"1 | {review}", "[2 of 20 rows shown; ask for fewer columns, or for others]"]
    cut = table_text(frame, 2_000)
    assert len(cut) <= 2_000
    assert cut.splitlines()[2:] == [
        "[1 of 20 rows shown; ask for fewer columns, or for others]",
        "[cells are cut at 1,782 characters, which … marks; ask for fewer columns]",
    ]
    wide = read_frame(pd.DataFrame({f"column_{place}": [place] for place in range(500)}), "data")
    assert table_text(wide, 1_000).splitlines()[-1] == "[34 of 500 columns shown; ask for others by name]"
    card = profile_card(frame, "data")
    assert "long texts cut (…)" in card
    assert "0 | word word word word word word word word…" in card
