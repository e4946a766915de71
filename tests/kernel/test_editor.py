"""The editor's widgets without a page, against a real server: what is typed, pressed and shown."""

import re
import sys
from html import unescape

import pytest

from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection
from kasal_jupyter.errors import KasalError
from kasal_jupyter.kernel.editor import controls, edit, saving
from kasal_jupyter.kernel.editor.pickers import Choices, ListControl, ModelControl, model_facts
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.functions import notebook_tools
from kasal_jupyter.schemas.models import ModelInfo, ModelPrice
from kasal_jupyter.tools.tool import builtin_names
from tests.sample_crews import crew_body, new_crew, wait_for
from tests.server import start_server


def text_of(html):
    return unescape(" ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL).split()))


def panel_text(editor):
    return text_of(" ".join(getattr(child, "value", "") or "" for child in editor.panel.box.children))


def press(box, name):
    """Press the button of that name somewhere in a box."""
    waiting = [box]
    while waiting:
        each = waiting.pop(0)
        if getattr(each, "description", "") == name and hasattr(each, "click"):
            assert not each.disabled, f"{name} cannot be pressed"
            each.click()
            return
        waiting += getattr(each, "children", ())
    raise AssertionError(f"there is no button {name!r}")


def choose(editor, line):
    """Choose a line of the outline."""
    lines = list(editor.form.outline.options)
    editor.form.outline.index = next(place for place, each in enumerate(lines) if each.startswith(line))


def control(editor, kind, key):
    return editor.form.forms[kind].controls[key]


def typed(editor, kind, key, value):
    control(editor, kind, key).control.value = value


def test_the_outline_leads_to_the_fields(editor):
    assert list(editor.form.outline.options)[1:] == [
        "Agent · Researcher",
        "Agent · Writer",
        "Task 1 · research",
        "Task 2 · report",
    ]
    choose(editor, "Agent · Researcher")
    assert control(editor, "agents", "goal").control.value == "Find what matters about {topic}"
    choose(editor, "Task 2")
    assert control(editor, "tasks", "agent").control.value == "Writer"


def test_form_yaml_and_graph_follow_each_other(editor):
    choose(editor, "Agent · Writer")
    typed(editor, "agents", "role", "Columnist")
    assert "role: Columnist" in editor._text.value
    editor._text.value = editor._text.value.replace("role: Columnist", "role: Poet  # of tea").replace(
        "  report:", "  poem:"
    )
    assert control(editor, "agents", "role").control.value == "Poet"
    assert "poem" in text_of(editor._graph.value)
    typed(editor, "agents", "goal", "Rhyme")
    assert "role: Poet  # of tea" in editor._text.value
    press(editor.widget, "↶ Undo")
    assert control(editor, "agents", "goal").control.value == "Write clearly"
    press(editor.widget, "↷ Redo")
    assert control(editor, "agents", "goal").control.value == "Rhyme"


def test_a_fault_is_said_at_its_field_in_the_outline_and_in_the_head(editor):
    choose(editor, "Agent · Writer")
    typed(editor, "agents", "settings.temperature", "9")
    label = control(editor, "agents", "settings.temperature").control.description
    assert "✖ Input should be less than or equal to 2" in text_of(label)
    assert "Agent · Writer ✖" in editor.form.outline.options
    assert "✖ 1 fault" in text_of(editor._state.value)
    assert "line" in text_of(editor._faults.value)
    press(editor.widget, "Save …")
    assert "cannot be saved yet" in panel_text(editor)
    typed(editor, "agents", "settings.temperature", "1")
    assert "✖" not in control(editor, "agents", "settings.temperature").control.description
    assert "Agent · Writer" in editor.form.outline.options


def test_what_the_form_cannot_show_is_said_and_the_form_waits(editor):
    choose(editor, "Agent · Writer")
    editor._text.value = editor._text.value.replace("role: Writer", "role: [Writer]")
    assert "cannot be shown as a form" in text_of(editor._frozen.value)
    assert control(editor, "agents", "role").control.disabled
    assert control(editor, "agents", "role").control.value == "Writer"
    press(editor.widget, "↶ Undo")
    assert not editor._frozen.value
    assert not control(editor, "agents", "role").control.disabled


def test_a_name_that_is_taken_is_refused_at_its_field(editor):
    choose(editor, "Agent · Writer")
    typed(editor, "agents", "name", "Researcher")
    assert "there is another" in text_of(control(editor, "agents", "name").control.description)
    assert "  Writer:" in editor._text.value
    typed(editor, "agents", "name", "Author")
    assert "agent: Author" in editor._text.value
    assert "Agent · Author" in editor.form.outline.options


def test_agents_and_tasks_are_added_copied_moved_and_removed(editor):
    choose(editor, "Task 1")
    press(editor.form.box, "+ Task")
    assert editor.form.place == ("tasks", "task")
    typed(editor, "tasks", "name", "sum up")
    typed(editor, "tasks", "description", "Sum up")
    typed(editor, "tasks", "expected_output", "A line")
    press(editor.form.box, "Duplicate")
    press(editor.form.box, "↓ Down")
    assert list(editor.draft.values["tasks"]) == ["research", "sum up", "report", "sum up_2"]
    press(editor.form.box, "Remove")
    assert editor.form.place == ("tasks", "report")
    choose(editor, "Agent · Writer")
    press(editor.form.box, "↑ Up")
    assert [agent.name for agent in editor.draft.crew.agents] == ["Writer", "Researcher"]


def test_context_offers_earlier_tasks_alone_and_takes_texts(editor):
    choose(editor, "Task 2")
    context = control(editor, "tasks", "context")
    assert isinstance(context, ListControl)
    press(context.parts[0], "← research ✕")
    assert [name for _, name in context.control.options] == ["", "research"]
    context.control.value = "research"
    press(context.parts[0], "Add")
    context._text.value = "Keep it short"
    press(context.parts[0], "Add text")
    assert editor.draft.crew.tasks[1].context == ["Previous analysis from Q3", "research", "Keep it short"]
    choose(editor, "Task 1")
    # That it gets no results is another thing than that nothing is said.
    assert [line for line, _ in context.control.options] == ["choose an earlier task …", "no task's result"]
    assert editor.draft.crew.tasks[0].context is None
    context.control.value = context.control.options[1][1]
    press(context.parts[0], "Add")
    assert editor.draft.crew.tasks[0].context == []
    press(context.parts[0], "no task's result ✕")
    assert editor.draft.crew.tasks[0].context is None


def test_tools_are_offered_by_category_with_the_notebooks_own(client, crew_id):
    @notebook_tools.tool
    def top_sales(region: str) -> str:
        """Give the best sellers of a region."""
        return region

    try:
        editor = edit(client, crew_id, {})
        choose(editor, "Agent · Researcher")
        tools = control(editor, "agents", "tools")
        lines = [line for line, _ in tools.control.options]
        assert lines[1] == "notebook · top_sales · Give the best sellers of a region."
        # The server's own by category; custom ones, and those of MCP servers, come behind by their own.
        own = builtin_names()
        server = [line.split(" · ")[0] for line in lines[2:] if line.split(" · ")[1] in own]
        assert len(server) > 3
        assert server == sorted(server)
        tools.control.value = "top_sales"
        press(tools.parts[0], "Add")
        assert editor.draft.crew.agents[0].tools == ["calculator", "top_sales"]
        assert "⚠" not in tools.control.description
        editor._text.value = editor._text.value.replace("- top_sales", "- top_sails")
        assert "no tool of the server's" in text_of(tools.control.description)
    finally:
        notebook_tools._registered.pop("top_sales")


def test_a_model_is_shown_with_key_and_price_and_may_be_typed(editor):
    priced = ModelInfo(
        name="m-1", provider="acme", available=True, price=ModelPrice(input=0.4, output=1.6), default=True
    )
    keyless = ModelInfo(name="k-1", provider="zeta", available=False, reason="no key: set ZETA_API_KEY")
    unpriced = ModelInfo(name="u-1", provider="acme", available=True)
    assert model_facts(priced) == "acme · ✔ ready · $0.40 in, $1.60 out a million tokens"
    assert model_facts(keyless) == "zeta · ✖ no key: set ZETA_API_KEY"
    assert model_facts(unpriced).endswith("price unknown")
    editor.choices = Choices(models=(keyless, priced, unpriced))
    editor.form.offer(editor.choices)
    choose(editor, "Agent · Writer")
    model = control(editor, "agents", "model")
    assert isinstance(model, ModelControl)
    assert set(model.control.options) == {"m-1", "k-1", "u-1"}
    press(model.parts[0], "All models …")
    assert [name for _, name in model._list.options] == ["m-1", "u-1", "k-1"]
    model._list.value = "k-1"
    assert editor.draft.crew.agents[1].model == "k-1"
    assert "⚠ no key: set ZETA_API_KEY" in text_of(model.control.description)
    model.control.value = "my-own"
    assert editor.draft.crew.agents[1].model == "my-own"
    assert "not in the server's list" in model._facts.value
    model.control.value = ""
    assert editor.draft.crew.agents[1].model is None
    assert model._facts.value.startswith("m-1: ")


def test_the_changes_are_shown_before_they_are_saved(editor, api, crew_id):
    choose(editor, "Agent · Writer")
    typed(editor, "agents", "name", "Author")
    typed(editor, "agents", "goal", "Write <b>well</b>")
    assert "● unsaved changes" in text_of(editor._state.value)
    before = api.get(f"/crews/{crew_id}").json()
    press(editor.widget, "Save …")
    assert "+ goal: Write <b>well</b>" in panel_text(editor)
    assert "- goal: Write clearly" in panel_text(editor)
    assert api.get(f"/crews/{crew_id}").json() == before, "nothing is saved unseen"
    press(editor.panel.box, "Save")
    after = api.get(f"/crews/{crew_id}").json()
    assert after["agents"][1]["goal"] == "Write <b>well</b>"
    assert after["agents"][1]["name"] == "Author"
    assert after["agents"][1]["id"] == before["agents"][1]["id"], "a renamed agent is the same agent"
    assert "✔ saved, version 2" in text_of(editor._state.value)
    press(editor.widget, "Save …")
    assert "Nothing to save" in panel_text(editor)


@pytest.mark.parametrize("answer", ["Take theirs", "Overwrite with mine", "Keep editing"])
def test_nobody_elses_change_is_overwritten_unseen(editor, api, crew_id, answer):
    editor._text.value = "# mine\n" + editor._text.value.replace("goal: Write clearly", "goal: Mine")
    assert api.put(f"/crews/{crew_id}", json={"description": "Theirs"}).status_code == 200
    press(editor.widget, "Save …")
    said = panel_text(editor)
    assert "Somebody else has saved this crew" in said
    assert "+ description: Theirs" in said
    assert "+ goal: Mine" in said
    press(editor.panel.box, answer)
    stored = api.get(f"/crews/{crew_id}").json()
    if answer == "Take theirs":
        assert stored["description"] == "Theirs"
        assert editor.draft.crew.description == "Theirs"
        assert editor.draft.crew.agents[1].goal == "Write clearly"
        press(editor.widget, "↶ Undo")
        assert "goal: Mine" in editor._text.value, "mine is not lost"
    elif answer == "Overwrite with mine":
        assert stored["description"] == ""
        assert stored["agents"][1]["goal"] == "Mine"
    else:
        assert stored["agents"][1]["goal"] == "Write clearly"
        assert "goal: Mine" in editor._text.value


def test_a_change_between_the_look_and_the_save_is_seen_as_well(editor, api, crew_id):
    editor._text.value = editor._text.value.replace("goal: Write clearly", "goal: Mine")
    press(editor.widget, "Save …")
    api.put(f"/crews/{crew_id}", json={"description": "Theirs"})
    press(editor.panel.box, "Save")
    assert "Somebody else has saved this crew" in panel_text(editor)
    api.put(f"/crews/{crew_id}", json={"description": "Theirs again"})
    press(editor.panel.box, "Overwrite with mine")
    assert "+ description: Theirs again" in panel_text(editor), "what was not seen is not overwritten"


def test_a_crew_that_was_deleted_can_be_saved_as_a_new_one(editor, api, client, crew_id):
    editor._text.value = editor._text.value.replace("goal: Write clearly", "goal: Mine")
    assert api.delete(f"/crews/{crew_id}").status_code == 204
    press(editor.widget, "Save …")
    assert "deleted on the server" in panel_text(editor)
    press(editor.panel.box, "Save it as a new crew")
    assert editor.stored.details.id != crew_id
    assert client.crew(editor.stored.details.id).agents[1].goal == "Mine"


def test_what_the_server_refuses_is_shown_and_nothing_is_lost(editor):
    editor._text.value = editor._text.value.replace("agents:", "agents: {}\nx-agents:").split("x-agents")[0]
    assert editor.draft.crew is not None
    text = editor._text.value
    press(editor.widget, "Save …")
    press(editor.panel.box, "Save")
    assert "At least one agent required" in panel_text(editor)
    assert editor._text.value == text
    press(editor.widget, "↶ Undo")
    assert len(editor.draft.crew.agents) == 2


def test_a_server_that_is_gone_costs_no_edit(tmp_path):
    server = start_server(tmp_path)
    try:
        with server.client() as api:
            crew = new_crew(api, crew_body("Left alone"))
        client = Client(Connection(server.url, server.token))
        editor = edit(client, crew, {})
    finally:
        server.close()
    choose(editor, "Agent · Writer")
    typed(editor, "agents", "goal", "Still here")
    press(editor.widget, "Save …")
    assert "does not answer" in panel_text(editor)
    assert "Your edits are still here" in panel_text(editor)
    press(editor.panel.box, "Try again")
    assert "goal: Still here" in editor._text.value
    client.close()


def test_a_new_crew_begins_as_one_that_can_run(client, api):
    editor = edit(client, "Brand new crew", {})
    assert editor.draft.faults == ()
    assert "● new, not saved yet" in text_of(editor._state.value)
    press(editor.widget, "Save …")
    press(editor.panel.box, "Save")
    stored = api.get(f"/crews/{editor.stored.details.id}").json()
    assert stored["name"] == "Brand new crew"
    assert stored["status"] == "active"


def test_a_run_saves_asks_for_inputs_and_starts_in_the_background(editor, api, crew_id):
    choose(editor, "Agent · Writer")
    typed(editor, "agents", "goal", "Write about {sort} tea")
    press(editor.widget, "▶ Run …")
    assert set(editor.running._fields) == {"topic", "sort"}
    assert "Your changes are saved first" in panel_text(editor)
    press(editor.panel.box, "▶ Save and start")
    assert editor.running.result is None, "inputs are missing"
    editor.running._fields["topic"].value = "tea"
    editor.running._fields["sort"].value = "$sort"
    press(editor.panel.box, "▶ Save and start")
    job_id = editor.running.result.job_id
    assert job_id in panel_text(editor)
    state = wait_for(api, job_id)
    assert state["status"] == "completed"
    assert state["inputs"] == {"topic": "tea", "sort": "green"}
    assert api.get(f"/crews/{crew_id}").json()["agents"][1]["goal"] == "Write about {sort} tea"
    assert editor.running.result.wait(60).status == "completed"
    assert f"✔ {job_id} completed" in panel_text(editor)
    press(editor.widget, "▶ Run …")
    assert editor.running._fields["topic"].value == "tea", "what was typed is offered again"


def test_a_run_that_is_refused_says_why(editor):
    choose(editor, "Agent · Writer")
    typed(editor, "agents", "model", "no-such-model-anywhere")
    press(editor.widget, "▶ Run …")
    editor.running._fields["topic"].value = "$nobody_knows"
    press(editor.panel.box, "▶ Save and start")
    assert "nobody_knows" in panel_text(editor)
    press(editor.widget, "▶ Run …")
    editor.running._fields["topic"].value = "tea"
    press(editor.panel.box, "▶ Start")
    assert "✖ Not started" in panel_text(editor)
    assert "no-such-model-anywhere" in panel_text(editor)


def test_an_unfinished_crew_may_be_saved_and_says_why_it_does_not_run(editor):
    for task in ("report", "research"):
        editor.form.go(("tasks", task))
        editor.refresh()
        press(editor.form.box, "Remove")
    assert "⚠ not ready to run" in text_of(editor._state.value)
    press(editor.widget, "▶ Run …")
    assert "At least one task required" in panel_text(editor)
    press(editor.widget, "Save …")
    press(editor.panel.box, "Save")
    assert "✔ Saved" in panel_text(editor)


def test_the_cell_makes_the_crew_with_its_comments(editor, client, crew_id):
    editor._text.value = "# why it is\n" + editor._text.value
    press(editor.widget, "Copy as cell")
    cell = next(child.value for child in editor.panel.box.children if child.description == "The cell")
    head, _, body = cell.partition("\n")
    assert head == f'%%kasal crew "{client.crew(crew_id).name}"'
    assert body == editor.draft.text
    assert body.startswith("# why it is\n")
    assert "only comments or layout differ" in text_of(editor._state.value)


def test_comments_are_there_again_when_the_crew_is_opened_again(editor, client, crew_id):
    editor._text.value = editor._text.value.replace("goal: Write clearly", "goal: Mine  # because")
    editor.review.save()
    again = edit(client, crew_id, {})
    assert "goal: Mine  # because" in again.draft.text
    again.review.save()
    saving._texts.clear()
    assert "# because" not in edit(client, crew_id, {}).draft.text


def test_comments_survive_what_others_have_changed(editor, client, api, crew_id):
    editor._text.value = editor._text.value.replace("goal: Write clearly", "goal: Mine  # because")
    editor.review.save()
    api.put(f"/crews/{crew_id}", json={"description": "Theirs"})
    again = edit(client, crew_id, {})
    assert "goal: Mine  # because" in again.draft.text
    assert again.draft.crew.description == "Theirs"


def test_a_cell_that_is_run_again_loses_no_edits(editor, client, api, crew_id):
    choose(editor, "Agent · Writer")
    typed(editor, "agents", "goal", "Unsaved")
    api.put(f"/crews/{crew_id}", json={"description": "Theirs"})
    again = edit(client, crew_id, {})
    assert again.draft.crew.agents[1].goal == "Unsaved"
    assert "are here again" in panel_text(again)
    press(again.widget, "Save …")
    assert "Somebody else has saved this crew" in panel_text(again)
    press(again.panel.box, "Overwrite with mine")
    assert api.get(f"/crews/{crew_id}").json()["agents"][1]["goal"] == "Unsaved"
    third = edit(client, crew_id, {})
    assert third.panel.subject == "", "there is nothing to take up"
    assert not third.draft.can_undo


def test_two_crews_of_one_name_are_told_apart_by_their_ids(client, api):
    ids = [new_crew(api, crew_body("Twins")) for _ in range(2)]
    with pytest.raises(CellError, match="2 crews 'Twins'") as caught:
        edit(client, "Twins", {})
    assert all(each in caught.value.message for each in ids)
    assert edit(client, ids[0], {}).stored.details.id == ids[0]


def test_no_server_is_one_readable_error():
    with pytest.raises(KasalError, match="does not answer"):
        edit(Client(Connection("http://127.0.0.1:9", "")), "Tea", {})


def test_foreign_text_is_escaped_wherever_it_is_shown(client, api):
    body = crew_body("<img src=x onerror=alert(1)>")
    body["agents"][0]["name"] = "<b>bold</b>\u202e"
    body["tasks"][0]["agent"] = "<b>bold</b>\u202e"
    editor = edit(client, new_crew(api, body), {})
    editor._text.value = editor._text.value.replace("goal: Write clearly", 'goal: ""\n    "<i>x": 1')
    choose(editor, "Agent · Writer")
    press(editor.widget, "Save …")
    shown = [
        editor._state.value,
        editor._graph.value,
        editor._faults.value,
        editor.panel.box.children[1].value,
    ]
    shown.append(editor.form.forms["agents"].message.value)
    for html in shown:
        assert "<img" not in html
        assert "<b>bold" not in html
        assert "<i>" not in html
    assert "\u202e" not in "".join(editor.form.outline.options)


def test_what_a_page_sends_goes_to_one_thread(editor):
    """A click may not overtake what was typed just before it."""
    choose(editor, "Agent · Researcher")
    press(editor.widget, "Save …")
    widgets = list(controls._walk(editor.widget))
    widgets += [each for form in editor.form.forms.values() for each in controls._walk(form.box)]
    assert len(widgets) > 100
    for each in widgets:
        assert each.comm._reply_subshell_for({}, "the page's") == "the page's"


def test_the_package_stays_light(tmp_path):
    import subprocess

    code = "import sys, kasal_jupyter, kasal_jupyter.kernel.editor as e; print('ipywidgets' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
