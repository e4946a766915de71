"""In what two runs differ, side by side: as HTML that stays in a saved notebook, and as text.

Where styles are dropped, tables are still side by side, and what differs in a line is still bold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from kasal_jupyter.kernel.views import html_parts as parts
from kasal_jupyter.kernel.views.clean import clean, escape, one_line
from kasal_jupyter.kernel.views.figures import cost_text, counted, duration_text, lineage_text
from kasal_jupyter.kernel.views.rows import MARKS, STATUS_MARKS
from kasal_jupyter.schemas.difference import DiffPair, DiffRow, DiffRun, DiffStep, DiffText, ExecutionDiff

_FIGURES: tuple[tuple[str, Callable[[DiffRun], str]], ...] = (
    ("crew", lambda run: f"{one_line(run.crew_name, 80)}{_version(run)}"),
    ("status", lambda run: f"{STATUS_MARKS[run.status]} {run.status}"),
    ("record", lambda run: lineage_text(run.verb, run.parent) or "a run of its own"),
    ("models", lambda run: ", ".join(run.models)),
    ("model calls", lambda run: f"{run.llm_calls:,}"),
    ("tool calls", lambda run: f"{run.tool_calls:,}"),
    ("recorded", lambda run: f"{run.recorded:,}" if run.recorded else "none"),
    ("tokens", lambda run: f"{run.total_tokens:,}"),
    ("cost", lambda run: cost_text(run.cost)),
    ("time", lambda run: duration_text(run.duration) if run.duration is not None else "goes on"),
)

DIFFERS = {
    "same": "the same",
    "question": "asked otherwise",
    "answer": "answered otherwise",
    "only_a": "in the first alone",
    "only_b": "in the second alone",
}

_SIGNS = {"same": "=", "question": "≠", "answer": "≠", "only_a": "-", "only_b": "+"}

_OLD, _NEW = "rgba(220,58,58,0.13)", "rgba(42,140,63,0.15)"
_OLD_WORD, _NEW_WORD = "rgba(220,58,58,0.28)", "rgba(42,140,63,0.32)"

_TABLE = "width:100%;border-collapse:collapse;table-layout:fixed;margin:2px 0 8px;font-size:12px"
_CELL = (
    "text-align:left;vertical-align:top;padding:1px 8px;white-space:pre-wrap;overflow-wrap:anywhere;"
    "font-family:monospace;line-height:1.45;border:0;"
    f"{parts.themed('font-family', 'code-font-family', 'monospace')}"
)
_PLAIN = "text-align:left;vertical-align:top;padding:1px 8px;border:0;overflow-wrap:anywhere"

_TR = '<tr style="background:transparent">'
"""JupyterLab's tables are striped."""

MOST_BYTES = 1_750_000
"""Size of a view in a saved notebook."""

_SIZES = (60, 20, 4)
"""Lines that are shown of a text; tried until the view is small enough."""

_WORD = re.compile(r"\s+|\w+|[^\w\s]")


class RunDifference:
    """In what two runs differ: a notebook shows it side by side, and prints it as text.

    Attributes
    ----------
    same
        Whether they do not.
    words
        Where they part, in a sentence.
    first
        The first call in which they do; None where there is none.
    found
        All that is known of it.
    """

    def __init__(self, found: ExecutionDiff) -> None:
        self.found = found

    @property
    def same(self) -> bool:
        """Whether all was asked and answered alike, and came to the same end."""
        return self.found.same

    @property
    def words(self) -> str:
        """Where they part, in a sentence."""
        return clean(self.found.words)

    @property
    def first(self) -> DiffPair | None:
        """The first call in which they do; None where there is none."""
        return self.found.first

    def __bool__(self) -> bool:
        return not self.same

    def __repr__(self) -> str:
        return "\n".join(_lines(self.found))

    def _repr_html_(self) -> str:
        html = ""
        for rows in _SIZES:
            html = "".join(_View(rows).pieces(self.found))
            if parts.saved_bytes(html) <= MOST_BYTES:
                break
        return html


# -- as HTML -------------------------------------------------------------------------------------------


class _View:
    """One drawing, of so many lines of each text."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def pieces(self, found: ExecutionDiff) -> Iterator[str]:
        a, b = found.a, found.b
        title = f"{one_line(a.job_id, 60)} ⇄ {one_line(b.job_id, 60)}"
        yield f'<div {parts.NO_FORMULAS} style="{parts.CARD}" role="group" aria-label="{escape(title)}">'
        sign = "=" if found.same else "≠"
        yield f'<div style="font-size:15px;font-weight:700">{sign} {escape(title)}</div>'
        yield f'<div style="margin:2px 0 8px">{escape(found.words)}</div>'
        if found.first is not None:
            yield self.first(found.first, found.texts, a, b)
        if found.inputs:
            yield _heading("inputs")
            yield "".join(map(self.text, found.inputs))
        if found.result is not None:
            yield _heading("result")
            yield self.text(found.result, named=False)
        yield _heading("figures")
        yield _figures(a, b)
        yield _steps(found)
        yield "</div>"

    def first(self, first: DiffPair, texts: Sequence[DiffText], a: DiffRun, b: DiffRun) -> str:
        heads = "".join(
            f'<th style="{_PLAIN};width:50%;font-weight:400">{escape(_step_words(step, run))}</th>'
            for step, run in ((first.a, a), (first.b, b))
        )
        return (
            f'<div style="border-left:3px solid {parts.ORANGE};background:{parts.PANEL};padding:6px 12px 2px;'
            f'margin-bottom:8px"><div style="font-weight:700">{escape(_pair_words(first))}</div>'
            f'<table style="{_TABLE}"><thead><tr style="background:transparent">{heads}</tr></thead></table>'
            f"{''.join(map(self.text, texts))}</div>"
        )

    def text(self, text: DiffText, *, named: bool = True) -> str:
        rows = "".join(self.row(row) for row in text.rows[: self.rows])
        name = parts.remark(one_line(text.label, 80)) if named else ""
        cut = text.cut or len(text.rows) > self.rows
        more = parts.remark("… they differ in more than is shown here") if cut else ""
        return f'{name}<table style="{_TABLE}"><tbody>{rows}</tbody></table>{more}'

    def row(self, row: DiffRow) -> str:
        if row.skipped:
            inside = f"⋯ {counted(row.skipped, 'line')} that are the same"
            return f'{_TR}<td colspan="2" style="{_CELL};{parts.MUTED}">{inside}</td></tr>'
        if row.same:
            same = f'<td style="{_CELL};width:50%">{escape(row.a or "")}</td>'
            return f"{_TR}{same}{same}</tr>"
        a, b = _marked(row) if None not in {row.a, row.b} else _unmarked(row)
        grounds = [parts.TRACK if a is None else _OLD, parts.TRACK if b is None else _NEW]
        cells = "".join(
            f'<td style="{_CELL};width:50%;background:{ground}">{text or ""}</td>'
            for text, ground in zip((a, b), grounds, strict=True)
        )
        return f"{_TR}{cells}</tr>"


def _heading(text: str) -> str:
    return f'<div style="font-weight:700;margin-top:6px">{escape(text)}</div>'


def _unmarked(row: DiffRow) -> tuple[str | None, str | None]:
    a, b = (None if side is None else escape(side) for side in (row.a, row.b))
    return a, b


def _marked(row: DiffRow) -> tuple[str | None, str | None]:
    """Give both sides of a line that differs as HTML, with what differs in it marked."""
    ours, theirs = _WORD.findall(row.a or ""), _WORD.findall(row.b or "")
    head = _common(ours, theirs)
    tail = _common(ours[head:][::-1], theirs[head:][::-1])
    if head + tail == 0:
        # All of it is another.
        return _unmarked(row)
    return _with_mark(ours, head, tail, _OLD_WORD), _with_mark(theirs, head, tail, _NEW_WORD)


def _with_mark(words: Sequence[str], head: int, tail: int, ground: str) -> str:
    end = len(words) - tail
    before, within, behind = (escape("".join(part)) for part in (words[:head], words[head:end], words[end:]))
    mark = f'<b style="background:{ground};border-radius:2px">{within}</b>' if within else ""
    return f"{before}{mark}{behind}"


def _common(ours: Sequence[str], theirs: Sequence[str]) -> int:
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(ours), len(theirs)))


def _figures(a: DiffRun, b: DiffRun) -> str:
    rows = []
    for name, write in (("", _job), *_FIGURES):
        ours, theirs = write(a), write(b)
        if not name or ours or theirs:
            weight = "font-weight:700" if name and ours != theirs else ""
            cells = "".join(
                f'<td style="{_PLAIN};{weight}">{f"<b>{escape(each)}</b>" if weight else escape(each)}</td>'
                for each in (ours, theirs)
            )
            rows.append(
                f'<tr style="background:transparent"><td style="{_PLAIN};width:16%;{parts.MUTED}">'
                f"{escape(name)}</td>{cells}</tr>"
            )
    note = parts.remark(_crew_line(a)) if _crew_differs(a, b) else ""
    return f'<table style="{_TABLE}"><tbody>{"".join(rows)}</tbody></table>{note}'


def _job(run: DiffRun) -> str:
    return one_line(run.job_id, 60)


def _steps(found: ExecutionDiff) -> str:
    if not found.steps:
        return ""
    rows = []
    for pair in found.steps:
        muted = parts.MUTED if pair.differs == "same" else ""
        cells = [
            _SIGNS[pair.differs],
            _pair_words(pair),
            DIFFERS[pair.differs],
            *(_figure(step) for step in (pair.a, pair.b)),
        ]
        widths = ("4%", "42%", "18%", "18%", "18%")
        rows.append(
            '<tr style="background:transparent">'
            + "".join(
                f'<td style="{_PLAIN};width:{width};{muted}">{escape(cell)}</td>'
                for width, cell in zip(widths, cells, strict=True)
            )
            + "</tr>"
        )
    left = parts.remark(f"… {counted(found.steps_left_out, 'more call')}") if found.steps_left_out else ""
    apart = sum(pair.differs != "same" for pair in found.steps)
    label = f"{counted(len(found.steps), 'call')} side by side, {apart:,} of them different"
    return (
        f'<details><summary style="cursor:pointer;{parts.SMALL}">{escape(label)}</summary>'
        f'<table style="{_TABLE}"><tbody>{"".join(rows)}</tbody></table>{left}</details>'
    )


# -- in words ------------------------------------------------------------------------------------------


def _version(run: DiffRun) -> str:
    return f", version {run.crew_version}" if run.crew_version is not None else ""


def _crew_differs(a: DiffRun, b: DiffRun) -> bool:
    return (
        a.crew_id == b.crew_id
        and a.crew_version != b.crew_version
        and None not in {a.crew_version, b.crew_version}
    )


def _crew_line(a: DiffRun) -> str:
    return f'%kasal history "{one_line(a.crew_name, 80)}" --diff says in what versions of the crew differ'


def _pair_words(pair: DiffPair) -> str:
    mark = MARKS["llm" if pair.kind == "model" else "tool"]
    where = " · ".join(one_line(each, 60) for each in (pair.task, pair.agent) if each)
    return f"{mark} {one_line(pair.name, 60)}{f' · {where}' if where else ''}"


def _step_words(step: DiffStep | None, run: DiffRun) -> str:
    if step is None:
        return f"{one_line(run.job_id, 60)} · no such call"
    return " · ".join(filter(None, (one_line(run.job_id, 60), f"step {step.span}", _figure(step))))


def _figure(step: DiffStep | None) -> str:
    if step is None:
        return ""
    said = ["edited"] if step.edited else ["recorded"] if step.recorded else []
    if step.failed:
        said.append("failed")
    if step.tokens is not None:
        said.append(f"{step.tokens:,} tokens")
    if step.cost:
        said.append(cost_text(step.cost))
    return " · ".join(said)


# -- as text -------------------------------------------------------------------------------------------


def _lines(found: ExecutionDiff) -> Iterator[str]:
    yield clean(found.words)
    if found.first is not None:
        yield ""
        yield f"{_pair_words(found.first)}: {DIFFERS[found.first.differs]}"
        yield f"  - {_step_words(found.first.a, found.a)}"
        yield f"  + {_step_words(found.first.b, found.b)}"
    for text in (*found.texts, *found.inputs, *([found.result] if found.result is not None else [])):
        yield ""
        yield f"{one_line(text.label, 80)}:"
        yield from _text_lines(text)
    yield ""
    for name, write in _FIGURES:
        ours, theirs = write(found.a), write(found.b)
        if ours == theirs:
            yield f"  {name:<12} {ours}"
        else:
            yield f"≠ {name:<12} {ours}  →  {theirs}"
    if _crew_differs(found.a, found.b):
        yield _crew_line(found.a)


def _text_lines(text: DiffText) -> Iterator[str]:
    for row in text.rows:
        if row.skipped:
            yield f"  ⋯ {counted(row.skipped, 'line')} that are the same"
        elif row.same:
            yield f"    {clean(row.a or '')}"
        else:
            yield from (
                f"  {sign} {clean(side)}" for sign, side in (("-", row.a), ("+", row.b)) if side is not None
            )
    if text.cut:
        yield "  … they differ in more than is shown here"
