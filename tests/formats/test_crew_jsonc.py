"""CrewAI's JSON crews, with their comments, and what they refer to."""

import pytest

from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.formats.conversion import import_crew
from kasal_jupyter.formats.document import blanked, read_json

CREW = """\
{
  // A crew as CrewAI 1.15 creates it.
  "name": "research_crew",
  "agents": ["researcher", "writer"],
  "tasks": [
    {
      "name": "research",
      "description": "Research {topic}, see http://example.com//x",
      "expected_output": "Facts", /* in any
                                     order */
      "agent": "researcher",
    },
    {
      "description": "Write",
      "expected_output": "A text",
      "agent": "writer",
      "context": ["research"],
      "guardrail": "It has no more than 100 words",
      "markdown": true,
    },
  ],
  "process": "hierarchical",
  "manager_agent": "boss",
  "planning": true,
  "planning_llm": {"model": "gpt-4o", "temperature": 0},
  "inputs": {"topic": "tea"},
}
"""

RESEARCHER = """\
{
  "role": "Researcher", "goal": "Find", "backstory": "Old",
  "llm": {"model": "openai/gpt-4o-mini", "max_tokens": 100, "api_key": "sk-1"},
  "tools": ["SerperDevTool", "calculator", "platform:gmail"],
  "settings": {"max_iter": 4, "verbose": true},
  "type": "agent"
}
"""

FILES = {
    "crew.jsonc": CREW,
    "agents/researcher.jsonc": RESEARCHER,
    "agents/writer.json": '{"role": "Writer", "goal": "Write", "backstory": ""}',
    "agents/boss.jsonc": '{"role": "Boss", "goal": "Lead", "backstory": "", "allow_delegation": true}',
}


def faults_of(**changed):
    with pytest.raises(InvalidRequest) as caught:
        import_crew({**FILES, **changed})
    return [(fault.field, fault.reason) for fault in caught.value.faults]


def test_a_crew_with_its_agents_in_files():
    imported = import_crew(FILES, tools=["calculator", "web_search"])
    crew = imported.crew
    assert (imported.format, crew.name, crew.process) == ("jsonc", "research_crew", "hierarchical")
    assert (crew.manager_agent, crew.planning, crew.planning_model) == ("boss", True, "gpt-4o")
    researcher, writer, boss = crew.agents
    assert (researcher.model, researcher.settings.max_tokens) == ("openai/gpt-4o-mini", 100)
    assert (researcher.tools, researcher.max_iter) == (["web_search", "calculator"], 4)
    assert (writer.role, boss.allow_delegation) == ("Writer", True)
    assert crew.tasks[0].description == "Research {topic}, see http://example.com//x"
    assert (crew.tasks[1].name, crew.tasks[1].context) == ("task_2", ["research"])
    assert crew.tasks[1].guardrail == "It has no more than 100 words"
    assert [(remark.field, remark.reason.partition(";")[0]) for remark in imported.remarks] == [
        ("agents.researcher.verbose", "what happens is in the run's trace in any case"),
        (
            "agents.researcher.llm.api_key",
            "keys and addresses are the provider's: PUT /v1/providers/{provider}",
        ),
        ("agents.researcher.tools[0]", "web_search does here what SerperDevTool does"),
        ("agents.researcher.tools[2]", "there is no tool 'platform:gmail' here"),
        ("tasks[1].markdown", "say in expected_output that Markdown is wanted"),
        ("inputs", "inputs are given at each run"),
        ("planning_llm.temperature", "the crew's own models have no settings here"),
    ]


def test_a_crew_with_its_agents_within():
    text = """{"agents": {"a": {"role": "R", "goal": "G"}},
               "tasks": [{"description": "D", "expected_output": "E", "agent": "a"}]}"""
    crew = import_crew({"tea_crew/crew.json": text}).crew
    assert (crew.name, crew.agents[0].name, crew.tasks[0].agent) == ("tea crew", "a", "a")


@pytest.mark.parametrize(
    ("changed", "field", "place", "named"),
    [
        (
            {"agents/writer.json": '{\n"role": {"python": "a.b"}}'},
            "role",
            "agents/writer.json, line 2",
            "a.b",
        ),
        (
            {"agents/writer.json": '{"role": "R", "goal": "G",\n\n"tools": ["x",\n"custom:rm"]}'},
            "tools[1]",
            "agents/writer.json, line 4",
            "custom:rm",
        ),
        (
            {"crew.jsonc": CREW.replace('"markdown": true', '"tools": ["crewai_tools:FileReadTool"]')},
            "tasks[1].tools[0]",
            "crew.jsonc, line 19",
            "crewai_tools:FileReadTool",
        ),
        (
            {"crew.jsonc": CREW.replace('"markdown": true', '"condition": {"python": "x.holds"}')},
            "tasks[1].condition",
            "crew.jsonc, line 19",
            '{"python": "x.holds"}',
        ),
        (
            {"crew.jsonc": CREW.replace('"planning": true', '"task_callback": {"python": "os.system"}')},
            "task_callback",
            "crew.jsonc, line 24",
            "os.system",
        ),
    ],
)
def test_references_to_code_are_refused_by_name(changed, field, place, named):
    ((where, reason),) = faults_of(**changed)
    assert where == field
    assert reason.startswith(f"{place}: ")
    assert named in reason
    assert "would execute code" in reason


def test_faults_have_file_line_and_field():
    wrong = CREW.replace('"agent": "writer"', '"agent": "writter"').replace('"boss"', '"bos"')
    assert faults_of(**{"crew.jsonc": wrong}) == [
        (
            "manager_agent",
            (
                "crew.jsonc, line 23: the agent 'bos' has no file; there is no agents/bos.jsonc and no "
                "agents/bos.json"
            ),
        ),
        ("tasks[1].agent", "crew.jsonc, line 16: there is no agent 'writter'; did you mean 'writer'?"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1,\n"a": 2}', "'a' stands twice in one object; leave one out"),
        ('{"a": NaN}', "NaN is no value of JSON"),
        ('{\n"a": [1 2]}', "line 2: Expecting ',' delimiter"),
        ("[1]", "line 1: a JSON object is expected"),
        ("{" + '"a":{' * 60, "line 1: it nests deeper than 50 levels"),
        ('{"a": [' + "1," * 100_001 + "1]}", "line 1: it has more than 100,000 values"),
        ('{"a": "' + '\\"' * 400_000, "line 1: Unterminated string starting at"),
    ],
)
def test_what_is_no_json_is_refused_with_its_line(text, reason):
    with pytest.raises(InvalidRequest) as caught:
        read_json("crew.jsonc", text)
    (fault,) = caught.value.faults
    assert (fault.field, fault.reason) == ("crew.jsonc", reason)


def test_comments_become_blanks_and_lines_stay_lines():
    text = '{"a": "// no, /* no", // yes\n "b": [1, /* yes\n\n */], }'
    assert blanked(text).count("\n") == text.count("\n")
    document = read_json("x.json", f"{text[:-1]}, }}".replace(", , }", "}"))
    assert document.data == {"a": "// no, /* no", "b": [1]}
    assert document.lines["b",] == 2
