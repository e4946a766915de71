"""What of this process's environment others may have: a short list, and nothing that is not on it.

A list of what must not get through is never complete (``DATABASE_URL``, a DSN, the next token); this
one names what programs need to find their way on a machine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping

_KEPT = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|TERM|TMPDIR|TEMP|TMP|TZ|LANG|LANGUAGE|LC_[A-Z]+"
    # What Windows' own programs and sockets need.
    r"|SYSTEMROOT|SYSTEMDRIVE|WINDIR|COMSPEC|PATHEXT|APPDATA|LOCALAPPDATA|PROGRAMDATA|USERPROFILE|USERNAME"
    r"|HOMEDRIVE|HOMEPATH|PROCESSOR_ARCHITECTURE|NUMBER_OF_PROCESSORS"
    # Where an interpreter, its libraries and its threads are set up by others.
    r"|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|PYTHONPATH|PYTHONHOME|PYTHONPYCACHEPREFIX|VIRTUAL_ENV|CONDA_PREFIX"
    r"|OPENBLAS_[A-Z0-9_]+|OMP_NUM_THREADS|MKL_NUM_THREADS",
    re.IGNORECASE,
)

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Whom to trust: for processes that call others."""

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
"""Whom to go through. Their addresses may hold passwords: for processes of our own alone, which hide them."""


def plain_environment(
    environ: Mapping[str, str] | None = None, *, also: Collection[str] = ()
) -> dict[str, str]:
    """Give what a process may know of this one's environment that parses or runs what others have written.

    Parameters
    ----------
    environ
        The environment; this process's, where nothing is given.
    also
        Names of more variables that it needs. No name is told apart by its case.
    """
    given = os.environ if environ is None else environ
    more = {name.upper() for name in also}
    return {name: value for name, value in given.items() if _KEPT.fullmatch(name) or name.upper() in more}
