"""Figures for Prometheus, in the registry that Jupyter Server's own ``/metrics`` shows as well."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram
from tornado.httputil import HTTPServerRequest

from kasal_jupyter.events.summary import RunSummary

if TYPE_CHECKING:
    from kasal_jupyter.executions.service import Runs

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
