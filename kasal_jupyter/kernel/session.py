"""What the magics and the Python API of one kernel share: the server they talk to, and the latest run."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.notebook_values import Notebook

if TYPE_CHECKING:
    from kasal_jupyter.kernel.client import Client
    from kasal_jupyter.kernel.connection import Connection
    from kasal_jupyter.schemas.crews import CrewDetails


@dataclass(slots=True)
class Session:
    """One kernel's connection, and its latest run.

    Attributes
    ----------
    last_job
        The run that this notebook has started or looked at last.
    """

    last_job: str | None = None
    _client: Client | None = field(default=None, repr=False)

    @property
    def client(self) -> Client:
        """The server, found at the first use.

        Raises
        ------
        KasalError
            There is none; the message says what to do.
        """
        if self._client is None:
            from kasal_jupyter.kernel.client import Client
            from kasal_jupyter.kernel.connection import find_server

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
        from kasal_jupyter.kernel.client import Client
        from kasal_jupyter.kernel.connection import find_server

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

    def note_job(self, job_id: str) -> None:
        """Note the run that is meant where none is named."""
        self.last_job = job_id

    def job(self, word: str | None) -> str:
        """Give the run that is meant: the one named, else the latest of this notebook.

        Raises
        ------
        CellError
            None is named, and this notebook has started none; or there is no such run.
        """
        if word is not None:
            self.note_job(self._known_job(word))
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
        from kasal_jupyter.errors import nearest

        named = self.client.crews(name=word)
        if len(named) > 1:
            ids = ", ".join(each.id for each in named)
            raise CellError(f"There are {len(named)} crews {word!r}; say which by its id: {ids}")
        known = named or self.client.crews()
        for each in known:
            if word in {each.name, each.id}:
                return self.client.crew(each.id)
        names = [each.name for each in known]
        raise CellError(f"There is no crew {word!r}{nearest(word, names)}; `%kasal crews` lists them")

    def crew_names(self) -> list[str]:
        """Give the names of the crews that there are."""
        return [each.name for each in self.client.crews()]

    def _known_job(self, word: str) -> str:
        from kasal_jupyter.errors import NotFound, nearest

        try:
            return self.client.execution(word).job_id
        except NotFound:
            near = nearest(word, [each.job_id for each in self.client.executions(100)])
            raise CellError(f"There is no run {word!r}{near}; `%kasal ps` lists the latest") from None


@cache
def the_session() -> Session:
    """Give this kernel's session."""
    return Session()
