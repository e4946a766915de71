"""The object that a model is to answer with: asked for in words, and taken out of what it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from kasal_jupyter.worker.process.sizes import shortened

M = TypeVar("M", bound=BaseModel)

MOST_STARTS = 64
"""Braces of an answer at which an object is looked for: each look may read on to the answer's end."""

MOST_REASON = 300
"""Characters of why an answer is not the object that was asked for, as the model is told."""

MOST_REPEATED = 8_000
"""Characters of an answer that it is shown again."""

_ASK = """\
Answer with one JSON object and nothing else: no other words, no code fence. It must fit this JSON schema:
{schema}"""

_AGAIN = (
    "That answer cannot be used: {why}. Answer once more, with the one JSON object that was asked for and "
    "nothing else."
)

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*", re.MULTILINE)

_DECODER = json.JSONDecoder(strict=False)


def in_words(messages: str | list[Any], form: type[BaseModel]) -> str | list[Any]:
    """Give messages that ask for an object in words, in the last one of the user's."""
    schema = json.dumps(form.model_json_schema(), ensure_ascii=False)
    return _with_user(messages, _ASK.format(schema=schema))


def not_the_object(messages: str | list[Any], answer: str, why: str) -> list[Any]:
    """Give messages that say why an answer is not the object that was asked for."""
    begun = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
    said = {"role": "assistant", "content": shortened(answer, MOST_REPEATED) or "…"}
    return [*begun, said, {"role": "user", "content": _AGAIN.format(why=why)}]


def _with_user(messages: str | list[Any], text: str) -> str | list[Any]:
    # Some servers refuse two messages of one role in a row.
    if isinstance(messages, str):
        return f"{messages}\n\n{text}"
    *before, last = messages
    if last.get("role") == "user" and isinstance(last.get("content"), str):
        return [*before, {**last, "content": f"{last['content']}\n\n{text}"}]
    return [*messages, {"role": "user", "content": text}]


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
