"""CrewAI's projects: ``agents.yaml`` and ``tasks.yaml``, and what their ``crew.py`` binds them with.

The YAML has the texts; which agent does which task may stand in ``tasks.yaml``, else it stands in
``crew.py``, which is read as data and never executed. Where neither tells, nothing is guessed without a
remark.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from kasal_jupyter.errors import Fault, InvalidRequest, listed
from kasal_jupyter.formats.bundle import MESSAGE
from kasal_jupyter.formats.crewai_fields import agent_fields, crew_fields, task_fields
from kasal_jupyter.formats.document import Document, read_yaml
from kasal_jupyter.formats.found_crew import Imported, ImportNotes, Member
from kasal_jupyter.formats.yaml_text import is_exact, is_own_key
from kasal_jupyter.schemas.crews import MOST_AGENTS, MOST_TASKS

AGENTS = ("agents.yaml", "agents.yml")
TASKS = ("tasks.yaml", "tasks.yml")

MOST_OF_TOML = 50_000
"""Characters of a pyproject.toml: its reader takes a quadratic time for some."""

_EXPECTED = "{what} are written by name: `name:` and their fields below, indented"

_BY_SCHEMA = "create_model_from_schema"
"""What an export of ours makes a task's output of, besides the schema's file."""


def has_project(files: Mapping[str, str]) -> bool:
    """Say whether a CrewAI project is among some files."""
    return any(PurePosixPath(path).name in {*AGENTS, *TASKS} for path in files)


def read_project(
    files: Mapping[str, str], *, name: str | None = None, tools: Collection[str] | None = None
) -> Imported:
    """Read a crew from a CrewAI project.

    Parameters
    ----------
    files
        The project's files by their paths, or ``agents.yaml`` and ``tasks.yaml`` alone.
    name
        The crew's name; else the project tells.
    tools
        The tools that there are here; None where that is not known.

    Raises
    ------
    InvalidRequest
        With every fault, each with its file, its line and its field.
    """
    return _Project(files, ImportNotes(tools)).read(name)


@dataclass(slots=True)
class _Project:
    files: Mapping[str, str]
    notes: ImportNotes

    def read(self, name: str | None) -> Imported:
        agents_file, tasks_file = self._config_files()
        folder = PurePosixPath(agents_file).parent
        agents_yaml = read_yaml(agents_file, self.files[agents_file], _EXPECTED.format(what="agents"))
        tasks_yaml = read_yaml(tasks_file, self.files[tasks_file], _EXPECTED.format(what="tasks"))
        for document in (agents_yaml, tasks_yaml):
            self.notes.refuse_code(document)
        crew_py = self._crew_py(folder)
        agents = self._agents(agents_yaml, crew_py)
        head = self._head(agents_yaml, crew_py, agents)
        self.notes.require_few(agents_yaml, (), len(agents), MOST_AGENTS)
        tasks = self._tasks(tasks_yaml, crew_py)
        self.notes.require_few(tasks_yaml, (), len(tasks), MOST_TASKS)
        for task in tasks:
            schema = folder / f"{task.key}.schema.json"
            if str(schema) in self.files:
                task.fields["output_schema"] = self._schema(str(schema))
        self._bind(agents, tasks, hierarchical=head.get("process") == "hierarchical")
        title, description = self._title(folder)
        head["name"] = name or head.get("name") or title
        if description and not head.get("description"):
            head["description"] = description
        crew = self.notes.crew(tasks_yaml, head, agents, tasks)
        return Imported(crew, "crewai", self.notes.remarks)

    def _config_files(self) -> tuple[str, str]:
        """Find the two files of the one crew that there is."""
        found: dict[PurePosixPath, dict[str, str]] = {}
        for path in self.files:
            pure = PurePosixPath(path)
            for kind, names in (("agents", AGENTS), ("tasks", TASKS)):
                if pure.name in names:
                    found.setdefault(pure.parent, {})[kind] = path
        whole = [each for each in found.values() if len(each) == 2]
        if len(whole) > 1:
            folders = ", ".join(sorted(str(PurePosixPath(each["agents"]).parent) for each in whole))
            raise _wrong("files", f"there are {len(whole)} crews ({folders}); import the folder of one")
        if not whole:
            missing = "tasks.yaml" if any("agents" in each for each in found.values()) else "agents.yaml"
            raise _wrong(missing, "it is not there; agents.yaml and tasks.yaml stand side by side")
        return whole[0]["agents"], whole[0]["tasks"]

    def _crew_py(self, folder: PurePosixPath) -> CrewPy:
        for path in (folder.parent / "crew.py", folder / "crew.py"):
            if (text := self.files.get(str(path))) is None:
                continue
            try:
                found = read_crew_py(text)
            except ValueError as error:
                self.notes.remark(("crew.py",), f"{error}; the YAML alone counts")
                return CrewPy()
            for method in found.unread:
                self.notes.remark(
                    ("crew.py", method),
                    "what it makes is not written out, and is not executed; look at it yourself",
                )
            if found.crew is None:
                self.notes.remark(("process",), "crew.py does not show it; the crew is sequential")
            return found
        self.notes.remark(("process",), "there is no crew.py that tells; the crew is sequential")
        return CrewPy()

    def _agents(self, document: Document, crew_py: CrewPy) -> list[Member]:
        bodies = self._bodies(document, _with_manager(crew_py), bool(crew_py.agents), "agents")
        members = []
        for key, path, body in bodies:
            llm = body.get("llm")
            maker = llm.called if isinstance(llm, Written) else llm if isinstance(llm, str) else None
            if maker in crew_py.llms:
                body["llm"] = self._plain(("agents", key, "llm"), crew_py.llms[maker].arguments)
            plain = self._plain(("agents", key), body)
            shown = ("agents", key)
            members.append(Member(document, path, key, agent_fields(self.notes, document, shown, plain)))
        return members

    def _tasks(self, document: Document, crew_py: CrewPy) -> list[Member]:
        members = []
        for key, path, body in self._bodies(document, crew_py.tasks, bool(crew_py.tasks), "tasks"):
            self._resolve(body, crew_py)
            plain = self._plain(("tasks", key), body)
            shown = ("tasks", key)
            members.append(Member(document, path, key, task_fields(self.notes, document, shown, plain)))
        return members

    def _bodies(
        self, document: Document, made: Mapping[str, Made], bound: bool, what: str
    ) -> list[tuple[str, tuple[str, ...], dict[str, Any]]]:
        """Give each member's key, its place in the YAML, and its fields there and in ``crew.py``.

        Where ``crew.py`` makes any, it is what says which there are, and in which order.
        """
        if not bound:
            return [
                (key, (key,), dict(self.notes.mapping(document, (key,), body, "a mapping of its fields is")))
                for key, body in document.data.items()
                if not is_own_key(key)
            ]
        found: list[tuple[str, tuple[str, ...], dict[str, Any]]] = []
        used = set()
        for method, one in made.items():
            key = one.config or method
            used.add(key)
            body = document.data.get(key, {}) if one.config else {}
            fields = dict(self.notes.mapping(document, (key,), body, "a mapping of its fields is"))
            if one.config and key not in document.data:
                self.notes.fault(document, (key,), f"crew.py takes {key!r} from here, and it is not there")
            kind = {"type": "ConditionalTask"} if one.kind == "ConditionalTask" else {}
            found.append((method, (key,), {**fields, **one.arguments, **kind}))
        for key in document.data:
            if key not in used and not is_own_key(key):
                self.notes.remark((what, key), "crew.py makes nothing of it; it is left out")
        return found

    def _resolve(self, body: dict[str, Any], crew_py: CrewPy) -> None:
        """Put the members that ``self.writer()`` stands for in its place."""
        agent = body.get("agent")
        if isinstance(agent, Written) and (agent.called in crew_py.agents or agent.called in crew_py.helpers):
            body["agent"] = agent.called
        context = body.get("context")
        if isinstance(context, list):
            body["context"] = [
                each.called if isinstance(each, Written) and each.called in crew_py.tasks else each
                for each in context
            ]
        made = body.get("output_pydantic")
        if isinstance(made, Written) and made.text.startswith(_BY_SCHEMA):
            del body["output_pydantic"]

    def _plain(self, path: tuple[str, ...], body: Mapping[str, Any]) -> dict[str, Any]:
        """Give fields without what only running ``crew.py`` would give; that is noted."""
        plain: dict[str, Any] = {}
        for key, value in body.items():
            if key == "tools" and isinstance(value, list):
                plain[key] = [
                    (each.called or each.text) if isinstance(each, Written) else each for each in value
                ]
            elif isinstance(value, Written) or (isinstance(value, list) and _has_code(value)):
                shown = value if isinstance(value, Written) else ", ".join(map(str, value))
                self.notes.remark(
                    (*path, key), f"crew.py has {shown} for it, which is not executed; it is left out"
                )
            elif isinstance(value, dict) and _has_code(list(value.values())):
                plain[key] = self._plain((*path, key), value)
            else:
                plain[key] = value
        return plain

    def _head(self, document: Document, crew_py: CrewPy, agents: list[Member]) -> dict[str, Any]:
        given = dict(crew_py.crew.arguments) if crew_py.crew else {}
        for key in ("agents", "tasks"):
            given.pop(key, None)
        process = given.get("process")
        if isinstance(process, Written):
            given["process"] = process.last
        manager = given.pop("manager_agent", None)
        for key in ("manager_llm", "planning_llm"):
            llm = given.get(key)
            if isinstance(llm, Written) and llm.text == "self.agents[0].llm":
                # As an export of ours writes the default.
                del given[key]
            elif isinstance(llm, Written) and llm.called in crew_py.llms:
                given[key] = self._plain((key,), crew_py.llms[llm.called].arguments)
        fields = crew_fields(self.notes, document, self._plain((), given))
        if manager is not None:
            called = manager.called if isinstance(manager, Written) else None
            if called in {agent.key for agent in agents}:
                fields["manager_agent"] = called
            else:
                self.notes.remark(("manager_agent",), f"{manager} is not executed; name one of the agents")
        return fields

    def _bind(self, agents: list[Member], tasks: list[Member], *, hierarchical: bool) -> None:
        """Give the tasks an agent where nothing names one, and say so."""
        open_tasks = [task for task in tasks if "agent" not in task.fields]
        if not open_tasks or not agents or hierarchical:
            return
        if len(agents) == 1:
            pairs = [(task, agents[0]) for task in open_tasks]
            why = "no file names its agent; there is only {agent}"
        elif len(open_tasks) == len(tasks) == len(agents):
            pairs = list(zip(tasks, agents, strict=True))
            why = "no file names its agent; by their order it is {agent}: look whether that is right"
        else:
            names = listed(agent.name for agent in agents)
            for task in open_tasks:
                self.notes.remark(
                    ("tasks", task.key, "agent"),
                    f"no file names its agent; give it one before the crew is run: {names}",
                )
            return
        for task, agent in pairs:
            task.fields["agent"] = agent.key
            self.notes.remark(("tasks", task.key, "agent"), why.format(agent=agent.name))

    def _schema(self, path: str) -> Any:
        try:
            return json.loads(self.files[path])
        except (ValueError, RecursionError) as error:
            self.notes.faults.append(Fault(path, f"{path}: it is no JSON: {error}"))
            return None

    def _title(self, folder: PurePosixPath) -> tuple[str, str]:
        """Give the project's name and its description."""
        root = next(
            (each for each in (folder, *folder.parents) if str(each / "pyproject.toml") in self.files), None
        )
        fallback = _folder_name(folder)
        if root is None:
            return fallback, ""
        path = str(root / "pyproject.toml")
        if len(self.files[path]) > MOST_OF_TOML:
            self.notes.remark(("pyproject.toml",), f"it has more than {MOST_OF_TOML:,} characters")
            return fallback, ""
        try:
            about = tomllib.loads(self.files[path])
        except (ValueError, ArithmeticError, LookupError, RecursionError) as error:
            self.notes.remark(("pyproject.toml",), f"it cannot be read: {error}")
            return fallback, ""
        ours = _table(_table(about, "tool"), "kasal")
        project = _table(about, "project")
        name = _text(ours.get("name")) or _text(project.get("name")).replace("_", " ").replace("-", " ")
        description = _text((ours or project).get("description"))
        return name or fallback, description


def _with_manager(crew_py: CrewPy) -> dict[str, Made]:
    """Give the agents in their order, the manager among them, whose method has no mark."""
    manager = crew_py.crew.arguments.get("manager_agent") if crew_py.crew else None
    called = manager.called if isinstance(manager, Written) else None
    helpers = {name: made for name, made in crew_py.helpers.items() if name == called}
    made = {**crew_py.agents, **helpers}
    return dict(sorted(made.items(), key=lambda each: each[1].line))


def _folder_name(folder: PurePosixPath) -> str:
    named = [part for part in folder.parts if part not in {"config", "src", ".", "/", "crews"}]
    return re.sub(r"[_-]+", " ", named[-1]) if named else "crew"


def _table(value: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _has_code(values: list[Any]) -> bool:
    return any(isinstance(each, Written) or (isinstance(each, list) and _has_code(each)) for each in values)


def _wrong(field: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{MESSAGE}: {field}: {reason}", faults=[Fault(field, reason)])


def _text(value: object) -> str:
    """Give a text; nothing for what is none: of a number with thousands of digits Python makes none."""
    return value if isinstance(value, str) else ""


# -- crew.py --------------------------------------------------------------------------------------------

# What a CrewAI project's ``crew.py`` shows without being executed: its syntax tree, read as data.
#
# CrewAI binds the texts of ``agents.yaml`` and ``tasks.yaml`` to agents and tasks by methods that are marked
# ``@agent``, ``@task``, ``@llm`` and ``@crew``. Where such a method gives an ``Agent(…)``, a ``Task(…)``, an
# ``LLM(…)`` or a ``Crew(…)`` its arguments can be read, as far as they are written out.

MARKS = ("agent", "task", "llm", "crew")


@dataclass(frozen=True, slots=True)
class Written:
    """An expression that only running it would give the value of.

    Attributes
    ----------
    text
        As it is written: ``SerperDevTool()``, ``self.writer()``.
    """

    text: str

    @property
    def called(self) -> str | None:
        """The name of the class or the method that is called, if it is a call of one."""
        name, bracket, _ = self.text.partition("(")
        name = name.removeprefix("self.").rpartition(".")[2]
        return name if bracket and name.isidentifier() else None

    @property
    def last(self) -> str:
        """The last part of a dotted name: ``hierarchical`` of ``Process.hierarchical``."""
        return self.text.rpartition(".")[2]

    def __str__(self) -> str:
        return self.text


@dataclass(slots=True)
class Made:
    """What a marked method makes.

    Attributes
    ----------
    method
        The method's name.
    kind
        What is made: ``Agent``, ``Task``, ``ConditionalTask``, ``LLM``, ``Crew``.
    arguments
        Its keyword arguments; those that are no plain values as :class:`Written`.
    config
        The key of the YAML whose fields it takes, if it takes any.
    line
        Its line.
    """

    method: str
    kind: str
    arguments: dict[str, Any]
    config: str | None
    line: int


@dataclass(slots=True)
class CrewPy:
    """A ``crew.py``.

    Attributes
    ----------
    agents, tasks, llms
        What its marked methods make, by the methods' names, in their order.
    crew
        Its crew's keyword arguments; None where there is no such method that can be read.
    unread
        Marked methods of which nothing can be read.
    """

    agents: dict[str, Made] = field(default_factory=dict)
    tasks: dict[str, Made] = field(default_factory=dict)
    llms: dict[str, Made] = field(default_factory=dict)
    crew: Made | None = None
    helpers: dict[str, Made] = field(default_factory=dict)
    """Agents of methods that are not marked: managers."""
    unread: list[str] = field(default_factory=list)


def read_crew_py(text: str) -> CrewPy:
    """Read a ``crew.py`` without executing any of it.

    Raises
    ------
    ValueError
        It is no Python.
    """
    try:
        # What parses may still nest too deep to be looked through: a()()()… is a call of a call.
        return _read(ast.parse(text))
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise ValueError(f"it is no Python that can be read: {error or type(error).__name__}") from None


def _read(tree: ast.Module) -> CrewPy:
    found = CrewPy()
    for method in _methods(tree):
        marks = [_name(mark) for mark in method.decorator_list]
        mark = next((each for each in MARKS if each in marks), None)
        made = _made(method)
        if mark is None:
            if made is not None and made.kind.endswith("Agent"):
                found.helpers[method.name] = made
        elif made is None:
            found.unread.append(method.name)
        elif mark == "agent":
            found.agents[method.name] = made
        elif mark == "task":
            found.tasks[method.name] = made
        elif mark == "llm":
            found.llms[method.name] = made
        else:
            found.crew = made
    return found


def _methods(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from (each for each in node.body if isinstance(each, ast.FunctionDef))


def _made(method: ast.FunctionDef) -> Made | None:
    """Find what a method gives, itself or by a name that it was bound to before."""
    bound: dict[str, ast.expr] = {}
    for statement in method.body:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target = statement.targets[0]
            if isinstance(target, ast.Name):
                bound[target.id] = statement.value
        elif isinstance(statement, ast.Return):
            value = statement.value
            if isinstance(value, ast.Name):
                value = bound.get(value.id)
            if not isinstance(value, ast.Call):
                return None
            arguments = {each.arg: _value(each.value) for each in value.keywords if each.arg is not None}
            config = arguments.pop("config", None)
            return Made(method.name, _name(value.func), arguments, _config(config), method.lineno)
    return None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | bool | None):
        if isinstance(node.value, int) and not is_exact(node.value):
            raise ValueError(f"line {node.lineno}: a number has more than 64 bits")
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(each) for each in node.elts]
    if isinstance(node, ast.Dict) and all(isinstance(key, ast.Constant) for key in node.keys):
        pairs = zip(node.keys, node.values, strict=True)
        return {str(key.value): _value(each) for key, each in pairs if isinstance(key, ast.Constant)}
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        inner = _value(node.operand)
        if isinstance(inner, int | float):
            return -inner
    if isinstance(node, ast.Lambda) and (condition := _condition(node.body)) is not None:
        return condition
    return Written(ast.unparse(node))


def _condition(node: ast.expr) -> dict[str, Any] | None:
    """Give a condition that an export of ours has written: ``holds(output, contains="yes")``."""
    if not (isinstance(node, ast.Call) and _name(node.func) == "holds"):
        return None
    found = {each.arg: _value(each.value) for each in node.keywords if each.arg is not None}
    return None if any(isinstance(each, Written) for each in found.values()) else found


def _config(value: object) -> str | None:
    """Give the key in ``self.agents_config["writer"]``."""
    if not isinstance(value, Written):
        return None
    try:
        node = ast.parse(value.text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return None


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return _name(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
