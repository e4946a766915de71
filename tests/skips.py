"""Which tests may be skipped where everything must be shown: on CI, hardly any."""

from __future__ import annotations

from collections.abc import Mapping

EXCUSED = {
    "this machine lets us make no cgroup": "only whoever has the whole machine may; what a run may take is "
    "shown by its own limit as well (test_local.py)",
    "this system lets no user have a network of their own": "a kernel's setting; the tool then says that "
    "its code has the server's network, which is shown (test_python.py)",
    "this system lets root write everywhere": "whoever may take no right from a process cannot bind it; the "
    "other ways in which a folder is of no use are shown (test_app.py)",
    "the system counts no processes of root's": "containers run tests as root, whom no such limit binds",
}
"""Reasons that lie in the machine, and why a build without the test shows enough."""


def refused(reason: str, environ: Mapping[str, str]) -> str | None:
    """Say why a test may not be skipped for a reason; None where it may.

    A test that did not run has shown nothing. By hand, whoever lacks a browser or a right may go on.
    """
    if not environ.get("CI") or reason.removeprefix("Skipped: ") in EXCUSED:
        return None
    return f"on CI, a test is skipped for a reason of tests/skips.py alone; this was: {reason}"
