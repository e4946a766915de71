"""What the magics and the Python API of one kernel share: the server they talk to, and the latest run.

Which runs a notebook has started is kept in a file of job ids for each, below Jupyter's data folder: they are
found again when its kernel was restarted. The notebook is known by its path, as Jupyter's server and VS Code
tell it to a kernel; one without a path remembers nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.notebook_values import Notebook
from kasal_jupyter.whole_file import write_whole

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.client.connection import Connection
    from kasal_jupyter.kernel.crews.stored_crews import Hand, Put
    from kasal_jupyter.schemas.crews import ChangeQuery, CrewCreate, CrewDetails, Writer
    from kasal_jupyter.schemas.executions import ExecutionStatus

KEPT = 50
"""Runs of a notebook that are remembered."""

LOOKED_AT = 10
"""Runs from before a restart that are asked for."""


@dataclass(slots=True)
class Session:
    """One kernel's connection, and its latest run.

    Attributes
    ----------
    last_job
        The run that this notebook has started or looked at last.
    listed
        The runs of the list that was shown last: their numbers name them.
    """

    last_job: str | None = None
    listed: list[str] = field(default_factory=list)
    _client: Client | None = field(default=None, repr=False)
    _written: dict[tuple[str, str], int] = field(default_factory=dict, repr=False)

    @property
    def client(self) -> Client:
        """The server, found at the first use.

        Raises
        ------
        KasalError
            There is none; the message says what to do.
        """
        if self._client is None:
            from kasal_jupyter.client.client import Client
            from kasal_jupyter.client.finding import find_server

            self._client = Client(find_server())
        return self._client

    @property
    def connection(self) -> Connection | None:
        """Where the server is, if one was found before."""
        return self._client.connection if self._client is not None else None

    def connect(self, url: str | None = None, token: str | None = None) -> Client:
        """Talk to another server from now on; without an address, to the one that is found anew.

        Raises
        ------
        KasalError
            It cannot be reached, or does not let us in; the session then stays with the one it had.
        """
        from kasal_jupyter.client.client import Client
        from kasal_jupyter.client.finding import find_server

        client = Client(find_server(url, token))
        try:
            client.crews()
        except BaseException:
            client.close()
            raise
        if self._client is not None:
            self._client.close()
        self._client = client
        return client

    @property
    def namespace(self) -> MutableMapping[str, Any]:
        """The notebook's variables."""
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        if shell is None:
            import __main__

            return vars(__main__)
        return shell.user_ns  # type: ignore[no-any-return]

    @property
    def notebook(self) -> Notebook:
        """The notebook's variables, with which of them are its author's."""
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        return Notebook(self.namespace, () if shell is None else set(shell.user_ns_hidden))

    @property
    def cell(self) -> int | None:
        """The number of the cell that runs; None where there is no notebook."""
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        return shell.execution_count if shell is not None else None

    def note_job(self, job_id: str) -> None:
        """Note the run that is meant where none is named; also for when the kernel was restarted."""
        self.last_job = job_id
        note_run(job_id, self.namespace)

    def runs_before(self) -> list[ExecutionStatus]:
        """Give the runs that this notebook had before its kernel was restarted, what goes on first."""
        from kasal_jupyter.errors import NotFound
        from kasal_jupyter.schemas.executions import ENDED

        found = []
        for job_id in runs_before(self.namespace)[:LOOKED_AT]:
            with suppress(NotFound):
                found.append(self.client.execution(job_id))
        return sorted(found, key=lambda each: each.status in ENDED)

    def job(self, word: str | None) -> str:
        """Give the run that is meant: by its id, its number in the list shown last, or ``last``.

        Where none is named, it is the latest of this notebook, also from before a restart of its kernel.

        Raises
        ------
        CellError
            None is named, and this notebook has started none; or there is no such run.
        """
        if word is not None and word != "last":
            self.note_job(self._known_job(word))
        if self.last_job is None and (before := self.runs_before()):
            self.last_job = before[0].job_id
        if self.last_job is None and word == "last" and (latest := self.client.executions(1)):
            self.last_job = latest[0].job_id
        if self.last_job is None:
            raise CellError("No run was started in this notebook yet; name one, as `%kasal ps` lists them")
        return self.last_job

    def crew(self, word: str) -> CrewDetails:
        """Give the crew of a name or an id.

        Raises
        ------
        CellError
            There is none, with the nearest name; or there are several, with their ids.
        """
        from kasal_jupyter.errors import InvalidRequest, NotFound
        from kasal_jupyter.kernel.crews.stored_crews import find_crew

        try:
            return find_crew(self.client, word)
        except (NotFound, InvalidRequest) as error:
            raise CellError(error.message) from None

    def put_crew(
        self,
        body: CrewCreate,
        source: Writer = "cell",
        origin: str | None = None,
        *,
        force: bool = False,
        into: CrewDetails | None = None,
    ) -> Put:
        """Bring a crew to the server, and note which version this kernel has written.

        Parameters
        ----------
        body
            The crew.
        source, origin
            Where it comes from, for its history; this notebook, by default.
        force
            Whether to write over what comes from elsewhere.
        into
            The crew to update, where it is not one's own of the name.

        Raises
        ------
        ChangedElsewhere
            Its newest version comes from elsewhere; the cell has shown the difference.
        InvalidRequest
            There are several of that name.
        """
        from kasal_jupyter.kernel.crews.stored_crews import ChangedElsewhere, own_crew, put_crew

        stored = into if into is not None else own_crew(self.client, body.name)
        try:
            put = put_crew(self.client, body, self._hand(source, origin, stored, force=force), stored)
        except ChangedElsewhere as error:
            show(error.difference)
            raise
        self.note_written(put.crew)
        return put

    def require_own(self, body: CrewCreate, source: Writer = "cell", origin: str | None = None) -> None:
        """Refuse what :meth:`put_crew` would refuse, without writing anything; see there."""
        from kasal_jupyter.kernel.crews.stored_crews import ChangedElsewhere, is_same, own_crew, require_own

        stored = own_crew(self.client, body.name)
        if stored is None or is_same(stored, body):
            return
        try:
            require_own(self.client, body, self._hand(source, origin, stored), stored)
        except ChangedElsewhere as error:
            show(error.difference)
            raise

    def _hand(
        self, source: Writer, origin: str | None, stored: CrewDetails | None, *, force: bool = False
    ) -> Hand:
        from kasal_jupyter.kernel.crews.stored_crews import Hand

        # What an import or a model has given is not what this notebook's cells say.
        known = self.written(stored.id) if stored is not None and source == "cell" else None
        return Hand(notebook_change(source, origin), known, force=force)

    def written(self, crew_id: str) -> int | None:
        """Give the version of a crew that this kernel has written last; None where it has written none."""
        return self._written.get((self.client.url, crew_id))

    def note_written(self, crew: CrewDetails) -> None:
        """Note that a crew is as this kernel has it."""
        self._written[self.client.url, crew.id] = crew.version

    def crew_names(self) -> list[str]:
        """Give the names of the crews that there are."""
        return [each.name for each in self.client.crews()]

    def _known_job(self, word: str) -> str:
        from kasal_jupyter.errors import NotFound, nearest

        if word.isdecimal():
            return self.client.numbered_job(int(word), self.listed)
        try:
            return self.client.execution(word).job_id
        except NotFound:
            near = nearest(word, [each.job_id for each in self.client.executions(100)])
            raise CellError(f"There is no run {word!r}{near or '; `%kasal ps` lists the latest'}") from None


@cache
def the_session() -> Session:
    """Give this kernel's session."""
    return Session()


def notebook_change(source: Writer, origin: str | None = None) -> ChangeQuery:
    """Say for a crew's history where a change comes from; ``origin`` is this notebook, by default."""
    from kasal_jupyter.schemas.crews import ChangeQuery

    return ChangeQuery(source=source, origin=origin or notebook_origin())


def notebook_origin() -> str | None:
    """Name this notebook and its cell that runs: ``/home/ada/Market.ipynb#3f9c2a1b``, as far as that is told.

    Jupyter's server tells the kernel the notebook, VS Code has a variable for it; JupyterLab and Notebook 7
    tell the cell. Runners such as nbclient and papermill tell neither: their folder
    stands for them, which is the same whenever the notebook is run again.
    """
    from IPython.core.getipython import get_ipython

    from kasal_jupyter.schemas.crews import MOST_ORIGIN

    shell = get_ipython()
    path = notebook_path(shell.user_ns if shell is not None else {}) or ""
    cell = ""
    if shell is not None:
        parent = getattr(shell, "parent_header", None)
        metadata = parent.get("metadata") if isinstance(parent, dict) else None
        cell = str(metadata.get("cellId") or "") if isinstance(metadata, dict) else ""
        path = path or _unnamed()
    # VS Code's cells are addresses; the cell is what stands behind them.
    cell = "".join(char for char in cell.rpartition("#")[2] if char.isalnum() or char in "-_")[:64]
    path = "".join(char for char in path if char.isprintable())
    origin = f"{path[-(MOST_ORIGIN - len(cell) - 1) :]}{'#' if cell else ''}{cell}"
    return origin or None


def _unnamed() -> str:
    """Give what stands for a notebook whose runner tells no name."""
    from kasal_jupyter.kernel.crews.stored_crews import UNNAMED

    try:
        return str(Path.cwd() / UNNAMED)
    except OSError:
        # The folder was deleted.
        return UNNAMED


def note_run(job_id: str, namespace: Mapping[str, Any]) -> None:
    """Remember a run of the notebook whose variables these are."""
    if (file := _file(namespace)) is None or job_id in (known := runs_before(namespace))[:1]:
        return
    lines = [*known[: KEPT - 1][::-1], job_id]
    # It is a convenience: no run fails because the home folder cannot be written.
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(file, "".join(f"{line}\n" for line in lines).encode())


def runs_before(namespace: Mapping[str, Any]) -> list[str]:
    """Give the job ids of the notebook, the latest first."""
    file = _file(namespace)
    try:
        lines = file.read_text("utf-8").splitlines() if file is not None else []
    except (OSError, UnicodeDecodeError):
        return []
    return list(dict.fromkeys(reversed(lines)))


def notebook_path(namespace: Mapping[str, Any]) -> str | None:
    """Give the path of the notebook whose variables these are; None where nobody tells it."""
    path = namespace.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    return path if isinstance(path, str) and path else None


def _file(namespace: Mapping[str, Any]) -> Path | None:
    path = notebook_path(namespace)
    if path is None:
        return None
    from jupyter_core.paths import jupyter_data_dir

    name = hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return Path(jupyter_data_dir(), "kasal-notebooks", f"{name}.runs")


def show(what: object) -> None:
    """Show something beside a cell's value; as text, where there is no notebook."""
    from IPython.core.getipython import get_ipython

    if get_ipython() is None:
        print(repr(what))  # noqa: T201 - there is nothing else to show it with
        return
    from IPython.display import display

    display(what)  # type: ignore[no-untyped-call]


def connect(url: str | None = None, token: str | None = None) -> str:
    """Talk to another server from now on, in the magics as well.

    Parameters
    ----------
    url
        The server's base URL, without ``/v1``, or an address copied from the browser; without it the server
        is found as at the start.
    token
        Jupyter's token or a Kasal one; ``KASAL_TOKEN`` where it is not given.

    Returns
    -------
    str
        The base URL of the server that is used now.

    Raises
    ------
    KasalError
        It cannot be reached, or does not let us in; the one before is used on.
    """
    return the_session().connect(url, token).url
