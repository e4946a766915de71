"""Chunks: a document in the passages that it is recalled in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from kasal_jupyter.schemas.memory import MOST_PASSAGES

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
