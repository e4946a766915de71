"""A crew's history: its versions as a list that a notebook shows, and what is different between two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import unified_diff
from typing import TYPE_CHECKING, overload

from kasal_jupyter.kernel.views import html_parts as parts
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

VERSION_HEADS = ["version", "when", "who", "from", "ran"]


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
            return Shown(f"{title}; none before is kept", VERSION_HEADS, [])
        return Shown(title, VERSION_HEADS, [version_row(each) for each in self._versions])


def version_row(version: CrewVersionInfo) -> list[str]:
    """Give a version as a row of :data:`VERSION_HEADS`."""
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


# -- differences of texts -------------------------------------------------------------------------------

# What is different between two texts, as lines in colour.

_BOX = (
    "margin:4px 0;padding:6px 0;border:1px solid rgba(127,127,127,0.25);border-radius:4px;overflow:auto;"
    "max-height:340px;font-family:var(--jp-code-font-family,monospace);font-size:12px;line-height:1.5"
)
_LINE = "white-space:pre-wrap;overflow-wrap:anywhere;padding:0 10px"
_COLOURS = {"+": "background:rgba(42,140,63,0.16)", "-": "background:rgba(220,58,58,0.14)"}


def changed_lines(before: str, after: str) -> tuple[int, int]:
    """Give how many lines were added and how many taken out."""
    lines = list(unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))[2:]
    return sum(line.startswith("+") for line in lines), sum(line.startswith("-") for line in lines)


def diff_html(before: str, after: str, *, what: str) -> str:
    """Draw what changes from one text to another, with three lines around it.

    Each changed line begins with its sign: the colour is not needed to read it.

    Parameters
    ----------
    before, after
        The texts.
    what
        What the box is, for who cannot see it.
    """
    lines = list(unified_diff(before.splitlines(), after.splitlines(), lineterm=""))[2:]
    if not lines:
        return f'<div style="{parts.MUTED}">Nothing is different.</div>'
    rows: list[str] = []
    for line in lines:
        sign = line[:1]
        if line.startswith("@@"):
            rows.append(f'<div style="{_LINE};{parts.MUTED}">{"⋯" if rows else ""}</div>' if rows else "")
            continue
        style = f"{_LINE};{_COLOURS.get(sign, '')}"
        rows.append(f'<div style="{style}">{escape(f"{sign} {line[1:]}")}</div>')
    return f'<div role="group" tabindex="0" aria-label="{escape(what)}" style="{_BOX}">{"".join(rows)}</div>'
