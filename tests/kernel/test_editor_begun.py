"""What the editor says to whoever has only begun, and what it remembers of a run's inputs."""

import pytest

from kasal_jupyter.kernel.editor import edit
from kasal_jupyter.kernel.editor.form import WANTED
from tests.kernel.test_editor import choose, control, panel_text, press, text_of, typed
from tests.sample_crews import crew_body, new_crew, run


def is_red(editor, kind, key):
    return "kasal-bad" in control(editor, kind, key).control._dom_classes


@pytest.mark.parametrize(
    ("button", "kind", "keys", "line"),
    [
        ("+ Agent", "agents", ("role", "goal"), "Agent · agent"),
        ("+ Task", "tasks", ("description", "expected_output"), "Task 3 · task"),
    ],
)
def test_what_nobody_has_come_to_yet_is_no_fault(editor, button, kind, keys, line):
    press(editor.form.box, button)
    assert not any(is_red(editor, kind, key) for key in keys)
    assert [control(editor, kind, key).control.placeholder for key in keys] == [WANTED, WANTED]
    assert "2 fields to fill in" in text_of(editor._state.value)
    assert "✖" not in text_of(editor._state.value)
    assert f"{line} …" in editor.form.outline.options
    assert editor._said.value == ""

    # What was written and taken away again is one, and what was not come to still is none.
    typed(editor, kind, keys[0], "A word")
    typed(editor, kind, keys[0], "")
    assert [is_red(editor, kind, key) for key in keys] == [True, False]
    assert "✖ 1 fault" in text_of(editor._state.value)
    assert f"{kind}.{line.split(' · ')[1]}.{keys[0]}" in editor._said.value

    press(editor.widget, "Save …")
    assert [is_red(editor, kind, key) for key in keys] == [True, True]
    assert "it is empty; write a text" in panel_text(editor)


def test_a_copy_and_a_new_name_of_what_was_begun_are_begun_as_well(editor):
    press(editor.form.box, "+ Agent")
    typed(editor, "agents", "name", "critic")
    press(editor.form.box, "Duplicate")
    assert "4 fields to fill in" in text_of(editor._state.value)
    assert {"Agent · critic …", "Agent · critic 2 …"} & set(editor.form.outline.options)


def test_what_is_stored_with_a_fault_is_one_at_once(editor):
    choose(editor, "Agent · Writer")
    typed(editor, "agents", "role", "")
    assert is_red(editor, "agents", "role")


def submit(field):
    """Press Enter in a text field, as the page tells of it."""
    field._handle_custom_msg({"event": "submit"}, [])


def test_enter_starts_a_run(editor):
    press(editor.widget, "▶ Run …")
    fields = editor.running._fields
    submit(fields["topic"])
    assert editor.running.result is None
    assert fields["topic"].placeholder == "a value is needed"
    fields["topic"].value = "tea"
    submit(fields["topic"])
    assert editor.running.result.wait(60).status == "completed"


def test_inputs_are_there_again(client, api):
    crew_id = new_crew(api, crew_body("Inputs again"))
    editor = edit(client, crew_id, {})
    press(editor.widget, "▶ Run …")
    editor.running._fields["topic"].value = "half a wo"
    press(editor.panel.box, "Cancel")
    press(editor.widget, "▶ Run …")
    assert editor.running._fields["topic"].value == "half a wo"

    again = edit(client, crew_id, {})
    press(again.widget, "▶ Run …")
    assert again.running._fields["topic"].value == "half a wo"


def test_the_inputs_of_the_latest_run_are_offered(client, api):
    crew_id, _ = run(api, crew_body("Ran before"))
    asked = api.get("/executions", params={"crew_id": crew_id}).json()["executions"][0]["inputs"]["topic"]
    editor = edit(client, crew_id, {})
    press(editor.widget, "▶ Run …")
    assert editor.running._fields["topic"].value == asked
