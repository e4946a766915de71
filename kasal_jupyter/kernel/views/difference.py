"""In what two runs differ, side by side: as HTML that stays in a saved notebook, and as text.

Where styles are dropped, tables are still side by side, and what differs in a line is still bold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher

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
        return "".join(_pieces(self.found))


# -- as HTML -------------------------------------------------------------------------------------------


def _pieces(found: ExecutionDiff) -> Iterator[str]:
    a, b = found.a, found.b
    title = f"{one_line(a.job_id, 60)} ⇄ {one_line(b.job_id, 60)}"
    yield f'<div {parts.NO_FORMULAS} style="{parts.CARD}" role="group" aria-label="{escape(title)}">'
    sign = "=" if found.same else "≠"
    yield f'<div style="font-size:15px;font-weight:700">{sign} {escape(title)}</div>'
    yield f'<div style="margin:2px 0 8px">{escape(found.words)}</div>'
    if found.first is not None:
        yield _first(found.first, found.texts, a, b)
    if found.inputs:
        yield _heading("inputs")
        yield "".join(map(_text_table, found.inputs))
    if found.result is not None:
        yield _heading("result")
        yield _text_table(found.result, named=False)
    yield _heading("figures")
    yield _figures(a, b)
    yield _steps(found)
    yield "</div>"


def _heading(text: str) -> str:
    return f'<div style="font-weight:700;margin-top:6px">{escape(text)}</div>'


def _first(first: DiffPair, texts: Sequence[DiffText], a: DiffRun, b: DiffRun) -> str:
    heads = "".join(
        f'<th style="{_PLAIN};width:50%;font-weight:400">{escape(_step_words(step, run))}</th>'
        for step, run in ((first.a, a), (first.b, b))
    )
    return (
        f'<div style="border-left:3px solid {parts.ORANGE};background:{parts.PANEL};padding:6px 12px 2px;'
        f'margin-bottom:8px"><div style="font-weight:700">{escape(_pair_words(first))}</div>'
        f'<table style="{_TABLE}"><thead><tr style="background:transparent">{heads}</tr></thead></table>'
        f"{''.join(map(_text_table, texts))}</div>"
    )


def _text_table(text: DiffText, *, named: bool = True) -> str:
    rows = "".join(_row(row) for row in text.rows)
    name = parts.remark(one_line(text.label, 80)) if named else ""
    more = parts.remark("… they differ in more than is shown here") if text.cut else ""
    return f'{name}<table style="{_TABLE}"><tbody>{rows}</tbody></table>{more}'


def _row(row: DiffRow) -> str:
    if row.skipped:
        inside = f"⋯ {counted(row.skipped, 'line')} that are the same"
        return f'{_TR}<td colspan="2" style="{_CELL};{parts.MUTED}">{inside}</td></tr>'
    if row.same:
        same = f'<td style="{_CELL};width:50%">{escape(row.a or "")}</td>'
        return f"{_TR}{same}{same}</tr>"
    a, b = _marked(row)
    grounds = [parts.TRACK if a is None else _OLD, parts.TRACK if b is None else _NEW]
    cells = "".join(
        f'<td style="{_CELL};width:50%;background:{ground}">{text or ""}</td>'
        for text, ground in zip((a, b), grounds, strict=True)
    )
    return f"{_TR}{cells}</tr>"


def _marked(row: DiffRow) -> tuple[str | None, str | None]:
    """Give both sides of a line that differs as HTML, with the words marked in which it does."""
    if row.a is None or row.b is None:
        return tuple(None if side is None else escape(side) for side in (row.a, row.b))  # type: ignore[return-value]
    ours, theirs = _WORD.findall(row.a), _WORD.findall(row.b)
    matcher = SequenceMatcher(None, ours, theirs, autojunk=False)
    if matcher.ratio() < 0.3:
        # All of it is another.
        return escape(row.a), escape(row.b)
    codes = matcher.get_opcodes()
    one = "".join(_word(ours[i1:i2], kind, _OLD_WORD) for kind, i1, i2, _, _ in codes)
    other = "".join(_word(theirs[j1:j2], kind, _NEW_WORD) for kind, _, _, j1, j2 in codes)
    return one, other


def _word(words: Sequence[str], kind: str, ground: str) -> str:
    text = escape("".join(words))
    if kind == "equal" or not text:
        return text
    return f'<b style="background:{ground};border-radius:2px">{text}</b>'


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
