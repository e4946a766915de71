"""`%kasal export, import, artifacts, generate, prune`."""

from __future__ import annotations

import glob
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from kasal_jupyter.errors import Fault, InvalidRequest, NotRunnable
from kasal_jupyter.kernel.crews.card import CrewCard, stored_card
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import Parser, add_crew, add_job, one_of, phrase, quoted
from kasal_jupyter.kernel.session import Session
from kasal_jupyter.kernel.views.cards import Shown
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.schemas.exchange import ExportFormat, Format

if TYPE_CHECKING:
    from kasal_jupyter.kernel.crews.stored_crews import Put
    from kasal_jupyter.kernel.runs.artifacts import Artifacts
    from kasal_jupyter.schemas.crews import CrewCreate, CrewDetails


def export_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal export``."""
    add_crew(parser)
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="where to write it; else a cell is printed, or the file"
    )
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        type=one_of(get_args(ExportFormat)),
        default="yaml",
        help="yaml; crewai: a project for CrewAI alone, in a folder or a .zip; kasal: for its canvas",
    )
    parser.add_argument("--force", action="store_true", help="overwrite what is there")


def export_command(session: Session, words: Namespace, cell: str | None) -> None:
    """Write a crew as YAML, as a CrewAI project, or for Kasal's canvas; or a run as an archive."""
    del cell
    if words.crew.startswith("job_"):
        _export_run(session, words)
        return
    from kasal_jupyter.kernel.crews.crew_files import export, remark_lines, save

    crew = session.crew(words.crew)
    if words.file is None and words.format == "yaml":
        print(as_cell(crew))  # noqa: T201 - it is the answer
        return
    found = export(crew, words.format)
    if words.file is None and len(found.files) > 1:
        raise CellError("A project has several files: name a folder for them, or a .zip file")
    if words.file is None:
        print(found.only[1])  # noqa: T201 - it is the answer
        return
    path = Path(words.file).expanduser()
    save(found, path, force=words.force)
    lines = remark_lines(found.remarks)
    carried = f"{crew.name} → {path}" + ("; what could not be carried over as it is:" if lines else "")
    print("\n".join([carried, *lines]))  # noqa: T201 - it is the answer


def _export_run(session: Session, words: Namespace) -> None:
    from kasal_jupyter.kernel.runs.keeping import save_archive

    path = Path(words.file or f"{words.crew}.zip").expanduser()
    save_archive(session.client, words.crew, path, force=words.force)
    print(f"{words.crew} → {path}; `%kasal import` takes it, on any server")  # noqa: T201 - it is the answer


def as_cell(crew: CrewDetails | CrewCreate) -> str:
    """Write a crew as the cell that makes it."""
    from kasal_jupyter.formats.yaml_crew import dump_crew
    from kasal_jupyter.formats.yaml_text import mark_names

    text = dump_crew(crew)
    # A prompt may hold {{name}} itself, which the cell would otherwise fill in.
    raw = " --raw" if mark_names(text) != text else ""
    # The name stands in the first line already; a long one goes on in indented lines.
    lines = text.splitlines()
    begin = next(at for at, line in enumerate(lines) if at and not line.startswith(" "))
    return "\n".join([f"%%kasal crew {quoted(crew.name)}{raw}", *lines[begin:]])


def import_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal import``."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="YAML, a CrewAI project (a folder or a .zip), crew.jsonc, Kasal's export; * for several",
    )
    parser.add_argument(
        "--name", "--as", metavar="NAME", type=phrase, help="the crew's name; else its own, else the file's"
    )
    parser.add_argument(
        "--force", action="store_true", help="write over a crew of that name; its history keeps what it was"
    )
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        type=one_of(("auto", *get_args(Format))),
        default="auto",
        help="what it is, where that is not found out: yaml, crewai, jsonc, kasal",
    )


def import_command(session: Session, words: Namespace, cell: str | None) -> CrewCard | Shown | None:
    """Create or update the crews of some files: all, or none where one has a fault. Or take runs in."""
    del cell
    from kasal_jupyter.kernel.crews.crew_files import placed, read_crew, remark_lines, source_of
    from kasal_jupyter.kernel.runs.keeping import bring, is_archive

    named = _paths(words.files)
    if runs := [path for path in named if is_archive(path)]:
        if len(runs) < len(named):
            raise CellError(f"{runs[0]} is an archive of a run; import those by themselves")
        for path in runs:
            print(bring(session.client, path))  # noqa: T201 - it is the answer
        return None
    # A project has several files, each of which may be named.
    paths = list(dict.fromkeys(map(source_of, named)))
    if words.name is not None and len(paths) > 1:
        raise CellError("--name is for one file; several are called by their `name`, else by their file's")
    tools = [tool.name for tool in session.client.tools()]
    faults: list[Fault] = []
    crews: list[tuple[CrewCreate, str]] = []
    notes: list[str] = []
    for path in paths:
        try:
            found = read_crew(path, name=words.name, wanted=words.format, tools=tools)
        except InvalidRequest as error:
            if not error.faults:
                raise
            faults += placed(error.faults, path)
            continue
        crews.append((found.crew, path.name))
        if found.remarks:
            notes += [f"{path}: what could not be carried over as it is:", *remark_lines(found.remarks)]
    for name in {crew.name for crew, _ in crews}:
        if sum(crew.name == name for crew, _ in crews) > 1:
            faults.append(Fault("name", f"Two of the files have a crew {name!r}"))
    if faults:
        first = faults[0]
        raise CellError(f"Nothing was imported: {first.field}: {first.reason}", faults=faults)
    done = _put_all(session, crews, force=words.force)
    if notes:
        print(clean("\n".join(notes)))  # noqa: T201 - what is left out is told
    if len(done) == 1:
        return stored_card(session.client, done[0].crew, done[0].verb)
    rows = [[each.crew.name, each.verb, each.crew.status, each.crew.id] for each in done]
    return Shown("", ["crew", "", "status", "id"], rows)


def _put_all(session: Session, crews: Sequence[tuple[CrewCreate, str]], *, force: bool) -> list[Put]:
    """Store the crews of some files; none, where a crew of one's name comes from elsewhere."""
    if not force:
        for crew, file in crews:
            session.require_own(crew, "import", file)
    return [session.put_crew(crew, "import", file, force=force) for crew, file in crews]


def artifacts_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal artifacts``."""
    add_job(parser)
    parser.add_argument("--get", metavar="FILE", help="save one of the files")
    parser.add_argument("--to", metavar="FOLDER", help="save there, all files where none is named")
    parser.add_argument("--force", action="store_true", help="overwrite files that are there")


def artifacts_command(session: Session, words: Namespace, cell: str | None) -> Artifacts | None:
    """List the files that a run has written, or save them."""
    del cell
    from kasal_jupyter.kernel.runs.artifacts import artifacts_of

    found = artifacts_of(session.client, session.job(words.job))
    if words.get is None and words.to is None:
        return found
    wanted = found if words.get is None else [found.named(words.get)]
    if not wanted:
        raise CellError(f"{found.job_id} has written no files")
    for each in wanted:
        path = each.save(words.to or ".", force=words.force)
        print(f"{each.name} → {path}")  # noqa: T201 - it is the answer
    return None


def _paths(words: list[str]) -> list[Path]:
    found: list[Path] = []
    for word in words:
        path = Path(word).expanduser()
        # A file may be called so itself.
        if path.exists() or not glob.has_magic(word):
            matching = [path]
        else:
            matching = sorted(map(Path, glob.glob(str(path))))  # noqa: PTH207 - with folders in it
        if not matching:
            raise CellError(f"There is no file {word}")
        found += [each for each in matching if each not in found]
    return found


# -- a crew from a sentence -----------------------------------------------------------------------------

# `%kasal generate`.


def generate_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal generate``."""
    parser.add_argument("words", nargs="+", metavar="WORDS", help="what the crew is to do")
    parser.add_argument("--model", metavar="MODEL", help="the model that makes it, and that its agents use")
    parser.add_argument(
        "--name", metavar="NAME", type=phrase, help="the crew's name; else the model gives one"
    )
    parser.add_argument(
        "--input", metavar="NAME", action="append", default=[], help="an input that each run is to take"
    )
    parser.add_argument("--save", action="store_true", help="create the crew at once")
    parser.add_argument(
        "--force", action="store_true", help="save it over a crew of that name; its history keeps what it was"
    )
    parser.add_argument("--print", action="store_true", help="print the cell instead of adding it")


def generate_command(session: Session, words: Namespace, cell: str | None) -> CrewCard | None:
    """Have a model make a crew: as a new cell, as text, or at once."""
    del cell
    from pydantic import ValidationError

    from kasal_jupyter.schemas.exchange import CrewGenerate

    try:
        body = CrewGenerate(
            description=" ".join(words.words), model=words.model, name=words.name, inputs=words.input
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise CellError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    try:
        found = session.client.generate_crew(body)
    except NotRunnable as error:
        if words.model is not None or not any(fault.field == "model" for fault in error.faults):
            raise
        raise CellError(f"{error.message}; add --model NAME, one of those that %kasal models lists") from None
    session.note_job(found.job_ids[-1])
    if words.save:
        put = session.put_crew(found.crew, "generate", force=words.force)
        return stored_card(session.client, put.crew, put.verb)
    text = as_cell(found.crew)
    if words.print or not add_cell(text):
        print(text)  # noqa: T201 - it is the answer
        return None
    print(  # noqa: T201 - it is the answer
        f"{found.crew.name}: made by {found.model}, not stored yet. Run the new cell to create it; "
        f"%kasal traces {found.job_ids[-1]} shows how it was made"
    )
    return None


def add_cell(text: str) -> bool:
    """Put a cell below this one; give whether there is somebody who does it."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is None or not hasattr(shell, "payload_manager"):
        return False
    shell.set_next_input(text)
    return True


def prune_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal prune``."""
    from kasal_jupyter.kernel.runs.keeping import add_prune_options

    add_prune_options(parser)


def prune_command(session: Session, words: Namespace, cell: str | None) -> Shown:
    """Compress and delete what of runs is kept no longer; the books stay."""
    del cell
    from kasal_jupyter.kernel.runs.keeping import PRUNE_HEADS, prune, prune_rows, prune_title

    report = prune(session.client, words)
    return Shown(prune_title(report), list(PRUNE_HEADS), prune_rows(report))
