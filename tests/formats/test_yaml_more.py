"""All that a crew can be, in YAML and back: CrewAI's spellings where it has some, one way to write each."""

import pytest

from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.formats.yaml_crew import dump_crew, load_crew

WHOLE = """\
name: Desk
process: hierarchical
manager_llm: gpt-4o
manager_agent: chief
planning: true
planning_llm: gpt-4o-mini
memory: true
webhook:
  url: https://example.com/hook
  events:
  - task
  - execution_status
agents:
  chief:
    role: Chief
    goal: Have it done
    llm: gpt-4o
    fallbacks:
    - sandbox
    max_execution_time: 60
  clerk:
    role: Clerk
    goal: Do it
    llm: sandbox
tasks:
  triage:
    description: Classify {message}
    expected_output: One word
    guardrail: It is one word.
    guardrail_max_retries: 1
  urgent:
    description: Handle it
    expected_output: A note
    output_file: notes/{message}.md
    condition:
      contains: urgent
      field: report.kind
"""


def faults(text):
    with pytest.raises(InvalidRequest) as caught:
        load_crew(text)
    return {fault.field: fault.reason for fault in caught.value.faults}


def test_each_field_is_read():
    crew = load_crew(WHOLE)
    assert (crew.manager_agent, crew.planning, crew.planning_model) == ("chief", True, "gpt-4o-mini")
    assert crew.memory
    assert crew.webhook.url == "https://example.com/hook"
    assert crew.webhook.events == ["task", "execution_status"]
    chief = crew.agents[0]
    assert (chief.fallbacks, chief.max_execution_time) == (["sandbox"], 60)
    triage, urgent = crew.tasks
    assert (triage.guardrail, triage.guardrail_max_retries) == ("It is one word.", 1)
    assert urgent.output_file == "notes/{message}.md"
    assert (urgent.condition.contains, urgent.condition.field) == ("urgent", "report.kind")


def test_it_is_written_as_it_was_read():
    crew = load_crew(WHOLE)
    written = dump_crew(crew)
    assert load_crew(written) == crew
    assert written == WHOLE


def test_what_is_a_default_is_not_written():
    text = "name: C\nagents:\n  a:\n    role: R\n    goal: G\ntasks:\n  t:\n    description: D\n"
    written = dump_crew(load_crew(f"{text}    expected_output: E\n    agent: a\n"))
    assert not {"planning", "memory", "webhook", "guardrail", "condition", "fallbacks"} & set(
        written.replace(":", " ").split()
    )


def test_the_apis_words_do_as_well():
    crew = load_crew(WHOLE.replace("planning_llm", "planning_model").replace("manager_llm", "manager_model"))
    assert crew == load_crew(WHOLE)


def test_what_is_wrong_is_said_with_its_line():
    text = WHOLE.replace("manager_agent: chief", "manager_agent: cheif")
    text = text.replace("contains: urgent", "matches: '(?=urgent)'")
    text = text.replace("notes/{message}.md", "notes/../../{message}.md")
    found = faults(text)
    assert found["manager_agent"] == "line 4: there is no agent 'cheif'; did you mean 'chief'?"
    assert found["tasks.urgent.condition.matches"].startswith("line 36: it is no regular expr")
    assert found["tasks.urgent.output_file"] == (
        "line 34: it is no path inside the run's folder; write one such as reports/tea.md"
    )


@pytest.mark.parametrize("empty", ["{}", "{field: score}", "{contains: null}"])
def test_a_condition_asks_for_something(empty):
    text = WHOLE[: WHOLE.index("    condition:")] + f"    condition: {empty}\n"
    (reason,) = faults(text).values()
    assert "Give at least one of contains, lacks, matches and equals" in reason


@pytest.mark.parametrize(
    ("field", "reference"),
    [
        ("condition: 'custom:checks'", "custom:checks"),
        ("condition: {python: checks.is_urgent}", '{"python": …}'),
        ("guardrail: {python: checks.is_short}", '{"python": …}'),
    ],
)
def test_functions_of_python_are_refused_by_name(field, reference):
    text = WHOLE.replace("    output_file: notes/{message}.md\n", "")
    text = text[: text.index("    condition:")] + f"    {field}\n"
    assert any(f"{reference} would execute code" in reason for reason in faults(text).values())


def test_a_guardrail_is_text_whatever_it_begins_with():
    crew = load_crew(WHOLE.replace("It is one word.", "'custom: as our house rules say'"))
    assert crew.tasks[0].guardrail == "custom: as our house rules say"
