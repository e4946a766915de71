"""Kasal inside Jupyter: crews of agents, run on real CrewAI, watched live.

The package is two things: a Jupyter server extension that serves the Kasal API
under ``/v1`` (:mod:`kasal_jupyter.app`), and a kernel-side library of magics
(:mod:`kasal_jupyter.kernel`). Importing the package itself loads neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kasal_jupyter.version import __version__

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["__version__", "load_ipython_extension"]


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
    from kasal_jupyter.kernel.magics import register

    register(shell)
