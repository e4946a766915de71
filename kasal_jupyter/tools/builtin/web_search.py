"""Searching the web: by the public engines without a key, or by the one that the deployer has chosen.

SearXNG, Tavily and Brave are called through the guarded client. The public engines are not: ``ddgs`` brings
an HTTP client of its own, since they answer browsers alone, and it calls no other hosts than theirs.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kasal_jupyter.confined import TooMuch, confined
from kasal_jupyter.hiding import CERTIFICATES, Hider, beginning
from kasal_jupyter.outward import NoWayOut, proxy_for
from kasal_jupyter.schemas.spec import RunSearch
from kasal_jupyter.tools.guard import HostGuard, HostRefused
from kasal_jupyter.tools.tool import Tool, ToolContext, always, status_text, without_network
from kasal_jupyter.version import __version__

MAX_RESULTS = 20
"""Most results of a search."""

MAX_SNIPPET = 600
"""Most characters of what a result says."""


def _run(context: ToolContext, query: str, max_results: int = 8) -> str:
    if not query.strip():
        raise ValueError("query: what to look for is missing.")
    if not 1 <= max_results <= MAX_RESULTS:
        raise ValueError(f"max_results: between 1 and {MAX_RESULTS}, please.")
    found = search(query, max_results, context.settings.search, context.guard)
    if not found:
        return f"Nothing was found for {query!r}; try other words."
    return "\n\n".join(
        f"{number}. {each.title or each.url}\n   {each.url}\n   {snippet}".rstrip()
        for number, each in enumerate(found, 1)
        for snippet in [beginning(each.snippet, MAX_SNIPPET)]
    )


TOOL = Tool(
    name="web_search",
    description="Searches the web, and gives titles, addresses and short texts of what it finds; web_page "
    "reads one of them.",
    category="research",
    parameters={
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "description": "What to look for, in a few words.",
                "minLength": 1,
                "maxLength": 400,
                "examples": ["CrewAI agents"],
            },
            "max_results": {
                "type": "integer",
                "description": "How many results to give.",
                "minimum": 1,
                "maximum": MAX_RESULTS,
                "default": 8,
            },
        },
        "required": ["query"],
        "additionalProperties": False,
    },
    function=_run,
    idempotent=always,
    unavailable=without_network,
)


TIMEOUT = 20.0
"""Seconds that a search may take."""

ENGINE_SECONDS = 8
"""Seconds of these that one public engine may take, before others are asked."""

MOST_OF_AN_ERROR = 20_000
"""Characters of what one of them says, and no more, where it says something else than results."""

MAX_BYTES = 2_000_000
"""Most of an engine's answer that is read."""

_BASES = {"tavily": "https://api.tavily.com", "brave": "https://api.search.brave.com"}
_TAG = re.compile(r"<[^<>]{0,100}>")


@dataclass(frozen=True, slots=True)
class Found:
    """A result of a search; all three are text, without markup."""

    title: str
    url: str
    snippet: str


def search(query: str, most: int, engine: RunSearch, guard: HostGuard) -> list[Found]:
    """Search the web.

    Parameters
    ----------
    query
        What to look for.
    most
        How many results to give at the most.
    engine
        Whom to ask.
    guard
        Which hosts may be called.

    Raises
    ------
    ValueError
        The engine cannot be asked, in words for the agent.
    """
    match engine.engine:
        case "ddgs":
            return _results(_by_ddgs(query, most), most, url="href", snippet="body")
        case "searxng":
            return _results(_by_searxng(query, engine, guard), most, snippet="content")
        case "tavily":
            return _results(_by_tavily(query, most, engine, guard), most, snippet="content")
        case "brave":
            return _results(_by_brave(query, most, engine, guard), most, snippet="description")


def _by_ddgs(query: str, most: int) -> list[dict[str, Any]]:
    """Ask the public engines, in a limited process: what reads their pages has no end in sight for some."""
    try:
        proxy = proxy_for("https://duckduckgo.com")
        asked = {
            "query": query,
            "most": most,
            "proxy": proxy.url if proxy is not None else None,
            "certificates": {name: os.environ[name] for name in CERTIFICATES if name in os.environ},
        }
        found = confined(f"{__name__}:answer_ddgs", json.dumps(asked).encode(), seconds=TIMEOUT)
    except TooMuch:
        reason = f"The public search engines gave nothing that can be read within {TIMEOUT:g} seconds."
        raise ValueError(reason) from None
    except (NoWayOut, ValueError) as error:
        reason = f"The public search engines cannot be reached: {beginning(str(error), 200)}"
        raise ValueError(reason) from None
    read: list[dict[str, Any]] = json.loads(found)
    return read


def answer_ddgs(given: bytes) -> bytes:
    """Ask the public engines; this is done in the limited process."""
    from ddgs import DDGS
    from ddgs.exceptions import DDGSException

    asked = json.loads(given)
    os.environ.update(asked["certificates"])
    try:
        found = DDGS(proxy=asked["proxy"], timeout=ENGINE_SECONDS).text(
            asked["query"], max_results=asked["most"]
        )
    except DDGSException as error:
        if "No results found" not in str(error):
            # It is cut where it is known what is secret.
            raise ValueError(str(error)[:MOST_OF_AN_ERROR]) from None
        found = []
    return json.dumps(found).encode()


def _by_searxng(query: str, engine: RunSearch, guard: HostGuard) -> Any:
    import httpx

    if not engine.base_url:
        raise ValueError("SearXNG is chosen for searches, but its address is not known.")
    params = {"q": query, "format": "json"}
    request = httpx.Request("GET", f"{engine.base_url.rstrip('/')}/search", params=params)
    if engine.api_key:
        request.headers["Authorization"] = f"Bearer {engine.api_key}"
    return _asked("SearXNG", request, engine, guard).get("results")


def _by_tavily(query: str, most: int, engine: RunSearch, guard: HostGuard) -> Any:
    import httpx

    request = httpx.Request(
        "POST",
        f"{(engine.base_url or _BASES['tavily']).rstrip('/')}/search",
        json={"query": query, "max_results": most},
        headers={"Authorization": f"Bearer {engine.api_key or ''}"},
    )
    return _asked("Tavily", request, engine, guard).get("results")


def _by_brave(query: str, most: int, engine: RunSearch, guard: HostGuard) -> Any:
    import httpx

    request = httpx.Request(
        "GET",
        f"{(engine.base_url or _BASES['brave']).rstrip('/')}/res/v1/web/search",
        params={"q": query, "count": most},
        headers={"X-Subscription-Token": engine.api_key or "", "Accept": "application/json"},
    )
    web = _asked("Brave", request, engine, guard).get("web")
    return web.get("results") if isinstance(web, dict) else None


def _asked(name: str, request: Any, engine: RunSearch, guard: HostGuard) -> dict[str, Any]:
    """Send an engine's request, and give the object that it answers."""
    from kasal_jupyter.tools.fetch import fetch

    request.headers["User-Agent"] = f"kasal-jupyter/{__version__}"
    if engine.base_url and not engine.guarded:
        # Whoever runs the server has named this host for searches.
        guard = guard.allowing(request.url.host)
    try:
        answer = fetch(
            request, guard, timeout=TIMEOUT, max_bytes=MAX_BYTES, secret_headers=["X-Subscription-Token"]
        )
    except HostRefused as error:
        raise ValueError(
            f"{name} cannot be asked: {error}. Whoever runs the server has to name its host in "
            "KasalApp.allowed_hosts"
        ) from error
    # Models are other people's: an engine that repeats the key does not pass it on to them.
    text = Hider(engine.secrets()).hide(answer.text())
    match answer.status:
        case 200:
            return _object(name, text)
        case 401 | 403:
            hint = (
                "its settings must allow the format json (search.formats)"
                if name == "SearXNG"
                else "the key that is stored for it is wrong"
            )
            raise ValueError(f"{name} refuses the search ({answer.status}): {hint}")
        case 429 | 432 | 433:
            raise ValueError(f"{name} takes no more searches for now ({answer.status}); go on without it")
        case status:
            raise ValueError(f"{name} answered {status_text(status)}: {beginning(text, 200)}")


def _object(name: str, text: str) -> dict[str, Any]:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        read = None
    if isinstance(read, dict):
        return read
    raise ValueError(f"The answer of {name} makes no sense: {beginning(text, 200)}")


def _results(
    found: Any, most: int, *, title: str = "title", url: str = "url", snippet: str = "content"
) -> list[Found]:
    if not isinstance(found, Iterable):
        return []
    return [
        Found(_clean(each.get(title)), str(each[url]), _clean(each.get(snippet)))
        for each in found
        if isinstance(each, Mapping) and each.get(url)
    ][:most]


def _clean(text: Any) -> str:
    """Give a text without the engine's marks: Brave writes what was looked for in bold."""
    return " ".join(html.unescape(_TAG.sub("", str(text or ""))).split())
