"""The editor's form for managers, plans, guardrails, conditions and fallbacks, against a real server."""

from tests.kernel.test_editor import choose, press


def field(editor, kind, key):
    return editor.form.forms[kind].controls[key]


def test_what_few_crews_need_is_folded_away(editor):
    folds = {kind: [fold.unfolded for fold in form.folds] for kind, form in editor.form.forms.items()}
    assert folds == {"crew": [False, False], "agents": [False, False], "tasks": [False, False, False]}


def test_a_crew_gets_a_manager_and_a_plan(editor, api, crew_id):
    field(editor, "crew", "process").control.value = "hierarchical"
    manager = field(editor, "crew", "manager_agent").control
    assert [value for _, value in manager.options] == [None, "Researcher", "Writer"]
    manager.value = "Writer"
    field(editor, "crew", "planning").control.value = True
    assert "manager_agent: Writer" in editor.draft.text
    assert "planning: true" in editor.draft.text
    choose(editor, "Task 2")
    assert "manages the crew and does no tasks" in field(editor, "tasks", "agent").control.description
    field(editor, "tasks", "agent").control.value = None
    press(editor.widget, "Save …")
    press(editor.widget, "Save")
    stored = api.get(f"/crews/{crew_id}").json()
    assert stored["configuration"]["manager_agent"] == stored["agents"][1]["id"]
    assert stored["configuration"]["planning"] is True


def test_a_task_gets_a_guardrail_a_condition_and_a_file(editor):
    choose(editor, "Task 2")
    field(editor, "tasks", "guardrail").control.value = "It names a price."
    field(editor, "tasks", "guardrail_max_retries").control.value = "1"
    field(editor, "tasks", "condition.matches").control.value = r"\d+"
    field(editor, "tasks", "output_file").control.value = "report.md"
    report = editor.draft.crew.tasks[1]
    assert (report.guardrail, report.guardrail_max_retries) == ("It names a price.", 1)
    assert (report.condition.matches, report.output_file) == (r"\d+", "report.md")
    field(editor, "tasks", "condition.matches").control.value = "(?=x)"
    assert "it is no regular expression" in field(editor, "tasks", "condition.matches").control.description
    field(editor, "tasks", "output_file").control.value = "../report.md"
    assert "no path inside the run&#x27;s folder" in field(editor, "tasks", "output_file").control.description


def test_fallbacks_are_chosen_in_their_order_or_typed(editor):
    choose(editor, "Agent · Writer")
    fallbacks = field(editor, "agents", "fallbacks")
    assert "sandbox" in [value for _, value in fallbacks.control.options]
    fallbacks._text.value = "openai/some-model"
    fallbacks._add_text.click()
    fallbacks.control.value = "sandbox"
    fallbacks._add.click()
    assert editor.draft.crew.agents[1].fallbacks == ["openai/some-model", "sandbox"]
