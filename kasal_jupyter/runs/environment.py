"""The environment that worker processes are started with."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Collection, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path

from kasal_jupyter.environment import CERTIFICATES, PROXIES, plain_environment


def worker_environment(
    environ: Mapping[str, str], data_folder: Path, passed: Collection[str] = ()
) -> dict[str, str]:
    """Make the environment of a worker process.

    A run gets the keys of its own models with its spec, and no others: an agent with a tool that
    prints the environment must find nothing there.

    Parameters
    ----------
    environ
        The server's environment.
    data_folder
        Where the server keeps its data; CrewAI's files go below it.
    passed
        The names of more variables that runs get: the deployer has named them.
    """
    # PYTHONDONTWRITEBYTECODE is not among them: without bytecode CrewAI starts in eight seconds, not three.
    made = plain_environment(environ, also=[*PROXIES, *CERTIFICATES, *passed])
    crewai = importlib.util.find_spec("crewai")
    if crewai is not None and not _compiled_or_writable(crewai):
        made["PYTHONPYCACHEPREFIX"] = str(data_folder.absolute() / "pycache")
    # macOS kills a forked child that touches what its frameworks set up in the parent, unless told not to.
    made["OBJC_DISABLE_INITIALIZE_FORK_SAFETY"] = "YES"
    made["PYTHONUNBUFFERED"] = "1"
    return made


def _compiled_or_writable(package: ModuleSpec) -> bool:
    if package.origin is None:
        return True
    compiled = Path(importlib.util.cache_from_source(package.origin))
    return compiled.exists() or os.access(Path(package.origin).parent, os.W_OK)
