"""Ending what tests have started."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil


def end(process: subprocess.Popen[bytes], log: Path) -> None:
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
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise AssertionError(f"the server did not end; its log:\n{log.read_text()}") from None
    finally:
        _, left = psutil.wait_procs(below, timeout=10)
        for each in left:
            each.kill()
    assert not left, f"processes were left behind: {left}"
