"""What tests of several rooms share."""

import functools
import gc
import os
import shutil
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import sync_playwright

from kasal_jupyter import confined
from tests import shared_programs
from tests.engine import borrowed_zygotes, warm_engine
from tests.processes import PATIENCE
from tests.server import start_server
from tests.shared_zygote import VARIABLE, shared
from tests.skips import refused

# Where it is set, each of a thousand processes compiles the product anew, which takes a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
sys.modules["rfc3987_syntax"] = None  # See `tests/everywhere`.


@functools.cache
def _trust(verify, cert, trust_env, *_environ):
    return httpx.create_ssl_context(verify, cert, trust_env)


def _trust_once(verify=True, cert=None, trust_env=True):
    return _trust(verify, cert, trust_env, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


# Each of thousands of clients would read whom to trust, which takes 50 ms, and speak plain HTTP.
httpx._transports.default.create_ssl_context = _trust_once

# Where a test says nothing of its own, it would give up after five seconds, which a busy machine may take.
for _what in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _what, PATIENCE)


def pytest_configure(config):
    """Share one warm process among all that is started here, by whichever of pytest's processes."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # So it is in the background of a shell, and all that is started here would be deaf to Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        stack = ExitStack()
        stack.enter_context(shared())
        config.add_cleanup(stack.close)


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """A local backend, one for all tests."""
    with ExitStack() as stack:
        with borrowed_zygotes():
            running = stack.enter_context(warm_engine(tmp_path_factory.mktemp("engine")))
        yield running


@pytest.fixture
def lent_programs(monkeypatch):
    """Have the limited processes that a test starts be borrowed, see `tests.shared_programs`."""
    if os.environ.get(VARIABLE):
        monkeypatch.setattr(confined, "COMMAND", confined.COMMAND)
        shared_programs.lend_to(confined)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    """A Jupyter server with the extension; one for all tests."""
    server = start_server(tmp_path_factory.mktemp("server"), lab=True)
    yield server
    server.close()


@pytest.fixture(scope="module")
def live_server(shared_server):
    """The Jupyter server: ``url``, ``token``, ``folder``; without what other modules have left."""
    shared_server.forget()
    return shared_server


@pytest.fixture
def api(live_server):
    """A client of the live server's API, with the token; paths begin below ``/v1``."""
    with live_server.client() as client:
        yield client


@pytest.fixture(scope="module")
def lent():
    """Have this process borrow what reads for others, as servers do: see `tests.shared_programs`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(confined, "COMMAND", confined.COMMAND)
        if os.environ.get(VARIABLE):
            shared_programs.lend_to(confined)
        yield


@pytest.fixture(scope="module")
def browser():
    """A real browser, for one module: while it is there, its event loop stands in the way of others."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        missing = "the browser tests need chromium; install it, e.g. from the system's packages"
        pytest.skip(missing)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=chromium,
            # Without a graphics card, the processor would play one.
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-gpu-rasterization"],
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


def pytest_collection_finish():
    """Look for no garbage among what is there for good: six thousand tests, and their modules."""
    gc.collect()
    gc.freeze()


LONG = (
    *("worker/test_providers", "kernel/test_browser", "test_benchmarks", "outside/test_schemathesis"),
    *("client/test_private_server", "worker/test_mcp_sessions", "worker/test_answers"),
    *("kernel/test_editor_browser", "test_faults", "api/test_docs", "executions/test_faults"),
    *("executions/test_local", "worker/test_seams", "cli/test_run", "api/test_key_hygiene"),
    *("api/test_websocket", "api/test_generate", "test_app", "worker/test_record", "formats/test_hostile"),
    *("kernel/test_first_meeting", "kernel/test_notebooks", "kernel/test_frames", "kernel/test_runners"),
    *("hub/test_hub", "executions/test_life", "cli/test_demo"),
)
"""Files of tests, from the longest on: more than 25 seconds each."""

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    """Begin with what takes longest: at the end, one process would wait for the other."""
    places = {HERE / f"{name}.py": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))
