"""Reading a page of the web."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kasal_jupyter.hiding import beginning
from kasal_jupyter.tools.readable import html_charset, is_pdf, read_page, read_pdf
from kasal_jupyter.tools.tool import Tool, ToolContext, always, portion, status_text, without_network
from kasal_jupyter.version import __version__

if TYPE_CHECKING:
    from kasal_jupyter.tools.fetch import Answer

MAX_BYTES = 10_000_000
"""Most of a page that is read."""

TIMEOUT = 30.0
"""Seconds that a page may take."""

USER_AGENT = f"Mozilla/5.0 (compatible; kasal-jupyter/{__version__})"


def _run(context: ToolContext, url: str, start: int = 0, links: bool = False) -> str:
    # Loading the HTTP client takes longer than anything else a server imports of the tools.
    import httpx

    from kasal_jupyter.tools.fetch import fetch

    headers = {"User-Agent": USER_AGENT, "Accept": "text/html, text/*;q=0.9, application/json, */*;q=0.5"}
    answer = fetch(
        httpx.Request("GET", web_address(url), headers=headers),
        context.guard,
        timeout=TIMEOUT,
        max_bytes=MAX_BYTES,
    )
    if not 200 <= answer.status < 300:
        said = beginning(_read(answer, links=False)) if answer.is_text else ""
        raise ValueError(f"{url} answered {status_text(answer.status)}{f': {said}' if said else ''}")
    text = _read(answer, links=links)
    if not text.strip():
        return f"[{answer.url} has no text.]"
    return portion(text, start, complete=answer.complete)


def web_address(url: str) -> str:
    """Give an address as httpx takes it, ``https://`` put before one that has no scheme.

    Raises
    ------
    ValueError
        It is no address.
    """
    import httpx

    url = url.strip()
    if "://" not in url:
        url = f"https://{url}"
    try:
        return str(httpx.URL(url))
    except (httpx.InvalidURL, ValueError) as error:
        raise ValueError(f"{url!r} is no web address: {error}") from error


def _read(answer: Answer, *, links: bool) -> str:
    head = answer.body[:1_024]
    if answer.kind == "application/pdf" or is_pdf(head):
        if not answer.complete:
            raise ValueError(f"The PDF is larger than {MAX_BYTES:,} bytes, and is not read.")
        return read_pdf(answer.body)
    if not answer.is_text or b"\0" in head:
        raise ValueError(f"{answer.url} is no page to read: {len(answer.body):,} bytes of {answer.kind}.")
    if "html" in answer.kind or (not answer.kind and b"<html" in head.lower()):
        return read_page(answer.text(html_charset(answer.body)), answer.url, links=links)
    return answer.text()


TOOL = Tool(
    name="web_page",
    description="Reads a page of the web, or a PDF there, and gives its text as Markdown. Of a long page it "
    "gives 50,000 characters, and says how to read on.",
    category="research",
    parameters={
        "type": "object",
        "properties": {
            "url": {
                "type": "string",
                "description": "The page's address.",
                "minLength": 1,
                "maxLength": 4_000,
                "examples": ["https://example.com/"],
            },
            "start": {
                "type": "integer",
                "description": "The character to begin with, to read on in a long page.",
                "minimum": 0,
                "default": 0,
            },
            "links": {
                "type": "boolean",
                "description": "Whether the text keeps the addresses of its links.",
                "default": False,
            },
        },
        "required": ["url"],
        "additionalProperties": False,
    },
    function=_run,
    idempotent=always,
    unavailable=without_network,
)
