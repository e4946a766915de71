"""What imports take that others have written in a way of their own."""

import io
import json
import zipfile

import pytest

from kasal_jupyter.crews.crews import made_of
from kasal_jupyter.errors import InvalidRequest
from kasal_jupyter.formats.bundle import files_of_mapping, files_of_zip
from kasal_jupyter.formats.conversion import export_crew, import_crew
from kasal_jupyter.formats.yaml_crew import dump_crew, load_crew
from kasal_jupyter.schemas.readiness import UNWRITTEN, content_faults

AGENTS = """\
x-shared: &shared
  goal: Find facts
1:
  <<: *shared
  role: Researcher
  backstory:
2:
  role: Writer
  goal: "  "
"""
TASKS = """\
x-note: of the author's
find:
  description: Find {topic}
  expected_output:
  agent: 1
  context: []
write:
  description: Write
  expected_output: A text
  agent: 2
  context: [find]
  output_file: out\\report.md
"""


def read(files):
    return import_crew(files_of_mapping(files))


def test_a_project_as_windows_and_its_author_have_written_it():
    found = read({"tea\\config\\agents.yaml": AGENTS, "tea\\config\\tasks.yaml": TASKS})
    crew = found.crew
    assert [(each.name, each.role, each.goal) for each in crew.agents] == [
        ("1", "Researcher", "Find facts"),
        ("2", "Writer", UNWRITTEN),
    ]
    assert [(each.agent, each.context, each.output_file) for each in crew.tasks] == [
        ("1", [], None),
        ("2", ["find"], "out/report.md"),
    ]
    told = {remark.field: remark.reason for remark in found.remarks}
    assert (
        told["agents.2.goal"]
        == told["tasks.find.expected_output"]
        == "it is empty; write it before the crew is run"
    )
    assert "slashes" in told["tasks.write.output_file"]
    assert "x-shared" not in str(told)
    whole = made_of(crew, "crew_draft", "ada")
    assert [fault.field for fault in content_faults(whole.crew, whole.agents, whole.tasks)] == [
        "agents[1].goal",
        "tasks[0].expected_output",
    ]


def test_a_zip_file_of_windows_is_read_and_a_path_counts_once():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("tea/config/tasks.yaml", TASKS)
        archive.writestr("tea/config/agents.yaml", AGENTS)
    # As Windows' own tools write it, and Python's does not.
    data = stream.getvalue().replace(b"tea/config/", b"tea\\config\\")
    assert set(files_of_zip(data)) == {"tea/config/tasks.yaml", "tea/config/agents.yaml"}
    with pytest.raises(InvalidRequest, match="it is there twice"):
        read({"a\\agents.yaml": AGENTS, "a/agents.yaml": AGENTS, "a/tasks.yaml": TASKS})


OURS = {
    "name": "Tea",
    "x-note": {"any": "thing"},
    "agents": {"1": {"role": "R\u0085 \U0001f600", "goal": "G\tg"}},
    "tasks": {
        "one": {"description": "D", "expected_output": "E", "agent": 1, "context": []},
        "two": {"description": "D", "expected_output": "E", "agent": 1},
    },
}


@pytest.mark.parametrize("file", ["crew.json", "tea.json", "tea.yaml", "crew.jsonc"])
def test_our_yaml_may_be_written_as_json(file):
    text = "// the author's\n" if file.endswith("jsonc") else ""
    found = read({file: text + json.dumps(OURS, indent="\t")})
    assert found.format == "yaml"
    assert (found.crew.agents[0].role, found.crew.agents[0].goal) == ("R\u0085 \U0001f600", "G\tg")
    assert [task.context for task in found.crew.tasks] == [[], None]


def test_an_empty_context_stays_one_and_none_stays_none():
    crew = read({"tea.json": json.dumps(OURS)}).crew
    assert load_crew(dump_crew(crew)) == crew
    for wanted in ("yaml", "crewai"):
        exported = export_crew(crew, wanted)
        assert [task.context for task in import_crew(exported.files).crew.tasks] == [[], None]
    remarks = export_crew(crew, "kasal").remarks
    assert [remark.field for remark in remarks] == ["tasks[0].context"]


def test_braces_in_a_cell_are_a_variable_s_and_twice_as_many_are_braces():
    text = (
        "name: N\nagents:\n  a: {role: R, goal: G}\n"
        "tasks:\n  t:\n    description: '%s'\n    expected_output: E\n    agent: a\n"
    )
    crew = load_crew(text % "{{x}} {{{{y}}}} {z} {{ x }}", values={"x": 1})
    assert crew.tasks[0].description == "1 {{y}} {z} 1"
    assert load_crew(text % "{{x}} {{{{y}}}}").tasks[0].description == "{{x}} {{{{y}}}}"
