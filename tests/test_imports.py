"""The server and the kernel never import CrewAI: it costs seconds and 200 MB."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import kasal_jupyter
import kasal_jupyter.kernel


def loaded_by(*modules):
    """Give the names of all modules that a fresh interpreter has after importing some."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def modules_of(package):
    return [
        module.name
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not module.name.endswith("__main__")
    ]


def test_the_server_does_not_import_crewai():
    loaded = loaded_by("kasal_jupyter.wiring")
    assert "kasal_jupyter.executions.service" in loaded
    assert not {"crewai", "openai", "litellm", "chromadb", "mcp"} & loaded


def test_a_jupyter_server_imports_little_before_it_answers():
    loaded = loaded_by("kasal_jupyter.app") - loaded_by("jupyter_server.serverapp")
    assert not {"pydantic", "tinydb", "kasal_jupyter.store.store", "kasal_jupyter.api.base"} & loaded


def test_the_kernel_side_imports_neither_crewai_nor_the_server():
    loaded = loaded_by(*modules_of(kasal_jupyter.kernel))
    assert "kasal_jupyter.client.client" in loaded
    assert not {"crewai", "openai", "tinydb", "jupyter_server"} & loaded


@pytest.mark.parametrize("heavy", ["crewai", "pydantic", "tornado", "jupyter_server", "IPython", "httpx"])
def test_the_package_itself_imports_nothing_heavy(heavy):
    assert heavy not in loaded_by("kasal_jupyter")


BOOKKEEPING = {
    "api/long_answer.py": "a file's next bytes are read",
    "api/docs.py": "the server's own documents are made",
    "api/traces.py": "a run's own cursor is read",
    "app.py": "the server starts",
    "wiring.py": "the sandbox is opened",
    "models/listing.py": "the prices are loaded",
    "executions": "journals are written and processes started",
    "worker": "a run's own process",
}
"""Where the event loop's own threads are used, and what for: never for what others have sent."""


def test_the_loops_own_threads_do_the_servers_bookkeeping_alone():
    package = Path(kasal_jupyter.__file__).parent
    using = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "to_thread(" in path.read_text() or "run_in_executor(None" in path.read_text()
    }
    assert {
        path for path in using if path not in BOOKKEEPING and path.split("/")[0] not in BOOKKEEPING
    } == set()
    assert not using & {"executions/generate.py", "executions/usage_report.py"}
