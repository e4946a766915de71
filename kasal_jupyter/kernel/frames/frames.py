"""Frames of any library as one kind of frame: pandas, polars, pyarrow, and whatever speaks as they do."""

from __future__ import annotations

import json
import math
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import time, timedelta
from decimal import Decimal
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.plain_values import is_missing, is_scalar, scalar
from kasal_jupyter.kernel.views.figures import counted

if TYPE_CHECKING:
    import narwhals as nw

_LIBRARIES: tuple[Literal["polars", "pyarrow", "pandas"], ...] = ("polars", "pyarrow", "pandas")
"""What a frame of yet another library is turned into: the first of these that there is."""

_BETWEEN = " | "
"""What stands between two cells."""

_NOTES = 200
"""Characters that are kept for the notes of what is left out."""

_LARGEST_PLAIN = 1e21


def is_frame(value: Any) -> bool:
    """Say whether a value is a frame, or a column of one, whatever library it comes from."""
    kind = type(value)
    if isinstance(value, type) or kind.__module__ == "builtins":
        return False
    # By what it can do: none of the libraries is imported for that, and none need be there.
    if hasattr(value, "__dataframe__"):
        return True
    if hasattr(value, "__arrow_c_stream__"):
        # A column of Arrow's alone speaks it as well, and is no table.
        return not hasattr(value, "to_pylist") or hasattr(value, "column_names")
    return kind.__name__ == "Series" and hasattr(value, "to_frame")


def read_frame(value: Any, name: str) -> nw.DataFrame[Any]:
    """Give a frame as one that can be asked in the same words whatever library it comes from.

    A pandas index that says something becomes a column. Columns that are not called by texts, several levels
    of them included, are called by their text.

    Parameters
    ----------
    value
        What :func:`is_frame` takes for one.
    name
        What it is called, for errors and for the column that a series becomes.

    Raises
    ------
    CellError
        It is no frame that can be read; the message says why.
    """
    import narwhals as nw

    if _is_pandas(value):
        value = _plain_pandas(value, name)
    elif type(value).__name__ == "Series":
        value = value.to_frame()
    elif not hasattr(value, "columns") and not hasattr(value, "column_names"):
        value = _imported(value, name)
    try:
        return nw.from_native(value, eager_only=True)
    except TypeError:
        return nw.from_native(_imported(value, name), eager_only=True)


def shape_text(frame: nw.DataFrame[Any]) -> str:
    """Give a frame's size in words."""
    rows, columns = frame.shape
    return f"{counted(rows, 'row')} × {counted(columns, 'column')}"  # noqa: RUF001 - the sign it is


def table_text(frame: nw.DataFrame[Any], most: int) -> str:
    """Give a frame as a compact table of so many characters at the most, with a note of what is left out.

    Values are written exactly, and whole. What does not find room are columns, then rows; of a first row that
    is too long by itself, the ends of its longest cells.

    Parameters
    ----------
    frame
        The frame; only the rows that find room are looked at.
    most
        Characters.
    """
    if not frame.columns:
        return shape_text(frame)
    left = most - _NOTES
    names = [cell_text(name) for name in frame.columns]
    # At least half is for the rows.
    columns = max(1, bisect_right([*accumulate(len(name) + len(_BETWEEN) for name in names)], left // 2))
    lines = [_BETWEEN.join(names[:columns])]
    left -= len(lines[0])
    cut_at = 0
    for row in row_texts(frame[frame.columns[:columns]]):
        line = _BETWEEN.join(row)
        if len(line) >= left and len(lines) == 1:
            cut_at = _width([len(cell) for cell in row], left - len(_BETWEEN) * columns)
            line = _BETWEEN.join(shortened(cell, cut_at) for cell in row)
        left -= len(line) + 1
        if left < 0:
            break
        lines.append(line)
    shown = len(lines) - 1
    if columns < len(names):
        lines.append(f"[{columns:,} of {len(names):,} columns shown; ask for others by name]")
    if shown < frame.shape[0]:
        lines.append(f"[{shown:,} of {frame.shape[0]:,} rows shown; ask for fewer columns, or for others]")
    if cut_at:
        lines.append(f"[cells are cut at {cut_at:,} characters, which … marks; ask for fewer columns]")
    return cut("\n".join(lines), most)


def row_texts(frame: nw.DataFrame[Any]) -> Iterator[list[str]]:
    """Give a frame's rows as texts, exactly as its columns hold their values."""
    for row in row_values(frame):
        yield [cell_text(value) for value in row]


def row_values(frame: nw.DataFrame[Any]) -> Iterator[list[Any]]:
    """Give a frame's rows, exactly as its columns hold their values.

    What Python's own values have no room for, such as nanoseconds, is a text. They are made of some rows at
    a time.
    """
    import narwhals as nw
    import numpy as np

    # Python's floats and moments are longer than the one kind, and shorter than the other.
    short = {place for place, name in enumerate(frame.columns) if frame.schema[name] == nw.Float32}
    finer = _finer(frame)
    casts = [nw.col(name).cast(kind) for name, (kind, _) in finer.items()]
    readers = {place: finer[name][1] for place, name in enumerate(frame.columns) if name in finer}
    for start in range(0, frame.shape[0], 500):
        part = frame[start : start + 500]
        for row in (part.with_columns(*casts) if casts else part).rows():
            values = [readers[place](value) if place in readers else value for place, value in enumerate(row)]
            yield [
                np.float32(value) if place in short and value is not None else value
                for place, value in enumerate(values)
            ]


_Reader = Callable[[Any], Any]


def _finer(frame: nw.DataFrame[Any]) -> dict[str, tuple[Any, _Reader]]:
    """Give the columns whose moments are finer than Python's: what each is read as, and how that is shown."""
    import narwhals as nw

    if frame.implementation.is_polars():
        found = {name: _read_whole(kind) for name, kind in frame.schema.items()}
        return {name: read for name, read in found.items() if read is not None}
    if frame.implementation.is_pyarrow():
        # A time's unit is not told here; its text has as many digits as that has.
        times = [name for name, kind in frame.schema.items() if isinstance(kind, nw.Time)]
        return dict.fromkeys(times, (nw.String(), _unchanged))
    return {}


def _read_whole(kind: Any) -> tuple[Any, _Reader] | None:
    """Say what a kind of polars' is read as, inside lists and structures as well; None: as it is."""
    import narwhals as nw

    in_ns = getattr(kind, "time_unit", None) == "ns"
    if isinstance(kind, nw.Datetime) and in_ns:
        return nw.String(), _unchanged
    if isinstance(kind, nw.Time):
        return nw.Int64(), _time_text
    if isinstance(kind, nw.Duration) and in_ns:
        return nw.Int64(), _duration_text
    if isinstance(kind, nw.List) and (inner := _read_whole(kind.inner)) is not None:
        read_as, reader = inner
        return nw.List(read_as), lambda items: items and [reader(each) for each in items]
    if isinstance(kind, nw.Struct):
        parts = {each.name: _read_whole(each.dtype) or (each.dtype, _unchanged) for each in kind.fields}
        if any(parts[each.name][0] != each.dtype for each in kind.fields):
            kinds = nw.Struct({name: kind for name, (kind, _) in parts.items()})
            return kinds, lambda row: row and {name: parts[name][1](value) for name, value in row.items()}
    return None


def _unchanged(value: Any) -> Any:
    return value


def _time_text(nanoseconds: int | None) -> str | None:
    """Write a time of day."""
    if nanoseconds is None:
        return None
    whole, rest = divmod(nanoseconds, 1_000)
    seconds, micro = divmod(whole, 1_000_000)
    found = time(seconds // 3_600, seconds // 60 % 60, seconds % 60, micro)
    return f"{found.isoformat('microseconds')}{rest:03}" if rest else str(found)


def _duration_text(nanoseconds: int | None) -> str | None:
    """Write how long something took, as Python does."""
    if nanoseconds is None:
        return None
    whole, rest = divmod(nanoseconds, 1_000)
    text = str(timedelta(microseconds=whole))
    return f"{text}{'' if '.' in text else '.000000'}{rest:03}" if rest else text


def cell_text(value: Any) -> str:
    """Give a value on one line, exactly and whole.

    Floats have the digits that tell them from all others, whole ones no point; moments have their zone. A
    text that could be taken for something else in a table, or has several lines, stands in JSON's quotes.
    """
    if is_scalar(value):
        value = scalar(value)
    if is_missing(value):
        return "null"
    match value:
        case str():
            return json.dumps(value, ensure_ascii=False) if _needs_quotes(value) else value
        case float():
            return _float_text(value)
        case dict() | list() | tuple():
            return json.dumps(value, default=_inner, ensure_ascii=False)
        case Decimal():
            return format(value, "f") if value.is_finite() else "null"
        case int():
            try:
                return str(value)
            except ValueError:
                # Python writes no more than 4,300 digits.
                return hex(value)
        case _ if hasattr(value, "tolist"):
            return cell_text(value.tolist())
        case _:
            text = str(value)
            return json.dumps(text, ensure_ascii=False) if _needs_quotes(text) else text


def shortened(text: str, most: int) -> str:
    """Give the beginning of a text that is too long, with a mark."""
    return text if len(text) <= most else f"{text[: max(most - 1, 0)]}…"


def _float_text(value: float) -> str:
    if math.isnan(value):
        return "null"
    # Up to there a whole float is written as one, as JavaScript does; beyond, most digits would be made up.
    return str(int(value)) if abs(value) < _LARGEST_PLAIN and value.is_integer() else repr(value)


def _needs_quotes(text: str) -> bool:
    return text in {"", "null"} or "|" in text or text[0] == '"' or text.splitlines() != [text.strip()]


def _inner(value: Any) -> Any:
    if is_scalar(value):
        return scalar(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _width(lengths: list[int], room: int) -> int:
    """Give the length to which cells are cut so that all of them find room; the short ones stay whole."""
    left, cells = max(room, 0), len(lengths)
    for length in sorted(lengths):
        if length * cells > left:
            return max(left // cells, 1)
        left -= length
        cells -= 1
    return max(lengths, default=0)


def cut(text: str, most: int) -> str:
    """Cut a text that is too long, with a note of how much of it there is."""
    if len(text) <= most:
        return text
    # The note has its own room: as long as with the largest number that can stand in it.
    room = max(0, most - len(_note(most, len(text))))
    return f"{text[:room]}{_note(room, len(text))}"


def _note(shown: int, total: int) -> str:
    return f"\n[cut: the first {shown:,} of {total:,} characters]"


def _is_pandas(value: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame | pandas.Series)


def _plain_pandas(value: Any, name: str) -> Any:
    """Give a pandas frame with columns called by texts, its index among them where that says something."""
    import pandas as pd

    frame = value.to_frame(name if value.name is None else value.name) if value.ndim == 1 else value
    index = frame.index
    if not isinstance(index, pd.RangeIndex) and (
        isinstance(index, pd.MultiIndex) or index.name is not None or not pd.api.types.is_integer_dtype(index)
    ):
        frame = frame.reset_index(names=_free_names(frame))
    called = [
        " ".join(str(part) for part in each if str(part)) if isinstance(each, tuple) else str(each)
        for each in frame.columns
    ]
    twice = (
        sorted({each for each in called if called.count(each) > 1}) if len(set(called)) < len(called) else []
    )
    if twice:
        raise CellError(f"{name} has several columns called {twice[0]!r}; rename them, and run it again")
    if called != list(frame.columns):
        frame = frame.set_axis(called, axis=1)
    return frame


def _free_names(frame: Any) -> list[str]:
    """Give names for the columns that the index becomes."""
    taken = {str(each) for each in frame.columns}
    names = []
    for level, name in enumerate(frame.index.names):
        wanted = str(name) if name is not None else "index" if frame.index.nlevels == 1 else f"level_{level}"
        while wanted in taken:
            wanted += "_"
        taken.add(wanted)
        names.append(wanted)
    return names


def _imported(value: Any, name: str) -> Any:
    """Take over a frame of a library that is not known here, by what it offers for that."""
    import importlib.util

    import narwhals as nw

    there = [each for each in _LIBRARIES if importlib.util.find_spec(each) is not None]
    if hasattr(value, "__arrow_c_stream__"):
        for library in there:
            try:
                return nw.from_arrow(value, backend=library).to_native()
            except (ImportError, TypeError, ValueError, NotImplementedError):
                continue
    if hasattr(value, "__dataframe__"):
        if "pyarrow" in there:
            from pyarrow.interchange import from_dataframe

            return from_dataframe(value)
        if "pandas" in there:
            from pandas.api.interchange import from_dataframe as to_pandas

            return to_pandas(value)
    raise CellError(
        f"{name} is a {type(value).__name__}, which cannot be read here; install pandas, polars or pyarrow "
        "for that, or pass it as a frame of theirs"
    )


# -- the profile card -----------------------------------------------------------------------------------

# The profile card of a frame: what an agent is told of it instead of its rows.

CARD_BYTES = 2_000
"""The largest card."""

MOST_COLUMNS = 25
"""Columns of a wide frame that are described, as far as the card has room for them."""

SAMPLE_ROWS = 100_000
"""Rows that the top values are counted in."""

_ROWS = 3
_TOP = 3
_NAME = 40
_CELL = 40
"""Characters of a cell on the card: enough for any number, and any moment with its zone."""


def profile_card(frame: nw.DataFrame[Any], name: str) -> str:
    """Describe a frame in at most 2 kB: its size, its columns, and a few of its rows.

    Of each column it tells the type, how many values are missing, and the range of numbers and dates, or
    the commonest of other values.

    Parameters
    ----------
    frame
        The frame.
    name
        What its input is called.
    """
    head = (
        f"{name}: a table of {shape_text(frame)}. Only its first rows are shown here, long texts cut (…); "
        "ask the tools for more"
    )
    lines = [head, "column (type): missing, values"]
    # The rows come last, and the columns leave them some room.
    room = CARD_BYTES - _size(head) - _size(lines[1]) - 500
    for place, column in enumerate(frame.columns[:MOST_COLUMNS]):
        line = f"- {column_line(frame[column])}"
        room -= _size(line)
        if room < 0:
            lines.append(_left_out(len(frame.columns) - place))
            break
        lines.append(line)
    else:
        if len(frame.columns) > MOST_COLUMNS:
            lines.append(_left_out(len(frame.columns) - MOST_COLUMNS))
    text = "\n".join(lines)
    for line in _first_rows(frame):
        if _size(text) + _size(line) > CARD_BYTES:
            break
        text += f"\n{line}"
    return text


def is_card(value: object, name: str) -> bool:
    """Say whether an input's value is what :func:`profile_card` made of a frame."""
    return isinstance(value, str) and value.startswith(f"{name}: a table of ") and "\ncolumn (type):" in value


def column_line(column: nw.Series[Any]) -> str:
    """Describe a column on one line."""
    missing = int(column.null_count())
    told = [f"{missing:,} missing"] if missing else []
    told.append(_values(column))
    return f"{_short(column.name)} ({type_text(column)}): {', '.join(each for each in told if each)}"


def type_text(column: nw.Series[Any]) -> str:
    """Name the type of a column's values."""
    kind = str(column.dtype)
    return {"String": "text", "Object": "mixed"}.get(kind, kind.lower().partition("(")[0])


def is_ordered(column: nw.Series[Any]) -> bool:
    """Say whether a column has a smallest and a largest value."""
    import narwhals as nw

    # Arrow's durations have none.
    return column.dtype.is_numeric() or (column.dtype.is_temporal() and column.dtype != nw.Duration)


def top_values(column: nw.Series[Any], most: int) -> list[tuple[str, int]]:
    """Give a column's commonest values and how often each occurs, among its first 100,000."""
    # By their text: a column may hold lists, which count as no value of their own anywhere.
    values = column.head(SAMPLE_ROWS).drop_nulls()
    if column.dtype.is_temporal():
        return Counter(text for (text,) in row_texts(values.to_frame())).most_common(most)
    texts = (value if isinstance(value, str) else cell_text(value) for value in values.to_list())
    return Counter(texts).most_common(most)


def _values(column: nw.Series[Any]) -> str:
    if column.len() == int(column.null_count()):
        return "no values"
    if is_ordered(column):
        import narwhals as nw

        # As the cells are written: of one value alone, Python would make something coarser.
        bounds = column.to_frame().select(low=nw.col(column.name).min(), high=nw.col(column.name).max())
        return " to ".join(next(row_texts(bounds)))
    common = top_values(column, _TOP)
    shown = [
        _quoted(value) if type_text(column) == "text" else shortened(value, _NAME) for value, _ in common
    ]
    if common and common[0][1] == 1:
        return f"all different, e.g. {', '.join(shown)}"
    return ", ".join(f"{value} ({count:,})" for value, (_, count) in zip(shown, common, strict=True))


def _quoted(text: str) -> str:
    return json.dumps(shortened(text, _NAME), ensure_ascii=False)


def _first_rows(frame: nw.DataFrame[Any]) -> list[str]:
    if not frame.columns or not frame.shape[0]:
        return []
    shown = frame.columns[:MOST_COLUMNS]
    names = [cell_text(each) for each in shown]
    lines = [
        " | ".join(shortened(each, _CELL) for each in line)
        for line in (names, *row_texts(frame[shown].head(_ROWS)))
    ]
    more = (
        f" (of {counted(len(frame.columns), 'column')}, the first {len(shown)})"
        if len(shown) < len(frame.columns)
        else ""
    )
    return [f"first rows{more}:", *lines]


def _left_out(count: int) -> str:
    return f"- and {counted(count, 'column')} more"


def _short(name: str) -> str:
    return shortened(" ".join(name.split()), _NAME)


def _size(text: str) -> int:
    return len(text.encode()) + 1
