"""The body of a server's answer, as JSON objects: of a stream's events, or of the whole.

Which of the two it is, the body says. Servers send one for the other, under whatever type of content.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kasal_jupyter.hiding import beginning, here

MAX_ANSWER = 64_000_000
"""Bytes of a model's answer; what sends more is no model."""

MAX_SHOWN = 200
"""Characters of what a server sent in the place of an answer, where an error quotes it."""

_STREAM = (b"data:", b"event:", b"id:", b"retry:", b":")
_MARK = b"\xef\xbb\xbf"


class NotAnAnswer(Exception):
    """A server sent something else than a model's answer: an error, a web page, nothing.

    Parameters
    ----------
    message
        What it was, without a full stop.
    body
        The error, where it is one in JSON.
    begun
        Whether a part of an answer had come.
    """

    def __init__(self, message: str, body: Mapping[str, Any] | None = None, *, begun: bool = False) -> None:
        super().__init__(message)
        self.body = dict(body) if body is not None else None
        self.begun = begun
        self.address: str | None = None
        self.status_code = _status_in(self.body or {})
        """What its status should have been: gateways say 200 as soon as they are asked."""


def _status_in(body: Mapping[str, Any]) -> int | None:
    inner = body.get("error")
    for error in (inner if isinstance(inner, dict) else {}, body):
        for name in ("code", "status"):
            status = error.get(name)
            if isinstance(status, int) and 400 <= status < 600:
                return status
    return None


def objects(chunks: Iterable[bytes]) -> Iterator[tuple[dict[str, Any], bool]]:
    """Read a body as it comes.

    Parameters
    ----------
    chunks
        The body's bytes.

    Yields
    ------
    body
        A JSON object.
    streamed
        Whether it is a stream's.

    Raises
    ------
    NotAnAnswer
        It is no JSON, or an error.
    """
    lines = _lines(chunks)
    begun = False
    for line in lines:
        if not line.strip():
            continue
        if not line.startswith(_STREAM):
            yield whole(b"\n".join([line, *lines])), False
            return
        for event, data in _events(line, lines):
            if data == "[DONE]":
                return
            body = _parsed(data)
            if body is None:
                shown = beginning(data, MAX_SHOWN)
                raise NotAnAnswer(f"a piece of the stream is no JSON: {shown}", begun=begun)
            if isinstance(body, dict):
                _look_for_error(body, named=event == "error", begun=begun)
                yield body, True
                begun = True
        if not begun:
            raise NotAnAnswer("the stream has no answer in it")
        return
    raise NotAnAnswer("the answer has no content at all")


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    size, rest = 0, []
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_ANSWER:
            raise NotAnAnswer(f"the answer is longer than {MAX_ANSWER:,} bytes", begun=True)
        first, *others = chunk.split(b"\n")
        rest.append(first)
        if others:
            *whole, last = others
            yield b"".join(rest).removeprefix(_MARK).rstrip(b"\r")
            yield from (line.rstrip(b"\r") for line in whole)
            rest = [last]
    yield b"".join(rest).removeprefix(_MARK).rstrip(b"\r")


def _events(first: bytes, lines: Iterator[bytes]) -> Iterator[tuple[str, str]]:
    """Give the name and the data of each server-sent event; the last one may end with the stream."""
    name, data = "", list[str]()
    line: bytes | None = first
    while line is not None:
        field, _, value = line.decode(errors="replace").partition(":")
        if field == "event":
            name = value.strip()
        elif field == "data":
            data.append(value.removeprefix(" "))
        elif not line:
            if data:
                yield name, "\n".join(data).strip()
            name, data = "", []
        line = next(lines, None)
    if data:
        yield name, "\n".join(data).strip()


def whole(body: bytes) -> dict[str, Any]:
    """Read a body that is one JSON object.

    Raises
    ------
    NotAnAnswer
        It is none, or an error.
    """
    text = body.decode(errors="replace").strip()
    parsed = _parsed(text)
    if isinstance(parsed, dict):
        _look_for_error(parsed)
        return parsed
    if title := page_title(text):
        raise NotAnAnswer(f"it is a web page ({title})")
    raise NotAnAnswer(f"it is no JSON object: {beginning(text, MAX_SHOWN)}")


def _look_for_error(body: Mapping[str, Any], *, named: bool = False, begun: bool = False) -> None:
    """Raise what a server says in the place of an answer, whatever the status it says it with."""
    if body.get("choices"):
        return
    error = body.get("error")
    if not error and (named or body.get("object") == "error" or ("choices" not in body and "detail" in body)):
        error = body  # vLLM's older form, and FastAPI's.
    if error:
        raise NotAnAnswer(server_words(body) or beginning(json.dumps(error), MAX_SHOWN), body, begun=begun)


def server_words(body: Mapping[str, Any]) -> str | None:
    """Give what a server's error says in words, on one line; None where it has none."""
    error = body.get("error")
    detail = body.get("detail")
    if isinstance(detail, list):
        # FastAPI's, of a request that it finds wrong.
        detail = "; ".join(str(each.get("msg", each) if isinstance(each, dict) else each) for each in detail)
    for words in (
        error.get("message") if isinstance(error, dict) else error,
        body.get("message"),
        detail.get("message") if isinstance(detail, dict) else detail,
    ):
        if isinstance(words, str) and words.strip():
            return " ".join(here().hide(words).split())
    return None


def body_words(text: str) -> str | None:
    """Give what a body says that is an error in JSON, or a web page; None where it is neither."""
    if title := page_title(text):
        return f"a web page ({title})"
    body = _parsed(text)
    return server_words(body) if isinstance(body, dict) else None


def page_title(text: str) -> str | None:
    """Give the title of a web page, or what else there is to call it by; None where the text is none."""
    start = text[:1000].lstrip().lower()
    if not start.startswith(("<!doctype html", "<html", "<head", "<?xml", "<body", "<h1", "<center")):
        return None
    head = text[:20_000]
    lower = head.lower()
    begins = lower.find("<title")
    begins = lower.find(">", begins) + 1 if begins >= 0 else 0
    ends = lower.find("</title", begins) if begins else -1
    title = " ".join(head[begins:ends].split()) if ends > 0 else ""
    return beginning(title, MAX_SHOWN) if title else "HTML"


def _parsed(text: str) -> Any:
    """Give what JSON holds; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
