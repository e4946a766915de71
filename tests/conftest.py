"""What tests of several rooms share."""

import os
import shutil

import pytest
from playwright.sync_api import sync_playwright

from tests.engine import SECRETS, Engine
from tests.server import start_server
from tests.skips import refused


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """A local backend; warming it up takes seconds, so there is one for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        running = Engine(tmp_path_factory.mktemp("engine"))
        running.call(running.backend.start())
        yield running
        running.close()


@pytest.fixture(scope="session")
def live_server(tmp_path_factory):
    """A Jupyter server with the extension: ``url``, ``token``, ``folder``; one for all tests."""
    server = start_server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture
def api(live_server):
    """A client of the live server's API, with the token; paths begin below ``/v1``."""
    with live_server.client() as client:
        yield client


@pytest.fixture(scope="module")
def browser():
    """A real browser, for one module: while it is there, its event loop stands in the way of others."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        missing = "the browser tests need chromium; install it, e.g. from the system's packages"
        pytest.skip(missing)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield running
        running.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Let a test that was skipped fail, where it may not be."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if (why := refused(reason, os.environ)) is not None:
            report.outcome, report.longrepr = "failed", why
    return report


def pytest_collection_modifyitems(items):
    """Begin with what takes longest: at the end, one process would wait for the other."""
    items.sort(key=lambda item: "outside" not in item.path.parts)
