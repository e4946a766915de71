"""Answers as HTML: Markdown read by a library's parser, and written from a list of what may be in it.

What a model says is data. HTML in it stays text, an image is a link to it, and of links only those to web
pages and mail addresses lead anywhere. Headings are bold lines: real ones would stand in a notebook's table
of contents. Formulas are left to Jupyter, which finds them by their own elements' class: everywhere else in
a view its MathJax is told to look away.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from kasal_jupyter.kernel.views.clean import clean, escape
from kasal_jupyter.kernel.views.figures import size_text
from kasal_jupyter.kernel.views.html_parts import (
    PANEL,
    PRE,
    SMALL,
    TRACK,
    bytes_of,
    is_long,
    remark,
    split_long,
)

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

MOST_READ = 60_000
"""Characters of an answer that are read as Markdown; the whole is in its raw text."""

MOST_WRITTEN = 300_000
"""Characters of HTML that an answer may become: of many small signs, each is an element."""

MOST_RAW = 400_000
"""Bytes that a raw text may take in a saved notebook."""

HEAD = 1_200
"""Characters of a long answer that are shown before its fold."""

LONG = 2_000
"""Characters of an answer beyond which it is folded."""

LINE = 60
"""Characters for which the shortest piece counts: it takes a line."""

DEEPEST = 20
"""Lists and quotations in each other that are read as such."""

_SCHEMES = ("https:", "http:", "mailto:")
"""Where links may lead."""

_TEXT = "white-space:pre-wrap;overflow-wrap:break-word"
_BLOCK = "margin:0 0 8px"
_CELL = "padding:3px 9px;border:1px solid rgba(127,127,127,0.35);vertical-align:top;white-space:normal"
_HEADINGS = {"h1": 18, "h2": 16, "h3": 15, "h4": 14, "h5": 14, "h6": 14}

_TABLE = f'border="1" cellpadding="4" style="{_BLOCK};border-collapse:collapse;table-layout:auto"'

_PAIRS = {
    "em": ("<em>", "</em>"),
    "strong": ("<strong>", "</strong>"),
    "s": ("<s>", "</s>"),
    "list_item": ('<li dir="auto">', "</li>"),
    "bullet_list": (f'<ul style="{_BLOCK};padding-left:26px">', "</ul>"),
    "blockquote": (
        f'<blockquote dir="auto" style="{_BLOCK};padding-left:10px;border-left:3px solid {TRACK}">',
        "</blockquote>",
    ),
    # Without styles it has lines all the same.
    "table": (f'<div style="overflow-x:auto"><table {_TABLE}>', "</table></div>"),
    "thead": ("<thead>", "</thead>"),
    "tbody": ("<tbody>", "</tbody>"),
    "tr": ("<tr>", "</tr>"),
}
"""What is written for the beginning and the end of what the parser has found."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is not cut: a paragraph, an item of a list, a row of a table, a line of code.

    ``opening`` and ``closing`` are those of the block it is a piece of, for the first and the last that are
    shown of it.
    """

    html: str
    block: int
    size: int
    opening: str = ""
    closing: str = ""


def answer_html(text: str, *, most: int | None = None) -> str:
    """Give an answer as it is read: its Markdown as HTML, folded where it is long, with its raw text.

    Parameters
    ----------
    text
        The answer.
    most
        Characters of the raw text that are kept; all, where not given.
    """
    read = text[:MOST_READ]
    pieces = _pieces(clean(read))
    if pieces is None:
        return plain_html(text, most=most)
    shown: list[_Piece] = []
    written = 0
    for piece in pieces:
        begins = not shown or shown[-1].block != piece.block
        written += len(piece.html) + (len(piece.opening) if begins else 0)
        if written > MOST_WRITTEN:
            break
        shown.append(piece)
    head = _head(shown)
    html = [_joined(shown[:head])]
    if head < len(shown):
        if not head:
            html = [_words(f"{split_long(text)[0].rstrip()} …")]
        more = size_text(sum(piece.size for piece in shown[head:]))
        html.append(_fold(f"… {more} more", _joined(shown[head:])))
    if len(shown) < len(pieces) or len(read) < len(text):
        html.append(remark("The rest is in the raw text only"))
    html.append(_raw(text, most))
    return f'<div style="font-size:14px;white-space:normal;line-height:1.5">{"".join(html)}</div>'


def plain_html(text: str, *, most: int | None = None) -> str:
    """Give a text as it is, folded where it is long."""
    if not is_long(text):
        return _words(text)
    head, rest = split_long(text)
    kept = _kept(rest, most)
    more = _fold(
        f"… {size_text(bytes_of(rest))} more", _words(kept + (" …" if len(kept) < len(rest) else ""))
    )
    return _words(head.rstrip()) + more + _raw(text, most)


def _kept(text: str, most: int | None) -> str:
    """Give what of a text is kept in a view that has limits."""
    if most is None:
        return text
    kept = text[:most]
    # What cannot be seen is written out, and takes many times its size.
    while len(escape(kept)) > MOST_RAW:
        kept = kept[: len(kept) // 2]
    return kept


def _raw(text: str, most: int | None) -> str:
    """Give a text as it was written, in a fold: what is copied from there is the answer."""
    kept = _kept(text, most)
    left = bytes_of(text[len(kept) :])
    cut = remark(f"… {size_text(left)} more, not kept in this view") if left else ""
    box = f'<pre dir="auto" style="{PRE}">{escape(kept)}</pre>'
    return _fold(f"raw text, {size_text(bytes_of(text))}", box + cut)


def _words(text: str) -> str:
    return f'<div dir="auto" style="font-size:14px;{_TEXT}">{escape(text)}</div>'


def _fold(label: str, inside: str) -> str:
    return f'<details><summary style="cursor:pointer;{SMALL}">{escape(label)}</summary>{inside}</details>'


def _head(pieces: Sequence[_Piece]) -> int:
    """Count the pieces that are shown before the fold."""
    rooms = [max(piece.size, LINE) for piece in pieces]
    if sum(rooms) <= LONG:
        return len(pieces)
    room = 0
    for count, size in enumerate(rooms):
        room += size
        if room > HEAD:
            # What is only little longer than the room for it is shown.
            return count + 1 if not count and room <= LONG else count
    return len(pieces)


def _joined(pieces: Sequence[_Piece]) -> str:
    html: list[str] = []
    for before, piece in zip([None, *pieces], pieces, strict=False):
        if before is None or before.block != piece.block:
            html += [before.closing if before else "", piece.opening]
        html.append(piece.html)
    return "".join([*html, pieces[-1].closing if pieces else ""])


# -- reading -------------------------------------------------------------------------------------------


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    # Definitions of links elsewhere in the text would make where a link leads depend on all of it.
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": DEEPEST})
    return add_formulas(parser.enable(["table", "strikethrough"]).disable(["reference", "html_block"]))


def _pieces(text: str) -> list[_Piece] | None:
    """Read Markdown; None where there is none in the text."""
    tokens = _parser().parse(text)
    if all(_is_text(token) for token in tokens):
        return None
    pieces: list[_Piece] = []
    at = block = 0
    while at < len(tokens):
        end = _end_of(tokens, at)
        pieces += _block(tokens[at:end], block)
        at, block = end, block + 1
    return pieces


def _is_text(token: Token) -> bool:
    if token.type == "inline":
        return all(child.type in {"text", "softbreak"} for child in token.children or ())
    return token.type in {"paragraph_open", "paragraph_close"}


def _end_of(tokens: Sequence[Token], at: int) -> int:
    """Give the place behind the block that begins at a place."""
    depth = 0
    while True:
        depth += tokens[at].nesting
        at += 1
        if depth <= 0 or at == len(tokens):
            return at


def _block(tokens: Sequence[Token], block: int) -> Iterator[_Piece]:
    """Give the pieces of one block."""
    first, inner = tokens[0], tokens[1:-1]
    match first.type:
        case "fence" | "code_block":
            opening = f'<pre dir="auto" style="{PRE}">'
            for line in first.content.splitlines(keepends=True):
                yield _Piece(escape(line), block, len(line), opening, "</pre>")
        case "bullet_list_open" | "ordered_list_open":
            number = _number(first)
            for item in _children(inner):
                opening, closing = _list_open(first, number), _list_close(first)
                yield _Piece(_html(item), block, _size(item), opening, closing)
                number += 1
        case "table_open":
            head, *body = _children(inner)
            opening = f"{_PAIRS['table'][0]}{_html(head)}<tbody>"
            closing = f"</tbody>{_PAIRS['table'][1]}"
            rows = [row for part in body for row in _children(part[1:-1])]
            for row in rows:
                yield _Piece(_html(row), block, _size(row), opening, closing)
            if not rows:
                yield _Piece("", block, _size(head), opening, closing)
        case _:
            yield _Piece(_html(tokens), block, _size(tokens))


def _children(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    at = 0
    while at < len(tokens):
        end = _end_of(tokens, at)
        yield tokens[at:end]
        at = end


def _size(tokens: Sequence[Token]) -> int:
    return sum(bytes_of(token.content) for token in tokens) + 1


# -- writing -------------------------------------------------------------------------------------------


def _html(tokens: Sequence[Token]) -> str:
    return "".join(map(_token, tokens))


def _token(token: Token) -> str:
    kind, _, side = token.type.rpartition("_")
    if side in {"open", "close"} and (pair := _PAIRS.get(kind)):
        return pair[side == "close"]
    match token.type:
        case "inline":
            return _inline(token.children or [])
        case "paragraph_open":
            return "" if token.hidden else f'<p dir="auto" style="{_BLOCK}">'
        case "paragraph_close":
            return "" if token.hidden else "</p>"
        case "heading_open":
            size = _HEADINGS.get(token.tag, 14)
            level = min(int(token.tag[1:]) + 2, 6)
            return (
                f'<div dir="auto" role="heading" aria-level="{level}" '
                f'style="margin:10px 0 6px;font-size:{size}px;font-weight:700"><strong>'
            )
        case "heading_close":
            return "</strong></div>"
        case "ordered_list_open":
            return _list_open(token, _number(token))
        case "ordered_list_close":
            return "</ol>"
        case "th_open" | "td_open":
            return _cell(token)
        case "th_close" | "td_close":
            return f"</{token.tag}>"
        case "fence" | "code_block":
            return f'<pre dir="auto" style="{PRE}">{escape(token.content)}</pre>'
        case "hr":
            return "<hr>"
        case "formula":
            return f"<p>{_formula(token)}</p>"
        case _:
            return escape(token.content)


def _inline(tokens: Sequence[Token]) -> str:
    html: list[str] = []
    # What stands behind the text of a link that leads nowhere here, for each that is open.
    links: list[str] = []
    for token in tokens:
        match token.type:
            case "text":
                html.append(escape(token.content))
            case "softbreak" | "hardbreak":
                # Who writes line by line means lines.
                html.append("<br>")
            case "code_inline":
                html.append(f'<code style="background:{PANEL}">{escape(token.content)}</code>')
            case "formula":
                html.append(_formula(token))
            case "link_open":
                opening, closing = _link(str(token.attrGet("href") or ""))
                html.append(opening)
                links.append(closing)
            case "link_close":
                html.append(links.pop() if links else "")
            case "image":
                opening, closing = _link(str(token.attrGet("src") or ""))
                html.append(f"{opening}image: {escape(token.content) or 'untitled'}{closing}")
            case _:
                html.append(_token(token))
    return "".join(html)


def _link(address: str) -> tuple[str, str]:
    """Give what stands before and behind a link's text."""
    if not address.lower().startswith(_SCHEMES):
        return "", f" ({escape(address)})" if address else ""
    shown = escape(address)
    return f'<a href="{shown}" title="{shown}" target="_blank" rel="noopener noreferrer nofollow">', "</a>"


def _formula(token: Token) -> str:
    return f'<span class="tex2jax_process mathjax_process">{escape(token.content)}</span>'


def _cell(token: Token) -> str:
    side = str(token.attrGet("style") or "")
    side = side if side in {"text-align:right", "text-align:center"} else "text-align:left"
    return f'<{token.tag} dir="auto" style="{side};{_CELL}">'


def _number(token: Token) -> int:
    start = token.attrGet("start")
    return start if isinstance(start, int) else 1


def _list_open(token: Token, number: int) -> str:
    if token.type == "bullet_list_open":
        return _PAIRS["bullet_list"][0]
    start = f' start="{number}"' if number != 1 else ""
    return f'<ol{start} style="{_BLOCK};padding-left:26px">'


def _list_close(token: Token) -> str:
    return "</ul>" if token.type == "bullet_list_open" else "</ol>"


# -- formulas -------------------------------------------------------------------------------------------

# Formulas in Markdown: ``$…$``, ``$$…$$``, ``\(…\)`` and ``\[…\]`` are left as they are, for Jupyter.
#
# The parser would take their underscores for emphasis and their backslashes for escapes. What could do more
# than set a formula (open an address, change the page or how later formulas are read) is no formula here.

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
    parser.inline.ruler.before("escape", "formula", _in_a_line)
    parser.block.ruler.before("fence", "formula", _between_lines, {"alt": ["paragraph"]})
    return parser


def _in_a_line(state: StateInline, silent: bool) -> bool:
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


def _between_lines(state: StateBlock, line: int, end_line: int, silent: bool) -> bool:
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
