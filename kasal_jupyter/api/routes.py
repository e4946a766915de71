"""Which handler serves which path."""

from __future__ import annotations

import re
from typing import Any

from jupyter_server.utils import url_path_join
from tornado.web import RequestHandler

from kasal_jupyter.api.agents import AgentHandler, AgentsHandler
from kasal_jupyter.api.artifacts import ArtifactHandler, ArtifactsHandler
from kasal_jupyter.api.auth import (
    KeyHandler,
    KeysHandler,
    LoginHandler,
    LogoutHandler,
    MeHandler,
    RefreshHandler,
)
from kasal_jupyter.api.crews import CrewCheckHandler, CrewHandler, CrewsHandler
from kasal_jupyter.api.docs import DocsFileHandler, DocsHandler, OpenApiHandler, PostmanHandler, describe
from kasal_jupyter.api.exchange import CrewExportHandler, CrewImportHandler
from kasal_jupyter.api.executions import (
    ExecutionHandler,
    ExecutionsHandler,
    ReplayHandler,
    ResultHandler,
    ResumeHandler,
    StopHandler,
    ToolCallHandler,
)
from kasal_jupyter.api.generate import CrewGenerateHandler
from kasal_jupyter.api.handler import ApiHandler, UnknownRoute
from kasal_jupyter.api.knowledge import KnowledgeHandler, SourceHandler
from kasal_jupyter.api.maintenance import HealthHandler, MaintenanceHandler, MetricsHandler
from kasal_jupyter.api.mcp import McpRefreshHandler, McpServerHandler, McpServersHandler
from kasal_jupyter.api.memory import (
    MemoryClearHandler,
    MemoryEntriesHandler,
    MemoryEntryHandler,
    MemoryHandler,
    MemorySearchHandler,
)
from kasal_jupyter.api.models import ModelsHandler
from kasal_jupyter.api.parts import Parts
from kasal_jupyter.api.providers import ProviderHandler, ProvidersHandler, ProviderTestHandler
from kasal_jupyter.api.tasks import TaskHandler, TasksHandler
from kasal_jupyter.api.tools import CustomToolHandler, CustomToolsHandler, ToolHandler, ToolsHandler
from kasal_jupyter.api.traces import EventsHandler, TracesHandler
from kasal_jupyter.api.usage import UsageHandler
from kasal_jupyter.api.users import UserHandler, UsersHandler
from kasal_jupyter.api.versions import (
    VersionDiffHandler,
    VersionHandler,
    VersionRestoreHandler,
    VersionsHandler,
)
from kasal_jupyter.api.webhooks import DeliveriesHandler, RotateHandler, SecretHandler
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
    ("/agents", AgentsHandler),
    ("/agents/{agent_id}", AgentHandler),
    ("/executions", ExecutionsHandler),
    ("/executions/{job_id}", ExecutionHandler),
    ("/executions/{job_id}/traces", TracesHandler),
    ("/executions/{job_id}/events", EventsHandler),
    ("/executions/{job_id}/result", ResultHandler),
    ("/executions/{job_id}/artifacts", ArtifactsHandler),
    ("/executions/{job_id}/artifacts/{path}", ArtifactHandler),
    ("/executions/{job_id}/webhooks", DeliveriesHandler),
    ("/executions/{job_id}/stop", StopHandler),
    ("/executions/{job_id}/replay", ReplayHandler),
    ("/executions/{job_id}/resume", ResumeHandler),
    ("/executions/{job_id}/tool_calls/{call_id}", ToolCallHandler),
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
    ("/metrics", MetricsHandler),
    ("/maintenance", MaintenanceHandler),
    ("/openapi.json", OpenApiHandler),
    ("/docs", DocsHandler),
    ("/postman.json", PostmanHandler),
]
"""The resources by the templates of their paths, in the reference's order."""

describe(RESOURCES)

_NAME = re.compile(r"\{[a-z_]+\}")


def routes(
    parts: Parts, base_url: str, prefixes: list[str]
) -> list[tuple[str, type[RequestHandler], dict[str, Any]]]:
    """Give the routes for Tornado; the last answers for every path that is nothing.

    Parameters
    ----------
    parts
        What the handlers work with.
    base_url
        The Jupyter server's.
    prefixes
        Where the API is served: ``/v1``, and ``/api/v1`` in standalone mode.
    """
    served: list[tuple[str, str, type[RequestHandler]]] = [
        *((_pattern(template), template, handler) for template, handler in RESOURCES),
        ("/docs/([^/]+)", "/docs/{file}", DocsFileHandler),
        ("/ws", "/ws", EventSocket),
        ("(?:/.*)?", "other", UnknownRoute),
    ]
    return [
        (f"{url_path_join(base_url, prefix)}{path}$", handler, {"parts": parts, "template": template})
        for prefix in prefixes
        for path, template, handler in served
    ]


def _pattern(template: str) -> str:
    """Write a template as the expression that Tornado looks for; a ``{path}`` may have slashes."""
    return _NAME.sub("([^/]+)", template.replace("{path}", "(.+)"))
