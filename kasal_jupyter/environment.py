"""What of this process's environment others may have: a short list, and nothing that is not on it.

A list of what must not get through is never complete (``DATABASE_URL``, a DSN, the next token); this
one names what programs need to find their way on a machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_KEPT = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TMPDIR|TEMP|TMP|TZ|LANG|LANGUAGE|LC_[A-Z]+"
    # What Windows' own programs and sockets need.
    r"|SYSTEMROOT|SYSTEMDRIVE|WINDIR|COMSPEC|PATHEXT|APPDATA|LOCALAPPDATA|PROGRAMDATA|USERPROFILE"
    # Where an interpreter, its libraries and its threads are set up by others.
    r"|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|PYTHONPATH|PYTHONHOME|PYTHONPYCACHEPREFIX|VIRTUAL_ENV|CONDA_PREFIX"
    r"|OPENBLAS_[A-Z0-9_]+|OMP_NUM_THREADS|MKL_NUM_THREADS",
    re.IGNORECASE,
)


def plain_environment(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give what a process may know of this one's environment that parses or runs what others have written.

    Parameters
    ----------
    environ
        The environment; this process's, where nothing is given.
    """
    given = os.environ if environ is None else environ
    return {name: value for name, value in given.items() if _KEPT.fullmatch(name)}
