"""Where everything must be shown, a test that is skipped without an excuse has failed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import EXCUSED, refused

TESTS = Path(__file__).parent

SKIPPED = """
import pytest


@pytest.mark.skipif(True, reason={reason!r})
def test_by_mark():
    pass


def test_within():
    pytest.skip({reason!r})


@pytest.mark.xfail(reason="not yet")
def test_expected():
    assert False
"""


@pytest.mark.parametrize(
    ("reason", "ci", "outcomes"),
    [
        ("chromium is not there", "true", {"1 failed", "1 error", "1 xfailed"}),
        ("chromium is not there", "", {"2 skipped", "1 xfailed"}),
        (next(iter(EXCUSED)), "true", {"2 skipped", "1 xfailed"}),
    ],
)
def test_the_rule_holds_for_marks_and_calls(tmp_path, monkeypatch, reason, ci, outcomes):
    (tmp_path / "test_it.py").write_text(SKIPPED.format(reason=reason))
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # To load those that are there takes seconds.
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-q", "-c", "/dev/null", tmp_path],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    last = run.stdout.strip().splitlines()[-1]
    assert {part.strip() for part in last.split(" in ")[0].split(",")} == outcomes, run.stdout


def test_every_excuse_is_a_reason_that_a_test_gives():
    written = "".join(file.read_text() for file in TESTS.rglob("test_*.py"))
    assert [reason for reason in EXCUSED if reason not in written] == []
    assert refused("pip can't fetch TinyDB's source", {"CI": "true"})
