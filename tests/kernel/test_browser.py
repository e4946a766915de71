"""The trace in a real browser: in JupyterLab and Notebook 7, live and saved, trusted and not."""

import json
import os
import re
import time
from itertools import pairwise
from pathlib import Path

import pytest
from nbconvert import HTMLExporter

from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection
from kasal_jupyter.kernel.runs.result import RunResult
from kasal_jupyter.kernel.views.difference import RunDifference
from kasal_jupyter.schemas.executions import ExecutionFork
from tests.kernel.test_markdown import REPORT
from tests.kernel.test_views import events
from tests.sample_crews import crew_body, new_crew, start, wait_for
from tests.thorough import some_or_all

CREW = """\
%%kasal crew "Market watch" --force
agents:
  researcher:
    role: Researcher
    goal: Find what moves {topic}
    llm: sandbox
    tools: [calculator]
    sandbox: {latency: SECONDS, answer_words: 160}
  writer:
    role: Writer
    goal: Write well
    llm: sandbox
    sandbox: {latency: SECONDS}
tasks:
  Find the facts:
    description: Collect facts about {topic}
    expected_output: A list
    agent: researcher
  Write the report:
    description: Write a report on {topic}
    expected_output: A report
    agent: writer
    context: [Find the facts]
"""
APPS = {"lab": "doc/tree", "notebook": "notebooks"}
ONE_APP = some_or_all(["lab"], [*APPS])
"""Where both have the same part of JupyterLab do it, one is looked at every time: the one that stays open."""

KERNEL = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
CARD = "[aria-label^='Trace of']"


@pytest.fixture
def lab(kept):
    """The page that stays open."""
    kept.set_viewport_size({"width": 1180, "height": 900})
    return kept


@pytest.fixture
def page(window):
    """A page of a test's own."""
    page = window.new_page()
    page.set_viewport_size({"width": 1180, "height": 900})
    yield page
    page.close()


def picture(of, name, **options):
    """Take a picture of a view, to be looked at, where ``KASAL_PICTURES`` says to which folder."""
    if folder := os.environ.get("KASAL_PICTURES"):
        of.screenshot(path=Path(folder) / f"{name}.png", **options)


def code_cell(source, number, outputs=()):
    return {
        "cell_type": "code",
        "id": f"cell-{number}",
        "metadata": {},
        "execution_count": None,
        "source": source,
        "outputs": list(outputs),
    }


def notebook(server, name, *cells, kernel=KERNEL):
    """Lay a notebook where the server's users find it."""
    path = server.folder.parent / name
    metadata = {"kernelspec": kernel} if kernel else {}
    path.write_text(
        json.dumps({"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})
    )
    return path


def run_notebook(server, name, seconds):
    return notebook(
        server,
        name,
        code_cell("%load_ext kasal_jupyter", 1),
        code_cell(CREW.replace("SECONDS", str(seconds)), 2),
        code_cell('run = %kasal run "Market watch" topic="tea prices"', 3),
    )


def setting(client, server, plugin, **values):
    url = f"{server.url}/lab/api/settings/@jupyterlab/{plugin}"
    answer = client.put(url, json={"raw": json.dumps(values)})
    assert answer.status_code == 204, answer.text


IN_ITS_PLACE = """async ([path, theme]) => {
    const {commands, shell} = window.jupyterapp;
    for (const widget of [...shell.widgets("main")]) {
        widget.dispose();
    }
    await commands.execute("apputils:change-theme", {theme});
    await commands.execute("docmanager:open", {path});
}"""


def show(page, server, app, path, *, dark=False):
    """Open a notebook in JupyterLab or Notebook 7, in a theme.

    A JupyterLab that the page has already puts away what it shows, and opens the notebook from its file: it
    takes a sixth of what it takes to load the page.
    """
    theme = f"JupyterLab {'Dark' if dark else 'Light'}"
    if app == "lab" and page.evaluate("'jupyterapp' in window"):
        page.evaluate(IN_ITS_PLACE, [path.name, theme])
    else:
        with server.client() as client:
            setting(client, server, "apputils-extension:themes", theme=theme)
            setting(
                client, server, "apputils-extension:notification", fetchNews="false", checkForUpdates=False
            )
        page.goto(f"{server.url}/{APPS[app]}/{path.name}?token={server.token}")
    page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)


def run_all(page, server, path):
    """Run all cells, once the page has its kernel: before, it would ask for one."""
    end = time.monotonic() + 60
    with server.client() as client:
        while not any(
            session["path"] == path.name
            and session["kernel"]["connections"]
            and session["kernel"]["execution_state"] == "idle"
            for session in client.get(f"{server.url}/api/sessions").json()
        ):
            assert time.monotonic() < end, "the notebook got no kernel"
            page.wait_for_timeout(100)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def saved_trace(page, path):
    """Save the notebook, and give the output that shows the trace once it is in the file."""
    page.keyboard.press("Control+s")
    end = time.monotonic() + 120
    while True:
        outputs = [out for cell in json.loads(path.read_text())["cells"] for out in cell["outputs"]]
        traces = [output for output in outputs if "kasal" in output.get("metadata", {})]
        if traces and "<details" in "".join(traces[0]["data"]["text/html"]):
            return traces[0]
        assert time.monotonic() < end, "the notebook was not saved with its trace"
        page.wait_for_timeout(100)


@pytest.fixture(scope="module")
def finished(live_server):
    """A real run with an error that it recovered from, in the form that a saved notebook keeps."""
    body = crew_body("Market research", latency=0.2, answer_words=400)
    body["agents"][0]["tools"] = ["calculator", "sales"]
    # No name below .invalid ever leads anywhere (RFC 2606): the tool fails, and the agent goes on.
    tool = {"name": "sales", "description": "Sales of a region", "endpoint": "https://sales.invalid/"}
    with live_server.client() as api:
        assert api.post("/tools/custom", json=tool).status_code == 201
        job_id = start(api, new_crew(api, body), "tea prices " * 30)
        wait_for(api, job_id)
    result = RunResult(job_id)
    for event in Client(Connection(live_server.url, live_server.token)).follow(job_id):
        result.feed(event)
    return result


def saved_notebook(server, name, result, **metadata):
    output = {"output_type": "display_data", "metadata": {}, "data": result.bundle()}
    return notebook(server, name, code_cell("run", 1, [output]), **metadata)


@pytest.mark.parametrize("app", some_or_all(["lab"], [*APPS]))
def test_a_run_grows_under_its_cell_and_stays_in_the_saved_notebook(app, page_of, live_server):
    page = page_of(app)
    path = run_notebook(live_server, f"grow-{app}.ipynb", 1.0)
    show(page, live_server, app, path)
    run_all(page, live_server, path)
    card = page.locator(CARD).last
    card.get_by_text("▶ running").first.wait_for(timeout=60_000)
    page.locator(".jp-CodeCell").last.evaluate("cell => cell.scrollIntoView()")
    card.get_by_text("calculator").first.wait_for()
    assert card.locator("details").count() == 0
    picture(page, f"{app}-live")
    card.get_by_text("Write the report").first.wait_for()
    card.get_by_text("✔ completed").first.wait_for()
    assert card.locator("summary").count() >= 6
    picture(page, f"{app}-finished")
    assert saved_trace(page, path)["metadata"]["kasal"]["job_id"].startswith("job_")

    # From its file, as whoever opens it next.
    show(page, live_server, app, path)
    step = page.locator(CARD).last.locator("summary", has_text="expression=").first
    step.wait_for(timeout=60_000)
    arguments = step.locator("xpath=..").locator("pre").first
    assert not arguments.is_visible()
    step.focus()
    page.keyboard.press("Enter")
    assert arguments.is_visible()


@pytest.mark.parametrize("app", ONE_APP)
def test_the_interrupt_button_stops_the_run_on_the_server(app, page_of, live_server):
    page = page_of(app)
    path = run_notebook(live_server, f"stop-{app}.ipynb", 600)
    show(page, live_server, app, path)
    run_all(page, live_server, path)
    card = page.locator(CARD).last
    card.get_by_text("sandbox").first.wait_for(timeout=60_000)
    page.locator("[data-command='notebook:interrupt-kernel']").first.click()
    card.get_by_text("■ stopped").first.wait_for()
    told = (
        page.locator(".jp-CodeCell").last.get_by_text("was stopped, on the server as well").first.inner_text()
    )
    page.locator(".jp-CodeCell").last.evaluate("cell => cell.scrollIntoView()")
    picture(page, f"{app}-stopped")
    with live_server.client() as api:
        job_id = re.search(r"job_\w+", told)[0]
        assert api.get(f"/executions/{job_id}").json()["status"] == "stopped"


@pytest.mark.parametrize(
    "where",
    some_or_all(["lab-light", "notebook-dark"], ["lab-light", "lab-dark", "notebook-light", "notebook-dark"]),
)
def test_an_untrusted_notebook_shows_the_whole_trace_without_a_kernel(where, page_of, live_server, finished):
    path = saved_notebook(live_server, f"saved-{where}.ipynb", finished, kernel=None)
    app, theme = where.split("-")
    page = page_of(app)
    show(page, live_server, app, path, dark=theme == "dark")
    # The dialog lies above its own buttons for a pointer that comes as early as this one.
    page.locator(".jp-Dialog .jp-mod-reject").dispatch_event("click")
    answer = page.get_by_text("Answer", exact=True).first
    answer.wait_for()
    # The sanitiser was there: what it drops is gone.
    assert page.locator(CARD).count() == 0
    card = answer.locator("xpath=ancestor::div[contains(@class, 'tex2jax_ignore')]")
    assert card.locator("summary").count() >= 8
    bars = card.locator("summary span[style*='width']").evaluate_all(
        "bars => bars.map(bar => bar.getBoundingClientRect()).map(box => [box.left, box.right, box.height])"
    )
    left, right = min(bar[0] for bar in bars), max(bar[1] for bar in bars)
    assert all(bar[2] == 8 for bar in bars)
    assert right - left > 250
    failed = card.locator("summary", has_text="failed after").first
    assert failed.locator("xpath=..").evaluate("step => step.open")
    assert failed.locator("xpath=..").get_by_text("error", exact=True).is_visible()
    picture(page, f"saved-{where}")
    fold = card.locator("summary", has_text="more").last
    if not fold.is_visible():
        card.evaluate("card => card.querySelectorAll('details').forEach(step => { step.open = true })")
    picture(page, f"saved-{where}-open")
    assert contrast(page, card) >= 4.5


@pytest.mark.parametrize("app", ONE_APP)
def test_an_answer_is_read_as_markdown_and_its_formulas_are_set(app, page_of, live_server):
    page = page_of(app)
    result = RunResult("job_1")
    for event in events(answer=REPORT):
        result.feed(event)
    path = saved_notebook(live_server, f"answer-{app}.ipynb", result, kernel=None)
    show(page, live_server, app, path)
    page.locator(".jp-Dialog .jp-mod-reject").dispatch_event("click")
    answer = page.get_by_text("Answer", exact=True).first.locator("xpath=..")
    answer.wait_for()
    answer.locator("mjx-container").nth(2).wait_for(timeout=60_000)
    picture(page, f"answer-{app}")
    assert answer.locator("mjx-container").count() == 3
    assert "a pound costs $5, two cost $9." in answer.inner_text()
    assert answer.locator("table td", has_text="2.35").count() == 1
    raw = answer.locator("summary", has_text="raw text")
    raw.click()
    assert answer.locator("details pre", has_text="**fell 4 %**").is_visible()
    assert "$p_1 * q_1$" in answer.locator("details pre").last.inner_text()


def contrast(page, card):
    """Give the least contrast of a row's weaker text against the page, as WCAG counts it."""
    return page.evaluate(
        """element => {
            const rgb = colour => colour.match(/[\\d.]+/g).map(Number);
            const ground = node => {
                const [r, g, b, a = 1] = rgb(getComputedStyle(node).backgroundColor);
                return a === 1 ? [r, g, b] : ground(node.parentElement);
            };
            const light = ([r, g, b]) => [r, g, b].map(part => part / 255)
                .map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
                .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
            const note = element.querySelector("summary span[style*='opacity']");
            const behind = ground(element);
            const [r, g, b, a = 1] = rgb(getComputedStyle(note).color);
            const share = a * Number(getComputedStyle(note).opacity);
            const seen = [r, g, b].map((part, at) => part * share + behind[at] * (1 - share));
            const [low, high] = [light(seen), light(behind)].sort((one, other) => one - other);
            return (high + 0.05) / (low + 0.05);
        }""",
        card.element_handle(),
    )


def test_a_trusted_notebook_follows_the_theme(lab, live_server, finished):
    path = saved_notebook(live_server, "trusted.ipynb", finished)
    with live_server.client() as client:
        assert client.post(f"{live_server.url}/api/contents/{path.name}/trust").status_code in {200, 201, 204}
    colours = []
    for dark in (False, True):
        show(lab, live_server, "lab", path, dark=dark)
        card = lab.locator(CARD).first
        card.wait_for()
        assert contrast(lab, card) >= 4.5
        colours.append(card.evaluate("card => getComputedStyle(card).color"))
    assert colours[0] != colours[1]


def test_nbconvert_keeps_the_whole_trace(page, live_server, finished, tmp_path):
    path = saved_notebook(live_server, "converted.ipynb", finished)
    html, _ = HTMLExporter().from_filename(str(path))
    (tmp_path / "converted.html").write_text(html)
    # What the page would fetch from the network has nothing to do with the trace.
    page.route("**/*", lambda route: route.continue_() if "converted" in route.request.url else route.abort())
    page.goto((tmp_path / "converted.html").as_uri(), wait_until="domcontentloaded")
    card = page.locator(CARD).first
    assert card.locator("summary", has_text="research").first.is_visible()
    assert card.locator("summary span[style*='width']").first.bounding_box()["height"] == 8
    picture(page, "nbconvert")


def test_a_reader_that_hears_the_trace_hears_kind_state_and_figures(page, finished, tmp_path):
    page.goto(finished.to_html(tmp_path / "page.html").as_uri())
    heard = page.locator("summary", has_text="research").first.aria_snapshot()
    assert "task research: Researcher · 1 error recovered · at " in heard
    assert "completed in" in heard
    assert "tokens" in heard
    failed = page.locator("summary", has_text="failed after").first.aria_snapshot()
    assert "tool call sales: failed: " in failed
    assert page.get_by_role("progressbar", name="tasks done").count() == 1


def test_every_row_can_be_reached_and_opened_by_keyboard(page, finished, tmp_path):
    page.goto(finished.to_html(tmp_path / "page.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    steps = page.locator("summary").count()
    for _ in range(steps):
        page.keyboard.press("Tab")
        while page.evaluate("document.activeElement.tagName") == "PRE":
            page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
        page.evaluate("document.activeElement.dataset.seen = 1")
    assert page.locator("summary[data-seen]").count() == steps


@pytest.mark.parametrize("width", [360, 700, 1600])
def test_a_page_of_any_width_has_one_time_axis_and_no_overlap(width, page, finished, tmp_path):
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(finished.to_html(tmp_path / "page.html").as_uri())
    picture(page, f"page-{width}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    rows = page.evaluate(
        """() => [...document.querySelectorAll('summary')]
            .map(row => [...row.children].filter(part => part.style.right))
            .filter(columns => columns.length)
            .map(columns => columns.map(part => part.getBoundingClientRect()))
            .map(columns => columns.map(box => [box.left, box.right]))
        """
    )
    for columns in rows:
        for (_, before), (after, _) in pairwise(columns):
            assert before <= after
    times = {round(columns[0][1]) for columns in rows}
    assert len(times) == 1


@pytest.fixture(scope="module")
def parted(live_server, finished):
    """In what a fork of that run differs from it."""
    trace = finished.trace
    call = next(span for span in trace.spans.values() if span.name == "calculator")
    client = Client(Connection(live_server.url, live_server.token))
    said = f"Nothing was found.\n{'The prices of tea stay as they are. ' * 12}\n<b>Not bold</b>"
    forked = client.fork(finished.job_id, ExecutionFork(span=call.id, result=said)).job_id
    with live_server.client() as api:
        wait_for(api, forked)
    found = client.diff(finished.job_id, forked)
    client.close()
    return RunDifference(found)


@pytest.mark.parametrize("dark", [False, True])
def test_a_difference_is_side_by_side_in_a_saved_notebook(dark, lab, live_server, parted):
    """Without a kernel, not trusted: what was changed is read, and what differs in a line is marked."""
    output = {"text/html": parted._repr_html_(), "text/plain": repr(parted)}
    shown = {"output_type": "display_data", "metadata": {}, "data": output}
    path = notebook(live_server, f"diff-{dark}.ipynb", code_cell("diff", 1, [shown]))
    lab.set_viewport_size({"width": 1180, "height": 1700})
    show(lab, live_server, "lab", path, dark=dark)
    card = lab.locator(".jp-OutputArea-output").filter(has_text="They part at step").first
    card.get_by_text("They part at step").wait_for()
    assert "<b>Not bold</b>" in card.inner_text()
    card.locator("summary").click()
    picture(card, f"diff-{'dark' if dark else 'light'}")
    rows = card.locator("tr", has_text="Nothing was found.")
    ours, theirs = rows.first.locator("td").all()
    left, right = ours.bounding_box(), theirs.bounding_box()
    assert left["x"] + left["width"] <= right["x"] + 1
    assert abs(left["width"] - right["width"]) < 4


ASKING = """\
%%kasal crew Careful --force
agents:
  counter:
    role: Counter
    goal: Count
    llm: sandbox
    tools: [calculator]
    needs_approval: ["calculator(expression=1*)"]
tasks:
  Count:
    description: Count
    expected_output: A sum
    agent: counter
    human_input: true
"""


def test_what_a_run_in_the_background_asks_is_answered_by_buttons(page, live_server):
    cells = ["%load_ext kasal_jupyter", ASKING, 'run = %kasal run Careful expression="1 + 1" --bg']
    path = notebook(live_server, "asking.ipynb", *(code_cell(each, at) for at, each in enumerate(cells, 1)))
    show(page, live_server, "notebook", path)
    run_all(page, live_server, path)
    approve = page.get_by_role("button", name="approve")
    approve.wait_for(timeout=60_000)
    page.locator(".jp-CodeCell").last.evaluate("cell => cell.scrollIntoView()")
    picture(page, "buttons-approval")
    arguments = page.locator("textarea:not([disabled])").last
    arguments.fill('{"expression": "2 + 2"}')
    # Drawn again meanwhile, the view takes nothing away of what is typed.
    page.wait_for_timeout(1_500)
    approve.click()
    hint = page.get_by_placeholder("or what is to be different")
    hint.wait_for()
    picture(page, "buttons-review")
    hint.fill("Say it again")
    send = page.get_by_role("button", name="Send").last.element_handle()
    send.click()
    # The next round is asked about anew; this one's buttons stay until the kernel has heard of it.
    page.wait_for_function("button => button.disabled || !button.isConnected", arg=send)
    page.get_by_role("button", name="approve").and_(page.locator(":not([disabled])")).click()
    card = page.locator(CARD).last
    card.get_by_text("✔ completed").first.wait_for()
    assert page.get_by_role("button", name="approve").count() == 0
    picture(page, "buttons-done")
    assert saved_trace(page, path)["metadata"]["kasal"]["job_id"].startswith("job_")
