"""Crews in YAML, there and back, and every fault with its line."""

import pytest

from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.formats.yaml_crew import dump_crew, load_crew

TEXT = """\
process: sequential
agents:
  researcher:
    role: Researcher on {topic}
    goal: Find facts
    llm: sandbox
    tools: [calculator]
  writer:
    role: Writer
    goal: 'Write {"like": "json"}'
    llm:
      model: gpt-4
      temperature: 0.2
tasks:
  facts:
    description: Collect facts about {topic}
    expected_output: A list
    agent: researcher
  report:
    description: |
      Write a report.
      Two lines.
    expected_output: A report
    agent: writer
    context: [facts]
"""


def faults(text, name="Crew"):
    with pytest.raises(InvalidRequest) as caught:
        load_crew(text, name)
    return [(fault.field, fault.reason) for fault in caught.value.faults]


def test_crewais_dialect_is_read():
    crew = load_crew(TEXT, "Tea")
    assert crew.name == "Tea"
    assert [agent.name for agent in crew.agents] == ["researcher", "writer"]
    assert crew.agents[0].model == "sandbox"
    assert crew.agents[0].role == "Researcher on {topic}"
    assert crew.agents[1].model == "gpt-4"
    assert crew.agents[1].settings.temperature == 0.2
    assert crew.tasks[1].agent == "writer"
    assert crew.tasks[1].context == ["facts"]
    assert crew.tasks[1].description == "Write a report.\nTwo lines.\n"


def test_a_crew_survives_the_way_there_and_back():
    crew = load_crew(TEXT, "Tea")
    assert load_crew(dump_crew(crew)) == crew


def test_every_fault_is_named_with_its_line():
    text = TEXT.replace("role: Writer", "rolle: Writer").replace("agent: writer", "agent: writre")
    found = faults(text)
    assert ("agents.writer.rolle", "line 9: 'rolle' is no field here; did you mean 'role'?") in found
    assert ("tasks.report.agent", "line 24: there is no agent 'writre'; did you mean 'writer'?") in found
    assert ("agents.writer.role", "line 8: Field required") in found


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ('tools: [{"python": "os.system"}]', "python"),
        ("tools: ['custom:evil.Tool']", "custom:evil.Tool"),
        ("tools: !!python/object/apply:os.system ['true']", "python/object"),
    ],
)
def test_references_that_would_execute_code_are_refused_by_name(bad, named):
    found = faults(TEXT.replace("tools: [calculator]", bad))
    assert any(field == "agents.researcher.tools" and named in reason for field, reason in found)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("agents: [", "line 1"),
        ("- a\n- b\n", "line 1"),
        ("agents:\n  a: {role: x}\n  a: {role: y}\n", "line 3"),
    ],
)
def test_what_is_no_crew_is_refused_with_its_line(text, line):
    assert faults(text)[0][1].startswith(line)


def test_a_crew_needs_a_name():
    assert ("name", "the crew has no name; write `name:` or give one on the first line") in faults(TEXT, None)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("agent: researcher", "agent: [researcher]", "tasks.facts.agent"),
        ("  facts:", "  1:", "tasks.report.context"),
        ("role: Writer", "role: Wri\x01ter", "yaml"),
    ],
)
def test_odd_values_are_refused_or_read_but_never_a_crash(old, new, field):
    text = TEXT.replace(old, new, 1)
    if field == "tasks.report.context":
        assert load_crew(text, "Tea").tasks[0].name == "1"
    else:
        assert field in [where for where, _ in faults(text)]


def test_prompts_and_schemas_may_say_what_code_references_say():
    text = TEXT.replace("role: Writer", "role: 'custom: tailor'")
    assert load_crew(text, "Tea").agents[1].role == "custom: tailor"
