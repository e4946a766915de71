"""Kasal inside Jupyter: crews of agents, run on real CrewAI, watched live.

The package is two things: a Jupyter server extension that serves the Kasal API
under ``/v1`` (:mod:`kasal_jupyter.app`), and a kernel-side library: the magics, and
the same in plain Python. ::

    import kasal_jupyter as kasal

    writer = kasal.Agent(role="Writer", goal="Write about {topic}", llm="sandbox")
    report = kasal.Task("Write a report about {topic}", "One paragraph", writer)
    result = kasal.Crew("Market research", tasks=[report]).run(topic="tea prices")

Importing the package itself loads neither: each name loads what it needs when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kasal_jupyter.version import __version__

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from kasal_jupyter.kernel.comparison.datasets import dataset
    from kasal_jupyter.kernel.comparison.judge import Judge
    from kasal_jupyter.kernel.comparison.notebook import compare
    from kasal_jupyter.kernel.crews.crew import Agent, Crew, Task
    from kasal_jupyter.kernel.functions.notebook_tools import tool
    from kasal_jupyter.kernel.runs.batches import BatchResult
    from kasal_jupyter.kernel.runs.ratings import rate
    from kasal_jupyter.kernel.runs.result import RunResult
    from kasal_jupyter.kernel.runs.run_list import Run, Runs, runs
    from kasal_jupyter.kernel.runs.usage import usage
    from kasal_jupyter.kernel.session import connect

__all__ = [
    "Agent",
    "BatchResult",
    "Crew",
    "Judge",
    "Run",
    "RunResult",
    "Runs",
    "Task",
    "__version__",
    "compare",
    "connect",
    "dataset",
    "rate",
    "runs",
    "tool",
    "usage",
]

_PLACES = {
    "Agent": "crews.crew",
    "BatchResult": "runs.batches",
    "Crew": "crews.crew",
    "Judge": "comparison.judge",
    "Run": "runs.run_list",
    "RunResult": "runs.result",
    "Runs": "runs.run_list",
    "Task": "crews.crew",
    "compare": "comparison.notebook",
    "connect": "session",
    "dataset": "comparison.datasets",
    "rate": "runs.ratings",
    "runs": "runs.run_list",
    "tool": "functions.notebook_tools",
    "usage": "runs.usage",
}
"""The names that are taken from the kernel side when they are used, and the modules that have them."""


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.kernel.{place}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    # What Tab shows: what is meant to be used, and none of what this module is made of.
    return sorted(__all__)


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """Tell Jupyter Server which application to load (its extension protocol)."""
    from kasal_jupyter.app import KasalApp

    return [{"module": "kasal_jupyter.app", "app": KasalApp}]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the ``%kasal`` magics: what ``%load_ext kasal_jupyter`` calls.

    Parameters
    ----------
    shell
        The running IPython shell.
    """
    from kasal_jupyter.kernel.magics.magics import register

    register(shell)
