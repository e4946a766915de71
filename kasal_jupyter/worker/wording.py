"""How a model is asked in words for an object, where its server knows no better way."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from kasal_jupyter.worker.sizes import shortened

MOST_REPEATED = 8_000
"""Characters of an answer that it is shown again."""

_ASK = """\
Answer with one JSON object and nothing else: no other words, no code fence. It must fit this JSON schema:
{schema}"""

_AGAIN = (
    "That answer cannot be used: {why}. Answer once more, with the one JSON object that was asked for and "
    "nothing else."
)


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
