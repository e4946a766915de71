"""Crews out and in again: what an export can hold is the same afterwards, and what it can't hold it lists."""

import pytest
import yaml

from kasal_jupyter.formats.conversion import export_crew, import_crew
from kasal_jupyter.schemas.crews import CrewCreate
from tests.formats.crews import TOOLS, crew

SEEDS = range(12)


def differences(before, after, path=""):
    """Give the paths of all that is not the same in two plain values."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {*before, *after}:
            yield from differences(before.get(key), after.get(key), f"{path}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for place, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from differences(one, other, f"{path}[{place}]")
    elif before != after or type(before) is not type(after):
        yield path.removeprefix(".")


def is_listed(path, listed):
    """Say whether a remark is about a field, about what it is in, or about an entry of it."""
    return any(
        path == each or path.startswith((f"{each}.", f"{each}[")) or each.startswith(f"{path}[")
        for each in listed
    )


@pytest.mark.parametrize("wanted", ["yaml", "crewai", "kasal"])
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_changed_that_is_not_listed(seed, wanted):
    before = crew(seed)
    exported = export_crew(before, wanted)
    imported = import_crew(exported.files, tools=TOOLS)
    assert imported.format == wanted
    listed = [remark.field for remark in exported.remarks]
    changed = differences(before.model_dump(), imported.crew.model_dump())
    assert [path for path in changed if not is_listed(path, listed)] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_our_yaml_holds_everything(seed):
    before = crew(seed)
    exported = export_crew(before, "yaml")
    assert exported.remarks == []
    assert import_crew(exported.files).crew == before


@pytest.mark.parametrize("wanted", ["crewai", "kasal"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_second_time_nothing_is_left_to_lose(seed, wanted):
    once = import_crew(export_crew(crew(seed), wanted).files, tools=TOOLS).crew
    twice = import_crew(export_crew(once, wanted).files, tools=TOOLS).crew
    assert twice == once


@pytest.mark.parametrize("seed", SEEDS)
def test_crewais_own_reader_finds_the_same_texts(seed):
    """It reads YAML 1.1, to which `yes` and `12:30` would be no texts."""
    before = crew(seed)
    files = export_crew(before, "crewai").files

    def theirs(text):
        # Which is the text in braces here, and there an input that is given as that.
        return text.replace("{{braces}}", "{braces}")

    (agents,) = (text for path, text in files.items() if path.endswith("agents.yaml"))
    (tasks,) = (text for path, text in files.items() if path.endswith("tasks.yaml"))
    read = yaml.safe_load(agents)
    assert [each["role"] for each in read.values()] == [theirs(agent.role) for agent in before.agents]
    assert [each["goal"] for each in read.values()] == [theirs(agent.goal) for agent in before.agents]
    read = yaml.safe_load(tasks)
    assert [each["description"] for each in read.values()] == [
        theirs(task.description) for task in before.tasks
    ]
    assert [each.get("output_file") for each in read.values()] == [task.output_file for task in before.tasks]
    for path, text in files.items():
        if path.endswith(".py"):
            compile(text, path, "exec")


def test_members_without_a_name_get_one_which_is_listed():
    before = CrewCreate.model_validate(
        {
            "name": "Two writers",
            "agents": [{"role": "Writer", "goal": "Write"}, {"role": "Writer", "goal": "Write more"}],
            "tasks": [
                {"description": "Write", "expected_output": "A text", "agent": "Writer"},
                {
                    "description": "Go on",
                    "expected_output": "A text",
                    "agent": "Writer",
                    "context": ["Alone"],
                },
            ],
        }
    )
    exported = export_crew(before, "yaml")
    assert {remark.field: remark.reason for remark in exported.remarks} == {
        "agents[0].name": "it has none, and is called 'Writer' there",
        "agents[1].name": "it has none, and is called 'Writer 2' there",
        "tasks[0].name": "it has none, and is called 'task_1' there",
        "tasks[1].name": "it has none, and is called 'task_2' there",
        "tasks[1].context": "'Alone' has a blank behind it there, or it would be read as a task's name",
    }
    after = import_crew(exported.files).crew
    assert [agent.name for agent in after.agents] == ["Writer", "Writer 2"]
    assert [task.agent for task in after.tasks] == ["Writer", "Writer"]
