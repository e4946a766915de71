"""What a model's answer says: its text without what the model thought, and the object in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)

MOST_STARTS = 64
"""Braces of an answer at which an object is looked for: each look may read on to the answer's end."""

MOST_REASON = 300
"""Characters of why an answer is not the object that was asked for, as the model is told."""

_TAG = re.compile(r"<(/?)(?:think|thinking)>|\[(/?)THINK\]", re.IGNORECASE | re.ASCII)
"""How models that think aloud mark it: those of DeepSeek, Qwen and their kin, and Mistral's Magistral."""

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*", re.MULTILINE)

_DECODER = json.JSONDecoder(strict=False)


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


class NotTheObject(ValueError):
    """An answer is not the object that was asked for; the text says why."""


def read_object(text: str, form: type[M]) -> M:
    """Take the object out of an answer that may have a fence or prose around it.

    Raises
    ------
    NotTheObject
        None of those in it is such an object; says what is wrong with the one that comes nearest.
    """
    reason = "there is no JSON object in it"
    fewest = None
    for found in _objects(text):
        try:
            return form.model_validate(found)
        except ValidationError as error:
            if fewest is None or error.error_count() < fewest:
                fewest, reason = error.error_count(), _reason(error)
        except RecursionError:
            continue
    raise NotTheObject(reason)


def _objects(text: str) -> Iterator[Any]:
    """Give the JSON objects in a text: all of it, what stands in fences, and what begins with a brace."""
    for whole in (text, *_fenced(text)):
        try:
            found = _DECODER.decode(whole.strip())
        except (ValueError, RecursionError):
            continue
        if isinstance(found, str):  # Encoded twice.
            found = _decoded(found)
        if isinstance(found, list) and len(found) == 1:
            (found,) = found
        if isinstance(found, dict):
            yield found
    at = 0
    for _ in range(MOST_STARTS):
        at = text.find("{", at)
        if at < 0:
            return
        try:
            found, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        yield found


def _decoded(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _fenced(text: str) -> Iterator[str]:
    marks = list(_FENCE.finditer(text))
    for opening, closing in zip(marks[::2], marks[1::2], strict=False):
        yield text[opening.end() : closing.start()]


def _reason(error: ValidationError) -> str:
    faults = (
        f"{'.'.join(map(str, fault['loc'])) or 'the object'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False, include_context=False)[:5]
    )
    return "; ".join(faults)[:MOST_REASON]
