"""``jupyter kasal map`` and ``batches``: a crew over the rows of a file, and the batches that there are."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from kasal_jupyter.cli import INTERRUPTED, WrongUsage
from kasal_jupyter.cli.connect import STDIN, add_server_options, ended_by_signals, say, server_of
from kasal_jupyter.cli.crew_file import find_crew, names_file, read_crew, read_inputs, store_crew
from kasal_jupyter.cli.run import WAYS
from kasal_jupyter.cli.run_view import BAR, REDRAWS
from kasal_jupyter.cli.terminal import console_of, print_file, print_rows, write_file
from kasal_jupyter.errors import Conflict, InvalidRequest
from kasal_jupyter.kernel.crews.plan import inputs_of
from kasal_jupyter.kernel.frames.batch_frames import (
    ResultColumns,
    Table,
    csv_cell,
    frame_of,
    json_line,
    missing_note,
    plain_rows,
    plan_inputs,
    rows_of,
)
from kasal_jupyter.kernel.frames.frames import read_frame, row_values
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
from kasal_jupyter.kernel.runs.batches import (
    MapOptions,
    batch_of,
    is_settled,
    none_failed_text,
    retried_text,
    start_batch,
)
from kasal_jupyter.kernel.views.batches import (
    MOST_FAILED,
    PrintedBatch,
    done_rows,
    is_spent,
    line_text,
    text_of,
)
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.kernel.views.figures import counted
from kasal_jupyter.schemas.batches import FINISHED, Batch

if TYPE_CHECKING:
    from kasal_jupyter.cli.connect import Subparsers
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.schemas.batches import BatchRow

Format = Literal["csv", "jsonl", "parquet"]

SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
"""What is in a file of rows, by the end of its name."""

SPARE = ("created", "time", "crew", "name", "cost")
"""The columns that a narrow terminal does without, the first to go first."""

EXIT_STATUS = (
    "Exit status: 0 all rows have completed (or go on); 1 some have failed, or something was refused; "
    "2 wrong usage; 130 Ctrl-C, or the batch is paused or was stopped."
)


def add_map(subparsers: Subparsers) -> None:
    """Add ``map`` to the parser of `jupyter kasal`."""
    parser = subparsers.add_parser(
        "map",
        help="run a crew over the rows of a file",
        description="Run a crew over the rows of a CSV, JSON-lines or Parquet file, a run a row. The results "
        "have the file's rows in its order, with what has come of each. The same again goes on where it was, "
        "and pays nothing twice. Ctrl-C pauses the batch, and writes what there is.",
        epilog=EXIT_STATUS,
    )
    parser.add_argument("crew", metavar="FILE|CREW", help="the crew: a YAML file, its name, or its id")
    parser.add_argument(
        "rows", metavar="ROWS", help="the rows: a .csv, .jsonl or .parquet file (-: CSV input)"
    )
    parser.add_argument(
        "values", nargs="*", metavar="name=value", help="an input that is the same in each row"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="where the results go: .csv, .jsonl or .parquet; else the standard output, as the rows came",
    )
    parser.add_argument("--name", metavar="NAME", help="what the batch is called; else as the crew")
    add_map_options(parser)
    parser.add_argument(
        "--force", action="store_true", help="write the file over a crew that was changed elsewhere"
    )
    parser.add_argument("--bg", action="store_true", help="print the batch's id and go; it goes on")
    parser.add_argument("--quiet", "-q", action="store_true", help="show no progress")
    add_server_options(parser)
    parser.set_defaults(handler=run_map)


def run_map(args: argparse.Namespace) -> int:
    """Carry out ``map``; give the exit status."""
    # What is wrong here is told before a server is started.
    goal = _format_of(args.output) if args.output is not None else None
    values = read_inputs(args.values, None)
    columns = read_columns(args.columns)
    source = read_source(args.rows)
    crew_body = read_crew(args.crew) if names_file(args.crew) else None
    with ended_by_signals(), server_of(args) as client:
        if crew_body is None:
            crew = find_crew(client, args.crew)
        else:
            crew_id, done = store_crew(client, crew_body, "terminal", args.crew, force=args.force, ways=WAYS)
            crew = client.crew(crew_id)
            if not args.quiet:
                say(f"crew {clean(crew.name)}: {done}")
        plan = plan_inputs(
            crew.name, inputs_of(crew), source.columns, source=source.name, columns=columns, values=values
        )
        rows = plain_rows(source.records, plan, source.label, source.name)
        if (note := missing_note(rows, source.name)) is not None and not args.quiet:
            say(note)
        options = MapOptions(
            name=args.name,
            concurrency=args.concurrency,
            budget=whole_budget(args),
            dedupe=args.dedupe,
            fresh=args.fresh,
        )
        batch, again = start_batch(client, batch_of(crew, rows, options), retry_failed=args.retry_failed)
        if args.retry_failed and again is None and not args.quiet:
            say(none_failed_text(batch))
        if args.bg:
            print(batch.id)
            return 0
        batch = watch(client, batch, quiet=args.quiet)
        _write(source, list(client.batch_rows(batch.id)), goal, args.output)
        return _tell_end(client, batch, again, args)


def _tell_end(client: Client, batch: Batch, again: Sequence[int] | None, args: argparse.Namespace) -> int:
    """Say how a batch has ended, and where the results are; give the exit status."""
    if not args.quiet:
        failed = list(client.batch_rows(batch.id, status="failed", most=MOST_FAILED))
        say(text_of(batch, failed, _way_on(batch)))
        if note := retried_text(client, batch, again):
            say(note)
        if args.output is not None:
            say(f"{counted(batch.total, 'row')} in {args.output}")
    if batch.status in {"paused", "stopped"}:
        return INTERRUPTED
    return 1 if batch.status == "failed" or batch.counts.failed else 0


def _way_on(batch: Batch) -> str:
    if is_spent(batch):
        return "With a larger --budget the same again goes on with it"
    if batch.status != "completed":
        return f"The same again goes on with it, and so does: jupyter kasal batches resume {batch.id}"
    return "--retry-failed does only those again" if batch.counts.failed else ""


def watch(client: Client, batch: Batch, *, quiet: bool = False) -> Batch:
    """Show a batch until nothing of it goes on; give how it stands then. Ctrl-C pauses it."""
    try:
        return _followed(client, batch, quiet=quiet)
    except (KeyboardInterrupt, SystemExit):
        try:
            return client.tell_batch(batch.id, "pause")
        except Conflict:
            # It has just ended by itself.
            return client.batch(batch.id)


def _followed(client: Client, batch: Batch, *, quiet: bool = False) -> Batch:
    """Show a batch until nothing of it goes on; give how it stands then."""
    with _view_on(sys.stderr, batch, quiet=quiet) as show:
        for found in client.follow_batch(batch.id):
            batch = found
            show(batch)
            if is_settled(batch):
                break
    return batch


@contextmanager
def _view_on(file: IO[str], batch: Batch, *, quiet: bool) -> Iterator[Any]:
    """Give what shows a batch: a moving line on a terminal, else a line now and then."""
    console = console_of(file)
    if quiet or not console.is_terminal or console.is_dumb_terminal:
        yield (lambda _batch: None) if quiet else PrintedBatch(say).show
        return
    from rich.live import Live

    live = Live(
        _moving(batch, console.width),
        console=console,
        refresh_per_second=REDRAWS,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    with live:
        yield lambda found: live.update(_moving(found, console.width))


def _moving(batch: Batch, width: int) -> Any:
    """Draw a batch on the line that moves."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table as Grid
    from rich.text import Text

    state, _, rest = line_text(batch).partition("  ")
    grid = Grid.grid(padding=(0, 1))
    # The terminal writes ^C behind it: that must not be on another line.
    grid.width = max(1, width - 4)
    grid.add_row(
        Text(state, style="bold cyan", no_wrap=True),
        ProgressBar(total=max(batch.total, 1), completed=done_rows(batch), width=BAR),
        Text(rest, overflow="ellipsis", no_wrap=True),
    )
    return grid


# -- the rows of a file -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """The rows of a file.

    Attributes
    ----------
    name
        The file's, for errors.
    format
        What it is.
    columns
        Its columns.
    records
        Its rows: by column.
    first
        The line of the first of them; 0 where a row has none.
    """

    name: str
    format: Format
    columns: list[str]
    records: list[dict[str, Any]]
    first: int = 0

    def label(self, number: int) -> str:
        """Name a row: by its number from 0, and its line where each has one."""
        return f"{number} (line {number + self.first})" if self.first else str(number)


def read_source(word: str) -> Source:
    """Read the rows of a file; in CSV all values are texts.

    Raises
    ------
    InvalidRequest
        It cannot be read, or has no rows; the message names the line.
    """
    if word == STDIN:
        return _read_csv(sys.stdin.read(), "the standard input")
    kind = _format_of(word)
    try:
        if kind == "parquet":
            return _read_parquet(Path(word))
        text = Path(word).read_text("utf-8-sig")
    except OSError as error:
        raise InvalidRequest(f"{word} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{word} is no text in UTF-8") from None
    return _read_csv(text, word) if kind == "csv" else _read_lines(text, word)


def _format_of(word: str) -> Format:
    found = SUFFIXES.get(Path(word).suffix.lower())
    if found is None:
        raise WrongUsage(
            f"{word}: what is in it is told by its name, which ends with .csv, .jsonl or .parquet"
        )
    return found


def _read_csv(text: str, name: str) -> Source:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = next(reader, [])
        records = []
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(columns):
                raise InvalidRequest(
                    f"{name}, line {reader.line_num}: it has {counted(len(cells), 'value')}, and the header "
                    f"{counted(len(columns), 'column')}"
                )
            records.append(dict(zip(columns, cells, strict=True)))
    except csv.Error as error:
        raise InvalidRequest(f"{name}, line {reader.line_num}: {error}") from None
    if twice := next((each for each in columns if columns.count(each) > 1), None):
        raise InvalidRequest(f"{name} has several columns called {twice!r}")
    return _filled(Source(name, "csv", columns, records))


def _read_lines(text: str, name: str) -> Source:
    records = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"{name}, line {number}: {error}") from None
        if not isinstance(record, dict):
            raise InvalidRequest(f"{name}, line {number}: it is no object; write one row a line")
        records.append(record)
    return _filled(
        Source(name, "jsonl", list(dict.fromkeys(key for each in records for key in each)), records)
    )


def _read_parquet(path: Path) -> Source:
    from importlib.util import find_spec

    if find_spec("pyarrow") is not None:
        from pyarrow import parquet

        native = parquet.read_table(path)
    elif find_spec("polars") is not None:
        import polars as pl

        native = pl.read_parquet(path)
    else:
        raise InvalidRequest(f"{path} needs pyarrow or polars to be read: pip install pyarrow")
    frame = read_frame(native, path.name)
    records = [dict(zip(frame.columns, row, strict=True)) for row in row_values(frame)]
    return _filled(Source(str(path), "parquet", list(frame.columns), records))


def _filled(source: Source) -> Source:
    if not source.records:
        raise InvalidRequest(f"{source.name} has no rows")
    return source


# -- the results ------------------------------------------------------------------------------------------


def _write(source: Source, rows: Sequence[BatchRow], goal: Format | None, output: str | None) -> None:
    """Write a source's rows with what has come of each."""
    kind = goal or ("jsonl" if source.format == "jsonl" else "csv")
    results = ResultColumns(set(source.columns))
    columns = results.of(rows)
    if (note := results.note(source.name)) is not None:
        say(note)
    if kind == "parquet":
        assert output is not None
        import narwhals as nw

        table = Table.of(frame_of(source.records), source.name)
        data = io.BytesIO()
        nw.from_native(table.with_columns(columns), eager_only=True).write_parquet(data)
        write_file(Path(output), data.getvalue())
        return
    records = [{**record, **more} for record, more in zip(source.records, rows_of(columns), strict=True)]
    names = [*source.columns, *columns]
    text = _csv_text(names, records) if kind == "csv" else "".join(map(json_line, records))
    if output is None:
        sys.stdout.write(text) if kind == "csv" else print_file(text, "json")
        return
    write_file(Path(output), text.encode("utf-8", "replace"))


def _csv_text(names: Sequence[str], records: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([csv_cell(record.get(name)) for name in names] for record in records)
    return text.getvalue()


# -- batches ----------------------------------------------------------------------------------------------


def add_batches(subparsers: Subparsers) -> None:
    """Add ``batches`` to the parser of `jupyter kasal`."""
    parser = subparsers.add_parser(
        "batches",
        help="list the batches, or tell one to pause, go on or end",
        description="List the batches, show one, have it pause, go on (resume), end (stop) or do again what "
        "has failed (retry), change its bounds while it goes on (set), delete it (rm), or get its results.",
        epilog=EXIT_STATUS,
    )
    add_action(parser, "results", "wait")
    parser.add_argument("-o", "--output", metavar="FILE", help="with results: .csv, .jsonl or .parquet")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    add_server_options(parser)
    parser.set_defaults(handler=run_batches)


def run_batches(args: argparse.Namespace) -> int:
    """Carry out ``batches``; give the exit status."""
    goal = _format_of(args.output) if args.output is not None else "jsonl"
    with ended_by_signals(), server_of(args) as client:
        if args.action in {None, "list"}:
            return _list(client, args)
        batch = find_batch(client, args.batch or "last")
        if args.action == "results":
            _results(client, batch, goal, args.output)
            return 0
        if args.action == "wait":
            batch = _followed(client, batch)
        if args.action in {"show", "wait"}:
            failed = list(client.batch_rows(batch.id, status="failed", most=MOST_FAILED))
            print(batch.model_dump_json() if args.json else text_of(batch, failed, ""))
            return 1 if batch.status == "failed" or failed else 0
        print(clean(tell(client, args.action, batch, change_of(args))))
    return 0


def _list(client: Client, args: argparse.Namespace) -> int:
    found = client.batches(args.n)
    if args.json:
        print(json.dumps([each.model_dump() for each in found], indent=2, ensure_ascii=False))
    elif not found:
        print(f"{NO_BATCHES}; make one with: jupyter kasal map FILE|CREW ROWS")
    else:
        print_rows(console_of(sys.stdout), HEADS, map(batch_cells, found), spare=SPARE)
    return 0


def _results(client: Client, batch: Batch, goal: Format, output: str | None) -> None:
    data = client.batch_results(batch.id, goal)
    if output is None:
        print_file(data.decode(), "json")
        return
    write_file(Path(output), data)
    done = "" if batch.status in FINISHED else f", of which {counted(done_rows(batch), 'row')} are done"
    say(f"{counted(batch.total, 'row')} in {output}{done}")
