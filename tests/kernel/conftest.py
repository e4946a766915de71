"""What tests of the notebook's side share."""

import pytest

from kasal_jupyter.client.client import Client
from kasal_jupyter.client.connection import Connection
from kasal_jupyter.kernel.editor import edit
from tests.sample_crews import crew_body, new_crew


@pytest.fixture(scope="module")
def client(live_server):
    client = Client(Connection(live_server.url, live_server.token))
    yield client
    client.close()


@pytest.fixture
def crew_id(api, request):
    return new_crew(api, crew_body(f"Editor: {request.node.name}"))


@pytest.fixture
def editor(client, crew_id):
    return edit(client, crew_id, {"sort": "green"})


@pytest.fixture(scope="module")
def window(browser):
    """A browser's window: its pages have what others have fetched and compiled, which takes seconds."""
    window = browser.new_context()
    yield window
    window.close()


@pytest.fixture(scope="module")
def kept(window):
    """A page that stays open: JupyterLab shows one notebook after the other in it (`test_browser.show`)."""
    page = window.new_page()
    yield page
    page.close()


@pytest.fixture
def page_of(request):
    """Give the page for an app: JupyterLab's stays open, Notebook 7 has one for each notebook."""
    return lambda app: request.getfixturevalue("lab" if app == "lab" else "page")
