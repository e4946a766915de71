"""The `jupyter kasal` command: the standalone server, and the sub-commands beside it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import cast

from kasal_jupyter.errors import KasalError

INTERRUPTED = 130
"""The exit status of a command ended by Ctrl-C, as shells have it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out `jupyter kasal`.

    Without a sub-command it is the standalone server, with Jupyter's own options (`--port`, `--help` …).

    Parameters
    ----------
    argv
        The words behind the command's name; the process's own where none are given.

    Returns
    -------
    int
        The exit status: 1 where something was refused or failed, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words and not words[0].startswith("-"):
            args = _parser().parse_args(words)
            return cast("Callable[[argparse.Namespace], int]", args.handler)(args)
        from kasal_jupyter.app import KasalApp

        KasalApp.launch_instance(words)  # type: ignore[no-untyped-call]
    except KasalError as error:
        print(f"jupyter kasal: {error.message}", file=sys.stderr)
        for fault in error.faults:
            print(f"  {fault.field}: {fault.reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone (`| head`). Python would complain once more as it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    from kasal_jupyter.cli import db, demo, user

    parser = argparse.ArgumentParser(
        prog="jupyter kasal",
        description="Kasal inside Jupyter. Without a command: a server of its own on port 8000; "
        "its options are listed by `jupyter kasal --help`.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    demo.register(commands)
    db.register(commands)
    user.register(commands)
    return parser
