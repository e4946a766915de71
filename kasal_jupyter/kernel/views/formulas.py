r"""Formulas in Markdown: ``$…$``, ``$$…$$``, ``\(…\)`` and ``\[…\]`` are left as they are, for Jupyter.

The parser would take their underscores for emphasis and their backslashes for escapes. What could do more
than set a formula (open an address, change the page or how later formulas are read) is no formula here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline

LONGEST = 4_000
"""Characters of a formula; it is looked at no further, so that many beginnings without an end cost little."""

_ENDS = {"$$": "$$", "\\[": "\\]", "\\(": "\\)", "$": "$"}
"""What ends a formula, by what begins it; the longer of two is tried first."""

_ACTS = re.compile(
    r"\\(?:href|url|class|cssId|style|html[A-Za-z]*|data|require|unicode|includegraphics|mmlToken"
    r"|[egx]?def|let|(?:new|renew|provide)command|(?:re)?newenvironment|DeclareMathOperator|Newextarrow"
    r"|texttip|mathtip|toggle|bbox)(?![A-Za-z])"
)
"""Commands that are not of mathematics."""


def add_formulas(parser: MarkdownIt) -> MarkdownIt:
    """Have a parser find formulas; their tokens are called ``formula``."""
    parser.inline.ruler.before("escape", "formula", _inline)
    parser.block.ruler.before("fence", "formula", _block, {"alt": ["paragraph"]})
    return parser


def _inline(state: StateInline, silent: bool) -> bool:
    source, at = state.src, state.pos
    begin = next((mark for mark in _ENDS if source.startswith(mark, at)), None)
    if begin is None:
        return False
    inside = at + len(begin)
    end = _end(source, inside, min(state.posMax, inside + LONGEST), _ENDS[begin])
    if end < 0:
        return False
    text = source[inside:end]
    behind = end + len(begin)
    # Two prices in one sentence are no formula.
    if begin == "$" and (text[0].isspace() or text[-1].isspace() or source[behind : behind + 1].isdigit()):
        return False
    if not text.strip() or _ACTS.search(text):
        return False
    if not silent:
        state.push("formula", "", 0).content = source[at:behind]
    state.pos = behind
    return True


def _end(source: str, at: int, last: int, mark: str) -> int:
    """Give the place of the nearest mark that is not escaped; -1 where there is none."""
    while (found := source.find(mark, at, last)) >= 0:
        if mark[0] == "\\" or source[found - 1] != "\\":
            return found if found > at or mark != "$" else -1
        at = found + 1
    return -1


def _block(state: StateBlock, line: int, end_line: int, silent: bool) -> bool:
    """Take in a formula of several lines that begins a line and ends one, without a blank line in it."""
    if state.is_code_block(line):
        return False
    start = state.bMarks[line] + state.tShift[line]
    begin = state.src[start : start + 2]
    if begin not in {"$$", "\\["}:
        return False
    # One without an end is looked for once, not from each of its lines again.
    known = state.env.setdefault("formulas", {})
    if line < known.get(begin, 0):
        return False
    at, size = line, 0
    while at < end_line and not state.isEmpty(at) and size <= LONGEST:
        text = state.src[state.bMarks[at] : state.eMarks[at]].rstrip()
        size += len(text)
        alone = at == line and state.src[start : state.eMarks[at]].rstrip() == begin
        if text.endswith(_ENDS[begin]) and not alone:
            whole = state.getLines(line, at + 1, state.tShift[line], keepLastLF=False).strip()
            if _ACTS.search(whole) or len(whole) <= 2 * len(begin):
                return False
            if not silent:
                state.line = at + 1
                token = state.push("formula", "", 0)
                token.content, token.map = whole, [line, state.line]
            return True
        at += 1
    known[begin] = at
    return False
