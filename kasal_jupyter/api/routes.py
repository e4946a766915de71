"""Which handler serves which path."""

from __future__ import annotations

from typing import Any

from jupyter_server.utils import url_path_join
from tornado.web import RequestHandler

from kasal_jupyter.api.agents import AgentsHandler
from kasal_jupyter.api.crews import CrewHandler, CrewsHandler
from kasal_jupyter.api.executions import ExecutionHandler, ExecutionsHandler, StopHandler, TracesHandler
from kasal_jupyter.api.handler import UnknownRoute
from kasal_jupyter.api.parts import Parts
from kasal_jupyter.api.tasks import TasksHandler
from kasal_jupyter.api.websocket import EventSocket

_ID = r"([^/]+)"

ROUTES: list[tuple[str, type[RequestHandler]]] = [
    ("/crews", CrewsHandler),
    (f"/crews/{_ID}", CrewHandler),
    ("/agents", AgentsHandler),
    ("/tasks", TasksHandler),
    ("/executions", ExecutionsHandler),
    (f"/executions/{_ID}", ExecutionHandler),
    (f"/executions/{_ID}/traces", TracesHandler),
    (f"/executions/{_ID}/stop", StopHandler),
    ("/ws", EventSocket),
    (r"(?:/.*)?", UnknownRoute),
]
"""The API, below its prefix; the last answers for every path that is nothing."""


def routes(
    parts: Parts, base_url: str, prefixes: list[str]
) -> list[tuple[str, type[RequestHandler], dict[str, Any]]]:
    """Give the routes for Tornado.

    Parameters
    ----------
    parts
        What the handlers work with.
    base_url
        The Jupyter server's.
    prefixes
        Where the API is served: ``/v1``, and ``/api/v1`` in standalone mode.
    """
    return [
        (url_path_join(base_url, prefix) + path + "$", handler, {"parts": parts})
        for prefix in prefixes
        for path, handler in ROUTES
    ]
