"""The `jupyter kasal` command: a server of its own, or one of the sub-commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

COMMANDS = ("demo", "db")
"""The sub-commands; anything else goes to the standalone server."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `jupyter kasal`.

    Parameters
    ----------
    argv
        The words behind `jupyter kasal`; else the process's.

    Returns
    -------
    int
        The exit status: 0, 1 for a failure that was explained, 130 for Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in COMMANDS:
        from kasal_jupyter.app import KasalApp

        KasalApp.launch_instance(words)  # type: ignore[no-untyped-call]
        return 0
    from kasal_jupyter.cli import db, demo
    from kasal_jupyter.errors import KasalError

    parser = argparse.ArgumentParser(prog="jupyter kasal")
    subparsers = parser.add_subparsers(required=True)
    demo.register(subparsers)
    db.register(subparsers)
    arguments = parser.parse_args(words)
    try:
        return int(arguments.handler(arguments))
    except KasalError as error:
        print(f"jupyter kasal: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
