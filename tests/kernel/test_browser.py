"""The saved notebook's trace in a real browser."""

import json
from pathlib import Path

import pytest

from kasal_jupyter.kernel.view_html import render_html
from kasal_jupyter.schemas.trace import build_trace
from tests.kernel.test_views import HOSTILE, events

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "quickstart.ipynb"


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1060, "height": 700})
    yield page
    page.close()


def saved_trace():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    outputs = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    return next(
        "".join(data["text/html"]) for data in outputs if "<details" in "".join(data.get("text/html", ""))
    )


def test_a_step_opens_to_what_was_asked_and_answered(page):
    page.set_content(saved_trace())
    step = page.locator("summary", has_text="expression=").last
    arguments = step.locator("xpath=..").locator("pre").first
    assert not arguments.is_visible()
    step.click()
    assert arguments.is_visible()


def test_the_waterfall_has_one_time_axis(page):
    page.set_content(saved_trace())
    assert page.locator("summary", has_text="facts").first.is_visible()
    assert page.get_by_text("Market research").first.is_visible()
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 1060


def test_what_an_agent_says_is_never_executed(page):
    said = []
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    page.set_content(
        render_html(build_trace(events(task=HOSTILE, answer=HOSTILE, tool_result=HOSTILE, extra_calls=3)))
    )
    for summary in page.locator("summary").all():
        summary.evaluate("element => element.parentElement.open = true")
    assert page.locator("script, img").count() == 0
    assert said == []
