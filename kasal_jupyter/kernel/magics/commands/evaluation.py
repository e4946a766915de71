"""`%kasal compare, dataset, rate`: which crew is better, on which rows, and what people make of past runs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

from kasal_jupyter.kernel.comparison.datasets import Dataset, keep, list_datasets, load, rows_of
from kasal_jupyter.kernel.comparison.judge import Judge
from kasal_jupyter.kernel.comparison.rows import find_dataset, given_rows
from kasal_jupyter.kernel.crews.stored_crews import NOTEBOOK, find_crew
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import Parser, count, one_of, phrase
from kasal_jupyter.kernel.magics.commands.runs import check_variable
from kasal_jupyter.kernel.runs.ratings import rate
from kasal_jupyter.kernel.runs.run_list import add_budget
from kasal_jupyter.kernel.session import Session
from kasal_jupyter.kernel.views.figures import rating_text
from kasal_jupyter.schemas.datasets import RatedRuns, Thumb
from kasal_jupyter.schemas.executions import Budget

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.kernel.comparison.comparison import Comparison
    from kasal_jupyter.kernel.views.cards import Shown


def add_comparison(parser: ArgumentParser, functions: str) -> None:
    """Have a parser take what notebook and terminal may both say of a comparison; see :func:`score_of`."""
    scores = parser.add_mutually_exclusive_group(required=True)
    scores.add_argument(
        "--score",
        metavar="HOW",
        help=f"exact, contains, regex:PATTERN, numeric:0.01, numeric:1%%, json:FIELD, or {functions}",
    )
    scores.add_argument("--judge", metavar="RUBRIC", type=phrase, help="have a crew score, by this rubric")
    parser.add_argument("--expected", metavar="COLUMN", type=phrase, help="the column with what is expected")
    parser.add_argument("--repeats", metavar="N", type=count, default=1, help="how often each row is run")
    parser.add_argument(
        "--model",
        metavar="MODEL",
        action="append",
        default=[],
        help="ask this model in the place of all that the crews name; several are compared",
    )
    parser.add_argument("--judge-crew", metavar="NAME", type=phrase, help="the crew that judges")
    parser.add_argument("--judge-model", metavar="MODEL", help="the model that judges")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="what lots are drawn with")
    parser.add_argument("--at-once", metavar="N", type=count, help="runs that go on at the same time")
    parser.add_argument("--fresh", action="store_true", help="run also what an earlier comparison has run")
    add_budget(parser)


def score_of(words: Namespace, function: Any = None) -> Any:
    """Give what scores, by the words of a command; ``function`` is what ``--score`` names, if it is one.

    Raises
    ------
    CellError
        A judge is described, and there is none.
    """
    if words.judge is not None:
        return Judge(words.judge, crew=words.judge_crew, model=words.judge_model, seed=words.seed)
    if words.judge_crew is not None or words.judge_model is not None:
        raise CellError("--judge-crew and --judge-model say who judges; --judge RUBRIC says by what")
    return function if function is not None else words.score


def compare_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal compare``."""
    parser.add_argument(
        "what", nargs="+", metavar="CREW", help="crews, CREW@VERSION for a version; the first is the measure"
    )
    parser.add_argument(
        "--rows", metavar="NAME", required=True, help="a frame of the notebook, or a dataset that is kept"
    )
    add_comparison(parser, "a function of the notebook")
    parser.add_argument("-o", "--output", metavar="NAME", help="the variable that takes what comes of it")


def compare_command(session: Session, words: Namespace, cell: str | None) -> Comparison:
    """Compare crews on the same rows."""
    del cell
    from kasal_jupyter.kernel.comparison.notebook import compare

    check_variable(words.output)
    function = _variable(session, words.score)
    comparison = compare(
        words.what,
        _rows(session, words.rows, words.expected),
        score=score_of(words, function if callable(function) else None),
        expected=words.expected,
        repeats=words.repeats,
        models=words.model,
        budget={name: getattr(words, name) for name in Budget.model_fields},
        concurrency=words.at_once,
        fresh=words.fresh,
        seed=words.seed,
    )
    if words.output:
        session.namespace[words.output] = comparison
    return comparison


def dataset_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal dataset``."""
    parser.add_argument("--rows", metavar="FRAME", help="make it of a frame of the notebook")
    parser.add_argument("--expected", metavar="COLUMN", type=phrase, help="the column with what is expected")
    add_dataset_making(parser)


def add_dataset_making(parser: ArgumentParser) -> None:
    """Have a parser take what notebook and terminal may both say of a dataset; see :func:`asked_dataset`."""
    parser.add_argument("dataset", nargs="?", metavar="NAME", help="its name; without one, all are listed")
    parser.add_argument("--rated", action="store_true", help="make it of past runs that were rated")
    parser.add_argument("--crew", metavar="NAME", type=phrase, help="of these, one crew's")
    parser.add_argument("--thumb", metavar="THUMB", type=one_of(get_args(Thumb)), help="and up or down alone")
    parser.add_argument("--replace", action="store_true", help="in the place of the rows it has")
    parser.add_argument("--rm", action="store_true", help="delete it; runs that it is from stay")


def dataset_command(session: Session, words: Namespace, cell: str | None) -> Dataset | Shown | None:
    """List datasets, show one, make one, or delete one."""
    del cell

    def given(word: str) -> Any:
        if (found := _variable(session, word)) is None:
            raise CellError(f"There is no frame {word!r} in this notebook")
        return found

    return asked_dataset(session.client, words, given, command=NOTEBOOK)


def asked_dataset(
    client: Client, words: Namespace, given: Callable[[str], Any], *, command: str
) -> Dataset | Shown | None:
    """List datasets, show one, make one, or delete one, as the words of a command say; None: it is deleted.

    Parameters
    ----------
    client
        The server.
    words
        What was typed.
    given
        Gives the rows that ``--rows`` names.
    command
        How commands begin where the answer is read.

    Raises
    ------
    CellError
        The words do not go together, or there is no such dataset.
    """
    makes = words.rows is not None or words.rated
    if not words.rated and (words.crew is not None or words.thumb is not None):
        raise CellError("--crew and --thumb say which rated runs: they stand with --rated")
    if words.rm and makes:
        raise CellError("A dataset is made, or deleted with --rm, not both")
    if words.dataset is None:
        if makes or words.rm:
            raise CellError(f"Name the dataset: `{command} dataset NAME`")
        return list_datasets(client, command=command)
    if words.rm:
        client.delete_dataset(find_dataset(client, words.dataset, command=command).id)
        print(f"Deleted the dataset {words.dataset}")  # noqa: T201 - it is the answer
        return None
    if not makes:
        return load(client, words.dataset, command=command)
    rows = [] if words.rows is None else rows_of(given(words.rows), words.expected, words.rows)
    rated = None
    if words.rated:
        crew_id = find_crew(client, words.crew, command=command).id if words.crew else None
        rated = RatedRuns(crew_id=crew_id, thumb=words.thumb)
    return keep(client, words.dataset, rows, rated, replace=words.replace)


def rate_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal rate``."""
    parser.add_argument(
        "words",
        nargs="+",
        metavar="[JOB] up|down [ANSWER]",
        help="the run, else the latest of this notebook; whether its answer is good; and what it should have "
        "been, which may also be the cell",
    )
    parser.add_argument("--note", metavar="TEXT", type=phrase, help="why")


def rate_command(session: Session, words: Namespace, cell: str | None) -> None:
    """Say what is to be made of a run."""
    said = list(words.words)
    job = session.job(None if said[0] in get_args(Thumb) else said.pop(0))
    if not said or said[0] not in get_args(Thumb):
        raise CellError(f"Say whether it is good: %kasal rate {job} up, or down")
    thumb: Any = said.pop(0)
    answer = " ".join(said) if said else None
    if cell is not None:
        answer = cell.removesuffix("\n")
    given = rate(job, thumb, answer, note=words.note)
    print(f"{job} {rating_text(given)}")  # noqa: T201 - it is the answer


def _variable(session: Session, word: str | None) -> Any:
    return session.namespace.get(word) if word is not None and session.notebook.is_variable(word) else None


def _rows(session: Session, word: str, expected: str | None) -> Any:
    """Give the rows of the frame that a word names; else the word, which may name a dataset."""
    found = _variable(session, word)
    return word if found is None else given_rows(found, expected, word)
