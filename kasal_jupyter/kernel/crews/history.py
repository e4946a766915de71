"""A crew's history: its versions as a list that a notebook shows, and what is different between two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import unified_diff
from typing import TYPE_CHECKING, overload

from kasal_jupyter.kernel.views.cards import Shown
from kasal_jupyter.kernel.views.clean import clean, escape, one_line
from kasal_jupyter.kernel.views.figures import moment_text

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.schemas.crews import CrewDetails, CrewVersionInfo

SOURCE_WORDS = {
    "api": "the API",
    "cell": "a cell",
    "editor": "the editor",
    "python": "Python",
    "terminal": "the terminal",
    "import": "an import",
    "generate": "generate",
    "restore": "a restore",
    "unknown": "before there was a history",
}

HEADS = ["version", "when", "who", "from", "ran"]


class Difference:
    """What changes from one text of a crew to another.

    Parameters
    ----------
    title
        What it is about.
    before, after
        The crew's YAML.
    names
        What the two are called.
    """

    def __init__(self, title: str, before: str, after: str, names: tuple[str, str]) -> None:
        self.title = title
        self.before, self.after = before, after
        self.names = names

    @property
    def text(self) -> str:
        """The unified diff; empty where nothing is different."""
        lines = unified_diff(self.before.splitlines(), self.after.splitlines(), *self.names, lineterm="")
        return "\n".join(lines)

    def __bool__(self) -> bool:
        return self.before != self.after

    def __repr__(self) -> str:
        return clean(f"{self.title}\n{self.text or 'Nothing is different.'}")

    def _repr_html_(self) -> str:
        from kasal_jupyter.kernel.editor.changes import diff_html

        box = diff_html(self.before, self.after, what=self.title)
        return f'<div><div style="font-weight:600">{escape(self.title)}</div>{box}</div>'


class History(Sequence["CrewVersionInfo"]):
    """A crew's versions, the newest first: a list that a notebook shows as a table.

    Attributes
    ----------
    crew
        The crew as it is now.
    """

    def __init__(self, client: Client, crew: CrewDetails) -> None:
        self.crew = crew
        self._client = client
        self._versions = client.crew_versions(crew.id)

    @overload
    def __getitem__(self, place: int) -> CrewVersionInfo: ...

    @overload
    def __getitem__(self, place: slice) -> list[CrewVersionInfo]: ...

    def __getitem__(self, place: int | slice) -> CrewVersionInfo | list[CrewVersionInfo]:
        return self._versions[place]

    def __len__(self) -> int:
        return len(self._versions)

    def __iter__(self) -> Iterator[CrewVersionInfo]:
        return iter(self._versions)

    def diff(self, version: int, to: int | None = None) -> Difference:
        """Give what changes from a version to another, by default to the present one."""
        return difference(self._client, self.crew, version, to)

    def __repr__(self) -> str:
        return repr(self._table())

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()

    def _table(self) -> Shown:
        name = one_line(self.crew.name, 80)
        title = f"{name} is at version {self.crew.version}"
        if not self._versions:
            return Shown(f"{title}; none before is kept", HEADS, [])
        return Shown(title, HEADS, [version_row(each) for each in self._versions])


def version_row(version: CrewVersionInfo) -> list[str]:
    """Give a version as a row of :data:`HEADS`."""
    return [
        str(version.version),
        moment_text(version.created_at),
        version.author,
        where_from(version),
        "✔" if version.ran else "",
    ]


def difference(client: Client, crew: CrewDetails, version: int, to: int | None = None) -> Difference:
    """Give what changes from a version of a crew to another, by default to the present one."""
    from kasal_jupyter.formats.yaml_crew import dump_crew

    to = to or crew.version
    before, after = (
        dump_crew(crew if each == crew.version else client.crew_version(crew.id, each).crew)
        for each in (version, to)
    )
    name = one_line(crew.name, 80)
    return Difference(
        f"{name}: from version {version} to {to}", before, after, (f"version {version}", f"version {to}")
    )


def where_from(version: CrewVersionInfo) -> str:
    """Say what a version comes from: ``a cell, Market.ipynb``."""
    words = SOURCE_WORDS[version.source]
    if version.restored is not None:
        words += f" of version {version.restored}"
    name = place_of(version.origin).replace("\\", "/").rpartition("/")[2]
    return f"{words}, {name}" if name else words


def place_of(origin: str | None) -> str:
    """Give an origin without the cell: a notebook's cells are one hand."""
    return (origin or "").partition("#")[0]
