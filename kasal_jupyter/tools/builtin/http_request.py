"""A request to any web service, without credentials: those are custom tools' to have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kasal_jupyter.hiding import beginning
from kasal_jupyter.tools.builtin.web_page import web_address
from kasal_jupyter.tools.tool import Tool, ToolContext, keyed, portion, status_text, without_network
from kasal_jupyter.version import __version__

if TYPE_CHECKING:
    from kasal_jupyter.tools.fetch import Answer

MAX_BYTES = 2_000_000
"""Most of an answer that is read."""

MAX_BODY = 1_000_000
"""Most characters that are sent."""

TIMEOUT, MAX_TIMEOUT = 30.0, 120.0
"""Seconds for an answer: where none are given, and at the most."""

MOST_HEADERS, MAX_HEADER = 30, 300
"""Headers of an answer that are shown, and the most characters of one."""

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

_SHOWN = re.compile(
    r"content-(type|length|disposition)|location|last-modified|etag|link|date|retry-after|allow|"
    r"www-authenticate|x-ratelimit-.*|ratelimit-.*|x-total-count"
)
"""Headers of an answer that tell an agent something."""

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_TRANSPORT = frozenset(
    {
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "accept-encoding",
        "expect",
        "te",
        "trailer",
    }
    | {"upgrade", "proxy-authorization", "proxy-connection"}
)
"""Headers that say how the request itself is to be read."""


def _run(context: ToolContext, url: str, method: str = "GET", **given: Any) -> str:
    import httpx

    from kasal_jupyter.tools.fetch import fetch

    method = method.upper()
    if method not in METHODS:
        raise ValueError(f"method: {method!r} is none of {', '.join(METHODS)}.")
    body, timeout = given.get("body"), given.get("timeout", TIMEOUT)
    if body is not None and "json" in given:
        raise ValueError("Give either json or body.")
    if body is not None and len(body) > MAX_BODY:
        raise ValueError(f"body: {MAX_BODY:,} characters at the most.")
    if not 0 < timeout <= MAX_TIMEOUT:
        raise ValueError(f"timeout: at most {MAX_TIMEOUT:g} seconds, please.")
    headers = _checked(given.get("headers", {}))
    address = httpx.URL(web_address(url))
    if query := given.get("query"):
        address = address.copy_merge_params({name: _plain(value) for name, value in query.items()})
    request = httpx.Request(
        method,
        address,
        headers=_ours(headers, keyed(method, context.call_key)) | headers,
        json=given.get("json"),
        content=body.encode(errors="replace") if body is not None else None,
    )
    # What an agent has put in a header, it has put there for this one host.
    answer = fetch(request, context.guard, timeout=timeout, max_bytes=MAX_BYTES, secret_headers=list(headers))
    return _shown(answer, given.get("start", 0))


def _ours(given: Mapping[str, str], keyed: Mapping[str, str]) -> dict[str, str]:
    """Give the headers that we add, where an agent has not given its own."""
    ours = {"User-Agent": f"kasal-jupyter/{__version__}", "Accept": "*/*", **keyed}
    theirs = {name.lower() for name in given}
    return {name: value for name, value in ours.items() if name.lower() not in theirs}


def _checked(headers: Mapping[str, Any]) -> dict[str, str]:
    checked: dict[str, str] = {}
    for name, value in headers.items():
        text = str(value)
        if not _NAME.fullmatch(name) or re.search(r"[^\t\x20-\x7e\x80-\xff]", text):
            raise ValueError(f"headers: {name!r} is no header that can be sent.")
        if name.lower() in _TRANSPORT:
            raise ValueError(f"headers: {name} belongs to the request itself; leave it out.")
        checked[name] = text
    return checked


def _plain(value: Any) -> Any:
    """Write a value of the query as an address can hold it; a list is repeated."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return "" if value is None else str(value)


def _shown(answer: Answer, start: int) -> str:
    head = [f"HTTP {status_text(answer.status)}", f"URL: {answer.url}"]
    shown = [(name, value) for name, value in answer.headers.items() if _SHOWN.fullmatch(name)]
    head += [f"{name}: {beginning(value, MAX_HEADER)}" for name, value in shown[:MOST_HEADERS]]
    if not answer.body:
        body = "[Nothing.]"
    elif not answer.is_text or b"\0" in answer.body[:1_024]:
        body = f"[{len(answer.body):,} bytes of {answer.kind or 'something'}, which is no text.]"
    else:
        body = portion(answer.text(), start, complete=answer.complete)
    return "\n".join([*head, "", body])


TOOL = Tool(
    name="http_request",
    description="Sends an HTTP request to a public web service, an API for example, and gives the status, "
    "the headers that matter, and the answer. Other statuses than 200 are no error of the tool's.",
    category="integration",
    parameters={
        "type": "object",
        "properties": {
            "url": {
                "type": "string",
                "description": "The address, with http:// or https://.",
                "minLength": 1,
                "maxLength": 4_000,
                "examples": ["https://example.com/"],
            },
            "method": {"type": "string", "enum": list(METHODS), "default": "GET"},
            "headers": {
                "type": "object",
                "description": "Headers by name.",
                "additionalProperties": {"type": "string"},
            },
            "query": {
                "type": "object",
                "description": "What is added to the address behind the ?, by name; a list is repeated.",
            },
            "json": {"description": "What to send as JSON: any value.", "default": None},
            "body": {
                "type": "string",
                "description": "What to send as it is, in the place of json.",
                "default": None,
            },
            "timeout": {
                "type": "number",
                "description": "Seconds to wait for the answer.",
                "exclusiveMinimum": 0,
                "maximum": MAX_TIMEOUT,
                "default": TIMEOUT,
            },
            "start": {
                "type": "integer",
                "description": "The character to begin with, to read on in a long answer.",
                "minimum": 0,
                "default": 0,
            },
        },
        "required": ["url"],
        "additionalProperties": False,
    },
    function=_run,
    idempotent=lambda arguments: (arguments.get("method") or "GET") in {"GET", "HEAD"},
    unavailable=without_network,
)
