"""Reading what a crew is given to know: a file's bytes as text, and the text in passages."""

from __future__ import annotations

import asyncio
import base64
import binascii
import codecs
import csv
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from kasal_jupyter.environment import plain_environment
from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.memory.chunks import passages_of, rows_in_passages
from kasal_jupyter.schemas.knowledge import KnowledgeCreate, MediaType

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

READ_SECONDS = 40.0
"""How long a PDF or a page may take to be read."""

_PARSED: frozenset[str] = frozenset({"text/html", "application/pdf"})
"""What is read in a process of its own: its parsers have no end in sight for some files."""


@dataclass(frozen=True, slots=True)
class ReadSource:
    """A source as it can be stored."""

    media_type: MediaType
    text: str
    passages: list[str]


async def read_source(body: KnowledgeCreate) -> ReadSource:
    """Read what a client gives a crew to know.

    Raises
    ------
    InvalidRequest
        It cannot be read, or has no text.
    """
    if (body.text is None) == (body.content is None):
        reason = "Give text, or a file's content in base64" + ("; not both" if body.text is not None else "")
        raise _invalid("text", reason)
    media_type = body.media_type or _by_name(body)
    data = body.text.encode() if body.text is not None else _decoded(body.content or "")
    if media_type in _PARSED:
        text = await asyncio.to_thread(_parsed, data, media_type)
    else:
        text = _as_text(data)
    passages = await asyncio.to_thread(_passages, text, media_type)
    if not passages:
        raise _invalid("text" if body.text is not None else "content", "There is no text in it")
    return ReadSource(media_type, text, passages)


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
    raise _invalid("content", "It is not text; media_type may be wrong")


def _parsed(data: bytes, media_type: MediaType) -> str:
    """Have a process read what needs a parser, within a time and with little of this one's rights."""
    command = [sys.executable, "-I", "-m", "kasal_jupyter.memory.parse", media_type]
    try:
        done = subprocess.run(  # noqa: S603 - our own
            command,
            input=data,
            capture_output=True,
            timeout=READ_SECONDS,
            check=False,
            env=plain_environment(),
        )
    except subprocess.TimeoutExpired:
        raise _invalid("content", f"It could not be read within {READ_SECONDS:g} seconds") from None
    if done.returncode != 0:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        raise _invalid("content", told[-1] if told and done.returncode == 1 else "It cannot be read")
    return done.stdout.decode(errors="replace")


def _passages(text: str, media_type: MediaType) -> list[str]:
    if media_type == "text/csv":
        return rows_in_passages(_table_rows(text))
    if media_type == "application/json":
        return rows_in_passages(_json_rows(text))
    return passages_of(text, headings=media_type in {"text/markdown", "text/html"})


def _table_rows(text: str) -> list[str]:
    """Give a table's rows as sentences that can be read without its head: ``name: Ada; born: 1815``."""
    try:
        dialect = csv.Sniffer().sniff(text[:20_000], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    try:
        rows = [row for row in csv.reader(text.splitlines(), dialect) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise _invalid("content", f"The table cannot be read: {error}") from None
    if len(rows) < 2:
        return ["; ".join(row) for row in rows]
    head = [cell.strip() for cell in rows[0]]
    named = [
        [(head[place] if place < len(head) else "", cell.strip()) for place, cell in enumerate(row)]
        for row in rows[1:]
    ]
    return ["; ".join(f"{name}: {cell}" if name else cell for name, cell in row if cell) for row in named]


def _json_rows(text: str) -> list[str]:
    try:
        read: Any = json.loads(text)
    except ValueError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            read = [json.loads(line) for line in lines] if len(lines) > 1 else None
        except (ValueError, RecursionError):
            read = None
        if read is None:
            raise _invalid("content", f"It is not JSON: {error}") from None
    except RecursionError:
        raise _invalid("content", "It is nested too deep") from None
    if isinstance(read, list):
        return [_json(each) for each in read]
    if isinstance(read, dict):
        return [f"{name}: {_json(value)}" for name, value in read.items()]
    return [_json(read)]


def _json(value: Any) -> str:
    if isinstance(value, dict) and all(not isinstance(each, (dict, list)) for each in value.values()):
        return "; ".join(f"{name}: {_json(each)}" for name, each in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _invalid(field: str, reason: str) -> InvalidRequest:
    return InvalidRequest(INVALID_KNOWLEDGE, faults=[Fault(field, reason)])
