"""Reading what a crew is given to know: which file it is, and its passages, read in a limited process."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import orjson

from kasal_jupyter.confined import ConfinedPool, TooMuch
from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.schemas.memory import KnowledgeCreate, MediaType

INVALID_KNOWLEDGE = "Invalid knowledge"

ENDINGS: Mapping[str, MediaType] = {
    ".txt": "text/plain",
    ".text": "text/plain",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".markdown": "text/markdown",
    ".csv": "text/csv",
    ".tsv": "text/csv",
    ".json": "application/json",
    ".jsonl": "application/json",
    ".html": "text/html",
    ".htm": "text/html",
    ".pdf": "application/pdf",
}
"""What a file is, by its name's ending."""


@dataclass(frozen=True, slots=True)
class ReadSource:
    """A source as it can be stored."""

    media_type: MediaType
    text: str
    passages: list[str]


async def read_source(body: KnowledgeCreate, pool: ConfinedPool, owner: str) -> ReadSource:
    """Read what a client gives a crew to know.

    Parameters
    ----------
    body
        What is given.
    pool
        Where it is read: the parsers have no end in sight for some files.
    owner
        Whose it is.

    Raises
    ------
    InvalidRequest
        It cannot be read, or has no text.
    TooManyRequests, Unavailable
        Too much waits to be read.
    """
    if (body.text is None) == (body.content is None):
        reason = "Give text, or a file's content in base64" + ("; not both" if body.text is not None else "")
        raise _invalid("text", reason)
    field = "text" if body.text is not None else "content"
    media_type = body.media_type or _by_name(body)

    def given() -> bytes:
        text = body.text
        data = text.encode(errors="replace") if text is not None else _decoded(body.content or "")
        return media_type.encode() + b"\n" + data

    def read(answer: bytes) -> ReadSource:
        found = orjson.loads(answer)
        return ReadSource(media_type, found["text"], found["passages"])

    try:
        return await pool.call(owner, "kasal_jupyter.memory.parse:read", given, read)
    except ValueError as error:
        raise _invalid(field, str(error)) from None
    except TooMuch as error:
        raise _invalid(field, f"{error}; give less, or split it") from None


def _by_name(body: KnowledgeCreate) -> MediaType:
    known = ENDINGS.get(PurePosixPath(body.name).suffix.lower())
    if body.text is not None:
        # A text is one, whatever it is called; a PDF is none.
        return known if known is not None and known != "application/pdf" else "text/plain"
    if known is None:
        reason = (
            f"The name does not tell what the file is; give it: {', '.join(sorted(set(ENDINGS.values())))}"
        )
        raise _invalid("media_type", reason)
    return known


def _decoded(content: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("content", "It is not base64; text goes into text") from None


def _invalid(field: str, reason: str) -> InvalidRequest:
    return InvalidRequest(INVALID_KNOWLEDGE, faults=[Fault(field, reason)])
