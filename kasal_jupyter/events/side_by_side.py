"""Two texts side by side, as far as they differ, in bounded time and size."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import zip_longest

from kasal_jupyter.schemas.difference import DiffRow, DiffText

MOST_LINES = 100
"""Lines of a text, from its first difference on, that are compared with each other."""

MOST_ROWS = 60
"""Lines of a text that are told."""

MOST_CELL = 600
"""Characters of a line that are told, around where it differs."""

AROUND = 2
"""Lines that are told before and behind those that differ."""

_SENTENCE = re.compile(r"(?<=[.!?;]) ")
"""Where a long line is parted: paragraphs of models are lines of thousands of characters."""

LONG_LINE = 240


def side_by_side(label: str, one: str | None, other: str | None) -> DiffText:
    """Lay two texts side by side where they differ; None is no text at all."""
    ours, theirs = _lines(one), _lines(other)
    head = _common(ours, theirs)
    tail = _common(ours[head:][::-1], theirs[head:][::-1])
    mine, their = ours[head : len(ours) - tail], theirs[head : len(theirs) - tail]
    cut = max(len(mine), len(their)) > MOST_LINES
    rows = [DiffRow(a=line, b=line, same=True) for line in ours[max(0, head - AROUND) : head]]
    if head > AROUND:
        rows.insert(0, DiffRow(same=True, skipped=head - AROUND))
    rows += _middle(mine[:MOST_LINES], their[:MOST_LINES])
    if not cut:
        rows += [DiffRow(a=line, b=line, same=True) for line in ours[len(ours) - tail :][:AROUND]]
        if tail > AROUND:
            rows.append(DiffRow(same=True, skipped=tail - AROUND))
    cut = cut or len(rows) > MOST_ROWS
    return DiffText(label=label, rows=[_short(row) for row in rows[:MOST_ROWS]], cut=cut)


def _middle(mine: list[str], their: list[str]) -> Iterator[DiffRow]:
    matcher = SequenceMatcher(None, mine, their, autojunk=False)
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        if kind != "equal":
            yield from (DiffRow(a=a, b=b) for a, b in zip_longest(mine[i1:i2], their[j1:j2]))
            continue
        # Between two that differ, so that there are lines around both.
        lines = mine[i1:i2]
        if len(lines) > 2 * AROUND + 1:
            yield from (DiffRow(a=line, b=line, same=True) for line in lines[:AROUND])
            yield DiffRow(same=True, skipped=len(lines) - 2 * AROUND)
            lines = lines[-AROUND:]
        yield from (DiffRow(a=line, b=line, same=True) for line in lines)


def _lines(text: str | None) -> list[str]:
    if text is None:
        return []
    return [
        part
        for line in text.splitlines() or [""]
        for part in (_SENTENCE.split(line) if len(line) > LONG_LINE else [line])
    ]


def _common(ours: Sequence[str], theirs: Sequence[str]) -> int:
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(ours), len(theirs)))


def _short(row: DiffRow) -> DiffRow:
    """Cut the lines of a row around where they differ."""
    if max(len(row.a or ""), len(row.b or "")) <= MOST_CELL:
        return row
    begin = 0 if row.a is None or row.b is None or row.same else _common(row.a, row.b)
    begin = max(0, begin - MOST_CELL // 4)
    return row.model_copy(update={"a": _around(row.a, begin), "b": _around(row.b, begin)})


def _around(text: str | None, begin: int) -> str | None:
    if text is None:
        return None
    end = begin + MOST_CELL
    return f"{'…' if begin else ''}{text[begin:end]}{'…' if end < len(text) else ''}"
