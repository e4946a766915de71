"""What reads what a crew is given to know: bytes in, text and passages out.

It runs in a limited process (:mod:`kasal_jupyter.confined`), and is linear in the bytes all the same, but
for the parsers of PDFs and pages.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import orjson

from kasal_jupyter.schemas.memory import MOST_PASSAGES
from kasal_jupyter.wellformed import well_formed

_DELIMITERS = ",;\t|"

_ROWS_LOOKED_AT = 20
"""Rows of a table that tell what stands between its cells."""

_LONGEST_HEAD = 100
"""Characters of a column's name that each of its cells is given."""

_MOST_CELLS = 1_000_000


def read(given: bytes) -> bytes:
    """Read a document.

    Parameters
    ----------
    given
        Its media type, a line's end, and its bytes.

    Returns
    -------
    read
        ``{"text": …, "passages": […]}`` in JSON.

    Raises
    ------
    ValueError
        It cannot be read, or has no text.
    """
    kind, _, data = given.partition(b"\n")
    media_type = kind.decode()
    text = _parsed(data, media_type) if media_type in {"text/html", "application/pdf"} else _as_text(data)
    passages = _passages(text, media_type)
    if not passages:
        raise ValueError("There is no text in it")
    return orjson.dumps({"text": text, "passages": passages})


def _parsed(data: bytes, media_type: str) -> str:
    from kasal_jupyter.tools.readable import html_charset, is_pdf, page_text, pdf_text

    if media_type == "application/pdf":
        if not is_pdf(data):
            raise ValueError("It is no PDF.")
        text = pdf_text(data)
    else:
        charset = html_charset(data) or "utf-8"
        try:
            html = data.decode(charset, errors="replace")
        except LookupError:
            html = data.decode(errors="replace")
        text = page_text(html, "")
    # Fonts and numeric entities can name halves of characters.
    return text.encode(errors="replace").decode()


def _as_text(data: bytes) -> str:
    """Read bytes as text: UTF-8, UTF-16 with its mark, or else Windows' Western European."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encodings = ["utf-16"]
    else:
        encodings = ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text.replace("\r\n", "\n").replace("\r", "\n")
        break
    raise ValueError("It is not text; media_type may be wrong")


def _passages(text: str, media_type: str) -> list[str]:
    if media_type == "text/csv":
        return rows_in_passages(_table_rows(text))
    if media_type == "application/json":
        return rows_in_passages(_json_rows(text))
    return passages_of(text, headings=media_type in {"text/markdown", "text/html"})


def _table_rows(text: str) -> Iterator[str]:
    """Give a table's rows as sentences that can be read without its head: ``name: Ada; born: 1815``."""
    lines = text.split("\n")
    delimiter = _delimiter(lines)
    head: list[str] | None = None
    first: list[str] = []
    cells = 0
    try:
        # Each line by itself: a quote that is never closed would else make one cell of all that follows.
        for row in csv.reader((f"{line}\n" for line in lines), delimiter=delimiter):
            if not any(cell.strip() for cell in row):
                continue
            cells += len(row)
            if cells > _MOST_CELLS:
                raise ValueError(f"The table has more than {_MOST_CELLS:,} cells")
            if head is None:
                head, first = [cell.strip()[:_LONGEST_HEAD] for cell in row], row
                continue
            first = []
            yield _named(head, row)
    except csv.Error as error:
        raise ValueError(f"The table cannot be read: {error}") from None
    if first:
        yield "; ".join(first)


def _named(head: list[str], row: list[str]) -> str:
    named = [(head[place] if place < len(head) else "", cell.strip()) for place, cell in enumerate(row)]
    return "; ".join(f"{name}: {cell}" if name else cell for name, cell in named if cell)


def _delimiter(lines: list[str]) -> str:
    """Find what stands between a table's cells: what parts its first rows into the most columns.

    Python's own sniffer takes a quadratic time for lines that begin with a quote.
    """

    def columns(delimiter: str) -> tuple[int, int]:
        counts: list[int] = []
        try:
            rows = csv.reader(
                (f"{line[:5_000]}\n" for line in lines[: 2 * _ROWS_LOOKED_AT]), delimiter=delimiter
            )
            counts = [len(row) for row in islice(filter(None, rows), _ROWS_LOOKED_AT)]
        except csv.Error:
            pass
        return (min(counts, default=0), sum(counts))

    return max(_DELIMITERS, key=columns)


def _json_rows(text: str) -> Iterator[str]:
    try:
        found = _json_values(text)
        if isinstance(found, list):
            yield from map(_json, found)
        elif isinstance(found, dict):
            yield from (f"{name}: {_json(value)}" for name, value in found.items())
        else:
            yield _json(found)
    except RecursionError:
        raise ValueError("It is nested too deep") from None


def _json_values(text: str) -> Any:
    """Read JSON, or lines of JSON as a list."""
    try:
        return well_formed(json.loads(text))
    except ValueError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) > 1:
            try:
                return well_formed([json.loads(line) for line in lines])
            except ValueError:
                pass
        raise ValueError(f"It is not JSON: {error}") from None


def _json(value: Any) -> str:
    if isinstance(value, dict) and all(not isinstance(each, (dict, list)) for each in value.values()):
        return "; ".join(f"{name}: {_json(each)}" for name, each in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# Chunks: a document in the passages that it is recalled in.

PASSAGE = 1_000
"""Characters of a passage, about."""

OVERLAP = 150
"""Characters at the most that a passage repeats of the one before, in whole sentences."""

MOST_HEADING = PASSAGE // 4
"""Characters of the headings that a passage begins with."""

_PARAGRAPH_END = re.compile(r"\n[ \t]*\n\s*")
_SENTENCE_END = re.compile(r"(?<=[.!?\u2026])[\"'\u201d\u2019)\]]*\s+|(?<=[\u3002\uff01\uff1f])|\n")


def passages_of(text: str, *, headings: bool = False) -> list[str]:
    """Cut a text into passages, between paragraphs where that can be, else between sentences.

    Parameters
    ----------
    text
        The text.
    headings
        Whether lines that begin with ``#`` are headings, as in Markdown: a passage then begins with the one
        it stands under, and none goes across one.

    Raises
    ------
    ValueError
        It makes more passages than a crew may have.
    """
    found: list[str] = []
    for heading, section in _sections(text) if headings else [("", text)]:
        passages = _packed(_sentences(section))
        found += [f"{heading}\n{passage}" for passage in passages] if heading else passages
        _require_few(found)
    return found


def rows_in_passages(rows: Iterable[str]) -> list[str]:
    """Put rows of a table together into passages; none is cut unless it is too long."""
    return _packed(((row, "\n") for row in rows if row.strip()), overlap=0)


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Give the parts of a Markdown text with the headings above each, the outermost first."""
    above: list[tuple[int, str]] = []
    lines: list[str] = []
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        found = None if fenced else _title(line)
        if found is None:
            lines.append(line)
            continue
        yield _heading(above), "\n".join(lines)
        lines = []
        above = [*(each for each in above if each[0] < found[0]), found]
    yield _heading(above), "\n".join(lines)


def _title(line: str) -> tuple[int, str] | None:
    """Give a heading's depth and title; None for a line that is none."""
    # Without an expression, which would try each of many # anew.
    rest = line.lstrip("#")
    depth = len(line) - len(rest)
    if not 1 <= depth <= 6 or not rest.startswith(" "):
        return None
    title = rest.rstrip(" ").rstrip("#").strip()
    return (depth, title[:MOST_HEADING]) if title else None


def _heading(above: Sequence[tuple[int, str]]) -> str:
    return " > ".join(title for _, title in above)[:MOST_HEADING]


def _sentences(text: str) -> Iterator[tuple[str, str]]:
    """Give a text's sentences, each with what stands between it and the next."""
    for paragraph in _PARAGRAPH_END.split(text.strip()):
        if len(paragraph) <= PASSAGE // 2:
            # One that is short stays whole, lines and all.
            if paragraph.strip():
                yield paragraph.strip(), "\n\n"
            continue
        sentences = [each.strip() for each in _SENTENCE_END.split(paragraph) if each.strip()]
        for place, sentence in enumerate(sentences):
            yield sentence, "\n\n" if place == len(sentences) - 1 else " "


def _packed(pieces: Iterable[tuple[str, str]], overlap: int = OVERLAP) -> list[str]:
    """Put pieces together until a passage is full; the next begins with the last of them again."""
    passages: list[str] = []
    held: list[tuple[str, str]] = []
    length = 0
    new = False
    for piece, gap in (part for whole in pieces for part in _cut(*whole)):
        if held and length + len(piece) > PASSAGE:
            if new:
                passages.append(_joined(held))
                _require_few(passages)
            held, length = _tail(held, overlap)
            new = False
            if length + len(piece) > PASSAGE:
                held, length = [], 0
        held.append((piece, gap))
        length += len(piece) + len(gap)
        new = True
    if new:
        passages.append(_joined(held))
    return passages


def _require_few(passages: Sequence[str]) -> None:
    if len(passages) > MOST_PASSAGES:
        raise ValueError(f"It makes more than {MOST_PASSAGES:,} passages, which no crew may have; give less")


def _cut(piece: str, gap: str) -> Iterator[tuple[str, str]]:
    """Cut what is too long for a passage, between words where it has any."""
    start, end = 0, len(piece)
    while end - start > PASSAGE:
        at = piece.rfind(" ", start + PASSAGE // 2, start + PASSAGE)
        at = at if at > 0 else start + PASSAGE
        yield piece[start:at].rstrip(), " "
        start = at
        while start < end and piece[start].isspace():
            start += 1
    yield piece[start:], gap


def _tail(held: Sequence[tuple[str, str]], overlap: int) -> tuple[list[tuple[str, str]], int]:
    """Give the last pieces that are within the overlap, and their length."""
    length = 0
    start = len(held)
    while start:
        more = len(held[start - 1][0]) + len(held[start - 1][1])
        if length + more > overlap:
            break
        length += more
        start -= 1
    return list(held[start:]), length


def _joined(held: Sequence[tuple[str, str]]) -> str:
    return "".join(piece + gap for piece, gap in held).strip()
