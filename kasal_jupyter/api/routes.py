"""Which handler serves which path."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from jupyter_server.utils import url_path_join
from tornado.httputil import HTTPMessageDelegate, HTTPServerRequest
from tornado.routing import PathMatches, Router
from tornado.web import Application, RequestHandler

from kasal_jupyter.api.auth import (
    KeyHandler,
    KeysHandler,
    LoginHandler,
    LogoutHandler,
    MeHandler,
    RefreshHandler,
    UserHandler,
    UsersHandler,
)
from kasal_jupyter.api.base import Parts
from kasal_jupyter.api.batches import (
    BatchesHandler,
    BatchEventsHandler,
    BatchHandler,
    BatchPauseHandler,
    BatchResultsHandler,
    BatchResumeHandler,
    BatchRetryHandler,
    BatchRowsHandler,
    BatchStopHandler,
)
from kasal_jupyter.api.crews import (
    CrewCheckHandler,
    CrewHandler,
    CrewsHandler,
    VersionDiffHandler,
    VersionHandler,
    VersionRestoreHandler,
    VersionsHandler,
)
from kasal_jupyter.api.datasets import DatasetHandler, DatasetRowsHandler, DatasetsHandler, RatingHandler
from kasal_jupyter.api.docs import DocsFileHandler, DocsHandler, OpenApiHandler, PostmanHandler, describe
from kasal_jupyter.api.exchange import CrewExportHandler, CrewGenerateHandler, CrewImportHandler
from kasal_jupyter.api.executions import (
    ArchiveHandler,
    ArtifactHandler,
    ArtifactsHandler,
    DiffHandler,
    ExecutionHandler,
    ExecutionsHandler,
    ForkHandler,
    ImportHandler,
    QuestionsHandler,
    RecordHandler,
    ReplayHandler,
    ResultHandler,
    ResumeHandler,
    StopHandler,
    ToolCallHandler,
)
from kasal_jupyter.api.handler import ApiHandler, UnknownRoute, bodiless
from kasal_jupyter.api.members import AgentHandler, AgentsHandler, TaskHandler, TasksHandler
from kasal_jupyter.api.memory import (
    KnowledgeHandler,
    MemoryClearHandler,
    MemoryEntriesHandler,
    MemoryEntryHandler,
    MemoryHandler,
    MemorySearchHandler,
    SourceHandler,
)
from kasal_jupyter.api.models import ModelsHandler, ProviderHandler, ProvidersHandler, ProviderTestHandler
from kasal_jupyter.api.operation import PATH_NAME
from kasal_jupyter.api.server import (
    BackendHandler,
    HealthHandler,
    MaintenanceHandler,
    MetricsHandler,
    PruneHandler,
    UsageHandler,
)
from kasal_jupyter.api.tools import (
    CustomToolHandler,
    CustomToolsHandler,
    McpRefreshHandler,
    McpServerHandler,
    McpServersHandler,
    ToolHandler,
    ToolsHandler,
)
from kasal_jupyter.api.traces import (
    DeliveriesHandler,
    EventsHandler,
    RotateHandler,
    SecretHandler,
    TracesHandler,
)
from kasal_jupyter.api.websocket import EventSocket

RESOURCES: list[tuple[str, type[ApiHandler]]] = [
    ("/auth/login", LoginHandler),
    ("/auth/refresh", RefreshHandler),
    ("/auth/logout", LogoutHandler),
    ("/auth/me", MeHandler),
    ("/auth/keys", KeysHandler),
    ("/auth/keys/{key_id}", KeyHandler),
    ("/crews", CrewsHandler),
    # Before the crews by id: no crew is called that.
    ("/crews/import", CrewImportHandler),
    ("/crews/generate", CrewGenerateHandler),
    ("/crews/{crew_id}", CrewHandler),
    ("/crews/{crew_id}/check", CrewCheckHandler),
    ("/crews/{crew_id}/export", CrewExportHandler),
    ("/crews/{crew_id}/versions", VersionsHandler),
    ("/crews/{crew_id}/versions/{version}", VersionHandler),
    ("/crews/{crew_id}/versions/{version}/diff", VersionDiffHandler),
    ("/crews/{crew_id}/versions/{version}/restore", VersionRestoreHandler),
    ("/datasets", DatasetsHandler),
    ("/datasets/{dataset_id}", DatasetHandler),
    ("/datasets/{dataset_id}/rows", DatasetRowsHandler),
    ("/agents", AgentsHandler),
    ("/agents/{agent_id}", AgentHandler),
    ("/executions", ExecutionsHandler),
    # Before the executions by id: none is called that.
    ("/executions/import", ImportHandler),
    ("/questions", QuestionsHandler),
    ("/executions/{job_id}", ExecutionHandler),
    ("/executions/{job_id}/traces", TracesHandler),
    ("/executions/{job_id}/events", EventsHandler),
    ("/executions/{job_id}/result", ResultHandler),
    ("/executions/{job_id}/rating", RatingHandler),
    ("/executions/{job_id}/artifacts", ArtifactsHandler),
    ("/executions/{job_id}/artifacts/{path}", ArtifactHandler),
    ("/executions/{job_id}/webhooks", DeliveriesHandler),
    ("/executions/{job_id}/archive", ArchiveHandler),
    ("/executions/{job_id}/stop", StopHandler),
    ("/executions/{job_id}/record", RecordHandler),
    ("/executions/{job_id}/replay", ReplayHandler),
    ("/executions/{job_id}/resume", ResumeHandler),
    ("/executions/{job_id}/fork", ForkHandler),
    ("/executions/{job_id}/diff/{other_id}", DiffHandler),
    ("/executions/{job_id}/tool_calls/{call_id}", ToolCallHandler),
    ("/batches", BatchesHandler),
    ("/batches/{batch_id}", BatchHandler),
    ("/batches/{batch_id}/rows", BatchRowsHandler),
    ("/batches/{batch_id}/results", BatchResultsHandler),
    ("/batches/{batch_id}/events", BatchEventsHandler),
    ("/batches/{batch_id}/pause", BatchPauseHandler),
    ("/batches/{batch_id}/resume", BatchResumeHandler),
    ("/batches/{batch_id}/retry", BatchRetryHandler),
    ("/batches/{batch_id}/stop", BatchStopHandler),
    ("/usage", UsageHandler),
    ("/webhooks/secret", SecretHandler),
    ("/webhooks/secret/rotate", RotateHandler),
    ("/tasks", TasksHandler),
    ("/tasks/{task_id}", TaskHandler),
    ("/users", UsersHandler),
    ("/users/{user_id}", UserHandler),
    ("/tools", ToolsHandler),
    # Before the tools by name: no tool is called that.
    ("/tools/custom", CustomToolsHandler),
    ("/tools/custom/{tool_id}", CustomToolHandler),
    ("/tools/mcp", McpServersHandler),
    ("/tools/mcp/{server_id}", McpServerHandler),
    ("/tools/mcp/{server_id}/refresh", McpRefreshHandler),
    ("/tools/{name}", ToolHandler),
    ("/models", ModelsHandler),
    ("/providers", ProvidersHandler),
    ("/providers/{provider}", ProviderHandler),
    ("/providers/{provider}/test", ProviderTestHandler),
    ("/memory/{crew_id}", MemoryHandler),
    ("/memory/{crew_id}/clear", MemoryClearHandler),
    ("/memory/{crew_id}/entries", MemoryEntriesHandler),
    ("/memory/{crew_id}/search", MemorySearchHandler),
    ("/memory/{crew_id}/{memory_id}", MemoryEntryHandler),
    ("/crews/{crew_id}/knowledge", KnowledgeHandler),
    ("/crews/{crew_id}/knowledge/{source_id}", SourceHandler),
    ("/health", HealthHandler),
    ("/backend", BackendHandler),
    ("/metrics", MetricsHandler),
    ("/maintenance", MaintenanceHandler),
    ("/prune", PruneHandler),
    ("/openapi.json", OpenApiHandler),
    ("/docs", DocsHandler),
    ("/postman.json", PostmanHandler),
]
"""The resources by the templates of their paths, in the reference's order."""

describe(RESOURCES)

OTHERS: list[tuple[str, str, type[RequestHandler]]] = [
    ("/docs/{file}", "/docs/([^/]+)", DocsFileHandler),
    ("/ws", "/ws", EventSocket),
    ("other", "(?:/.*)?", UnknownRoute),
]
"""What else is served, by its template and its expression; the last is every path that is nothing."""

_TELL_OF_A_BODY = ("Content-Length", "Transfer-Encoding", "Content-Type")
"""Request headers one of which comes with every body."""


class ApiRouter(Router):
    """Finds who serves a request under the API's prefixes.

    A path that is one of the API's word for word is looked up; else the first expression that fits counts.

    Parameters
    ----------
    web_app
        The Jupyter server's.
    parts
        What the handlers work with.
    prefixes
        Where the API is served: ``/v1``, and ``/api/v1`` in standalone mode.
    """

    def __init__(self, web_app: Application, parts: Parts, prefixes: Iterable[str]) -> None:
        self._web_app = web_app
        self._known: dict[str, _Route] = {}
        self._others: list[tuple[PathMatches, _Route]] = []
        for prefix in prefixes:
            base = url_path_join(web_app.settings["base_url"], prefix)
            for template, expression, handler in served():
                route = _Route(handler, {"parts": parts, "template": template})
                if expression == template:
                    self._known[base + template] = route
                else:
                    self._others.append((PathMatches(f"{re.escape(base)}{expression}$"), route))

    def find_handler(self, request: HTTPServerRequest, **_: Any) -> HTTPMessageDelegate | None:
        """Give what takes a request in; None where it is not the API's."""
        if (route := self._known.get(request.path)) is not None:
            return self._delegate(request, route, [])
        for matcher, route in self._others:
            if (found := matcher.match(request)) is not None:
                return self._delegate(request, route, found.get("path_args"))
        return None

    def _delegate(
        self, request: HTTPServerRequest, route: _Route, path_args: list[bytes] | None
    ) -> HTTPMessageDelegate:
        headers = request.headers
        has_body = any(name in headers for name in _TELL_OF_A_BODY)
        handler = route.handler if has_body else route.without_body
        return self._web_app.get_handler_delegate(request, handler, route.options, path_args)


class _Route:
    """Who serves a path, with what it is made with."""

    __slots__ = ("handler", "options", "without_body")

    def __init__(self, handler: type[RequestHandler], options: dict[str, Any]) -> None:
        self.handler = handler
        self.without_body = bodiless(handler) if issubclass(handler, ApiHandler) else handler
        self.options = options


def served() -> Iterator[tuple[str, str, type[RequestHandler]]]:
    """Give all that is served: the templates of the paths, their expressions, and the handlers."""
    for template, handler in RESOURCES:
        # A {path} may have slashes.
        yield template, PATH_NAME.sub("([^/]+)", template.replace("{path}", "(.+)")), handler
    yield from OTHERS
