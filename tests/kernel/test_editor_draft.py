"""A crew that is being edited, without any widget: the form's changes, the YAML's, and every state before."""

import pytest

from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.formats.yaml_crew import load_crew
from kasal_jupyter.kernel.crews.plan import faults_by_name
from kasal_jupyter.kernel.editor import fields
from kasal_jupyter.kernel.editor.draft import Draft
from kasal_jupyter.kernel.editor.fields import FIELDS, number_of
from kasal_jupyter.kernel.editor.form import Remarks, not_ready, place_of
from kasal_jupyter.schemas.agents import AgentFields, ModelSettings, SandboxSettings
from kasal_jupyter.schemas.crews import CrewFields
from kasal_jupyter.schemas.people import People
from kasal_jupyter.schemas.tasks import TaskCondition, TaskFields
from kasal_jupyter.schemas.webhooks import Webhook

TEXT = """\
# The tea crew
name: Tea
agents:
  # finds
  researcher:
    role: Researcher
    goal: "Find facts"  # all of them
    llm: sandbox
  writer:
    role: Writer
    goal: Write
    llm:
      model: gpt-4
      temperature: 0.2  # calm
tasks:
  facts:
    description: Collect facts about {topic}
    expected_output: A list
    agent: researcher
  report:
    description: Write a report
    expected_output: A report
    agent: writer
    context: [facts, Previous analysis from Q3]
"""
IDS = {("agents", "researcher"): "agent_1", ("tasks", "facts"): "task_1"}


def spec(kind, key):
    return next(each for each in FIELDS[kind] if each.key == key)


@pytest.fixture
def draft():
    return Draft(TEXT, IDS)


def faults(draft, kind, name, key):
    return Remarks().add(draft.faults, draft.values).at(kind, name, key)


def test_the_form_shows_every_field_of_the_api():
    shown = {kind: {each.key for each in FIELDS[kind]} for kind in FIELDS}
    webhook = {f"webhook.{name}" for name in Webhook.model_fields}
    people = {f"people.{name}" for name in People.model_fields}
    assert set(CrewFields.model_fields) - {"webhook", "people"} | webhook | people == shown["crew"]
    settings = {f"settings.{name}" for name in ModelSettings.model_fields}
    sandbox = {f"sandbox.{name}" for name in SandboxSettings.model_fields}
    assert (
        set(AgentFields.model_fields) - {"name", "settings", "sandbox"} | settings | sandbox
        == shown["agents"]
    )
    condition = {f"condition.{name}" for name in TaskCondition.model_fields}
    assert {*TaskFields.model_fields, "agent"} - {"name", "condition"} | condition == shown["tasks"]


def test_a_change_in_the_form_is_one_in_the_yaml_and_keeps_the_comments(draft):
    draft.set_value("agents", "researcher", spec("agents", "goal"), "Find: everything")
    assert draft.text == TEXT.replace('"Find facts"', '"Find: everything"')
    assert draft.crew.agents[0].goal == "Find: everything"


def test_a_change_in_the_yaml_is_one_in_the_form(draft):
    draft.set_text(TEXT.replace('"Find facts"', "Find tea  # new"))
    assert draft.value("agents", "researcher", spec("agents", "goal")) == "Find tea"
    draft.set_value("agents", "researcher", spec("agents", "role"), "Taster")
    assert "goal: Find tea  # new" in draft.text


def test_both_sides_are_the_same_crew_whatever_is_done(draft):
    draft.add("agents")
    draft.rename("agents", "agent", "taster")
    draft.set_value("agents", "taster", spec("agents", "role"), "Taster")
    draft.set_value("agents", "taster", spec("agents", "goal"), "Taste\ntwice")
    draft.set_value("agents", "taster", spec("agents", "tools"), ["calculator"])
    draft.set_value("agents", "taster", spec("agents", "settings.max_tokens"), 100)
    draft.duplicate("tasks", "report")
    draft.move("tasks", "report_2", 1)
    draft.set_value("tasks", "report_2", spec("tasks", "agent"), "taster")
    draft.set_value("tasks", "report_2", spec("tasks", "context"), ["facts", "report", "Two words"])
    crew = load_crew(draft.text)
    assert crew == draft.crew
    assert [agent.name for agent in crew.agents] == ["researcher", "writer", "taster"]
    assert crew.agents[2].settings.max_tokens == 100
    assert crew.tasks[2].context == ["facts", "report", "Two words"]
    for comment in ("# The tea crew", "# finds", "# all of them", "# calm"):
        assert comment in draft.text
    while draft.can_undo:
        draft.undo()
    assert draft.text == TEXT


def test_what_describes_the_crew_stands_before_its_agents(draft):
    draft.set_value("crew", "", spec("crew", "description"), "All about tea")
    assert draft.text == TEXT.replace("name: Tea\n", "name: Tea\ndescription: All about tea\n")
    below = Draft(f"{TEXT}process: sequential\n")
    below.set_value("crew", "", spec("crew", "process"), "hierarchical")
    assert below.text == f"{TEXT}process: hierarchical\n"


def test_a_model_with_its_settings_in_one_mapping_stays_one(draft):
    assert draft.value("agents", "writer", spec("agents", "model")) == "gpt-4"
    assert draft.value("agents", "writer", spec("agents", "settings.temperature")) == 0.2
    draft.set_value("agents", "writer", spec("agents", "settings.temperature"), 0.3)
    draft.set_value("agents", "writer", spec("agents", "model"), "sandbox")
    assert "llm:\n      model: sandbox\n      temperature: 0.3  # calm\n" in draft.text
    assert draft.crew.agents[1].settings.temperature == 0.3


def test_what_is_emptied_goes_and_so_does_an_empty_part(draft):
    draft.set_value("agents", "researcher", spec("agents", "settings.seed"), 7)
    assert "settings:\n      seed: 7\n" in draft.text
    draft.set_value("agents", "researcher", spec("agents", "settings.seed"), None)
    assert draft.text == TEXT
    draft.set_value("agents", "researcher", spec("agents", "allow_delegation"), False)
    assert draft.text == TEXT, "the default need not be written"


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("agents", "researcher", "role"), "", "it is empty; write a text"),
        (("agents", "researcher", "settings.temperature"), 3, "less than or equal to 2"),
        (("agents", "researcher", "settings.temperature"), "warm", "write a number"),
        (("agents", "writer", "settings.temperature"), 3, "less than or equal to 2"),
        (("agents", "researcher", "max_iter"), 0, "greater than or equal to 1"),
        (("tasks", "report", "agent"), "nobody", "there is no agent 'nobody'"),
        (("tasks", "report", "context"), ["later"], "there is no earlier task 'later'"),
        (("tasks", "report", "output_schema"), {"type": "text"}, "not a JSON schema"),
        (("crew", "", "name"), "", "it is empty; write a text"),
    ],
)
def test_a_fault_stands_at_its_field(draft, place, value, said):
    kind, name, key = place
    draft.set_value(kind, name, spec(kind, key), value)
    assert said in faults(draft, kind, name, key)
    assert Remarks().add(draft.faults, draft.values).count() == 1
    assert draft.crew is None
    assert draft.good is not None
    assert draft.value(kind, name, spec(kind, key)) == value, "what was typed stays"
    assert all("line " in fault.reason for fault in draft.faults)


def test_a_yaml_that_no_form_can_show_leaves_the_form_as_it_was(draft):
    draft.set_text(TEXT.replace("role: Writer", "role: [Writer"))
    assert draft.frozen
    assert draft.faults[0].reason.startswith("line 11: ")
    assert draft.value("agents", "writer", spec("agents", "role")) == "Writer"
    draft.set_value("agents", "writer", spec("agents", "role"), "Lost?")
    draft.add("tasks")
    assert "role: [Writer" in draft.text, "the form is not edited while it is behind"
    draft.set_text(TEXT.replace("role: Writer", "role: Author"))
    assert not draft.frozen
    assert draft.value("agents", "writer", spec("agents", "role")) == "Author"


@pytest.mark.parametrize("text", ["agents: [a]\nname: x\n", "name: x\ntasks:\n  a: text\n", "name: {a: 1}\n"])
def test_a_list_where_names_belong_is_a_fault_with_its_line(draft, text):
    draft.set_text(text)
    assert draft.frozen
    assert any("line " in fault.reason for fault in draft.faults)


def test_a_field_the_form_does_not_know_is_shown_at_its_agent(draft):
    draft.set_text(TEXT.replace("goal: Write\n", "goal: Write\n    gaol: x\n"))
    remarks = Remarks().add(draft.faults, draft.values)
    assert "did you mean 'goal'?" in remarks.elsewhere("agents", "writer", ["role", "goal"])
    assert not remarks.any_of("agents", "researcher")


def test_undo_and_redo_go_through_every_state(draft):
    goal = spec("agents", "goal")
    draft.set_value("agents", "writer", goal, "One")
    draft.set_text(draft.text.replace("goal: One", "goal: Two"))
    draft.remove("tasks", "report")
    seen = [draft.text]
    assert draft.undo() == ("crew", "")
    assert draft.undo() is None, "the text as a whole was changed"
    draft.redo()
    seen.append(draft.text)
    draft.undo()
    draft.undo()
    assert not draft.can_undo
    assert draft.text == TEXT
    for _ in range(3):
        draft.redo()
    assert draft.text == seen[0]
    assert not draft.can_redo
    draft.undo()
    draft.set_value("agents", "writer", goal, "Another way")
    assert not draft.can_redo


def test_a_renamed_member_is_followed_and_keeps_its_id(draft):
    draft.rename("agents", "researcher", "finder")
    draft.rename("tasks", "facts", "the facts")
    assert draft.crew.tasks[0].agent == "finder"
    assert draft.crew.tasks[1].context == ["the facts", "Previous analysis from Q3"]
    assert draft.state.ids == {("agents", "finder"): "agent_1", ("tasks", "the facts"): "task_1"}
    draft.undo()
    draft.undo()
    assert draft.state.ids == IDS


def test_a_member_renamed_in_the_yaml_keeps_its_id(draft):
    draft.set_text(TEXT.replace("researcher", "finder"))
    assert draft.state.ids["agents", "finder"] == "agent_1"


@pytest.mark.parametrize(("new", "said"), [("", "a name is needed"), ("writer", "there is another 'writer'")])
def test_a_name_that_is_none_or_anothers_is_refused(draft, new, said):
    with pytest.raises(InvalidRequest) as caught:
        draft.rename("agents", "researcher", new)
    assert said in caught.value.faults[0].reason
    assert draft.text == TEXT


def test_who_is_removed_is_mentioned_no_more(draft):
    draft.remove("tasks", "facts")
    assert draft.crew.tasks[0].context == ["Previous analysis from Q3"]
    draft.remove("agents", "writer")
    assert draft.crew.tasks[0].agent is None
    assert [fault.field for fault in not_ready(draft.crew)] == ["tasks.report.agent"]


def test_the_last_of_a_list_can_go_and_come_again(draft):
    for name in ("facts", "report"):
        draft.remove("tasks", name)
    assert draft.crew.tasks == []
    assert draft.add("tasks") == "task"
    assert draft.values["tasks"]["task"]["agent"] == "writer"


def test_moving_a_task_before_what_it_builds_on_is_a_fault(draft):
    draft.move("tasks", "report", -1)
    assert "there is no earlier task 'facts'" in faults(draft, "tasks", "report", "context")
    draft.move("tasks", "report", -1)
    assert list(draft.values["tasks"]) == ["report", "facts"], "there is no place before the first"


def test_a_crew_that_cannot_run_yet_may_be_saved():
    draft = Draft("name: x\nagents:\n  a: {role: A, goal: G}\n")
    assert draft.crew is not None
    assert not_ready(draft.crew) == [Fault("tasks", "At least one task required")]


def test_the_servers_faults_get_names(draft):
    found = faults_by_name([Fault("agents[1].model", "no key"), Fault("tasks[9].x", "?")], draft.crew)
    assert [fault.field for fault in found] == ["agents.writer.model", "tasks[9].x"]


def test_a_name_with_dots_is_told_from_a_path():
    values = {"agents": {"a.b": {"role": "x"}, "a": {}}}
    assert place_of("agents.a.b.llm", values) == ("agents", "a.b", "model")
    assert place_of("agents.a.role", values) == ("agents", "a", "role")
    assert place_of("manager_llm", values) == ("crew", "", "manager_model")


@pytest.mark.parametrize(
    ("text", "value"), [("", None), ("3", 3), ("0.5", 0.5), ("1e2", 100.0), ("warm", "warm")]
)
def test_what_is_typed_as_a_number_is_one_where_it_can_be(text, value):
    assert number_of(text) == value


def test_what_a_field_is_about_is_said_by_the_api():
    assert fields.about("agents", "max_iter") == "Most model calls for one task."
    assert fields.about("tasks", "tools") == "Tools besides its agent's."
    assert fields.about("agents", "tools") == ""
    assert fields.about("agents", "settings.timeout") == "Seconds one call may take."


MANAGED = TEXT.replace(
    "name: Tea\n", "name: Tea\nprocess: hierarchical\nmanager_agent: writer  # she knows\n"
)


def test_a_manager_keeps_its_place_under_another_name_and_goes_with_its_agent():
    draft = Draft(MANAGED)
    draft.rename("agents", "writer", "boss")
    assert "manager_agent: boss  # she knows" in draft.text
    assert draft.crew.manager_agent == "boss"
    draft.remove("agents", "boss")
    assert "manager_agent" not in draft.text
    draft.undo()
    assert draft.value("crew", "", spec("crew", "manager_agent")) == "boss"


def test_a_manager_that_does_tasks_is_told_at_the_task():
    notes = Remarks().add(not_ready(load_crew(MANAGED)), Draft(MANAGED).values)
    assert notes.at("tasks", "report", "agent") == (
        "'writer' manages the crew and does no tasks; name another agent, or none"
    )


def test_a_condition_and_a_webhook_come_and_go_with_their_fields(draft):
    for key, value in (("condition.contains", "tea"), ("condition.equals", 5), ("guardrail", "It is short.")):
        draft.set_value("tasks", "report", spec("tasks", key), value)
    report = draft.crew.tasks[1]
    assert (report.condition.contains, report.condition.equals, report.guardrail) == (
        "tea",
        5,
        "It is short.",
    )
    draft.set_value("crew", "", spec("crew", "webhook.url"), "https://example.com/hook")
    draft.set_value("crew", "", spec("crew", "webhook.events"), ["task", "error"])
    assert draft.crew.webhook.events == ["task", "error"]
    for key in ("condition.contains", "condition.equals", "guardrail"):
        draft.set_value("tasks", "report", spec("tasks", key), None)
    draft.set_value("crew", "", spec("crew", "webhook.events"), [])
    draft.set_value("crew", "", spec("crew", "webhook.url"), "")
    assert draft.text == TEXT


def test_a_condition_that_asks_nothing_is_told_at_its_task(draft):
    draft.set_value("tasks", "report", spec("tasks", "condition.field"), "score")
    said = Remarks().add(draft.faults, draft.values)
    assert said.any_of("tasks", "report")
    assert "Give at least one of contains" in said.elsewhere("tasks", "report", ["condition.field"])
