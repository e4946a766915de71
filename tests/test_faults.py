"""What becomes of runs when things break: a round of the benchmark that breaks them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared_zygote import OWN

BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "faults.py"


@pytest.mark.parametrize("kind", ["kills", "cutoffs", "damage"])
def test_a_round_of_faults(kind):
    done = subprocess.run(
        [sys.executable, BENCHMARK, kind, "--tiny"],
        # By which processes are found that are killed.
        env=os.environ | (OWN if kind != "damage" else {}),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "holds" in done.stdout
