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
from kasal_jupyter.worker.process.setup import RunLog

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
def test_without_keys_everything_is_kept_in_a_file_which_is_the_owners_alone(tmp_path):
    assert f"plainly {KEY}" in printed(tmp_path, "keyless")
    assert (tmp_path / "output.log").stat().st_mode & 0o777 == 0o600


FLOOD = """
import os, subprocess, sys
from pathlib import Path
from kasal_jupyter.hiding import Hider
from kasal_jupyter.worker.process import setup

setup.MAX_LOG = 1_000_000
printed = setup.RunLog(Path(sys.argv[1]), Hider([]))
print("the beginning", flush=True)
subprocess.run([sys.executable, "-c", "for at in range(300_000): print('line', at)"])
print("the end", flush=True)
printed.close(10)
os._exit(0)
"""


def test_a_flood_leaves_its_beginning_and_its_end_and_says_what_is_missing(tmp_path):
    file = tmp_path / "output.log"
    subprocess.run([sys.executable, "-c", FLOOD, str(file)], check=True, timeout=60)
    assert file.stat().st_size <= 1_000_100
    lines = file.read_text().splitlines()
    assert lines[:3] == ["the beginning", "line 0", "line 1"]
    assert lines[-2:] == ["line 299999", "the end"]
    (said,) = [line for line in lines if line.startswith("[")]
    everything = sum(len(f"line {at}\n") for at in range(300_000)) + len("the beginning\nthe end\n")
    left_out = int(said[1:].split()[0].replace(",", ""))
    assert file.stat().st_size + left_out - len(f"\n{said}\n") == everything
