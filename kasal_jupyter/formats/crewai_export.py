"""A crew as a CrewAI project that runs with CrewAI alone."""

from __future__ import annotations

import io
import json
import keyword
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from kasal_jupyter.formats.crewai_fields import to_crewai
from kasal_jupyter.formats.outline import Exported, outline, with_texts
from kasal_jupyter.formats.yaml_source import ENDLESS
from kasal_jupyter.schemas.agents import CrewAgent, ModelSettings, SandboxSettings
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.exchange import Remark
from kasal_jupyter.schemas.people import People
from kasal_jupyter.schemas.tasks import CrewTask

OLDEST = "1.15"
"""The version of CrewAI that the projects are tried with."""

_EXTRAS = (
    (re.compile(r"(anthropic/|claude-)"), "anthropic"),
    (re.compile(r"(gemini/|google/|gemini-)"), "google-genai"),
    (re.compile(r"azure/"), "azure-ai-inference"),
    (re.compile(r"bedrock/"), "bedrock"),
)
"""CrewAI's extras, by the names of the models that need them."""

_REFUSED_PATH = re.compile(r"\.\.|^[~$]|[|><&;{}]")
"""What CrewAI takes in no path of an output file, or takes for an input."""

_DEFAULTS = ModelSettings()
_NO_APPROVAL = "CrewAI asks nobody before a tool is called"

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*( [A-Za-z0-9_(][A-Za-z0-9_.,()'/-]*)*[.!?]?")
"""A text that no version of YAML takes for anything else, one of its words below aside."""

_WORDS = frozenset({"yes", "no", "on", "off", "true", "false", "null", "y", "n"})

_BLOCK = re.compile(r"[^\s\0-\x1f]([^\0-\x09\x0b-\x1f\x7f-\xa0\u2028\u2029\ufeff]*[^\s\0-\x1f\x7f-\xa0])?\n?")
"""A text of several lines that reads the same as a block: no blanks at its beginning, nothing invisible."""


def export_project(crew: CrewCreate) -> Exported:
    """Write a crew as a CrewAI project; what CrewAI alone has no place for is listed.

    :func:`~kasal_jupyter.formats.crewai_project.read_project` reads it back.
    """
    found = outline(crew)
    remarks = list(found.remarks)
    whole, inputs = to_crewai(with_texts(found, remarks), remarks, "which main.py gives as itself")
    return _Export(whole, remarks, inputs).project()


@dataclass(slots=True)
class _Export:
    crew: CrewCreate
    remarks: list[Remark]
    inputs: dict[str, str]
    """Those that it takes, with their values where these are always the same."""
    package: str = ""
    agents: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, str] = field(default_factory=dict)
    llms: dict[str, str] = field(default_factory=dict)
    conditional: bool = False

    def project(self) -> Exported:
        self.package = package_name(self.crew.name)
        taken: set[str] = set()
        self.agents = identifiers((agent.name or "" for agent in self.crew.agents), kind="agent", taken=taken)
        self.tasks = identifiers((task.name or "" for task in self.crew.tasks), kind="task", taken=taken)
        self.llms = identifiers(
            (f"{self.agents[agent.name or '']}_llm" for agent in self.crew.agents), kind="llm", taken=taken
        )
        source = f"src/{self.package}"
        agents = {self.agents[agent.name or ""]: self._agent(at, agent) for at, agent in self._each_agent()}
        tasks = {self.tasks[task.name or ""]: self._task(at, task) for at, task in enumerate(self.crew.tasks)}
        code = self._crew_py()
        files = {
            f"{source}/__init__.py": "",
            f"{source}/main.py": self._main(),
            f"{source}/crew.py": code,
            f"{source}/config/agents.yaml": _yaml(agents),
            f"{source}/config/tasks.yaml": _yaml(tasks),
        }
        if self.conditional:
            files[f"{source}/conditions.py"] = CONDITIONS
        for task in self.crew.tasks:
            if task.output_schema is not None:
                schema = json.dumps(task.output_schema, ensure_ascii=False, indent=2)
                files[f"{source}/config/{self.tasks[task.name or '']}.schema.json"] = f"{schema}\n"
        self._note_the_crew()
        return Exported(
            {"pyproject.toml": self._pyproject(), "README.md": self._readme(), **files}, self.remarks
        )

    @property
    def _manager(self) -> str | None:
        return self.crew.manager_agent if self.crew.process == "hierarchical" else None

    def _remark(self, where: str, reason: str) -> None:
        self.remarks.append(Remark(field=where, reason=reason))

    def _each_agent(self) -> Iterator[tuple[int, CrewAgent]]:
        yield from enumerate(self.crew.agents)

    # -- the YAML --------------------------------------------------------------------------------------

    def _agent(self, place: int, agent: CrewAgent) -> dict[str, Any]:
        where, key = f"agents[{place}]", self.agents[agent.name or ""]
        fields: dict[str, Any] = {"name": agent.name} if agent.name != key else {}
        fields |= {"role": agent.role, "goal": agent.goal, "backstory": agent.backstory}
        if agent.model == "sandbox":
            self._remark(f"{where}.model", "the sandbox model is this server's own; MODEL names another")
        elif agent.model is not None and agent.settings == _DEFAULTS:
            fields["llm"] = agent.model
        elif agent.model is not None:
            fields["llm"] = self.llms[f"{key}_llm"]
        if agent.settings != _DEFAULTS and not _has_llm(agent):
            self._remark(f"{where}.settings", "CrewAI sets them for a model, and the agent names none there")
        if agent.fallbacks:
            self._remark(f"{where}.fallbacks", "an agent of CrewAI's has one model")
        if agent.sandbox != SandboxSettings():
            self._remark(f"{where}.sandbox", "the sandbox model is this server's own")
        self._note_tools(agent.tools, f"{where}.tools")
        for name in ("max_iter", "max_execution_time"):
            if (value := getattr(agent, name)) is not None:
                fields[name] = value
        if agent.allow_delegation:
            fields["allow_delegation"] = True
        if agent.needs_approval:
            self._remark(f"{where}.needs_approval", _NO_APPROVAL)
        return fields

    def _task(self, place: int, task: CrewTask) -> dict[str, Any]:
        key = self.tasks[task.name or ""]
        fields: dict[str, Any] = {"name": task.name} if task.name != key else {}
        fields |= {"description": task.description, "expected_output": task.expected_output}
        if task.agent is not None:
            fields["agent"] = self.agents[task.agent]
        elif self.crew.process == "sequential":
            self._remark(f"tasks[{place}].agent", "it has none, without which CrewAI runs no sequential crew")
        if task.context is not None:
            fields["context"] = [self.tasks[other] for other in task.context]
        for name in ("async_execution", "human_input", "output_file", "guardrail"):
            if value := getattr(task, name):
                fields[name] = value
        if task.output_file is not None and _REFUSED_PATH.search(task.output_file):
            del fields["output_file"]
            self._remark(f"tasks[{place}].output_file", "CrewAI takes no such path; nothing is written there")
        if task.guardrail_max_retries != CrewTask.model_fields["guardrail_max_retries"].default:
            fields["guardrail_max_retries"] = task.guardrail_max_retries
        self._note_tools(task.tools, f"tasks[{place}].tools")
        return fields

    def _note_tools(self, tools: list[str], where: str) -> None:
        for place, name in enumerate(tools):
            self._remark(f"{where}[{place}]", f"CrewAI alone has no tool {name!r}; write one in crew.py")

    def _note_the_crew(self) -> None:
        if self.crew.needs_approval:
            self._remark("needs_approval", _NO_APPROVAL)
        if self.crew.people != People():
            self._remark("people", "CrewAI asks at the terminal, and waits for ever")
        if self.crew.webhook is not None:
            self._remark("webhook", "CrewAI calls functions instead; give the crew callbacks in crew.py")

    # -- the code --------------------------------------------------------------------------------------

    def _crew_py(self) -> str:
        agents = [method for place, agent in self._each_agent() for method in self._agent_code(agent)]
        tasks = [self._task_code(place, task) for place, task in enumerate(self.crew.tasks)]
        crew = self._crew_code()
        schemas = any(task.output_schema is not None for task in self.crew.tasks)
        imports = ["import json", "from pathlib import Path", ""] if schemas else []
        names = ["Agent", "Crew", "Process", "Task"]
        names += ["LLM"] if any(_sets_model(agent) for agent in self.crew.agents) else []
        marks = ["CrewBase", "agent", "crew", "task"]
        marks += ["llm"] if "LLM" in names else []
        imports += [
            f"from crewai import {', '.join(sorted(names))}",
            f"from crewai.project import {', '.join(sorted(marks, key=str.lower))}",
        ]
        if self.conditional:
            imports.append("from crewai.tasks.conditional_task import ConditionalTask")
        if schemas:
            imports.append("from crewai.utilities.pydantic_schema_utils import create_model_from_schema")
        if self.conditional:
            imports += ["", f"from {self.package}.conditions import holds"]
        if schemas:
            imports += ["", 'CONFIG = Path(__file__).parent / "config"']
            imports += ["", "", "def schema_of(task):", _SCHEMA_OF]
        head = ["@CrewBase", f"class {class_name(self.package)}:"]
        head += ['    agents_config = "config/agents.yaml"', '    tasks_config = "config/tasks.yaml"', ""]
        body = "\n".join([*agents, *tasks, crew]).rstrip()
        return "\n".join([*imports, "", "", *head, body, ""])

    def _agent_code(self, agent: CrewAgent) -> Iterator[str]:
        key = self.agents[agent.name or ""]
        if _sets_model(agent):
            given = agent.settings.model_dump()
            default = _DEFAULTS.model_dump()
            changed = {name: value for name, value in given.items() if value != default[name]}
            words = "".join(f", {name}={value!r}" for name, value in changed.items())
            method = self.llms[f"{key}_llm"]
            yield f"    @llm\n    def {method}(self):\n        return LLM(model={agent.model!r}{words})\n"
        # A manager is none of the agents to CrewAI.
        mark = "" if agent.name == self._manager else "    @agent\n"
        yield f'{mark}    def {key}(self):\n        return Agent(config=self.agents_config["{key}"])\n'

    def _task_code(self, place: int, task: CrewTask) -> str:
        key = self.tasks[task.name or ""]
        words = [f'config=self.tasks_config["{key}"]']
        if task.output_schema is not None:
            title = f"{class_name(re.sub(r'[^a-z0-9]+', '_', key)) or 'Task'}Result"
            words.append(
                f'output_pydantic=create_model_from_schema(schema_of("{key}"), model_name="{title}")'
            )
        made = "Task"
        if task.condition is not None and self._can_hold(place, task):
            made = "ConditionalTask"
            self.conditional = True
            asked = task.condition.model_dump(exclude_none=True)
            given = ", ".join(f"{name}={value!r}" for name, value in asked.items())
            words.append(f"condition=lambda output: holds(output, {given})")
        arguments = ", ".join(words)
        if len(words) > 1:
            arguments = "\n            " + ",\n            ".join(words) + ",\n        "
        return f"    @task\n    def {key}(self):\n        return {made}({arguments})\n"

    def _can_hold(self, place: int, task: CrewTask) -> bool:
        assert task.condition is not None
        where = f"tasks[{place}].condition"
        if task.condition.matches is not None:
            try:
                re.compile(task.condition.matches)
            except (re.error, RecursionError) as error:
                # Python's own parser calls itself at each bracket; RE2's takes 1,000 of them.
                self._remark(
                    where, f"Python's own expressions differ from RE2's ({error}): it is always done"
                )
                return False
        if place and self.crew.tasks[place - 1].condition is not None:
            self._remark(where, "where the task before is skipped, CrewAI alone looks at its empty result")
        return True

    def _crew_code(self) -> str:
        crew = self.crew
        words = [f"name={crew.name!r}", "agents=self.agents", "tasks=self.tasks"]
        words.append(f"process=Process.{crew.process}")
        if self._manager is not None:
            words.append(f"manager_agent=self.{self.agents[self._manager]}()")
        elif crew.process == "hierarchical":
            words.append(f"manager_llm={self._model(crew.manager_model)}")
        if crew.manager_model is not None and (self._manager or crew.process == "sequential"):
            self._remark("manager_model", "this crew has no manager that it would be the model of")
        if crew.manager_agent is not None and self._manager is None:
            self._remark("manager_agent", "a sequential crew has no manager")
        if crew.planning:
            words += ["planning=True", f"planning_llm={self._model(crew.planning_model)}"]
        elif crew.planning_model is not None:
            self._remark("planning_model", "the crew does not plan")
        if crew.memory:
            words.append("memory=True")
            self._remark(
                "memory", "CrewAI's own memory remembers; its embedder is OpenAI's unless you set one"
            )
        lines = "".join(f"            {word},\n" for word in words)
        return f"    @crew\n    def crew(self):\n        return Crew(\n{lines}        )\n"

    def _model(self, name: str | None) -> str:
        return repr(name) if name not in {None, "sandbox"} else "self.agents[0].llm"

    # -- what is around it -------------------------------------------------------------------------------

    def _example(self) -> str:
        return "".join(f' {name}="…"' for name, value in self.inputs.items() if not value)

    def _main(self) -> str:
        return MAIN.format(
            package=self.package,
            crew_class=class_name(self.package),
            inputs=repr(self.inputs),
            example=self._example(),
        )

    def _dependency(self) -> str:
        models = [agent.model or "" for agent in self.crew.agents]
        models += [self.crew.manager_model or "", self.crew.planning_model or ""]
        extras = sorted({extra for form, extra in _EXTRAS if any(form.match(model) for model in models)})
        chosen = f"[{','.join(extras)}]" if extras else ""
        return f"crewai{chosen}>={OLDEST}"

    def _pyproject(self) -> str:
        summary = " ".join(self.crew.description.split())[:300] or "A crew"
        return PYPROJECT.format(
            package=_toml(self.package),
            package_key=self.package,
            summary=_toml(summary),
            crewai=_toml(self._dependency()),
            name=_toml(self.crew.name),
            description=_toml(self.crew.description),
        )

    def _readme(self) -> str:
        text = README.format(
            name=self.crew.name,
            description=self.crew.description,
            crewai=f'"{self._dependency()}"',
            package=self.package,
            example=self._example(),
        )
        if self.remarks:
            lines = (f"- `{each.field}`: {' '.join(each.reason.split())}" for each in self.remarks)
            text += NOT_CARRIED.format(remarks="\n".join(lines))
        return text


_SCHEMA_OF = '    return json.loads((CONFIG / f"{task}.schema.json").read_text("utf-8"))'


def _has_llm(agent: CrewAgent) -> bool:
    return agent.model is not None and agent.model != "sandbox"


def _sets_model(agent: CrewAgent) -> bool:
    return _has_llm(agent) and agent.settings != _DEFAULTS


def _toml(text: str) -> str:
    """Write a text as TOML's basic string, which is JSON's but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _yaml(data: Mapping[str, Any]) -> str:
    """Write a mapping so that YAML 1.2 and CrewAI's 1.1 read the same, where ``yes`` is true."""
    yaml = YAML()
    yaml.width = ENDLESS
    stream = io.StringIO()
    yaml.dump(_safe(data), stream)
    return stream.getvalue()


def _safe(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _safe(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_safe(each) for each in value]
    if not isinstance(value, str):
        return value
    if "\n" in value and _BLOCK.fullmatch(value) and not re.search(r"[ \t]\n|\n[ \t]*\n\s|\n[ \t]", value):
        return LiteralScalarString(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return DoubleQuotedScalarString(value)


# -- names ----------------------------------------------------------------------------------------------

# Names as Python takes them: what a crew's members are called in a project's code.

_TAKEN = frozenset(
    {
        # Methods and attributes of CrewAI's base of a crew.
        *("agents", "tasks", "crew", "agents_config", "tasks_config", "llms", "name", "usage_metrics"),
        *("base_directory", "load_configurations", "load_yaml", "close_mcp_server", "get_mcp_tools"),
        *("map_all_agent_variables", "map_all_task_variables", "mcp_server_params", "mcp_connect_timeout"),
        *("is_crew_class", "original_agents_config_path", "original_tasks_config_path", "self"),
        # The marks that the methods of a crew's class have: one of that name would take a mark's place.
        *("agent", "task", "llm"),
        # What YAML 1.1, which CrewAI reads, takes for something else than a text.
        *("yes", "no", "on", "off", "true", "false", "null", "y", "n"),
    }
)


def identifiers(names: Iterable[str], *, kind: str, taken: set[str]) -> dict[str, str]:
    """Give every name an identifier of its own, as near to it as can be.

    Parameters
    ----------
    names
        The names.
    kind
        What an identifier begins with where the name has nothing to begin one with.
    taken
        Identifiers that are used already; those that are made are added.
    """
    found: dict[str, str] = {}
    for name in names:
        base = _identifier(name, kind)
        made, number = base, 1
        while made in taken or made in _TAKEN:
            number += 1
            made = f"{base}_{number}"
        taken.add(made)
        found[name] = made
    return found


def package_name(name: str) -> str:
    """Give a crew's name as a package's, which is none that Python or CrewAI has."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    base = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:50].rstrip("_")
    if not base or base[0].isdigit() or keyword.iskeyword(base):
        base = f"crew_{base}".rstrip("_")
    # With the ending it is no module of anybody's.
    return base if base.endswith("_crew") and base not in sys.stdlib_module_names else f"{base}_crew"


def class_name(package: str) -> str:
    """Give a package's name as a class's: ``market_research_crew`` → ``MarketResearchCrew``."""
    return "".join(part.capitalize() for part in package.split("_"))


def _identifier(name: str, kind: str) -> str:
    # Python reads identifiers in this form, and would not find a method by another one.
    text = unicodedata.normalize("NFKC", name.casefold())
    text = re.sub(r"\W+", "_", text).strip("_")[:60].rstrip("_")
    if not text.isidentifier():
        text = f"{kind}_{text}".rstrip("_")
    if not text.isidentifier() or unicodedata.normalize("NFKC", text) != text:
        text = kind
    return f"{text}_{kind}" if keyword.iskeyword(text) or keyword.issoftkeyword(text) else text


# -- fixed parts ----------------------------------------------------------------------------------------

# The fixed parts of a CrewAI project: what is the same in each that is written.

PYPROJECT = """\
[project]
name = {package}
version = "0.1.0"
description = {summary}
readme = "README.md"
requires-python = ">=3.10,<3.14"
dependencies = [{crewai}]

[project.scripts]
{package_key} = "{package_key}.main:run"
run_crew = "{package_key}.main:run"

[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[tool.hatch.build.targets.wheel]
packages = ["src/{package_key}"]

[tool.crewai]
type = "crew"

[tool.kasal]
name = {name}
description = {description}
"""

MAIN = '''\
"""Runs the crew: `crewai run`, or `python src/{package}/main.py{example}`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from {package}.crew import {crew_class}  # noqa: E402 - found without being installed

INPUTS = {inputs}


def run():
    inputs = dict(INPUTS)
    for word in sys.argv[1:]:
        name, equals, value = word.partition("=")
        if equals:
            inputs[name] = value
    missing = [name for name, value in inputs.items() if not value]
    if missing:
        sys.exit("Give " + ", ".join(missing) + ": as name=value, or in INPUTS")
    print({crew_class}().crew().kickoff(inputs=inputs or None))


if __name__ == "__main__":
    run()
'''

CONDITIONS = '''\
"""Whether a conditional task is done: what the result before it must be like."""

import json
import re

_MISSING = object()


def holds(output, *, contains=None, lacks=None, matches=None, field=None, equals=None):
    """Say whether all that is given holds of a result; `field` has dots between levels."""
    value = output.raw
    if field is not None:
        structured = json.loads(output.pydantic.model_dump_json()) if output.pydantic else _parsed(value)
        value = _at(structured, field)
        if value is _MISSING:
            return False
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if contains is not None and contains.casefold() not in text.casefold():
        return False
    if lacks is not None and lacks.casefold() in text.casefold():
        return False
    if matches is not None and re.search(matches, text) is None:
        return False
    return equals is None or _equal(value, equals)


def _at(value, path):
    for step in path.split("."):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            return _MISSING
    return value


def _equal(value, wanted):
    if isinstance(value, str):
        if isinstance(wanted, str):
            return value.strip() == wanted.strip()
        value = _parsed(value)
    if isinstance(value, bool) or isinstance(wanted, bool):
        return value is wanted
    return value == wanted


def _parsed(text):
    try:
        return json.loads(text)
    except ValueError:
        return _MISSING
'''

README = """\
# {name}

{description}

A project of CrewAI's, which needs nothing else.

    pip install {crewai}
    python src/{package}/main.py{example}

`crewai run` does as well. Its agents and tasks stand in `src/{package}/config`; what binds them stands in
`src/{package}/crew.py`. A model's key is read from the environment, e.g. `OPENAI_API_KEY`; `MODEL` names the
model of agents that name none.
"""

NOT_CARRIED = """
## What is not here

Some of what the crew has elsewhere has no place in a CrewAI project, or another one:

{remarks}
"""
