"""The editor in a real browser, in JupyterLab and in Notebook 7: a crew is changed, saved and run."""

import re

import pytest
from playwright.sync_api import expect

from tests.kernel.test_browser import ONE_APP, code_cell, notebook, picture, run_all, show
from tests.sample_crews import crew_body, new_crew, wait_for

SECONDS = 60_000
"""Milliseconds that anything may take on a busy machine."""


def patient(page):
    page.set_viewport_size({"width": 1180, "height": 1100})
    page.set_default_timeout(SECONDS)
    expect.set_options(timeout=SECONDS)
    return page


@pytest.fixture
def lab(kept):
    return patient(kept)


@pytest.fixture
def page(window):
    page = window.new_page()
    yield patient(page)
    page.close()


def open_editor(page, server, app, crew, name, *, dark=False):
    path = notebook(
        server, name, code_cell("%load_ext kasal_jupyter", 1), code_cell(f'%kasal edit "{crew}"', 2)
    )
    show(page, server, app, path, dark=dark)
    run_all(page, server, path)
    editor = page.locator(".kasal-editor")
    editor.get_by_label("Crew, agents, tasks").wait_for()
    # Until the cell has ended, the notebook moves the focus on.
    page.locator(".jp-InputPrompt", has_text="[2]:").wait_for()
    return path, editor


def press(editor, name):
    editor.get_by_role("button", name=name, exact=True).click()


def view(editor, name):
    editor.get_by_role("tab", name=name, exact=True).click()


def choose(editor, line):
    outline = editor.get_by_label("Crew, agents, tasks")
    outline.select_option(label=outline.locator("option", has_text=line).inner_text())


@pytest.mark.parametrize("app", ONE_APP)
def test_a_crew_is_edited_saved_and_run(app, page_of, live_server, api):
    page = page_of(app)
    crew = f"Edited in {app}"
    crew_id = new_crew(api, crew_body(crew))
    _, editor = open_editor(page, live_server, app, crew, f"edit-{app}.ipynb")
    state = editor.locator(".kasal-state")
    expect(state).to_contain_text("✔ saved, version 1")

    # A field, and the YAML that follows it; then the other way round, with a comment.
    choose(editor, "Agent · Writer")
    editor.get_by_label("Goal").fill("Write in few words")
    view(editor, "YAML")
    yaml = editor.get_by_label("The crew's YAML")
    expect(yaml).to_have_value(re.compile("goal: Write in few words"))
    expect(state).to_contain_text("● unsaved changes")
    picture(page, f"editor-{app}-yaml")
    yaml.fill(yaml.input_value().replace("  Writer:\n", "  # she is brief\n  Writer:\n").replace("few", "3"))
    view(editor, "Form")
    expect(editor.get_by_label("Goal")).to_have_value("Write in 3 words")

    # A fault stands in the field's label, and goes with what was wrong.
    press(editor, "▸ More: limits, model settings, delegation")
    editor.get_by_label("Temperature").fill("9")
    editor.get_by_label("Top p").click()
    expect(editor.get_by_text("✖ Input should be less than or equal to 2")).to_be_visible()
    expect(state).to_contain_text("✖ 1 fault")
    picture(page, f"editor-{app}-fault")
    press(editor, "↶ Undo")
    expect(editor.get_by_label("Temperature")).to_have_value("")

    # A task with a context: typed and pressed without a pause, and in that order all the same.
    choose(editor, "Task 2")
    press(editor, "+ Task")
    expect(editor.get_by_label("Name", exact=True)).to_have_value("task")
    editor.get_by_label("Name", exact=True).fill("summary")
    editor.get_by_label("What to do").fill("Sum it up for {reader}")
    editor.get_by_label("Expected output").fill("A line")
    editor.get_by_label("Builds on").select_option("2 · report")
    editor.get_by_title("Add what is chosen to Builds on").click()
    expect(editor.get_by_role("button", name="← report ✕")).to_be_visible()
    expect(editor.get_by_label("Name", exact=True)).to_have_value("summary")
    expect(editor.locator(".kasal-graph")).to_contain_text("summary")
    picture(page, f"editor-{app}-form")

    # Somebody else saves in between: their change is shown, and ours is not lost.
    assert api.put(f"/crews/{crew_id}", json={"description": "Theirs"}).status_code == 200
    press(editor, "Save …")
    expect(editor.locator(".kasal-panel")).to_contain_text("Somebody else has saved this crew")
    expect(editor.get_by_label("What they have changed")).to_contain_text("+ description: Theirs")
    picture(page, f"editor-{app}-conflict")
    press(editor, "Overwrite with mine")
    expect(state).to_contain_text("✔ saved, version 3")
    stored = api.get(f"/crews/{crew_id}").json()
    assert stored["agents"][1]["goal"] == "Write in 3 words"
    assert [task["name"] for task in stored["tasks"]] == ["research", "report", "summary"]
    assert stored["tasks"][2]["context"] in (["report"], [stored["tasks"][1]["id"]])

    # A change is looked at before it is saved.
    editor.get_by_label("Expected output").fill("One line")
    press(editor, "Save …")
    expect(editor.get_by_label("What saving changes")).to_contain_text("+     expected_output: One line")
    picture(page, f"editor-{app}-save")
    press(editor, "Save")
    expect(state).to_contain_text("✔ saved, version 4")

    # The cell, with the comment; the button copies it.
    press(editor, "Copy as cell")
    cell = editor.get_by_label("The cell")
    expect(cell).to_have_value(re.compile(f'^%%kasal crew "{crew}"\n(.|\n)*# she is brief'))
    editor.get_by_role("button", name="Copy to the clipboard").click()
    expect(editor.get_by_text("✔ Copied")).to_be_visible()

    # A run, below the editor.
    press(editor, "▶ Run …")
    editor.get_by_label("topic", exact=True).fill("tea")
    editor.get_by_label("reader", exact=True).fill("all")
    picture(page, f"editor-{app}-run")
    press(editor, "▶ Start")
    trace = page.locator("[aria-label^='Trace of']").last
    trace.get_by_text("✔ completed").first.wait_for()
    job_id = re.search(r"job_\w+", editor.locator(".kasal-panel").inner_text())[0]
    assert wait_for(api, job_id)["inputs"] == {"topic": "tea", "reader": "all"}
    trace.evaluate("element => element.scrollIntoView({block: 'end'})")
    picture(page, f"editor-{app}-trace")


def test_the_editor_is_reached_by_the_keyboard_fits_every_page_and_is_heard(page, live_server, api):
    """All in one page: to open it takes longer than all the rest."""
    crew_id = new_crew(api, crew_body("Heard of"))
    _, editor = open_editor(page, live_server, "notebook", "Heard of", "heard.ipynb", dark=True)
    require_the_keyboard(page, editor)
    require_the_ear(page, editor)
    require_quiet_beginnings(page, editor, api, crew_id)
    require_every_width(page, editor)


def require_every_width(page, editor):
    """All of it can be seen, however narrow the page is."""
    for width in (900, 560, 360):
        page.set_viewport_size({"width": width, "height": 1100})
        choose(editor, "Agent · Researcher")
        expect(editor.get_by_label("Goal")).to_have_value("Find what matters about {topic}")
        picture(page, f"editor-{width}")
        require_inside(editor)
        choose(editor, "Task 2")
        for name in ("tools, order, result", "what the result must be like", "when it is done at all"):
            fold = editor.get_by_role("button", name=name)
            fold.wait_for()
            if fold.get_attribute("aria-expanded") == "false":
                fold.click()
        editor.get_by_label("It equals (JSON)").wait_for()
        picture(page, f"editor-task-{width}", full_page=True)
        require_inside(editor)


def require_the_keyboard(page, editor):
    """Every control is labelled, and reached in order; the notebook's own keys do nothing there."""
    outline = editor.get_by_label("Crew, agents, tasks")
    outline.focus()
    page.keyboard.press("ArrowDown")
    expect(editor.get_by_label("Goal")).to_be_visible()
    for keys in ("Shift+Enter", "Control+Enter"):
        editor.get_by_label("Model", exact=True).press(keys)
    outline.focus()
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name = page.evaluate(
            "(document.activeElement.labels?.[0]?.innerText || document.activeElement.innerText || '').trim()"
        )
        if not page.evaluate("!!document.activeElement.closest('.kasal-editor')"):
            break
        reached.append(name)
    order = ["+ Agent", "Name", "Model", "Role", "Goal", "Backstory", "Tools", "Add"]
    assert [name for name in reached if name in order] == order
    expect(page.locator(".jp-InputPrompt").nth(1)).to_have_text("[2]:")
    unlabelled = editor.locator("input:visible, textarea:visible, select:visible").evaluate_all(
        "all => all.filter(each => !each.labels?.length).map(each => each.outerHTML)"
    )
    assert unlabelled == []


def require_inside(editor):
    """No control is wider than the editor, or beside it."""
    box = editor.bounding_box()
    for control in editor.locator("input:visible, textarea:visible, select:visible, button:visible").all():
        place = control.bounding_box()
        assert place["x"] >= box["x"]
        assert place["x"] + place["width"] <= box["x"] + box["width"] + 1, control.inner_text()


def test_a_saved_notebook_shows_the_crew_without_a_kernel(lab, live_server, api):
    new_crew(api, crew_body("Kept in the file"))
    path, editor = open_editor(lab, live_server, "lab", "Kept in the file", "kept.ipynb")
    editor.locator(".kasal-graph").get_by_text("research").first.wait_for()
    lab.keyboard.press("Control+s")
    lab.wait_for_function("!document.querySelector('.jp-mod-dirty')")
    text = path.read_text()
    bare = path.with_name("kept-bare.ipynb")
    bare.write_text(
        re.sub(r'"kernelspec": \{[^}]*\}', '"kernelspec": {"name": "none", "display_name": "none"}', text)
    )
    show(lab, live_server, "lab", bare)
    if lab.get_by_role("dialog").count():
        lab.keyboard.press("Escape")
    kept = lab.locator(".jp-OutputArea details", has_text="Kept in the file as it is saved").last
    kept.locator("summary").first.click()
    expect(kept.get_by_text("Writer").first).to_be_visible()
    picture(lab, "editor-saved")


def require_the_ear(page, editor):
    """A screen reader hears of faults."""
    expect(page.get_by_role("group", name="Crew editor")).to_be_visible()
    views = editor.get_by_role("tablist", name="Views of the crew")
    expect(views.get_by_role("tab", name="Form", selected=True)).to_be_visible()
    expect(editor.get_by_role("tabpanel", name="Form")).to_be_visible()

    # With the arrows, as tabs are used.
    views.get_by_role("tab", name="Form").focus()
    page.keyboard.press("ArrowRight")
    expect(views.get_by_role("tab", name="YAML", selected=True)).to_be_focused()
    expect(views.get_by_role("tab", name="Form", selected=False)).to_be_visible()
    expect(editor.get_by_role("tabpanel", name="YAML")).to_be_visible()
    expect(editor.get_by_role("tabpanel", name="Form")).to_have_count(0)
    page.keyboard.press("ArrowLeft")

    fold = editor.get_by_role("button", name="More: limits, model settings, delegation")
    choose(editor, "Agent · Writer")
    expect(fold).to_have_attribute("aria-expanded", "false")
    fold.click()
    expect(fold).to_have_attribute("aria-expanded", "true")

    # What is read out was there before anything was said in it.
    said = editor.locator(".kasal-said[role=alert]")
    expect(said).to_have_text("")
    temperature = editor.get_by_role("textbox", name="Temperature")
    temperature.fill("9")
    temperature.press("Tab")
    expect(said).to_contain_text("agents.Writer.settings.temperature: Input should be less than")
    expect(temperature).to_have_attribute("aria-invalid", "true")
    expect(editor.locator(".kasal-state[role=status]")).to_contain_text("✖ 1 fault")
    press(editor, "↶ Undo")
    expect(said).to_have_text("")
    expect(temperature).to_have_attribute("aria-invalid", "false")

    # As chromium tells it to whatever reads the page.
    session = page.context.new_cdp_session(page)
    root = session.send("DOM.getDocument")["root"]["nodeId"]
    node = session.send("DOM.querySelector", {"nodeId": root, "selector": ".kasal-editor"})["nodeId"]

    def heard(role):
        found = session.send("Accessibility.queryAXTree", {"nodeId": node, "role": role})["nodes"]
        return [each["name"]["value"].strip() for each in found if not each["ignored"]]

    assert heard("tab") == ["Form", "YAML", "Changes"]
    assert heard("tabpanel") == ["Form"]
    for role in ("textbox", "combobox", "listbox", "checkbox", "button", "spinbutton"):
        assert all(heard(role)), (role, heard(role))


def require_quiet_beginnings(page, editor, api, crew_id):
    """What is begun is no fault, a model has room, and a run is started by Enter."""
    press(editor, "+ Agent")
    expect(editor.locator(".kasal-state")).to_contain_text("2 fields to fill in")
    expect(editor.locator(".kasal-fault")).to_have_count(0)
    expect(editor.get_by_label("Role")).to_have_attribute("placeholder", "to be filled in")
    assert editor.get_by_label("Model", exact=True).bounding_box()["width"] > 300
    picture(page, "editor-begun")
    press(editor, "↶ Undo")

    press(editor, "▶ Run …")
    topic = editor.get_by_label("topic", exact=True)
    topic.fill("oolong")
    topic.press("Enter")
    expect(editor.locator(".kasal-panel")).to_contain_text("its trace is below the editor")
    page.locator("[aria-label^='Trace of']").last.get_by_text("✔ completed").first.wait_for()
    assert api.get("/executions", params={"crew_id": crew_id}).json()["executions"][0]["inputs"] == {
        "topic": "oolong"
    }
    press(editor, "▶ Run …")
    expect(editor.get_by_label("topic", exact=True)).to_have_value("oolong")
    picture(page, "editor-run-again")
