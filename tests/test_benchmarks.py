"""Every benchmark runs, and what the README tells of is what they print."""

import pytest

from benchmarks.__main__ import BENCHMARKS, HERE, known, rows, rows_of
from tests.shared_zygote import WARM

PRINTED = {}

LOADING = {"engine": "import_crewai", "replay": "replay.py", "memory": "--crewai"}
"""What the command lines have of those of their processes that load CrewAI themselves."""

# What breaks runs has a test of its own: see test_faults.py.
OF_FAULTS = ("16 runs, and ", "batches of 60 rows, ")
# Dask's loads CrewAI in four processes, and waits for all of them.
TINY = [name for name in BENCHMARKS if name not in {"faults", "dask"}]


@pytest.mark.parametrize("name", TINY)
def test_a_benchmark_runs(name, monkeypatch):
    monkeypatch.setenv(WARM, LOADING.get(name, ""))
    PRINTED.update(rows_of(name, "--tiny"))


def test_the_readme_has_the_rows_that_they_print():
    """Keep it behind the others."""
    if len(PRINTED) < 3:
        pytest.skip("it is about what all of them have printed")
    assert {name for name in known() if not name.startswith(OF_FAULTS)} == set(PRINTED)


def test_each_is_named():
    parts = {"fastapi_server", "cut_offs", "cut_batches", "mortal_server", "__main__"}
    assert {path.stem for path in HERE.glob("*.py")} - parts == set(BENCHMARKS)


def test_a_row_is_told_from_the_rest_of_what_is_printed():
    printed = ["| | |", "|---|---|", "| cold start (`a.py`) | 2 s |", "cold | 3", "  | x | y |", ""]
    assert rows(printed) == {"cold start (`a.py`)": "2 s"}
