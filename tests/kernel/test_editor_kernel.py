"""The editor in a real kernel: what a cell shows, what a saved notebook keeps, and the way to a cell."""

import pytest

from tests.kernels import kernel_of

CREW = """\
%%kasal crew Commented crew
# made in a cell
agents:
  writer:
    role: Writer  # of what else
    goal: Write
    llm: sandbox
tasks:
  draft:
    description: Write about {topic}
    expected_output: A text
    agent: writer
"""


@pytest.fixture(scope="module")
def kernel(live_server, tmp_path_factory):
    with kernel_of(live_server, tmp_path_factory.mktemp("kernel")) as kernel:
        assert kernel.run(CREW).status == "ok"
        yield kernel


def test_the_editor_begins_with_the_comments_of_the_cell_that_made_the_crew(kernel):
    cell = kernel.run("editor = %kasal edit 'Commented crew'")
    assert cell.status == "ok", cell.error
    assert cell.shown == [], "what is assigned is not shown"
    text = kernel.value("editor.draft.text")
    assert text == CREW.partition("\n")[2].replace("agents:", "name: Commented crew\nagents:", 1)
    assert kernel.value("[editor.unsaved, editor.draft.can_undo]") == [False, False]


def test_a_cell_shows_the_widget_and_what_is_there_without_a_kernel(kernel):
    shown = kernel.run("%kasal edit 'Commented crew'").shown
    assert "application/vnd.jupyter.widget-view+json" in shown[0]
    assert "run the cell to edit it" in shown[0]["text/html"]
    assert "run the cell to edit it" in shown[0]["text/plain"]
    assert "<details" in shown[1]["text/html"]
    assert "draft" in shown[1]["text/plain"]


def test_to_cell_puts_the_crew_into_the_next_cell(kernel):
    kernel.run("editor = %kasal edit 'Commented crew'")
    message = kernel.client.execute("editor.to_cell()")
    reply = kernel.client.get_shell_msg(timeout=60)
    while reply["parent_header"]["msg_id"] != message:
        reply = kernel.client.get_shell_msg(timeout=60)
    (payload,) = reply["content"]["payload"]
    assert payload["source"] == "set_next_input"
    assert payload["text"].startswith('%%kasal crew "Commented crew"\n# made in a cell\n')
    assert kernel.run(payload["text"]).status == "ok", "and that cell makes the crew"
