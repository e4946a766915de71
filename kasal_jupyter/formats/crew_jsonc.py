"""CrewAI's JSON crews: ``crew.jsonc`` or ``crew.json``, its agents in ``agents/<name>.jsonc`` or within."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import Any

from kasal_jupyter.formats.crewai_fields import agent_fields, crew_fields, task_fields
from kasal_jupyter.formats.document import Document, Path, read_json
from kasal_jupyter.formats.found_crew import Imported, ImportNotes, Member
from kasal_jupyter.formats.yaml_text import named
from kasal_jupyter.schemas.crews import MOST_AGENTS

NAMES = ("crew.jsonc", "crew.json")


def crew_file(files: Mapping[str, str]) -> str | None:
    """Find the crew's file: the one nearest to the root, JSONC first, as CrewAI looks for it."""
    found = [path for path in files if PurePosixPath(path).name in NAMES]
    return min(
        found,
        key=lambda path: (len(PurePosixPath(path).parts), NAMES.index(PurePosixPath(path).name)),
        default=None,
    )


def read_crew_jsonc(
    files: Mapping[str, str],
    file: str,
    *,
    name: str | None = None,
    tools: Collection[str] | None = None,
) -> Imported:
    """Read a crew from CrewAI's JSON.

    Parameters
    ----------
    files
        The project's files by their paths.
    file
        The crew's.
    name
        The crew's name; else the file tells, or the folder that it is in.
    tools
        The tools that there are here; None where that is not known.

    Raises
    ------
    InvalidRequest
        With every fault, each with its file, its line and its field.
    """
    notes = ImportNotes(tools)
    document = read_json(file, files[file])
    notes.refuse_code(document)
    folder = PurePosixPath(file).parent
    agents = _agents(notes, files, document, folder)
    manager = document.data.get("manager_agent")
    if isinstance(manager, str) and manager not in {agent.key for agent in agents}:
        agents += _from_files(notes, files, document, folder, [((("manager_agent",)), manager)])
    notes.require_few(document, ("agents",), len(agents), MOST_AGENTS)
    tasks = _tasks(notes, document)
    head = crew_fields(notes, document, document.data)
    head["name"] = name or head.get("name") or _name(folder)
    crew = notes.crew(document, head, agents, tasks)
    return Imported(crew, "jsonc", notes.remarks)


def _name(folder: PurePosixPath) -> str:
    return folder.name.replace("_", " ").replace("-", " ") or "crew"


def _agents(
    notes: ImportNotes, files: Mapping[str, str], document: Document, folder: PurePosixPath
) -> list[Member]:
    given = document.data.get("agents")
    if isinstance(given, dict):
        within = [(("agents", key), key, body) for key, body in given.items()]
        return [_within(notes, document, *each) for each in within]
    if not isinstance(given, list):
        notes.fault(
            document, ("agents",), "a list of agents' names is expected here, or agents by their names"
        )
        return []
    members: list[Member] = []
    for place, each in enumerate(given):
        path: Path = ("agents", place)
        if isinstance(called := named(each), str):
            members += _from_files(notes, files, document, folder, [(path, called)])
        elif isinstance(each, dict) and isinstance(called := named(each.get("name")), str):
            members.append(_within(notes, document, path, called, each))
        elif isinstance(each, dict) and len(each) == 1:
            ((key, body),) = each.items()
            members.append(_within(notes, document, (*path, key), key, body))
        else:
            notes.fault(document, path, "an agent's name is expected here, or an agent with a name")
    return members


def _within(notes: ImportNotes, document: Document, path: Path, key: str, body: object) -> Member:
    fields = notes.mapping(document, path, body, "an object of the agent's fields is")
    return Member(document, path, key, agent_fields(notes, document, path, fields))


def _from_files(
    notes: ImportNotes,
    files: Mapping[str, str],
    document: Document,
    folder: PurePosixPath,
    named: list[tuple[Path, str]],
) -> list[Member]:
    members = []
    for path, key in named:
        # A name is a file's name here: one with a slash would lead elsewhere.
        places = [str(folder / "agents" / f"{key}{ending}") for ending in (".jsonc", ".json")]
        found = next((each for each in places if each in files), None)
        if found is None:
            notes.fault(
                document, path, f"the agent {key!r} has no file; there is no {' and no '.join(places)}"
            )
            continue
        own = read_json(found, files[found])
        notes.refuse_code(own)
        fields: dict[str, Any] = agent_fields(notes, own, ("agents", key), own.data)
        members.append(Member(own, (), key, fields))
    return members


def _tasks(notes: ImportNotes, document: Document) -> list[Member]:
    given = document.data.get("tasks")
    if not isinstance(given, list):
        notes.fault(document, ("tasks",), "a list of tasks is expected here")
        return []
    members = []
    for place, each in enumerate(given):
        path: Path = ("tasks", place)
        body = notes.mapping(document, path, each, "an object of the task's fields is")
        key = str(body.get("name") or f"task_{place + 1}")
        members.append(Member(document, path, key, task_fields(notes, document, path, body)))
    return members
