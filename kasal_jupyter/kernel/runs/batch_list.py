"""The latest batches as a list, the one that a word means, and what it can be told."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from kasal_jupyter.errors import Conflict, NotFound, nearest
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import bound, count, one_of
from kasal_jupyter.kernel.views.batches import (
    MARKS,
    counts_text,
    done_rows,
    pace_text,
    percent,
    roughly_text,
    took,
)
from kasal_jupyter.kernel.views.figures import cost_text, moment_text
from kasal_jupyter.schemas.base import MOST_LISTED
from kasal_jupyter.schemas.batches import Batch, BatchChange
from kasal_jupyter.schemas.executions import Budget

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client

HEADS = ["batch", "name", "crew", "status", "done", "rows", "time", "cost", "created"]

ACTIONS = ("list", "show", "pause", "resume", "stop", "retry", "set", "rm")
"""What can be done with batches."""

NO_BATCHES = "There are no batches yet"


def batch_cells(batch: Batch) -> list[str]:
    """Give a batch as the cells of a list."""
    seconds = took(batch)
    failed = f", {batch.counts.failed:,} failed" if batch.counts.failed else ""
    return [
        batch.id,
        batch.name or "",
        batch.crew_name,
        f"{MARKS[batch.status]} {batch.status}",
        f"{percent(batch)} %",
        f"{done_rows(batch):,} of {batch.total:,}{failed}",
        roughly_text(seconds) if seconds is not None else pace_text(batch),
        cost_text(batch.cost),
        moment_text(batch.created_at),
    ]


def find_batch(client: Client, word: str) -> Batch:
    """Give the batch of an id or a name: of several, the latest; ``last`` is the latest of all.

    Raises
    ------
    NotFound
        There is none; the message has the nearest.
    """
    if word.startswith("batch_"):
        try:
            return client.batch(word)
        except NotFound:
            # It may be a name all the same.
            pass
    found = client.batches(1) if word == "last" else client.batches(1, name=word)
    if found:
        return found[0]
    if word == "last":
        raise NotFound(NO_BATCHES)
    known = client.batches(MOST_LISTED)
    names = [name for each in known for name in (each.name, each.id) if name]
    raise NotFound(f"There is no batch {word!r}{nearest(word, names)}")


def tell(client: Client, action: str, batch: Batch, change: BatchChange | None) -> str:
    """Have a batch do what an action says, and say what came of it.

    Raises
    ------
    CellError
        It cannot do that as it stands.
    """
    if action == "set" and change is None:
        raise CellError("Say what is other from now on: --concurrency N, --budget DOLLARS, --max-tokens N")
    if action in {"pause", "stop", "rm"} and change is not None:
        raise CellError(f"{action} takes no bounds; set and resume do")
    try:
        if action == "rm":
            client.delete_batch(batch.id)
            return f"{batch.id} is deleted; its runs stay"
        if change is not None:
            batch = client.change_batch(batch.id, change)
        if action != "set":
            batch = client.tell_batch(batch.id, _word(action))
    except Conflict as error:
        raise CellError(error.message) from None
    bounds = f"; {_bounds_text(batch)}" if change is not None else ""
    return f"{batch.id} is {batch.status}: {counts_text(batch)}{bounds}"


def _word(action: str) -> Literal["pause", "resume", "stop", "retry"]:
    match action:
        case "pause" | "resume" | "stop" | "retry":
            return action
        case _:
            raise CellError(f"There is no action {action!r}{nearest(action, ACTIONS)}")


def _bounds_text(batch: Batch) -> str:
    budget = batch.budget
    said = [
        "any number of rows at the same time"
        if batch.concurrency is None
        else f"at most {batch.concurrency:,} at the same time"
    ]
    if budget is not None and budget.max_cost is not None:
        said.append(f"budget {cost_text(budget.max_cost)}")
    if budget is not None and budget.max_tokens is not None:
        said.append(f"at most {budget.max_tokens:,} tokens")
    return ", ".join(said)


# -- the words of a command line --------------------------------------------------------------------------


def add_map_options(parser: ArgumentParser) -> None:
    """Have a parser take how a crew is run over rows; see :func:`read_columns` and :func:`whole_budget`."""
    parser.add_argument(
        "--columns",
        nargs="+",
        metavar="INPUT=COLUMN",
        default=[],
        help="the columns of inputs that have another name",
    )
    add_bounds(parser)
    parser.add_argument("--dedupe", action="store_true", help="have equal rows share one run")
    parser.add_argument(
        "--retry-failed", action="store_true", help="do only those rows again that have failed"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="run all rows anew, whatever earlier runs have answered"
    )


def add_bounds(parser: ArgumentParser) -> None:
    """Have a parser take what can be changed of a batch while it goes on; see :func:`change_of`."""
    parser.add_argument(
        "--concurrency", metavar="N", type=count, help="rows that go on at the same time, at the most"
    )
    parser.add_argument(
        "--budget", metavar="DOLLARS", type=bound, help="what all rows together may cost; it is reserved"
    )
    parser.add_argument(
        "--max-tokens", metavar="N", type=count, help="tokens that all rows together may use up"
    )


def read_columns(words: Iterable[str]) -> dict[str, str]:
    """Read ``input=column`` words; commas may stand between them.

    Raises
    ------
    CellError
        One is none, or an input has two.
    """
    columns: dict[str, str] = {}
    for word in words:
        # A column may have a comma in its name: one behind which no other pair begins.
        pieces = word.split(",") if all("=" in each for each in word.split(",")) else [word]
        for piece in pieces:
            name, equals, column = piece.partition("=")
            if not equals or not name or not column:
                raise CellError(f"--columns {piece}: write input=column, as in --columns topic=product")
            if name in columns:
                raise CellError(f"--columns names two columns for {name}: {columns[name]} and {column}")
            columns[name] = column
    return columns


def whole_budget(words: Namespace) -> Budget | None:
    """Give what the words let all rows together use up."""
    given = {"max_cost": words.budget, "max_tokens": words.max_tokens}
    given = {name: value for name, value in given.items() if value is not None}
    return Budget.model_validate(given) if given else None


def change_of(words: Namespace) -> BatchChange | None:
    """Give what the words change of a batch; None: nothing."""
    given: dict[str, Any] = {"concurrency": words.concurrency, "budget": whole_budget(words)}
    given = {name: value for name, value in given.items() if value is not None}
    return BatchChange.model_validate(given) if given else None


def add_action(parser: ArgumentParser, *more: str) -> None:
    """Have a parser take an action, of :data:`ACTIONS` or ``more``, a batch, and its new bounds."""
    actions = (*ACTIONS, *more)
    parser.add_argument("action", nargs="?", metavar="ACTION", type=one_of(actions), help=", ".join(actions))
    parser.add_argument("batch", nargs="?", metavar="BATCH", help="its id or name, or last")
    add_bounds(parser)
    parser.add_argument("-n", metavar="N", type=count, default=20, help="how many are listed; by default 20")
