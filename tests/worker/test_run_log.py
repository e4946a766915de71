"""What a run's process prints, in a process of its own."""

import os
import subprocess
import sys

import pytest

KEY = "sk-secret-0123456789'quoted\""

PROGRAM = """
import logging, os, subprocess, sys
from pathlib import Path
from kasal_jupyter.hiding import Hider
from kasal_jupyter.worker.run_log import RunLog

key = os.environ["THE_KEY"]
printed = RunLog(Path(sys.argv[1]), Hider([key, "short"] if sys.argv[2] == "keyed" else []))
print("plainly", key, flush=True)
logging.error("as Python writes it: %s", {"key": key})
os.write(1, b"in pieces " + key[:9].encode())
os.write(2, key[9:].encode() + b" of one\\n")
subprocess.run([sys.executable, "-c", "import os; print('by a program', os.environ['THE_KEY'])"])
os.write(1, b"shortest words stay, and sk-sec")
printed.close(10)
os._exit(0)
"""


def printed(tmp_path, how):
    file = tmp_path / "output.log"
    environ = {**os.environ, "THE_KEY": KEY}
    subprocess.run([sys.executable, "-c", PROGRAM, str(file), how], env=environ, check=True, timeout=60)
    return file.read_text()


def test_keys_do_not_get_into_the_log_by_whatever_way(tmp_path):
    assert printed(tmp_path, "keyed").splitlines() == [
        "plainly [secret]",
        "ERROR:root:as Python writes it: {'key': '[secret]'}",
        "in pieces [secret] of one",
        "by a program [secret]",
        "shortest words stay, and sk-sec",
    ]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_without_keys_everything_goes_straight_to_the_file_which_is_the_owners_alone(tmp_path):
    assert f"plainly {KEY}" in printed(tmp_path, "keyless")
    assert (tmp_path / "output.log").stat().st_mode & 0o777 == 0o600
