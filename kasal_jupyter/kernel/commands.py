"""The sub-commands of `%kasal`, one function each."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kasal_jupyter.errors import nearest
from kasal_jupyter.kernel.cards import Shown, crew_card
from kasal_jupyter.kernel.client import Client
from kasal_jupyter.kernel.command_line import Parser, read_inputs, sendable
from kasal_jupyter.kernel.connection import find_server
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.figures import counted, duration_text
from kasal_jupyter.kernel.result import RunResult
from kasal_jupyter.kernel.runner import follow, follow_in_background
from kasal_jupyter.schemas.crews import CrewSummary


@dataclass(slots=True)
class Session:
    """What the sub-commands share: the notebook's variables and the server they talk to."""

    namespace: Mapping[str, Any]
    last_job: str | None = None
    _client: Client | None = field(default=None, repr=False)

    @property
    def client(self) -> Client:
        """The server, found at the first use."""
        if self._client is None:
            self._client = Client(find_server())
        return self._client

    def connect(self, url: str, token: str | None) -> None:
        """Talk to another server from now on."""
        self._client = Client(find_server(url, token))

    def job(self, word: str | None) -> str:
        """Give the job that is meant: the one named, else the latest of this notebook.

        Raises
        ------
        CellError
            None is named, and this notebook has started none.
        """
        job_id = word or self.last_job
        if job_id is None:
            raise CellError("No run was started in this notebook yet; name one, as `%kasal ps` lists them")
        return job_id


def connect(session: Session, words: Namespace, cell: str | None) -> None:
    """Talk to another server: its base URL, without /v1."""
    del cell
    session.connect(words.url, words.token)
    count = len(session.client.crews())
    print(f"Connected to {session.client.url}: {counted(count, 'crew')}")  # noqa: T201 - it is the answer


def crew(session: Session, words: Namespace, cell: str | None) -> Shown:
    """Create or update a crew from the YAML in the cell."""
    from kasal_jupyter.formats.yaml_crew import load_crew

    if cell is None:
        raise CellError(
            "The crew is read from the cell: begin it with %%kasal crew NAME and write YAML below"
        )
    body = load_crew(cell, " ".join(words.name) or None, session.namespace)
    known = session.client.crews(name=body.name)
    if known:
        session.client.update_crew(known[0].id, body)
        return crew_card(session.client.crew(known[0].id), "updated")
    return crew_card(session.client.crew(session.client.create_crew(body).id), "created")


def crews(session: Session, words: Namespace, cell: str | None) -> Shown:
    """List the crews."""
    del words, cell
    found = session.client.crews()
    rows = [[each.name, each.status, str(each.agents_count), each.created_at, each.id] for each in found]
    return Shown("" if rows else "No crews yet; write one with %%kasal crew NAME", _CREW_HEADS, rows)


def run(session: Session, words: Namespace, cell: str | None) -> RunResult:
    """Run a crew and watch it; its inputs are name=value words, or YAML in the cell."""
    client = session.client
    chosen = _find_crew(client, words.crew)
    inputs = _cell_inputs(cell) | read_inputs(words.inputs, session.namespace)
    job_id = client.start(chosen.id, inputs).job_id
    session.last_job = job_id
    return follow_in_background(client, job_id) if words.bg else follow(client, job_id)


def ps(session: Session, words: Namespace, cell: str | None) -> Shown:
    """List the latest executions."""
    del words, cell
    rows = [
        [
            each.job_id,
            each.crew_name,
            each.status,
            f"{each.progress} %",
            duration_text(each.duration) if each.duration is not None else "",
            f"{each.usage.total_tokens:,}",
            each.created_at,
        ]
        for each in session.client.executions()
    ]
    return Shown("" if rows else "No executions yet", _JOB_HEADS, rows)


def status(session: Session, words: Namespace, cell: str | None) -> RunResult:
    """Pick a run's view up again: drawn until it ends, or at once where it has."""
    del cell
    client, job_id = session.client, session.job(words.job)
    if client.execution(job_id).status in {"queued", "running"}:
        return follow_in_background(client, job_id)
    return _whole(client, job_id)


def traces(session: Session, words: Namespace, cell: str | None) -> Shown:
    """List what a run's agents did, a row a step."""
    del cell
    rows = [
        [row.timestamp, row.agent or "", row.action, row.result]
        for row in session.client.traces(session.job(words.job))
    ]
    return Shown("", ["time", "agent", "action", "result"], rows)


def stop(session: Session, words: Namespace, cell: str | None) -> None:
    """Stop a run."""
    del cell
    answer = session.client.stop(session.job(words.job))
    print(f"{answer.job_id} {answer.status}")  # noqa: T201 - it is the answer


Command = Callable[[Session, Namespace, str | None], object]

COMMANDS: dict[str, Command] = {
    each.__name__: each for each in (connect, crew, crews, run, ps, status, traces, stop)
}

_CREW_HEADS = ["crew", "status", "agents", "created", "id"]
_JOB_HEADS = ["job", "crew", "status", "progress", "time", "tokens", "created"]


def parser_of(name: str) -> Parser:
    """Give the parser of a sub-command's words."""
    parser = Parser(prog=f"%kasal {name}", description=COMMANDS[name].__doc__)
    if name == "connect":
        parser.add_argument("url", help="the Jupyter server's base URL, without /v1")
        parser.add_argument("--token", help="Jupyter's token; else KASAL_TOKEN")
    elif name == "crew":
        parser.add_argument("name", nargs="*", help="the crew's name; else the YAML's `name`")
    elif name == "run":
        parser.add_argument("crew", help="the crew's name or id")
        parser.add_argument(
            "inputs",
            nargs="*",
            metavar="name=value",
            help="an input; $name takes a variable, '$len(df)' a value",
        )
        parser.add_argument("--bg", action="store_true", help="go on at once; the view goes on updating")
    elif name in {"status", "traces", "stop"}:
        parser.add_argument("job", nargs="?", help="a job id; else the latest of this notebook")
    return parser


def _find_crew(client: Client, word: str) -> CrewSummary:
    named = client.crews(name=word)
    if len(named) > 1:
        ids = ", ".join(each.id for each in named)
        raise CellError(f"There are {len(named)} crews {word!r}; say which by its id: {ids}")
    known = named or client.crews()
    for each in known:
        if word in {each.name, each.id}:
            return each
    names = [each.name for each in known]
    raise CellError(f"There is no crew {word!r}{nearest(word, names)}; `%kasal crews` lists them")


def _cell_inputs(cell: str | None) -> dict[str, Any]:
    if cell is None or not cell.strip():
        return {}
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        inputs = YAML(typ="safe", pure=True).load(cell)
    except YAMLError as error:
        raise CellError(f"The inputs in the cell are not YAML: {error}") from None
    if not isinstance(inputs, dict):
        raise CellError("The cell holds the run's inputs: write them as name: value, one a line")
    return {str(key): sendable(str(key), value) for key, value in inputs.items()}


def _whole(client: Client, job_id: str) -> RunResult:
    result = RunResult(job_id)
    for event in client.follow(job_id):
        result.feed(event)
    return result
