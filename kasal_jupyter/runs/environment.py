"""The environment that worker processes are started with."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path

_SECRET = re.compile(
    r"((^|_|API)KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|_PAT)S?(_|$)"
    r"|^(OPENAI|ANTHROPIC|AZURE|GEMINI|GOOGLE|AWS|COHERE|MISTRAL|GROQ|OLLAMA|LITELLM|CREWAI|LANGCHAIN|LANGSMITH"
    r"|OTEL|KASAL|JPY|JUPYTERHUB)_"
    r"|^REDIS_URL$",
    re.IGNORECASE,
)
"""Variables a run has no business with: keys, and addresses that would make CrewAI call somewhere."""


def worker_environment(environ: Mapping[str, str], data_folder: Path) -> dict[str, str]:
    """Make the environment of a worker process.

    A run gets the keys of its own models with its spec, and no others: an agent with a tool that
    prints the environment must find nothing there.

    Parameters
    ----------
    environ
        The server's environment.
    data_folder
        Where the server keeps its data; CrewAI's files go below it.
    """
    made = {name: value for name, value in environ.items() if not _SECRET.search(name)}
    # Without bytecode every start of CrewAI takes eight seconds instead of three.
    made.pop("PYTHONDONTWRITEBYTECODE", None)
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
