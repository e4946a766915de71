"""What a new user does in JupyterLab first: types, presses Tab, is asked something, closes the page."""

import re
import time
from contextlib import suppress

import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from playwright.sync_api import expect

from tests.kernel.test_browser import CARD, code_cell, notebook, run_all, show
from tests.sample_crews import crew_body, new_crew, run, wait_for

SECONDS = 60_000


@pytest.fixture(scope="module")
def crews(live_server):
    """A crew that asks a human, one that stays in its first task, and one that has run."""
    asking = crew_body("Meeting that asks")
    asking["agents"][0]["tools"] = ["ask_human"]
    with live_server.client() as api:
        new_crew(api, asking)
        new_crew(api, crew_body("Meeting that lasts", latency=600))
        run(api, crew_body("Meeting that was"))


@pytest.fixture
def tab(kept, crews):
    """A page of the browser: the same for all, until the last one closes it."""
    kept.set_viewport_size({"width": 1180, "height": 900})
    kept.set_default_timeout(SECONDS)
    expect.set_options(timeout=SECONDS)
    return kept


def run_cells(tab, server, name, *cells):
    path = notebook(server, name, *(code_cell(cell, number) for number, cell in enumerate(cells, 1)))
    show(tab, server, "lab", path)
    run_all(tab, server, path)
    return path


def test_a_question_is_answered_in_the_cell_that_waits_and_tab_opens_a_list_of_what_is_meant(
    tab, live_server
):
    """Both in one page: to open it takes longer than all the rest."""
    loaded = "%load_ext kasal_jupyter\nimport kasal_jupyter as kasal"
    run_cells(tab, live_server, "asks.ipynb", loaded, "%kasal run Meeting that asks topic=tea", "")
    card = tab.locator(CARD).last
    expect(card).to_contain_text("type it below")
    asked = tab.locator(".jp-Stdin-input")
    asked.fill("Green, please")
    asked.press("Enter")
    expect(card).to_contain_text("✔ completed")
    expect(card).to_contain_text("→ Green, please")

    expect(tab.locator(".jp-InputPrompt").nth(1)).to_have_text("[2]:")
    cell = tab.locator(".jp-CodeCell").last.locator(".cm-content")
    for typed, first in (("kasal.", "Agent"), ("%kasal run --again ", "job_")):
        end = time.monotonic() + SECONDS / 1000
        while True:
            cell.click()
            tab.keyboard.press("Control+a")
            tab.keyboard.type(typed)
            tab.keyboard.press("Tab")
            # JupyterLab waits a second for the kernel, which a busy machine may need for the first list.
            with suppress(PlaywrightTimeout):
                tab.locator(".jp-Completer-item").first.wait_for(timeout=5_000)
                if first in tab.locator(".jp-Completer-item").first.inner_text():
                    break
            assert time.monotonic() < end, typed
            tab.keyboard.press("Escape")
        tab.keyboard.press("Escape")


def test_a_page_that_was_closed_tells_until_when_it_knows_and_how_the_run_is_picked_up(tab, live_server):
    path = run_cells(
        tab, live_server, "closed.ipynb", "%load_ext kasal_jupyter", "%kasal run Meeting that lasts topic=tea"
    )
    expect(tab.locator(CARD).last).to_contain_text("report · Writer · not begun")
    tab.keyboard.press("Control+s")
    tab.wait_for_function("!document.querySelector('.jp-mod-dirty')")
    saved = path.read_text()
    tab.close()

    kept = path.with_name("closed-kept.ipynb")
    kept.write_text(saved.replace('"name": "python3"', '"name": "none"'))
    with tab.context.new_page() as again:
        show(again, live_server, "lab", kept)
        told = again.locator(".jp-OutputArea").last
        expect(told).to_contain_text(re.compile(r"as it stood at .* last event at \d\d:\d\d:\d\d UTC"))
        job_id = re.search(r"%kasal status (job_\w+)", told.inner_text())[1]
    with live_server.client() as api:
        assert wait_for(api, job_id, "running")["status"] == "running"
        api.post(f"/executions/{job_id}/stop")
