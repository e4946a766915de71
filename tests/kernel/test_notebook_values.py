"""What a run's inputs are: texts, and values of the notebook."""

import datetime as dt
import json

import pytest

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import quoted, scan, split
from kasal_jupyter.kernel.magics.notebook_values import Notebook, read_cell, read_inputs
from kasal_jupyter.kernel.magics.subcommands import COMMANDS

NOTEBOOK = Notebook(
    {
        "df": [3, 4],
        "tea": "Assam",
        "n": 5,
        "table": {"a b": 1},
        "json": json,
        "date": dt.date,
        "show": print,
        "In": ["%kasal"],
        "_": 7,
    },
    hidden={"In"},
)


def values(line):
    return read_inputs(split(line), NOTEBOOK).values


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("x=df", [3, 4]),
        ("x=len(df)", 2),
        ("x=df[-1]+n", 9),
        ("'x=$[each*2 for each in df]'", [6, 8]),
        ("x=[(each)for(each)in(df)]", [3, 4]),
        ("'x=$sorted(df, key=lambda each: -each)'", [4, 3]),
        ('x=table["a b"]', 1),
        ("x=f'{tea}!'", "Assam!"),
        ("x=$df", [3, 4]),
        ("x=$json", json),
        ("'x=$df [0]'", 3),
        ('x="$tea"', "Assam"),
    ],
)
def test_values_of_the_notebook(line, value):
    assert values(line) == {"x": value}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("x=coffee", "coffee"),
        ("x=5", "5"),
        ("x=2024-12-31", "2024-12-31"),
        ("x=len", "len"),
        ("x=True", "True"),
        ("x=json", "json"),
        ("x=date", "date"),
        ("x=show", "show"),
        ("x=In", "In"),
        ("x=_", "_"),
        ("x=tea-time", "tea-time"),
        ("x=len(coffee)", "len(coffee)"),
        ("x=(n:=3)", "(n:=3)"),
        ("x=https://tea.example/?q=1", "https://tea.example/?q=1"),
        ("x='df'", "df"),
        ('"x=df"', "df"),
        ('x="len(df) rows"', "len(df) rows"),
        ("x=", ""),
        ("x=$$5", "$5"),
        ("x=5 is 5", None),
        ("x=a=b", "a=b"),
    ],
)
def test_everything_else_is_a_text(line, text):
    if text is None:
        with pytest.raises(CellError, match="'is' is no input"):
            values(line)
    else:
        assert values(line) == {"x": text}


def test_what_is_taken_unasked_is_told():
    inputs = read_inputs(split("a=df b=len(df) c=coffee d=$n"), NOTEBOOK)
    assert inputs.note() == "From the notebook: a=df, b=len(df) (in quotes it would be a text)"
    assert read_inputs(split("a=coffee b=$n"), NOTEBOOK).note() is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x=df[9]", "The input x has no value: df.9. raises IndexError: list index out of range"),
        ("x=$dff", "the notebook has no variable 'dff'; did you mean 'df'"),
        ("x=$1+", "no Python expression"),
        ("=df", "'=df' is no input"),
    ],
)
def test_what_has_no_value(line, said):
    with pytest.raises(CellError, match=said):
        values(line)


def test_a_cells_names_are_values_where_they_stand_alone():
    cell = "rows: {{df}}\ndeep:\n  list: [{{n}}, '{{ n }}']\nsaid: 'we have {{n}} and {n} and {{\"n\": 1}}'\n"
    assert read_cell(cell, NOTEBOOK) == {
        "rows": [3, 4],
        "deep": {"list": [5, 5]},
        "said": 'we have 5 and {n} and {{"n": 1}}',
    }


def test_a_cells_frame_is_the_frame_itself():
    frame = object()
    assert read_cell("data: {{frame}}", Notebook({"frame": frame})) == {"data": frame}


@pytest.mark.parametrize(
    "text", ["Tea", "Tea report", "it's", 'say "x"', "back\\slash", "-x", "", "a=b", "$x", "ü"]
)
@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_a_quoted_name_is_read_back(text, quote):
    assert split(quoted(text, quote)) == [text]


@pytest.mark.parametrize(
    ("line", "words", "last", "quote"),
    [
        ("run ", ["run"], "", ""),
        ("run Tea", ["run"], "Tea", ""),
        ('run "Tea re', ["run"], '"Tea re', '"'),
        ("run 'Tea", ["run"], "'Tea", "'"),
        ("run a\\", ["run"], "a\\", ""),
        ("", [], "", ""),
    ],
)
def test_a_line_that_is_still_typed(line, words, last, quote):
    found = scan(line)
    assert (found.words, found.last.raw, found.open_quote) == (words, last, quote)


def test_outside_of_inputs_a_word_is_a_plain_text():
    words = COMMANDS["run"].parser().read(split("'Tea report' x=df -o kept"))
    assert [type(words.crew), type(words.output)] == [str, str]
    assert words.inputs[0].raw == "x=df"
    assert type(next(iter(read_inputs(words.inputs, NOTEBOOK).values))) is str
    assert [type(each) for each in COMMANDS["import"].parser().read(split("a.yaml b.yaml")).files] == [
        str,
        str,
    ]
