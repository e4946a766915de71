"""`%kasal map, batches`: a crew over the rows of a frame, and the batches that there are."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import Parser, add_crew, add_inputs, raw_of
from kasal_jupyter.kernel.magics.commands.runs import check_variable
from kasal_jupyter.kernel.magics.notebook_values import read_inputs
from kasal_jupyter.kernel.runs.batch_list import (
    HEADS,
    NO_BATCHES,
    add_action,
    add_map_options,
    batch_cells,
    change_of,
    find_batch,
    read_columns,
    tell,
    whole_budget,
)
from kasal_jupyter.kernel.runs.batches import BatchFailed, BatchResult, MapOptions, is_settled, map_frame
from kasal_jupyter.kernel.session import Session
from kasal_jupyter.kernel.views.batches import view_of
from kasal_jupyter.kernel.views.cards import Shown


def map_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal map``."""
    add_crew(parser)
    parser.add_argument(
        "frame", metavar="FRAME", help="the rows: a variable of the notebook, or an expression of them"
    )
    add_inputs(parser)
    parser.add_argument(
        "-o",
        "--out",
        metavar="NAME",
        help="the variable that takes the result, a frame; the batch is called so",
    )
    add_map_options(parser)
    parser.add_argument(
        "--bg", action="store_true", help="go on at once; NAME then takes a handle, with .frame and .wait()"
    )


def map_command(session: Session, words: Namespace, cell: str | None) -> BatchResult:
    """Run a crew over the rows of a frame, and watch the batch."""
    del cell
    check_variable(words.out)
    source = raw_of(words.frame)
    if "=" in source and source.partition("=")[0].isidentifier():
        raise CellError(f'The rows come first: %kasal map "{words.crew}" df {source}')
    notebook = session.notebook
    expression = (str(source) if source.quoted else source.raw).removeprefix("$")
    if expression.isidentifier() and expression not in notebook.namespace:
        near = notebook.near(expression) or "; the rows are a frame of the notebook's"
        raise CellError(f"The notebook has no variable {expression!r}{near}")
    frame = notebook.value("rows", expression)
    inputs = read_inputs(words.inputs, notebook)
    if note := inputs.note():
        print(note)  # noqa: T201 - whoever meant a text is told
    options = MapOptions(
        name=words.out,
        columns=read_columns(words.columns),
        concurrency=words.concurrency,
        budget=whole_budget(words),
        dedupe=words.dedupe,
        retry_failed=words.retry_failed,
        fresh=words.fresh,
    )
    crew = session.crew(words.crew)
    with _kept(session, words.out):
        result = map_frame(
            session.client,
            crew,
            frame,
            options,
            source=expression,
            values=inputs.values,
            background=words.bg,
        )
    if words.out:
        session.namespace[words.out] = result if words.bg else result.frame
    return result


@contextmanager
def _kept(session: Session, output: str | None) -> Iterator[None]:
    """Have a batch that fails the cell leave what there is of it in the variable that was to take it."""
    try:
        yield
    except BatchFailed as error:
        if output is not None and error.result is not None:
            session.namespace[output] = error.result.frame
            error.message = f"{error.message.rstrip('.')}; {output} has what there is of it"
        raise


def batches_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal batches``."""
    add_action(parser)
    parser.add_argument("-o", "--out", metavar="NAME", help="with show: the variable that takes the rows")


def batches_command(session: Session, words: Namespace, cell: str | None) -> Shown | BatchResult | None:
    """List the batches, show one, or tell it something."""
    del cell
    client = session.client
    check_variable(words.out)
    if words.action in {None, "list"}:
        found = client.batches(words.n)
        title = "" if found else f"{NO_BATCHES}; %kasal map CREW df --out NAME makes one"
        lines = [
            [f"%kasal batches {word} {each.id}" for word in ("show", "pause", "resume", "stop", "retry")]
            for each in found
        ]
        return Shown(title, HEADS, [batch_cells(each) for each in found], opens=("batch", lines))
    batch = find_batch(client, words.batch or "last")
    if words.action != "show":
        print(tell(client, words.action, batch, change_of(words)))  # noqa: T201 - it is the answer
        return None
    result = BatchResult(client, batch)
    if words.out:
        session.namespace[words.out] = result.frame
    if not is_settled(batch):
        result.drawn()
        result.follow(view_of(result), {}, patient=True)
    return result
