"""The notebooks, run as their reader runs them, and as they lie saved."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.thorough import some_or_all

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))

QUIETLY = ("-p", "no:cacheprovider", "-q", "-o", "addopts=")

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


RECORDED = NOTEBOOKS[0].with_name("recorded.ipynb")
"""Its models are served nowhere: it runs from the cassette beside it."""


def test_the_notebooks_run_from_top_to_bottom(live_server, tmp_path):
    notebooks = [str(path) for path in NOTEBOOKS if path != RECORDED]
    run([sys.executable, "-m", "pytest", "--nbval-lax", *QUIETLY, *notebooks], live_server, tmp_path)


RUNNERS = {
    "nbval": ("pytest", "--nbval-lax", *QUIETLY, RECORDED),
    "papermill": ("papermill", "--no-progress-bar", RECORDED, os.devnull),
}


@pytest.mark.parametrize("runner", some_or_all(["nbval"], [*RUNNERS]))
def test_a_notebook_runs_from_its_cassette_where_there_is_no_model(live_server, tmp_path, runner):
    cassette = str(RECORDED.with_suffix(".jsonl"))
    program = [sys.executable, "-m", *map(str, RUNNERS[runner])]
    run(program, live_server, tmp_path, KASAL_REPLAY=cassette, CI="true")
    with live_server.client() as api:
        runs = api.get("/executions", params={"search": "Tea shop"}).json()["executions"]
    assert [(each["verb"], each["status"], each["calls"]["live"]) for each in runs[:3]] == [
        ("replay", "failed", 0),
        ("replay", "completed", 0),
        ("replay", "completed", 0),
    ]


def run(program, live_server, tmp_path, **environ):
    result = subprocess.run(
        program,
        env={
            **os.environ,
            "KASAL_URL": live_server.url,
            "KASAL_TOKEN": live_server.token,
            "IPYTHONDIR": str(tmp_path),
            "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
            **environ,
        },
        # What a notebook writes, it writes where it is run.
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def code_cells(notebook):
    saved = nbformat.read(notebook, as_version=4)
    nbformat.validate(saved)
    return [cell for cell in saved.cells if cell.cell_type == "code"]


@each_notebook
def test_a_notebook_is_saved_as_it_was_run_from_top_to_bottom(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        failed = any(output.output_type == "error" for output in cell.outputs)
        assert failed == ("raises-exception" in cell.metadata.get("tags", [])), cell.source


@each_notebook
def test_what_is_saved_reads_well_without_a_kernel_and_tells_of_no_machine(notebook):
    outputs = json.dumps([cell.outputs for cell in code_cells(notebook)], ensure_ascii=False)
    # A view that was saved before its run had ended.
    assert "Starting job_" not in outputs
    assert "▶ running" not in outputs
    for trace in ("Traceback (most recent call last)", "/home/", "/root/", "/Users/", "/tmp/", "/work/"):
        assert trace not in outputs


def test_the_notebooks_are_those_that_the_first_one_names():
    named = {path.stem for path in NOTEBOOKS} - {"quickstart"}
    text = "".join(cell.source for cell in nbformat.read(NOTEBOOKS[0].with_name("quickstart.ipynb"), 4).cells)
    assert named
    assert all(f"`{name}`" in text for name in named)
