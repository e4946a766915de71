"""The fixed parts of a CrewAI project: what is the same in each that is written."""

from __future__ import annotations

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
