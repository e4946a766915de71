"""The process that lends limited processes, which do what those that are started do, and end in time."""

import os
import subprocess
import time

import psutil
import pytest

from kasal_jupyter import confined as confined_module
from kasal_jupyter.confined import TooMuch, confined

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="programs are shared on Linux"),
    pytest.mark.usefixtures("lent_programs"),
]


def test_what_they_answer_is_what_a_process_of_its_own_would():
    assert confined("base64:b64decode", b"QQ==", seconds=60) == b"A"
    with pytest.raises(ValueError, match="padding"):
        confined("base64:b64decode", b"QQ", seconds=60)
    with pytest.raises(TooMuch):
        confined("zlib:decompress", b"none", seconds=60)


def running_in(folder):
    """Give the processes that run in a folder."""
    found = []
    for each in psutil.process_iter():
        try:
            if each.cwd() == str(folder) and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
        except psutil.Error:
            pass
    return found


def wait_until(holds):
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_ends_with_whoever_has_borrowed_it(tmp_path):
    command = [*confined_module.COMMAND, "base64:b64decode", "1500000000", "40"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path) as process:
        # It waits for what it is given.
        wait_until(lambda: len(running_in(tmp_path)) == 2)
        process.kill()
    wait_until(lambda: not running_in(tmp_path))
