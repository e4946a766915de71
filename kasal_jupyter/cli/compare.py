"""``jupyter kasal compare``, ``dataset`` and ``rate``: which crew is better, and a gate for CI."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from xml.etree import ElementTree as ET

from kasal_jupyter.cli import WrongUsage
from kasal_jupyter.cli.batches import SUFFIXES, read_source
from kasal_jupyter.cli.connect import add_job, add_server_options, ended_by_signals, job_of, say, server_of
from kasal_jupyter.cli.terminal import console_of, print_rows, write_file
from kasal_jupyter.kernel.comparison.comparison import Comparison, carry_out, read_asked
from kasal_jupyter.kernel.comparison.datasets import Dataset
from kasal_jupyter.kernel.comparison.figures import estimate_text, score_text
from kasal_jupyter.kernel.comparison.rows import given_rows
from kasal_jupyter.kernel.comparison.view import progress_text
from kasal_jupyter.kernel.crews.stored_crews import TERMINAL
from kasal_jupyter.kernel.magics.commands.evaluation import (
    add_comparison,
    add_dataset_making,
    asked_dataset,
    score_of,
)
from kasal_jupyter.kernel.runs.run_list import budget_of
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.kernel.views.figures import rating_text
from kasal_jupyter.schemas.datasets import Rating, Thumb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kasal_jupyter.cli.connect import Subparsers
    from kasal_jupyter.kernel.comparison.arms import Standing

GATE_STATUS = (
    "Exit status: 0 compared, and no gate has failed; 1 a gate has, or something was refused; 2 wrong usage."
)

SPARE = ("completed alone", "time a run", "cost a run")
"""The columns that a narrow terminal does without, the first to go first."""


def add_compare(subparsers: Subparsers) -> None:
    """Add ``compare`` to the parser of `jupyter kasal`."""
    compare = subparsers.add_parser(
        "compare",
        help="run the same rows through crews, and say which is better",
        description="Run the same rows through crews, versions or models, score the answers, and say which "
        "is better. With --fail-below or --fail-if-worse it is a gate.",
        epilog=GATE_STATUS,
    )
    compare.add_argument(
        "crews", nargs="+", metavar="CREW", help="names or ids, CREW@VERSION; all are compared with the first"
    )
    compare.add_argument(
        "--rows", metavar="FILE|DATASET", required=True, help="a .csv, .jsonl or .parquet file, or a dataset"
    )
    add_comparison(compare, "FILE.py:FUNCTION")
    gate = compare.add_argument_group("the gate")
    gate.add_argument(
        "--fail-below",
        metavar="SCORE",
        type=_bound,
        help="fail where a crew's score is lower; the first of several is the measure, and is not looked at",
    )
    gate.add_argument(
        "--surely", action="store_true", help="the whole interval must be above, not the score alone"
    )
    gate.add_argument(
        "--fail-if-worse",
        action="store_true",
        help="fail where it is decided that a crew scores lower than the first",
    )
    compare.add_argument("--json", action="store_true", help="as JSON, for programs")
    compare.add_argument("--junit", metavar="FILE", help="write what the gate says as JUnit's XML")
    compare.add_argument("--quiet", action="store_true", help="say nothing while it goes on")
    add_server_options(compare)
    compare.set_defaults(handler=run_compare)


def run_compare(args: argparse.Namespace) -> int:
    """Carry out ``compare``; give the exit status."""
    # What is wrong here is told before anything runs, and costs something.
    if args.surely and args.fail_below is None:
        raise WrongUsage("--surely says how --fail-below SCORE is meant; give that as well")
    if args.junit is not None and not Path(args.junit).absolute().parent.is_dir():
        raise WrongUsage(f"{args.junit} cannot be written: its folder is not there")
    score = score_of(args, _function(args.score))
    data = _rows(args.rows, args.expected)
    with ended_by_signals(), server_of(args) as client:
        asked = read_asked(
            client,
            args.crews,
            data,
            score,
            expected=args.expected,
            repeats=args.repeats,
            models=args.model,
            seed=args.seed,
            command=TERMINAL,
        )
        comparison = carry_out(
            client,
            asked,
            concurrency=args.at_once,
            fresh=args.fresh,
            budget=budget_of(args),
            told=_Progress(quiet=args.quiet).told,
        )
    failures = gate_failures(
        comparison, below=args.fail_below, surely=args.surely, if_worse=args.fail_if_worse
    )
    if args.junit is not None:
        write_file(Path(args.junit), junit(comparison, failures))
    if args.json:
        print(json.dumps(json.loads(comparison.to_json()) | {"gate": failures}, ensure_ascii=False))
    else:
        print(clean(repr(comparison)))
    for failure in failures.values():
        say(clean(f"the gate has failed: {failure}"))
    return 1 if failures else 0


def gate_failures(
    comparison: Comparison, *, below: float | None = None, surely: bool = False, if_worse: bool = False
) -> dict[str, str]:
    """Say which crews a gate does not let through, and why.

    Parameters
    ----------
    comparison
        What was found.
    below
        The score that each must have: all but the first, or the only one.
    surely
        Whether the lower end of its interval must be so high.
    if_worse
        Whether it fails where a crew is found to score lower than the first.

    Returns
    -------
    dict of str
        Why, by the crews' labels.
    """
    failures = {}
    arms = comparison.arms[1:] or comparison.arms
    if below is not None:
        for arm in arms:
            found = arm.score
            value = None if found is None else found.low if surely else found.value
            if value is None or value < below:
                what = "the lower end of its interval" if surely else "its score"
                failures[arm.label] = (
                    f"{arm.label}: {what} is below {score_text(below)}: {estimate_text(found)}"
                )
    if if_worse:
        for pair in comparison.pairs:
            if pair.score is not None and pair.score.decided and pair.score.value < 0:
                why = f"{pair.second} scores lower than {pair.first}: {estimate_text(pair.score)}"
                failures.setdefault(pair.second, why)
    return failures


def junit(comparison: Comparison, failures: Mapping[str, str]) -> bytes:
    """Write what a gate says as JUnit's XML: a test case a crew."""
    suite = ET.Element(
        "testsuite",
        name="jupyter kasal compare",
        tests=str(len(comparison.arms)),
        failures=str(len(failures)),
    )
    for arm in comparison.arms:
        seconds = 0.0 if arm.seconds is None else arm.seconds.value * arm.runs
        case = ET.SubElement(
            suite, "testcase", name=clean(arm.label), classname="kasal", time=f"{seconds:.3f}"
        )
        if arm.label in failures:
            why = clean(failures[arm.label])
            ET.SubElement(case, "failure", message=why).text = "\n".join([why, *map(clean, comparison.words)])
    ET.SubElement(suite, "system-out").text = clean(repr(comparison))
    return bytes(ET.tostring(suite, encoding="utf-8", xml_declaration=True))


class _Progress:
    """How far the crews have come, told beside the output: on a terminal in one line."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet or not sys.stderr.isatty()

    def told(self, standings: Mapping[str, Standing]) -> None:
        if self._quiet:
            return
        end = "\n" if all(each.done == each.total for each in standings.values()) else ""
        print(f"\r\x1b[K{clean(progress_text(standings))}", end=end, file=sys.stderr, flush=True)


def _bound(word: str) -> float:
    """Read a score; one that is no number would let everything through."""
    if not math.isfinite(found := float(word)):
        raise ValueError(word)
    return found


def _function(word: str | None) -> Any:
    """Give the function that ``FILE.py:NAME`` means; None where it means none."""
    path, colon, name = (word or "").rpartition(":")
    if not colon or not path.endswith(".py"):
        return None
    spec = importlib.util.spec_from_file_location("kasal_score", path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise WrongUsage(f"There is no file {path}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # noqa: BLE001 - the file is its user's: whatever it does is told
        raise WrongUsage(f"{path} cannot be loaded: {type(error).__name__}: {error}") from None
    function = getattr(module, name, None)
    if not callable(function):
        raise WrongUsage(f"{path} has no function {name!r}")
    return function


def _rows(word: str, expected: str | None) -> Any:
    """Give the rows of a file; else the word, which may name a dataset."""
    if Path(word).is_file() or Path(word).suffix.lower() in SUFFIXES:
        return given_rows(read_source(word).records, expected, word)
    return word


def add_dataset(subparsers: Subparsers) -> None:
    """Add ``dataset`` to the parser of `jupyter kasal`."""
    dataset = subparsers.add_parser(
        "dataset",
        help="list datasets, show one, or make one",
        description="List datasets, show one, or make one: of a file's rows, or of rated executions.",
    )
    dataset.add_argument("--rows", metavar="FILE", help="make it of a .csv, .jsonl or .parquet file")
    dataset.add_argument("--expected", metavar="COLUMN", help="the column with what is expected")
    add_dataset_making(dataset)
    dataset.add_argument("--json", action="store_true", help="its rows as JSON lines; the list as JSON")
    add_server_options(dataset)
    dataset.set_defaults(handler=run_dataset)


def run_dataset(args: argparse.Namespace) -> int:
    """Carry out ``dataset``; give the exit status."""
    with server_of(args) as client:
        shown = asked_dataset(client, args, lambda word: read_source(word).records, command=TERMINAL)
    if shown is None:
        return 0
    if args.json and isinstance(shown, Dataset):
        for row in shown.dataset_rows:
            print(row.model_dump_json())
        return 0
    if args.json:
        print(json.dumps([dict(zip(shown.heads, row, strict=True)) for row in shown.rows]))
        return 0
    if shown.title:
        say(clean(shown.title))
    if shown.rows:
        print_rows(console_of(sys.stdout), shown.heads, shown.rows)
    return 0


def add_rate(subparsers: Subparsers) -> None:
    """Add ``rate`` to the parser of `jupyter kasal`."""
    rate = subparsers.add_parser(
        "rate",
        help="say whether an execution's answer is good",
        description="Say whether an execution's answer is good, and what it should have been; datasets are "
        "made of such.",
    )
    add_job(rate)
    rate.add_argument("thumb", choices=get_args(Thumb), help="whether it is good")
    rate.add_argument("answer", nargs="?", metavar="ANSWER", help="what it should have been")
    rate.add_argument("--note", metavar="TEXT", help="why")
    add_server_options(rate)
    rate.set_defaults(handler=run_rate)


def run_rate(args: argparse.Namespace) -> int:
    """Carry out ``rate``; give the exit status."""
    with server_of(args) as client:
        job_id = job_of(client, args.job)
        given = client.rate(job_id, Rating(thumb=args.thumb, answer=args.answer, note=args.note))
    print(clean(f"{job_id} {rating_text(given)}"))
    return 0
