"""What is told of requests: to the log, never anything that lets somebody in, and figures to Prometheus."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import orjson
from prometheus_client import Counter, Gauge, Histogram
from tornado.httputil import HTTPServerRequest

if TYPE_CHECKING:
    from kasal_jupyter.events.summary import RunSummary
    from kasal_jupyter.executions.service import Runs


HIDDEN = "…"

LEFT_OUT = "(the message is left out: it quotes the request)"

SHORTEST = 4
"""Characters from which on a text of a request is looked for in a message."""

QUOTED = 8
"""Characters at either end of a longer text that are looked for: messages shorten what they quote."""

MOST = 20_000
"""Characters of a line of others' that are looked through, and kept."""

_ID = re.compile(r"(?:crew|agent|task|job|tool|mcp|call|user|key|mem|source)_[0-9a-z]{12}")
"""How the API's own ids look."""

# Every repetition is bounded: what is logged may be what an attacker has sent.
_CREDENTIAL = re.compile(
    r"""(?xi)
    kasal_[\w-]{30,100}                                                  # an API key
    | eyJ[\w-]{4,200}\.[\w-]{1,2000}\.[\w-]{0,500}                      # a JSON Web Token
    | (?<=\bbearer\ )\S{1,2000} | (?<=\bbasic\ )\S{1,2000}              # as headers carry them
    | (?<=\bauthorization:)[^\r\n'"]{1,2000} | (?<=\bcookie:)[^\r\n'"]{1,2000}
    | (?<=[?&;])[\w.%-]{1,80}=[^\s'"<>]{1,4000}                          # the values of a query
    | (?<=[|:"'\s=])2\|1:0\|[\w:|=+/.-]{1,2000}                         # a cookie that Tornado has signed
    """
)


def hide_credentials(text: str) -> str:
    """Take what looks like a credential out of a text."""
    return _CREDENTIAL.sub(HIDDEN, text[:MOST])


class CredentialFilter(logging.Filter):
    """Takes what looks like a credential out of what is logged, tracebacks included.

    Parameters
    ----------
    known
        What is hidden however it looks: the server's own token.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        super().__init__()
        self._known = [text for text in known if text]

    def hide(self, text: str) -> str:
        """Take credentials out of a text."""
        for known in self._known:
            text = text.replace(known, HIDDEN)
        return hide_credentials(text)

    def hide_address(self, address: str) -> str:
        """Take credentials and the whole query out of an address."""
        path, mark, _ = address.partition("?")
        return self.hide(path) + (f"?{HIDDEN}" if mark else "")

    def filter(self, record: logging.LogRecord) -> bool:
        """Change a record; all are let through."""
        record.msg, record.args = self.hide(record.getMessage()), ()
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = self.hide("".join(traceback.format_exception(record.exc_info[1])).rstrip())
        return True


def loggable_address(
    request: HTTPServerRequest, template: str, known: Callable[[], Iterable[str]], base: str
) -> str:
    """Give a request's path and query as they may be logged.

    Parameters
    ----------
    request
        The request.
    template
        That of its route, e.g. ``/crews/{crew_id}``: of the path, its words and ids are shown.
    known
        Gives the query's parameters that there are: of the query, their names are shown.
    base
        The server's base URL, which stays as it is.
    """
    if not request.query and "{" not in template and request.path == f"{base}v1{template}":
        # As most are.
        return request.path
    words = {"v1", "api", *template.split("/")}
    shown, rest = (base, request.path[len(base) :]) if request.path.startswith(base) else ("", request.path)
    path = shown + "/".join(
        part if part in words or _ID.fullmatch(part) else HIDDEN for part in rest.split("/")
    )
    if not request.query:
        return path
    shown_names = {*known(), "token"}
    names = [name for name in request.query_arguments if name in shown_names]
    return f"{path}?{'&'.join(f'{name}={HIDDEN}' for name in names) or HIDDEN}"


def texts_of(request: HTTPServerRequest, path: str, body: bytes) -> Iterator[str]:
    """Give every text that a request has brought: of its headers, its query, its path and its body.

    Parameters
    ----------
    request
        The request.
    path
        Its path, as it was sent.
    body
        Its body, as far as it came, or the message of a WebSocket.
    """
    for _, value in request.headers.get_all():
        yield value
        yield from re.split(r"[\s;,=\"]+", value)
    for values in request.query_arguments.values():
        yield from (value.decode("utf-8", "replace") for value in values)
    yield from unquote(path).split("/")
    try:
        yield from _leaves(orjson.loads(body))
    except orjson.JSONDecodeError:
        yield from body.decode("utf-8", "replace").split('"')


def told(error: BaseException, quoted: Iterable[str]) -> str:
    """Write a traceback, without the messages that quote a request.

    Parameters
    ----------
    error
        What was raised, with what it came from.
    quoted
        The texts of the request.
    """
    marks = set()
    for text in quoted:
        if len(text) >= SHORTEST:
            marks |= {text[:QUOTED], text[-QUOTED:]}
            # As a message shows it that gives a text in Python's form.
            marks |= {repr(text)[1:-1][:QUOTED], repr(text)[1:-1][-QUOTED:]}
    return "\n\nwhich came of\n\n".join(_written(each, marks) for each in _chain(error))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        if isinstance(error, BaseExceptionGroup):
            for each in error.exceptions:
                yield from _chain(each)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _written(error: BaseException, marks: set[str]) -> str:
    from pydantic import ValidationError  # The log's filter is there before it is needed for anything.

    if isinstance(error, ValidationError):
        # Its text shows the values that were refused.
        message = "; ".join(f"{each['loc']}: {each['type']}" for each in error.errors(include_input=False))
    else:
        message = str(error)
    if any(mark in message for mark in marks):
        message = LEFT_OUT
    kind = type(error)
    frames = "".join(traceback.format_tb(error.__traceback__))
    return f"Traceback (most recent call last):\n{frames}{kind.__module__}.{kind.__qualname__}: {message}"


def _leaves(data: object) -> Iterator[str]:
    level: list[Any] = [data]
    while level:
        each = level.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            level += [*each.keys(), *each.values()]
        elif isinstance(each, list):
            level += each


# Figures for Prometheus, in the registry that Jupyter Server's own ``/metrics`` shows as well.

_REQUESTS = Counter("kasal_http_requests", "Requests of the Kasal API.", ["method", "route", "status"])
_SECONDS = Histogram("kasal_http_request_seconds", "Time to answer a request.", ["route"])
_RUNNING = Gauge("kasal_executions_running", "Executions that run at the moment, on this server.")
_QUEUED = Gauge("kasal_executions_queued", "Executions that wait for a place, on this server.")
_ENDED = Counter("kasal_executions_ended", "Executions of this server that have ended.", ["status"])
_TOKENS = Counter("kasal_tokens", "Tokens that this server's executions have used.", ["kind"])

# To look a child of a metric up by its labels costs more than to count with it.
_requests = cache(_REQUESTS.labels)
_seconds = cache(_SECONDS.labels)


def count_request(route: str, request: HTTPServerRequest, status: int) -> None:
    """Count a request that was answered.

    Parameters
    ----------
    route
        The path's template, e.g. ``/crews/{crew_id}``: a path itself would make a series of its own.
    request
        The request.
    status
        The status of its answer.
    """
    _requests(request.method, route, status).inc()
    _seconds(route).observe(request.request_time())


def count_run(summary: RunSummary) -> None:
    """Count an execution that has ended, and what it used."""
    _ENDED.labels(summary.status).inc()
    usage = summary.usage()
    _TOKENS.labels("prompt").inc(usage.prompt_tokens)
    _TOKENS.labels("completion").inc(usage.completion_tokens)


def show_runs(runs: Runs) -> None:
    """Have the gauges tell of these executions."""
    _RUNNING.set_function(lambda: runs.active - runs.waiting)
    _QUEUED.set_function(lambda: runs.waiting)
