"""Ending what tests have started, and taking rights from it."""

from __future__ import annotations

import contextlib
import ctypes
import subprocess
import sys
from pathlib import Path

import psutil

from tests.shared_zygote import Borrowed, lent_to

PATIENCE = 120
"""How many seconds a test waits for what comes for sure: an idle machine needs one, a busy one far more."""


def end(process: subprocess.Popen[bytes] | Borrowed, log: Path) -> None:
    """End a server as a service does, and see that nothing of it is left.

    Parameters
    ----------
    process
        The server's.
    log
        What it printed, to be shown where it does not end.
    """
    below = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise AssertionError(f"the server did not end; its log:\n{log.read_text()}") from None
    finally:
        below += borrowed(process.pid)
        _, left = psutil.wait_procs(below, timeout=PATIENCE)
        for each in left:
            each.kill()
    assert not left, f"processes were left behind: {left}"


def borrowed(server: int) -> list[psutil.Process]:
    """Give what has been borrowed for a server, and is there still."""
    found = []
    for pid in lent_to(server):
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return found


def bound_by_modes() -> None:
    """Let the modes of files hold for this process and for what it becomes, also where it is root's."""
    if sys.platform == "linux":
        drop, everywhere, reads = 24, 1, 2  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        for right in (everywhere, reads):
            ctypes.CDLL(None).prctl(drop, right, 0, 0, 0)


def may_write(folder: Path) -> bool:
    """Say whether such a process may write into a folder."""
    program = [sys.executable, "-c", f"open({str(folder / 'tried')!r}, 'w')"]
    tried = subprocess.run(program, preexec_fn=bound_by_modes, stderr=subprocess.DEVNULL, check=False)
    return tried.returncode == 0
