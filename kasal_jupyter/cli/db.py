"""``jupyter kasal db``: the store as a JSON file, and back."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kasal_jupyter.errors import KasalError

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # argparse has no other name


def register(subparsers: Subparsers) -> None:
    """Add ``db export`` and ``db import`` to the command's parser.

    Parameters
    ----------
    subparsers
        What ``ArgumentParser.add_subparsers`` gave.
    """
    database = subparsers.add_parser("db", help="export the store to a JSON file, or import one")
    commands = database.add_subparsers(title="commands", required=True, metavar="COMMAND")

    export = commands.add_parser(
        "export",
        help="write everything into a JSON file that TinyDB opens",
        description="Write crews, executions, users and all else into a JSON file that TinyDB opens. "
        "Servers may go on working meanwhile. Traces are in the data folder's runs/ and not in the file.",
    )
    export.add_argument("file", type=Path, metavar="FILE", help="the JSON file; an older one is replaced")
    _add_data_folder(export)
    export.set_defaults(handler=run_export)

    import_ = commands.add_parser(
        "import",
        help="take such a file into an empty store",
        description="Take a JSON file written by `db export` or by TinyDB into the store. "
        "Every document is checked first; if anything is wrong, nothing changes.",
    )
    import_.add_argument("file", type=Path, metavar="FILE", help="the JSON file")
    import_.add_argument("--replace", action="store_true", help="delete what the store holds first")
    _add_data_folder(import_)
    import_.set_defaults(handler=run_import)


def run_export(args: argparse.Namespace) -> int:
    """Carry out ``db export``; give the exit status."""
    from kasal_jupyter.store.dump import export_json

    return _report("exported", args, lambda folder: export_json(folder, args.file))


def run_import(args: argparse.Namespace) -> int:
    """Carry out ``db import``; give the exit status."""
    from kasal_jupyter.memory.findable import SCHEMAS
    from kasal_jupyter.store.dump import import_json

    return _report(
        "imported", args, lambda folder: import_json(folder, args.file, SCHEMAS, replace=args.replace)
    )


def _add_data_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-folder",
        type=Path,
        metavar="D",
        help="the data folder (default: Kasal's in Jupyter's data folder)",
    )


def _report(done: str, args: argparse.Namespace, action: Callable[[Path], dict[str, int]]) -> int:
    from kasal_jupyter.store.folder import default_data_folder

    try:
        counts = action(args.data_folder or default_data_folder())
    except KasalError as error:
        print(f"jupyter kasal db: {error.message}", file=sys.stderr)
        # The message names the first fault itself.
        for fault in error.faults[1:]:
            print(f"  {fault.field}: {fault.reason}", file=sys.stderr)
        return 1
    print(f"{done}:", ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing")
    return 0
