"""Chunks: a document in the passages that it is recalled in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

PASSAGE = 1_000
"""Characters of a passage, about."""

OVERLAP = 150
"""Characters at the most that a passage repeats of the one before, in whole sentences."""

_HEADING = re.compile(r"#{1,6} +(\S.*?)#* *")
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
    """
    found: list[str] = []
    for heading, section in _sections(text) if headings else [("", text)]:
        passages = _packed(list(_sentences(section)))
        found += [f"{heading}\n{passage}" for passage in passages] if heading else passages
    return found


def rows_in_passages(rows: Sequence[str]) -> list[str]:
    """Put rows of a table together into passages; none is cut unless it is too long."""
    return _packed([(row, "\n") for row in rows if row.strip()], overlap=0)


def _sections(text: str) -> Iterator[tuple[str, str]]:
    """Give the parts of a Markdown text with the headings above each, the outermost first."""
    above: list[tuple[int, str]] = []
    lines: list[str] = []
    fenced = False
    for line in text.splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        found = None if fenced else _HEADING.fullmatch(line)
        if found is None:
            lines.append(line)
            continue
        yield _heading(above), "\n".join(lines)
        lines = []
        depth = len(line) - len(line.lstrip("#"))
        above = [*(each for each in above if each[0] < depth), (depth, found[1].strip())]
    yield _heading(above), "\n".join(lines)


def _heading(above: Sequence[tuple[int, str]]) -> str:
    return " > ".join(title for _, title in above)[: PASSAGE // 4]


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


def _packed(pieces: Sequence[tuple[str, str]], overlap: int = OVERLAP) -> list[str]:
    """Put pieces together until a passage is full; the next begins with the last of them again."""
    passages: list[str] = []
    held: list[tuple[str, str]] = []
    new = False
    for piece, gap in (part for whole in pieces for part in _cut(*whole)):
        if held and _length(held) + len(piece) > PASSAGE:
            if new:
                passages.append(_joined(held))
            held, new = _tail(held, overlap), False
            if _length(held) + len(piece) > PASSAGE:
                held = []
        held.append((piece, gap))
        new = True
    if new:
        passages.append(_joined(held))
    return passages


def _cut(piece: str, gap: str) -> Iterator[tuple[str, str]]:
    """Cut what is too long for a passage, between words where it has any."""
    while len(piece) > PASSAGE:
        at = piece.rfind(" ", PASSAGE // 2, PASSAGE)
        at = at if at > 0 else PASSAGE
        yield piece[:at].rstrip(), " "
        piece = piece[at:].lstrip()
    yield piece, gap


def _tail(held: Sequence[tuple[str, str]], overlap: int) -> list[tuple[str, str]]:
    tail: list[tuple[str, str]] = []
    for piece in reversed(held):
        if _length([piece, *tail]) > overlap:
            break
        tail.insert(0, piece)
    return tail


def _length(held: Sequence[tuple[str, str]]) -> int:
    return sum(len(piece) + len(gap) for piece, gap in held)


def _joined(held: Sequence[tuple[str, str]]) -> str:
    return "".join(piece + gap for piece, gap in held).strip()
