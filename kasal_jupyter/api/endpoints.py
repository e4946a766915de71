"""Endpoints: every method of every resource, as what is said about the API goes through them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.operation import PATH_NAME, Operation, operation_of

Resources = Sequence[tuple[str, type[ApiHandler]]]
"""Handlers by the templates of their paths."""

ID_EXAMPLES: Mapping[str, str] = {
    "crew_id": "crew_abc123",
    "version": "3",
    "agent_id": "agent_001",
    "job_id": "job_qwerty123",
    "other_id": "job_asdfgh456",
    "task_id": "task_001",
    "call_id": "call_1f6w0c2m9k3x",
    "user_id": "user_4t9k2m0x7q1z",
    "key_id": "key_4t9k2m0x7q1z",
    "tool_id": "tool_custom_001",
    "server_id": "mcp_4t9k2m0x7q1z",
    "memory_id": "mem_4t9k2m0x7q1z",
    "source_id": "source_4t9k2m0x7q1z",
    "name": "web_search",
    "provider": "openai",
    "path": "report.md",
}
"""A value for each name in the paths' templates, the reference's where it has one."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one resource, with all that is said of it.

    Attributes
    ----------
    path
        The template of its path.
    method
        In capitals.
    tag
        The part of the API it belongs to.
    operation
        What it takes, answers and requires.
    """

    path: str
    method: str
    tag: str
    operation: Operation

    @property
    def id(self) -> str:
        """Its name for programs, e.g. ``list_crews``, ``get_crew``, ``stop_execution``."""
        parts = [part.removesuffix(".json") for part in self.path.strip("/").split("/") if part != "auth"]
        words: list[str] = []
        for part, before in zip(parts, ["{", *parts], strict=False):
            if part.startswith("{") and before.startswith("{") and words:
                # Two ids in a row: /memory/{crew_id}/{memory_id} is one of its entries.
                words.append("entry")
            elif part.startswith("{"):
                words[-1] = words[-1].removesuffix("s")
            elif before.startswith("{"):
                words.append(part)
            else:
                # Two words without an id between them: /tools/custom holds custom tools.
                words[-1] = f"{part}_{words[-1]}"
        model = self.operation.model
        # One thing may be paged, too: a source of knowledge with its passages.
        lists = isinstance(model, type) and "per_page" in model.model_fields and not self.path.endswith("}")
        match self.method:
            case "GET":
                verb = "list" if lists else "get"
            case "POST" if self.operation.answers.keys() == {201} or self.path.count("/") == 1:
                verb = "create"
                words[-1] = words[-1].removesuffix("s")
            case "POST" if self.path.endswith("}"):
                # What waits for one answer.
                verb = "answer"
            case "POST":
                verb = words.pop()
            case "PUT":
                verb = "update"
            case _:
                verb = self.method.lower()
        return "_".join([verb, *words])

    @property
    def path_names(self) -> list[str]:
        """The names in its path."""
        return PATH_NAME.findall(self.path)

    @property
    def errors(self) -> list[int]:
        """The statuses it may be refused with."""
        operation = self.operation
        statuses = {*operation.errors, 500}
        if operation.body or operation.query.model_fields or operation.headers:
            statuses.add(400)
        if operation.access != "anyone":
            statuses |= {401, 403, 429}
            if not operation.in_maintenance:
                statuses.add(503)
        return sorted(statuses)

    @property
    def needs(self) -> str:
        """Who may call it, and when, as a sentence."""
        match self.operation.access:
            case "anyone":
                needs = "Needs no token"
            case "viewer":
                needs = "Needs a token"
            case role:
                needs = f"Needs the role `{role}`" + (" or `admin`" if role == "editor" else "")
        return f"{needs}{'; served in maintenance mode, too' if self.operation.in_maintenance else ''}."


def endpoints(resources: Resources) -> Iterator[Endpoint]:
    """Give every method of every resource, in the reference's order."""
    for path, handler in resources:
        for method in handler.methods():
            if operation := operation_of(handler, method):
                yield Endpoint(path, method, handler.tag, operation)
