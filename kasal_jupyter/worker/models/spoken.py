"""What a model's answer says: its text without what the model thought aloud, whole and as it comes."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TAG = re.compile(r"<(/?)(?:think|thinking)>|\[(/?)THINK\]", re.IGNORECASE | re.ASCII)
"""How models that think aloud mark it: those of DeepSeek, Qwen and their kin, and Mistral's Magistral."""

_TAGS = ("<think>", "</think>", "<thinking>", "</thinking>", "[think]", "[/think]")
_LONGEST_TAG = max(map(len, _TAGS))


@dataclass(frozen=True, slots=True)
class Spoken:
    """An answer, taken apart.

    Attributes
    ----------
    thought
        What the model thought before it spoke; empty where it did not say.
    said
        Its answer.
    """

    thought: str
    said: str


def spoken(text: str) -> Spoken:
    """Take what a model thought out of its answer.

    It stands between ``<think>`` and ``</think>``, anywhere. Where only the end is there, the beginning stood
    in the prompt, as templates of Qwen's and DeepSeek's have it; where only the beginning is there, and the
    answer begins with it, the model did not get further. A tag in backticks is spoken of, and marks nothing.
    """
    tags = [tag for tag in _TAG.finditer(text) if text[tag.start() - 1 : tag.start()] != "`"]
    if not tags:
        return Spoken("", text)
    thought: list[str] = []
    said: list[str] = []
    at = 0
    if _closes(tags[0]):
        thought.append(text[: tags[0].start()])
        at = tags.pop(0).end()
    place = 0
    while place < len(tags):
        begin = tags[place]
        if _closes(begin):
            place += 1
            continue
        end = _end_of(tags, place)
        if end is None:
            if not "".join([*said, text[at : begin.start()]]).strip():
                return Spoken(_joined([*thought, text[begin.end() :]]), "")
            break
        said.append(text[at : begin.start()])
        thought.append(text[begin.end() : tags[end].start()])
        at = tags[end].end()
        place = end + 1
    said.append(text[at:])
    return Spoken(_joined(thought), "".join(said).lstrip() if thought else text)


def _closes(tag: re.Match[str]) -> bool:
    return bool(tag[1] or tag[2])


def _end_of(tags: list[re.Match[str]], begin: int) -> int | None:
    """Give the tag that ends what one begins: of several within each other, the outermost."""
    depth, last = 0, None
    for place in range(begin, len(tags)):
        if not _closes(tags[place]):
            depth += 1
            continue
        depth -= 1
        last = place
        if depth == 0:
            return place
    return last


def _joined(parts: list[str]) -> str:
    return "\n\n".join(stripped for part in parts if (stripped := part.strip()))


class LiveSpeech:
    """An answer as it comes, without what the model thinks aloud.

    What may be the beginning of a tag is held back until more has come.

    Parameters
    ----------
    thinks
        Whether the answer begins within a thought, whose beginning stood in the prompt. Nothing is shown
        before its end then.
    """

    def __init__(self, *, thinks: bool = False) -> None:
        self._depth = int(thinks)
        self._thinks = thinks
        self._pieces: list[str] = []
        self._shown: list[str] = []
        self._held = ""
        self._before = ""
        self._tagged = False
        self.overheard = False
        """Whether a thought was shown: only its end was marked, and that came too late."""

    def add(self, piece: str) -> str:
        """Take in a piece; give what can be shown now."""
        self._pieces.append(piece)
        text = self._held + piece
        at = 0
        parts: list[str] = []
        for tag in _TAG.finditer(text):
            if (text[tag.start() - 1] if tag.start() else self._before) == "`":
                continue
            if not self._depth:
                parts.append(text[at : tag.start()])
            at = tag.end()
            if not _closes(tag):
                # The tag that the prompt had stands in the answer as well.
                self._depth += not (self._thinks and not self._tagged)
            elif self._depth:
                self._depth -= 1
            elif not self._tagged:
                self.overheard = True
                self._shown, parts = [], []
            self._tagged = True
        begins = _tag_begins(text, at)
        self._held = text[begins:]
        self._before = text[begins - 1 : begins] or self._before
        if not self._depth:
            parts.append(text[at:begins])
        return self._show("".join(parts))

    def rest(self) -> str:
        """Give what is still to be shown once the answer is whole."""
        said, shown = spoken("".join(self._pieces)).said, "".join(self._shown)
        return self._show(said[len(shown) :]) if said.startswith(shown) else ""

    def _show(self, text: str) -> str:
        if self._tagged and not self._shown:
            text = text.lstrip()
        if text:
            self._shown.append(text)
        return text


def _tag_begins(text: str, at: int) -> int:
    """Give where a tag begins that may go on behind a text's end; the end where there is none."""
    for start in range(max(at, len(text) - _LONGEST_TAG + 1), len(text)):
        end = text[start:].lower()
        if any(tag.startswith(end) for tag in _TAGS):
            return start
    return len(text)
