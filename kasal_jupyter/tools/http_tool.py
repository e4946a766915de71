"""Custom tools: an HTTP endpoint that agents call."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from kasal_jupyter.hiding import Hider, beginning
from kasal_jupyter.schemas.tools import DEFAULT_HEADER, FREE_PARAMETERS, IN_PATH, RunTool
from kasal_jupyter.tools.fetch import Answer, fetch
from kasal_jupyter.tools.guard import HostGuard
from kasal_jupyter.tools.tool import MAX_CHARACTERS, Tool, ToolContext, always, keyed, never, status_text
from kasal_jupyter.version import __version__

MAX_BYTES = 2_000_000
"""Most of an answer that is read."""


def http_tool(definition: RunTool, guard: HostGuard) -> Tool:
    """Make a tool that calls an endpoint.

    Parameters
    ----------
    definition
        The endpoint, and how it is called.
    guard
        Which hosts may be called.
    """
    endpoint = _Endpoint(definition, guard)
    repeatable = definition.method == "GET" if definition.idempotent is None else definition.idempotent
    return Tool(
        name=definition.name,
        description=definition.description,
        category=definition.category,
        parameters=definition.parameters or FREE_PARAMETERS,
        function=endpoint.call,
        idempotent=always if repeatable else never,
    )


class _Endpoint:
    def __init__(self, definition: RunTool, guard: HostGuard) -> None:
        self._tool = definition
        self._guard = guard
        # What the endpoint repeats is not passed on to models: they are other people's.
        self._hider = Hider(definition.secrets())

    def call(self, context: ToolContext, /, **arguments: Any) -> str:
        """Call the endpoint and give what it says.

        Raises
        ------
        ValueError
            It may not be called, it cannot be reached, or it answers with an error.
        """
        if self._tool.parameters is None:
            arguments = _free(arguments)
        answer = fetch(
            self._request(arguments, context.call_key),
            self._guard,
            timeout=self._tool.timeout,
            max_bytes=MAX_BYTES,
            secret_headers=[self._tool.header or DEFAULT_HEADER],
        )
        text = self._shown(answer)
        if 200 <= answer.status < 300:
            return text
        raise ValueError(f"{self._tool.name} answered {status_text(answer.status)}: {beginning(text)}")

    def _request(self, arguments: Mapping[str, Any], call_key: str | None) -> httpx.Request:
        rest = dict(arguments)
        url = httpx.URL(self._filled(rest))
        headers = {
            "Accept": "application/json, text/*;q=0.9, */*;q=0.5",
            "User-Agent": f"kasal-jupyter/{__version__}",
            **keyed(self._tool.method, call_key),
            **self._credentials(),
        }
        if self._tool.method in {"GET", "DELETE"}:
            # What the endpoint's own query fixes is not the agent's to change.
            query = {name: _plain(value) for name, value in rest.items() if name not in url.params}
            return httpx.Request(
                self._tool.method, url.copy_merge_params(query) if query else url, headers=headers
            )
        return httpx.Request(self._tool.method, url, headers=headers, json=rest)

    def _filled(self, arguments: dict[str, Any]) -> str:
        """Give the endpoint with the arguments that stand in its path, which are taken out of the others."""
        used: set[str] = set()

        def value(found: Any) -> str:
            name = found.group(1)
            if name not in arguments:
                raise ValueError(f"{self._tool.name} needs {name!r}.")
            used.add(name)
            return quote(str(_plain(arguments[name])), safe="")

        before, query, after = self._tool.endpoint.partition("?")
        segments = before.split("/")
        for place, segment in enumerate(segments):
            filled = IN_PATH.sub(value, segment)
            if filled != segment and filled in {"", ".", ".."}:
                raise ValueError(f"{filled!r} cannot stand in the address of {self._tool.name}.")
            segments[place] = filled
        for name in used:
            del arguments[name]
        return "/".join(segments) + query + after

    def _credentials(self) -> dict[str, str]:
        secret = self._tool.secret or ""
        match self._tool.auth_type:
            case "bearer":
                return {"Authorization": f"Bearer {secret}"}
            case "api_key":
                return {self._tool.header or DEFAULT_HEADER: secret}
            case "basic":
                return {"Authorization": f"Basic {_basic(self._tool)}"}
            case "none":
                return {}

    def _shown(self, answer: Answer) -> str:
        if not answer.is_text:
            kind = self._hider.hide(answer.content_type.partition(";")[0])
            return f"[{len(answer.body)} bytes of {kind}, which is no text.]"
        # Before it is cut, which might leave the half of a secret.
        text = self._hider.hide(answer.text())
        if not text.strip():
            return f"[Nothing; the status is {status_text(answer.status)}.]"
        if len(text) > MAX_CHARACTERS or not answer.complete:
            return f"{text[:MAX_CHARACTERS]}\n[The answer goes on; this is its beginning.]"
        return text


def _basic(definition: RunTool) -> str:
    return base64.b64encode(f"{definition.username}:{definition.secret}".encode()).decode()


def _free(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Give what is sent for the one argument of a tool that declares none."""
    text = arguments.get("input")
    if text is None:
        return {}
    try:
        read = json.loads(text)
    except ValueError:
        read = None
    return read if isinstance(read, dict) else {"input": text}


def _plain(value: Any) -> str | list[str]:
    """Write an argument as an address can hold it; a list is repeated."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and not any(isinstance(each, list | dict) for each in value):
        return [str(_plain(each)) for each in value]
    return json.dumps(value, ensure_ascii=False)
