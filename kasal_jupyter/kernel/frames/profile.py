"""The profile card of a frame: what an agent is told of it instead of its rows."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from kasal_jupyter.kernel.frames.frames import cell_text, row_texts, shape_text, shortened
from kasal_jupyter.kernel.views.figures import counted

if TYPE_CHECKING:
    import narwhals as nw

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
