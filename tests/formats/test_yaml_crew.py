"""Crews in YAML, there and back, and every fault with its line."""

import pytest

from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.formats.yaml_crew import dump_crew, load_crew
from kasal_jupyter.schemas.crews import CrewDetails

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
    assert ("agents.writer.role", "line 8: it is missing; write `role: …`") in found


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("agents:\n  a: {goal: Write about {topic}}\n", 'put the text with {topic} in quotes, "…"'),
        ("tasks:\n  a:\n    description: {topic} is told\n", 'quotes: description: "{topic} is told"'),
    ],
)
def test_a_placeholder_that_yaml_takes_for_something_else_wants_quotes(text, said):
    assert said in faults(text)[0][1]


GOAL = """\
agents:
  w:
    role: Writer
    goal: {}
tasks:
  t: {{description: d, expected_output: e, agent: w}}
"""


@pytest.mark.parametrize(
    "goal",
    [
        *("Write: quickly", '"Write" well', "@you", "%d of all", "*bold* words", "**b**", "& more", "- x"),
        *("`x`", "[a] b", "{x} y", "> y", "|x", ", x", "? x", "don't: do", "'a' b"),
    ],
)
def test_a_text_that_yaml_reads_otherwise_is_given_back_in_quotes_that_it_reads(goal):
    [(_, said)] = faults(GOAL.format(goal))
    assert said.startswith("line 4: ")
    written = said.partition("put the text in quotes: goal: ")[2]
    assert load_crew(GOAL.format(written), "n").agents[0].goal == goal


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ("42", '42 is no text to YAML; put it in quotes: "42"'),
        ("", "it is empty; write a text"),
        ("#1 of all", "it is empty; write a text, in quotes where it begins with #"),
        ('"open', "line 4: a quote that begins here is not closed"),
        ("x\n\tback: y", "line 5: it is indented with a tab"),
        ("x\n     llm: y", "it is not indented as the lines that it belongs to"),
        ("x\noops", "line 5: 'oops' has no colon"),
        ("x\n    llm:sandbox\n    tools: []", "a blank is needed behind the colon: llm: sandbox"),
        ("x\n    tools: calculator", "it is a list; write [calculator]"),
        ("x\n    max_iter: many", "write a whole number"),
        ("x\nresult = %kasal run Report topic=tea", "is a command; put it in a cell of its own"),
    ],
)
def test_a_slip_of_the_hand_is_named_with_its_line_and_what_to_write(goal, said):
    assert said in "; ".join(": ".join(fault) for fault in faults(GOAL.format(goal)))


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
    text = TEXT.replace(old, new, 1).replace(
        "context: [facts]", "context: ['1']" if new == "  1:" else "context: [facts]"
    )
    if field == "tasks.report.context":
        assert load_crew(text, "Tea").tasks[1].context == ["1"]
    else:
        assert field in [where for where, _ in faults(text)]


def test_prompts_and_schemas_may_say_what_code_references_say():
    text = TEXT.replace("role: Writer", "role: 'custom: tailor'")
    assert load_crew(text, "Tea").agents[1].role == "custom: tailor"


def test_a_tag_is_refused_wherever_it_stands():
    found = faults(TEXT.replace("role: Writer", "role: !!python/name:os.system x"))
    assert len(found) == 1
    assert found[0][0] == "agents.writer.role"
    assert "python/name:os.system would execute code" in found[0][1]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("fact", "did you mean 'facts'?"),
        ("report", "before it there are facts"),
        ("later", "before it there are facts"),
    ],
)
def test_a_context_of_one_word_names_an_earlier_task(entry, said):
    found = faults(TEXT.replace("[facts]", f"[{entry}]"))
    assert found == [("tasks.report.context", f"line 25: there is no earlier task {entry!r}; {said}")]


def test_a_context_of_several_words_is_a_text():
    crew = load_crew(TEXT.replace("[facts]", "[facts, Previous analysis from Q3]"), "Tea")
    assert crew.tasks[1].context == ["facts", "Previous analysis from Q3"]


def test_names_in_double_braces_get_the_values_and_placeholders_stay():
    text = TEXT.replace("llm: sandbox", "llm: {{model}}\n    max_iter: {{ most }}").replace(
        "goal: Find facts", "goal: Find {{most}} facts about {topic}"
    )
    crew = load_crew(text, "Tea", {"model": "gpt-4", "most": 5})
    assert crew.agents[0].model == "gpt-4"
    assert crew.agents[0].max_iter == 5
    assert crew.agents[0].goal == "Find 5 facts about {topic}"


def test_a_value_is_data_and_no_yaml():
    crew = load_crew(TEXT.replace("goal: Find facts", "goal: {{goal}}"), "Tea", {"goal": "a\ntools: [x]"})
    assert crew.agents[0].goal == "a\ntools: [x]"
    assert crew.agents[0].tools == ["calculator"]


def test_a_name_without_a_value_is_refused_with_the_nearest():
    text = TEXT.replace("goal: Find facts", "goal: Find {{topik}}")
    with pytest.raises(InvalidRequest, match=r"line 5: \{\{topik\}\} has no value; did you mean 'topic'\?"):
        load_crew(text, "Tea", {"topic": "tea"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("agents: " + "[" * 5_000, "line 1: it nests deeper than 50 levels"),
        (
            "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
            + "".join(
                f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
                for old, new in ("ab", "bc", "cd", "de", "ef")
            ),
            "line 5: it has more than 100,000 values",
        ),
    ],
)
def test_a_text_that_would_blow_up_is_refused_before_it_does(text, said):
    assert faults(text) == [("yaml", said)]


def test_a_stored_crew_is_written_with_names_for_ids():
    now = {
        "owner": "ada",
        "created_at": "2026-11-24T12:00:00Z",
        "updated_at": "2026-11-24T12:00:00Z",
        "crew_id": "c",
    }
    agent = {"id": "agent_1", "name": "writer", "role": "Writer", "goal": "Write", "position": 0} | now
    task = {"description": "Write", "expected_output": "Text", "agent_id": "agent_1"} | now
    tasks = [
        {"id": "task_1", "position": 0} | task,
        {"id": "task_2", "position": 1, "context": ["task_1"]} | task,
    ]
    stored = CrewDetails.model_validate(
        {
            "id": "crew_1",
            "name": "Tea",
            "owner": "ada",
            "description": "",
            "status": "active",
            "agents": [agent],
            "tasks": tasks,
            "configuration": {"process": "sequential", "manager_model": None},
            "version": 1,
            "created_at": now["created_at"],
            "updated_at": now["updated_at"],
        }
    )
    crew = load_crew(dump_crew(stored))
    assert [(task.name, task.agent, task.context) for task in crew.tasks] == [
        ("task_1", "writer", None),
        ("task_2", "writer", ["task_1"]),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a: b",
        "- x",
        "'quoted'",
        "# no comment",
        "two\nlines\n\n  indented ",
        "{topic}",
        "yes",
        "1",
        "é 茶 \U0001f375",
        "tab\there",
    ],
)
def test_any_text_survives_the_way_there_and_back(text):
    crew = load_crew(TEXT, "Tea")
    agent = crew.agents[0].model_copy(update={"goal": text, "backstory": text})
    crew = crew.model_copy(update={"agents": [agent, *crew.agents[1:]]})
    assert load_crew(dump_crew(crew)) == crew
