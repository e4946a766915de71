"""What worker processes find in their environment."""

import asyncio
import importlib.util
import json
import os
import sys
from pathlib import Path

import certifi
import pytest

from kasal_jupyter.confined import confined
from kasal_jupyter.executions.backends import child as worker
from kasal_jupyter.executions.backends.child import worker_environment
from kasal_jupyter.executions.backends.spares import SpareNursery
from kasal_jupyter.executions.backends.zygote import Zygote, ZygoteNursery
from kasal_jupyter.schemas.mcp import RunMcpServer
from kasal_jupyter.schemas.spec import RunToolSettings
from kasal_jupyter.tools.builtin import python
from kasal_jupyter.tools.mcp_listing import McpFailed
from kasal_jupyter.tools.mcp_probe import probe
from kasal_jupyter.tools.tool import ToolContext
from kasal_jupyter.warden import MARK
from kasal_jupyter.worker.process.setup import SWITCHES

HOSTILE = dict.fromkeys(
    [
        *("OPENAI_API_KEY", "OPENAI_BASE_URL", "anthropic_api_key", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"),
        *("JUPYTERHUB_API_TOKEN", "DB_PASSWORD", "GOOGLE_APPLICATION_CREDENTIALS", "CREWAI_USER_PAT"),
        *("REDIS_URL", "DATABASE_URL", "SENTRY_DSN", "PGPASSFILE", "KASAL_TOKEN", "SOMETHING_NEW"),
    ],
    "of-the-servers-alone",
)
"""What no process has to do with that parses or runs what others have written."""

PLAIN = {"PATH": os.environ["PATH"], "HOME": "/home/ada", "LANG": "C.UTF-8", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
CERTIFICATES = {"SSL_CERT_FILE": certifi.where(), "REQUESTS_CA_BUNDLE": certifi.where()}
PROXIES = {"https_proxy": "http://ada:of-the-proxy@127.0.0.1:9", "NO_PROXY": "localhost"}
OURS = {MARK, "PYTHONUNBUFFERED", "OBJC_DISABLE_INITIALIZE_FORK_SAFETY", "PYTHONPYCACHEPREFIX"}
SWITCHED = {*SWITCHES, "CREWAI_STORAGE_DIR", "LC_CTYPE", "SQLITE_TMPDIR"}
"""What a process says to the libraries it imports."""


@pytest.fixture
def environ(monkeypatch):
    """Give this process an environment that has everything in it."""
    for name in os.environ:
        monkeypatch.delenv(name)
    for name, value in {
        **PLAIN,
        **CERTIFICATES,
        **PROXIES,
        **HOSTILE,
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HOME": "/models",
    }.items():
        monkeypatch.setenv(name, value)


def told(pid):
    """Give the environment that a process was started with."""
    data = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(each.decode().split("=", 1) for each in data if each)


def test_a_worker_gets_what_is_on_the_list_and_what_the_deployer_names(environ, tmp_path):
    made = worker_environment(os.environ, tmp_path)
    assert {name: value for name, value in made.items() if name not in OURS} == {
        **PLAIN,
        **CERTIFICATES,
        **PROXIES,
    }
    more = worker_environment(os.environ, tmp_path, ["HF_HOME", "Sentry_DSN"])
    assert set(more) - set(made) == {"HF_HOME", "SENTRY_DSN"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("nursery", [ZygoteNursery, SpareNursery])
def test_a_runs_process_has_that_environment(environ, tmp_path, nursery, monkeypatch):
    # Whatever is started, it is given the same.
    monkeypatch.setattr(Zygote, "program", "tests.light_zygote")
    monkeypatch.setattr(SpareNursery, "program", "tests.light_spare")

    async def started_with():
        workers = nursery(tmp_path, passed=["HF_HOME"])
        try:
            child = await workers.child([])
            found = told(child.pid)
            child.kill()
            await child.exited
            child.sock.close()
        finally:
            await workers.close()
        return found

    found = asyncio.run(started_with())
    assert set(found) - OURS - SWITCHED == {*PLAIN, *CERTIFICATES, *PROXIES, "HF_HOME"}


def test_a_parsers_process_has_the_plain_one(environ):
    found = json.loads(confined("tests.executions.test_child_environment:environment", b"", seconds=60))
    assert set(found) - {"LC_CTYPE"} == set(PLAIN)


def environment(_data):
    return json.dumps(dict(os.environ)).encode()


def test_the_python_tool_has_the_plain_one_with_the_runs_folder(environ, tmp_path):
    context = ToolContext(tmp_path, settings=RunToolSettings(python=True))
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    found = json.loads(python.TOOL.run(context, code=code))
    threads = {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"}
    assert set(found) - {"LC_CTYPE"} == {*PLAIN, *threads, "MPLBACKEND"}
    assert found["HOME"] == str(tmp_path)


PRINTING = """
import json, os, pathlib
pathlib.Path(os.environ["WHERE"]).write_text(json.dumps(dict(os.environ)))
"""


def test_an_mcp_program_has_the_plain_one_and_what_it_is_registered_with(environ, tmp_path):
    where = tmp_path / "environment.json"
    server = RunMcpServer(
        name="calc",
        transport="stdio",
        command=sys.executable,
        args=["-c", PRINTING],
        env={"WHERE": str(where), "SENTRY_DSN": "of-its-own"},
        tools=[],
    )
    with pytest.raises(McpFailed):
        probe(server, [])
    found = json.loads(where.read_text())
    assert set(found) - {"LC_CTYPE"} == {*PLAIN, "WHERE", "SENTRY_DSN"}
    assert found["SENTRY_DSN"] == "of-its-own"


def test_bytecode_goes_to_the_data_folder_only_where_it_can_go_nowhere_else(tmp_path, monkeypatch):
    package = tmp_path / "crewai" / "__init__.py"
    package.parent.mkdir()
    package.write_text("", encoding="utf-8")
    spec = importlib.util.spec_from_file_location("crewai", package)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    assert "PYTHONPYCACHEPREFIX" not in worker_environment({}, tmp_path)
    # Root may write everywhere, so the answer of the file system is made up.
    monkeypatch.setattr(worker.os, "access", lambda _path, _mode: False)
    assert worker_environment({}, tmp_path)["PYTHONPYCACHEPREFIX"] == str(tmp_path / "pycache")
    compiled = Path(importlib.util.cache_from_source(str(package)))
    compiled.parent.mkdir()
    compiled.touch()
    assert "PYTHONPYCACHEPREFIX" not in worker_environment({}, tmp_path)
