"""All benchmarks, and the README's table of their figures: `python -m benchmarks --write`.

Each benchmark is a program of its own. Among what it prints are rows of the README's table, which are lines
that begin with a bar; here they are put together. With `--write` each replaces the README's row of its name,
and one that is not there yet is added at the end: what is no longer printed is to be taken out by hand.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
README = HERE.parent / "README.md"

BENCHMARKS = (
    "store",
    "server",
    "stored",
    "engine",
    "crews",
    "batch",
    "replay",
    "kernel",
    "rest",
    "events",
    "live",
    "memory",
    "hostile",
    "faults",
    "dask",
    "compare",
)
"""In the order of the table."""

BEGIN, END = "<!-- Written by `python -m benchmarks --write`. -->\n| | |\n|---|---|\n", "\n<!-- / -->"


def rows_of(name: str, *options: str) -> dict[str, str]:
    """Run a benchmark; give its rows by what they tell of.

    Raises
    ------
    subprocess.CalledProcessError
        It failed.
    """
    command = [sys.executable, str(HERE / f"{name}.py"), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return rows(done.stdout.splitlines())


def rows(lines: Iterable[str]) -> dict[str, str]:
    """Give the figures of rows, by what they tell of."""
    cells = [line.strip("| \n").split(" | ") for line in lines if line.startswith("| ") and " | " in line[2:]]
    return {cell[0]: cell[1] for cell in cells}


def known() -> dict[str, str]:
    """Give the README's rows."""
    return rows(_parts()[1].splitlines())


def write(measured: dict[str, str]) -> None:
    """Put figures into the README's table."""
    before, _, after = _parts()
    table = "\n".join(f"| {name} | {figure} |" for name, figure in (known() | measured).items())
    README.write_text(f"{before}{BEGIN}{table}{END}{after}")


def _parts() -> tuple[str, str, str]:
    """Give what is before the table's rows, the rows, and what is behind them."""
    before, begin, rest = README.read_text().partition(BEGIN)
    table, end, after = rest.partition(END)
    assert begin, f"there is no line {BEGIN!r} in the README"
    assert end, f"there is no line {END!r} in the README"
    return before, table, after


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"which of {', '.join(BENCHMARKS)}; else all"
    )
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes: to see that they run")
    parser.add_argument("--write", action="store_true", help="write the figures into the README")
    arguments = parser.parse_args()
    if arguments.tiny and arguments.write:
        parser.error("the figures of tiny sizes say nothing")
    for name in arguments.names or BENCHMARKS:
        measured = rows_of(name, *(["--tiny"] if arguments.tiny else []))
        for each, figure in measured.items():
            print(f"| {each} | {figure} |", flush=True)
        if arguments.write:
            write(measured)


if __name__ == "__main__":
    main()
