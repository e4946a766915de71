"""A crew that is being read from another format: what was found, what is wrong, what is left out."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from kasal_jupyter.errors import Fault, Faults, InvalidRequest, listed
from kasal_jupyter.formats.bundle import MESSAGE
from kasal_jupyter.formats.document import Document, Path, written
from kasal_jupyter.formats.yaml_text import named
from kasal_jupyter.schemas.crews import MOST_AGENTS, MOST_TASKS, CrewCreate
from kasal_jupyter.schemas.exchange import Format, Remark

MOST_REMARKS = 200
"""Remarks that are listed."""


_IMPORTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
"""``crewai_tools:SerperDevTool``, ``my.module:Tool``."""

_NAMES_TOOLS = frozenset({"tools", "mcps", "skills"})
"""Fields whose texts name something to load; elsewhere a text is a text, whatever it begins with."""

_PREFIXES = ("custom:", "python:")

_DATA = frozenset({"output_schema", "inputs", "response_format_schema"})
"""Fields that hold a user's own data, in which nothing is a reference."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A crew that was read.

    Attributes
    ----------
    crew
        The crew.
    format
        What it was.
    remarks
        What could not be carried over, or was carried over otherwise.
    """

    crew: CrewCreate
    format: Format
    remarks: list[Remark]


@dataclass(slots=True)
class Member:
    """An agent or a task on its way.

    Attributes
    ----------
    document, path
        Where it is written.
    key
        What others call it there.
    fields
        Its fields, in our words.
    """

    document: Document
    path: Path
    key: str
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called here."""
        return str(self.fields.get("name") or self.key)


@dataclass(slots=True)
class ImportNotes:
    """The faults and the remarks of one import, as they are found.

    Attributes
    ----------
    tools
        The names of the tools that there are; None where they are not known, and every name is kept.
    """

    tools: Collection[str] | None = None
    faults: Faults = field(default_factory=Faults)
    remarks: list[Remark] = field(default_factory=list)

    def fault(self, document: Document, path: Path, reason: str) -> None:
        """Note something that is wrong, with its file and line."""
        if self.faults.full:
            self.faults.more += 1
            return
        self.faults.append(Fault(written(path) or document.file, f"{document.place(path)}: {reason}"))

    def remark(self, path: Path, reason: str) -> None:
        """Note something that is left out, or taken otherwise."""
        if len(self.remarks) < MOST_REMARKS:
            self.remarks.append(Remark(field=written(path), reason=reason))
        elif len(self.remarks) == MOST_REMARKS:
            self.remarks.append(Remark(field="", reason="there is more that is left out, and is not listed"))

    def nearest(self, word: str, known: Iterable[str]) -> str:
        """Give the end of a reason with a word that is near; nothing where nobody would read it."""
        return "" if len(self.remarks) > MOST_REMARKS else self.faults.nearest(word, known)

    def require_few(self, document: Document, path: Path, count: int, most: int) -> None:
        """Stop at more members than a crew may have, before each is looked at.

        Raises
        ------
        InvalidRequest
            There are more.
        """
        if count > most:
            self.fault(document, path, f"there are more than {most:,}, which no crew may have")
            self.check()

    def refuse_code(self, document: Document) -> None:
        """Note every reference to code as a fault, by name."""
        for path, reference in code_references(document):
            self.fault(
                document,
                path,
                f"{reference} would execute code, which an imported crew may not; leave it out",
            )

    def mapping(self, document: Document, path: Path, value: object, what: str) -> dict[str, Any]:
        """Give a value if it is a mapping; else note that it is none, and give an empty one."""
        if isinstance(value, dict):
            return value
        self.fault(document, path, f"{what} expected here")
        return {}

    def check(self) -> None:
        """Stop where something is wrong.

        Raises
        ------
        InvalidRequest
            With everything that was found.
        """
        if self.faults:
            first = self.faults[0]
            raise InvalidRequest(f"{MESSAGE}: {first.field}: {first.reason}", faults=self.faults.told())

    def crew(
        self,
        document: Document,
        head: Mapping[str, Any],
        agents: Sequence[Member],
        tasks: Sequence[Member],
    ) -> CrewCreate:
        """Make the crew, its members' references in the names that they have here.

        Parameters
        ----------
        document
            The file that what is wrong with the crew itself is put down to.
        head
            The crew's own fields.
        agents, tasks
            Its members, in their order; a task's ``agent`` and ``context`` are keys.

        Raises
        ------
        InvalidRequest
            With everything that is wrong, by file, line and field.
        """
        self.require_few(document, ("agents",), len(agents), MOST_AGENTS)
        self.require_few(document, ("tasks",), len(tasks), MOST_TASKS)
        names = {agent.key: agent.name for agent in agents}
        titles: dict[str, str] = {}
        self._unique(agents)
        self._unique(tasks)
        for task in tasks:
            self._refer(task, names, titles)
            titles[task.key] = task.name
        # A reference to code makes no crew, and would only be complained about a second time.
        self.check()
        fields = dict(head)
        manager = named(fields.get("manager_agent"))
        if manager is not None:
            fields["manager_agent"] = names.get(manager, manager)
            if manager not in names:
                known = listed(names)
                self.fault(document, ("manager_agent",), f"there is no agent {manager!r}; there are {known}")
        try:
            crew = CrewCreate.model_validate(
                {
                    **fields,
                    "agents": [{**each.fields, "name": each.name} for each in agents],
                    "tasks": [{**each.fields, "name": each.name} for each in tasks],
                },
                strict=True,
            )
        except ValidationError as error:
            for item in error.errors(include_url=False, include_input=False):
                self._misfit(document, {"agents": agents, "tasks": tasks}, item["loc"], item["msg"])
            self.check()
            raise
        if not agents:
            self.fault(document, ("agents",), "at least one agent is required")
        self.check()
        return crew

    def _refer(self, task: Member, names: Mapping[str, str], earlier: Mapping[str, str]) -> None:
        agent = named(task.fields.get("agent"))
        if agent is not None:
            if isinstance(agent, str) and agent in names:
                task.fields["agent"] = names[agent]
            else:
                hint = self.nearest(str(agent), names) or f"; there are {listed(names)}"
                self.fault(task.document, (*task.path, "agent"), f"there is no agent {agent!r}{hint}")
        context = task.fields.get("context")
        if not isinstance(context, list):
            return
        found = []
        for place, entry in enumerate(named(context)):
            if isinstance(entry, str) and entry in earlier:
                found.append(earlier[entry])
            else:
                hint = self.nearest(str(entry), earlier)
                before = f"; before it there are {listed(earlier)}"
                self.fault(
                    task.document,
                    (*task.path, "context", place),
                    f"there is no earlier task {entry!r}{hint or before}",
                )
        task.fields["context"] = found

    def _unique(self, members: Iterable[Member]) -> None:
        seen: set[str] = set()
        for member in members:
            if member.name in seen:
                self.fault(
                    member.document,
                    member.path,
                    f"the name {member.name!r} is used twice; change one of them",
                )
            seen.add(member.name)

    def _misfit(
        self,
        document: Document,
        members: Mapping[str, Sequence[Member]],
        location: tuple[str | int, ...],
        reason: str,
    ) -> None:
        if len(location) > 1 and location[0] in members and isinstance(location[1], int):
            member = members[str(location[0])][location[1]]
            rest = tuple(_THEIRS.get(step, step) for step in location[2:] if step != "settings")
            self.fault(member.document, (*member.path, *rest), reason)
        else:
            self.fault(document, tuple(_THEIRS.get(step, step) for step in location), reason)


_THEIRS: dict[str | int, str] = {
    "model": "llm",
    "manager_model": "manager_llm",
    "planning_model": "planning_llm",
}
"""CrewAI's words for ours."""


# -- references to code --------------------------------------------------------------------------------

# What CrewAI's loaders would execute: ``{"python": "module.attribute"}`` where a function, a class or an
# object may stand, ``custom:name`` for a Python file of the project's ``tools``, ``module:Class`` for a class
# to import; YAML has tags such as ``!!python/object``. A crew that was got from somebody must not run their
# code: what would is found and named, and never followed.


def code_references(document: Document) -> Iterator[tuple[Path, str]]:
    """Give every reference to code in a document, with where it stands."""
    for path, tag in document.tags.items():
        yield path, tag.replace("tag:yaml.org,2002:", "!!")
    yield from _found(document.data, (), names=False)


def _found(value: object, path: Path, *, names: bool) -> Iterator[tuple[Path, str]]:
    if isinstance(value, Mapping):
        reference = value.get("python")
        if reference is not None and path:
            yield path, f'{{"python": "{reference}"}}'
            return
        for key, each in value.items():
            if key not in _DATA:
                yield from _found(each, (*path, str(key)), names=names or key in _NAMES_TOOLS)
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from _found(each, (*path, place), names=names)
    elif names and isinstance(value, str) and _is_reference(value):
        yield path, value


def _is_reference(text: str) -> bool:
    return text.startswith(_PREFIXES) or (
        _IMPORTED.fullmatch(text) is not None and not text.startswith("platform:")
    )
