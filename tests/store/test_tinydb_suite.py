"""TinyDB's own tests, run on our storage and our table.

They are in TinyDB's source distribution, which pip fetches: the one of the very
version that is installed.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

# Each looks at something that is not the database's work but a stock class's own.
NOT_OURS = {
    "test_middlewares.py::test_caching_json_write": "looks at the JSON storage's file handle",
    "test_storages.py::test_json": "writes a dictionary that is not tables of documents",
    "test_storages.py::test_in_memory": "writes a dictionary that is not tables of documents",
    "test_storages.py::test_encoding": "writes a dictionary that is not tables of documents, in cp936",
    "test_storages.py::test_json_kwargs": "reads the JSON file's text",
    "test_storages.py::test_json_read": "opens the JSON file with another access mode",
    "test_storages.py::test_json_invalid_mode_warning": "opens the JSON file with another access mode",
    "test_tables.py::test_table_repr": "compares the name of the stock class",
}


@pytest.fixture(scope="session")
def suite(tmp_path_factory):
    """The folder with TinyDB's tests."""
    folder = tmp_path_factory.mktemp("tinydb")
    version = importlib.metadata.version("tinydb")
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    fetched = subprocess.run(
        [*pip, "--no-binary", "tinydb", f"tinydb=={version}", "--dest", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if fetched.returncode:
        pytest.skip(f"pip can't fetch TinyDB's source: {fetched.stderr.strip()[-300:]}")
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        # TinyDB itself stays in the archive: the one that is installed is tested.
        members = [member for member in archive if "/tests/" in member.name]
        archive.extractall(folder, members=members, filter="data")
    (folder / "pytest.ini").write_text("[pytest]\n")
    return next(folder.glob("*/tests"))


@pytest.mark.parametrize("table", ["SqliteTable", "Table"])
def test_tinydb_s_own_tests_pass(suite, table):
    """On our table, and on TinyDB's own over our storage."""
    not_ours = [name for name in NOT_OURS if table == "SqliteTable" or "repr" not in name]
    environment = {
        "PYTHONPATH": str(Path(__file__).parent),
        "TMPDIR": str(suite.parent.parent),
        "TINYDB_SUITE_TABLE": table,
        "TINYDB_SUITE_NOT_OURS": " ".join(not_ours),
        # To load what is installed beside it takes longer than the tests.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    ended = subprocess.run(
        [
            *[sys.executable, "-m", "pytest", "-q", "-p", "tinydb_suite_plugin", "-p", "no:cacheprovider"],
            *["-c", suite.parent.parent / "pytest.ini", f"--rootdir={suite.parent}"],
            *[f"--basetemp={suite.parent.parent / f'temp-{table}'}", suite],
        ],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-5_000:] + ended.stderr
    assert int(re.search(r"(\d+) passed", ended.stdout)[1]) >= 190
    # The repr test is two: it runs on a storage in memory and on one in a file. Older versions lack a few.
    deselected = int(re.search(r"(\d+) deselected", ended.stdout)[1])
    assert deselected <= len(not_ours) + (table == "SqliteTable")
