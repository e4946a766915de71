"""Custom tools: registered by their owners, checked before they are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kasal_jupyter.errors import Conflict, Fault, InvalidRequest
from kasal_jupyter.schemas.base import new_id, utc_now
from kasal_jupyter.schemas.spec import RunToolSettings
from kasal_jupyter.schemas.tools import IN_PATH, CustomTool, CustomToolCreate, CustomToolUpdate
from kasal_jupyter.store.store import Store
from kasal_jupyter.toolbox.secrets import SecretBox
from kasal_jupyter.toolbox.toolbox import ServedTool, Toolbox, require_tool_unused
from kasal_jupyter.tools.guard import HostGuard, HostRefused, origin_of
from kasal_jupyter.tools.tool import builtin_tools

INVALID_TOOL = "Invalid tool"

RESERVED = frozenset({"ask_question_to_coworker", "delegate_work_to_coworker", "custom", "mcp"})
"""Names of tools that CrewAI gives to agents itself, and of resources beside the tools by name."""


class CustomTools:
    """The custom tools of a store.

    Parameters
    ----------
    store
        The opened data folder.
    secrets
        What seals their secrets.
    guard
        Which hosts they may call.
    settings
        What the deployer has set for the built-in tools.
    served
        Gives the tools of MCP servers that an owner's crews can use.
    """

    def __init__(
        self,
        store: Store,
        secrets: SecretBox,
        guard: HostGuard,
        settings: RunToolSettings | None = None,
        served: Callable[[str], Mapping[str, ServedTool]] | None = None,
    ) -> None:
        self._served = served or (lambda _owner: {})
        self.settings = settings or RunToolSettings()
        self.store = store
        self.secrets = secrets
        self.guard = guard

    def get(self, tool_id: str) -> CustomTool:
        """Give a tool.

        Raises
        ------
        NotFound
            There is no such tool.
        """
        return self.store.tools.required(tool_id, "tool")

    def toolbox(self, owner: str) -> Toolbox:
        """Give what an owner's crews can use."""
        custom = self.store.tools.find(owner=owner)
        return Toolbox(
            custom, self.secrets, self.guard.allowed_hosts, self.settings, served=self._served(owner)
        )

    async def register(self, body: CustomToolCreate, owner: str) -> CustomTool:
        """Store a new tool.

        Raises
        ------
        InvalidRequest
            With every fault by field; nothing was stored.
        Conflict
            The owner has a tool of this name.
        """
        now = utc_now()
        tool = CustomTool(
            **body.model_dump(exclude={"secret"}),
            id=new_id("tool"),
            owner=owner,
            created_at=now,
            updated_at=now,
        )
        self._check(tool, body.secret)

        def insert() -> CustomTool:
            self._require_free_name(tool)
            sealed = tool.model_copy(update={"sealed_secret": self._sealed(body.secret)})
            self.store.tools.insert(sealed)
            return sealed

        return await self.store.change(insert, bounded=True)

    async def update(self, tool_id: str, body: CustomToolUpdate) -> CustomTool:
        """Change what the body gives.

        Raises
        ------
        NotFound, InvalidRequest
            Nothing was changed.
        Conflict
            The owner has a tool of the new name, or agents or tasks use the old one.
        """
        before = self.get(tool_id)
        tool = _changed(before, body)
        self._check(tool, body.secret)
        if tool.name != before.name:
            await require_tool_unused(self.store, before)

        def change() -> CustomTool:
            if (current := self.get(tool_id)) != before:
                raise Conflict(f"The tool {current.name!r} was changed at the same time; try again")
            self._require_free_name(tool)
            changed = tool
            if body.secret is not None:
                changed = tool.model_copy(update={"sealed_secret": self._sealed(body.secret)})
            self.store.tools.replace(changed)
            return changed

        return await self.store.change(change, bounded=True)

    async def delete(self, tool_id: str, *, force: bool = False) -> None:
        """Delete a tool and its secret.

        Parameters
        ----------
        tool_id
            The tool.
        force
            Delete it even where it is used; a crew that uses it cannot run then.

        Raises
        ------
        NotFound
            There is no such tool.
        Conflict
            Agents or tasks use it.
        """
        tool = self.get(tool_id)
        if not force:
            await require_tool_unused(self.store, tool)
        if not await self.store.change(lambda: self.store.tools.delete(tool_id)):
            self.get(tool_id)

    def _check(self, tool: CustomTool, secret: str | None) -> None:
        faults = [*_faults(tool, secret)]
        try:
            self.guard.check(tool.endpoint)
        except HostRefused as error:
            faults.append(Fault("endpoint", str(error)))
        if faults:
            raise InvalidRequest(INVALID_TOOL, faults=faults)

    def _require_free_name(self, tool: CustomTool) -> None:
        others = self.store.tools.find(owner=tool.owner, name=tool.name)
        if any(other.id != tool.id for other in others):
            text = f"There is a tool {tool.name!r} already; choose another name"
            raise Conflict(text, faults=[Fault("name", text)])
        before = self.store.tools.get(tool.id)
        if (before is None or before.name != tool.name) and tool.name in self._served(tool.owner):
            text = f"An MCP server has a tool {tool.name!r} already; choose another name"
            raise Conflict(text, faults=[Fault("name", text)])

    def _sealed(self, secret: str | None) -> str | None:
        return None if secret is None else self.secrets.seal(secret)


def _changed(before: CustomTool, body: CustomToolUpdate) -> CustomTool:
    """Give a tool with what a body changes."""
    fields: dict[str, Any] = body.model_dump(exclude_unset=True, exclude={"secret"})
    if fields.get("auth_type", before.auth_type) != before.auth_type:
        # What belonged to the other one.
        fields = {"username": None, "header": None, **fields}
    taken_away = "secret" in body.model_fields_set and body.secret is None
    if taken_away or fields.get("auth_type") == "none":
        fields["sealed_secret"] = None
    tool = before.model_copy(update={**fields, "updated_at": utc_now()})
    if tool.sealed_secret is not None and body.secret is None:
        # It was entrusted for that host; whoever may change the tool must not get it sent elsewhere.
        if origin_of(tool.endpoint) != origin_of(before.endpoint):
            reason = "The stored secret is for another host; give the secret for this one as well"
            raise InvalidRequest(INVALID_TOOL, faults=[Fault("endpoint", reason)])
        if tool.auth_type != before.auth_type:
            reason = "The stored secret is for another auth_type; give the secret for this one as well"
            raise InvalidRequest(INVALID_TOOL, faults=[Fault("auth_type", reason)])
    return tool


def _faults(tool: CustomTool, secret: str | None) -> list[Fault]:
    """Find what does not fit together."""
    faults = []
    if tool.name in RESERVED or tool.name in {known.name for known in builtin_tools()}:
        faults.append(Fault("name", f"The name {tool.name!r} is the product's own; choose another"))
    if (tool.username is not None) != (tool.auth_type == "basic"):
        faults.append(Fault("username", "auth_type basic needs a username, and no other has one"))
    if tool.header is not None and tool.auth_type != "api_key":
        faults.append(Fault("header", "Only auth_type api_key has a header"))
    if secret is not None:
        if tool.auth_type == "none":
            faults.append(Fault("secret", "auth_type none sends no secret; choose another, or leave it out"))
        elif tool.auth_type != "basic" and not secret.isascii():
            faults.append(Fault("secret", "A header takes ASCII characters only"))
        elif tool.auth_type == "bearer" and secret.lower().startswith("bearer "):
            faults.append(Fault("secret", "Give the token alone, without 'Bearer'"))
    schema = tool.parameters or {}
    declared = set(schema.get("properties", {})) & set(schema.get("required", ()))
    faults += [
        Fault("endpoint", f"{{{name}}} must be one of the parameters' properties, and required")
        for name in dict.fromkeys(IN_PATH.findall(tool.endpoint.partition("?")[0]))
        if name not in declared
    ]
    return faults
