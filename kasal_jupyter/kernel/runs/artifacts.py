"""The files that a run has written, as the notebook lists and takes them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, overload

from kasal_jupyter.errors import nearest
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.views.cards import Shown
from kasal_jupyter.kernel.views.clean import clean
from kasal_jupyter.kernel.views.figures import moment_text, size_text
from kasal_jupyter.whole_file import whole_file

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.schemas.executions import ArtifactInfo

FILE_HEADS = ["file", "size", "type", "written"]


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a run has written; it lies with the server.

    Attributes
    ----------
    name
        Its path in the run's folder, with slashes.
    size
        Bytes.
    media_type
        By its name's ending.
    modified
        When it was written, UTC.
    """

    name: str
    size: int
    media_type: str
    modified: str
    _job_id: str = field(repr=False)
    _client: Client = field(repr=False, compare=False)

    @classmethod
    def of(cls, client: Client, job_id: str, info: ArtifactInfo) -> Artifact:
        """Make it of what the API answers."""
        return cls(info.name, info.size, info.media_type, info.modified, job_id, client)

    def read_bytes(self) -> bytes:
        """Give its content."""
        return b"".join(self._client.artifact(self._job_id, self.name))

    def read_text(self) -> str:
        """Give its content as text; what is no UTF-8 in it is shown as �."""
        return self.read_bytes().decode(errors="replace")

    def save(self, folder: str | os.PathLike[str] = ".", *, force: bool = False) -> Path:
        """Save it in a folder of yours, under its own name with the folders in it.

        Parameters
        ----------
        folder
            Where to; it is made where it is not there.
        force
            Whether a file that is there is overwritten.

        Returns
        -------
        pathlib.Path
            Where it is.

        Raises
        ------
        CellError
            There is such a file already, or it cannot be written there.
        """
        root = Path(folder).expanduser()
        path = root.joinpath(*_plain_parts(self.name))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.parent.resolve().is_relative_to(root.resolve()):
                raise CellError(f"{clean(self.name)} leads out of {root}; a folder there is a link")
            with whole_file(path, new=not force) as file:
                file.writelines(self._client.artifact(self._job_id, self.name))
        except FileExistsError as error:
            raise CellError(
                f"{error.filename} is there already; name another folder, or overwrite it by force"
            ) from None
        except OSError as error:
            raise CellError(f"{path} cannot be written: {error.strerror or error}") from None
        return path


class Artifacts(Sequence[Artifact]):
    """A run's files, by name: a list that a notebook shows as a table."""

    def __init__(self, job_id: str, artifacts: Sequence[Artifact]) -> None:
        self.job_id = job_id
        self._artifacts = list(artifacts)

    @overload
    def __getitem__(self, place: int | str) -> Artifact: ...

    @overload
    def __getitem__(self, place: slice) -> Artifacts: ...

    def __getitem__(self, place: int | str | slice) -> Artifact | Artifacts:
        if isinstance(place, slice):
            return Artifacts(self.job_id, self._artifacts[place])
        return self.named(place) if isinstance(place, str) else self._artifacts[place]

    def __len__(self) -> int:
        return len(self._artifacts)

    def __iter__(self) -> Iterator[Artifact]:
        return iter(self._artifacts)

    def named(self, name: str) -> Artifact:
        """Give the file of a name.

        Raises
        ------
        CellError
            There is none; with the nearest name.
        """
        for each in self._artifacts:
            if each.name == name:
                return each
        names = [each.name for each in self._artifacts]
        there = f"; there are {', '.join(names[:10])}" if names else "; it has written none"
        raise CellError(clean(f"{self.job_id} has no file {name!r}{nearest(name, names) or there}"))

    def save(self, folder: str | os.PathLike[str] = ".", *, force: bool = False) -> list[Path]:
        """Save all of them in a folder of yours; see :meth:`Artifact.save`."""
        return [each.save(folder, force=force) for each in self._artifacts]

    def __repr__(self) -> str:
        return repr(self._table())

    def _repr_html_(self) -> str:
        return self._table()._repr_html_()

    def _table(self) -> Shown:
        rows = [
            [each.name, size_text(each.size), each.media_type, moment_text(each.modified)]
            for each in self._artifacts
        ]
        return Shown("" if rows else f"{self.job_id} has written no files", FILE_HEADS, rows)


def artifacts_of(client: Client, job_id: str) -> Artifacts:
    """Give the files that a run has written so far."""
    return Artifacts(job_id, [Artifact.of(client, job_id, info) for info in client.artifacts(job_id)])


def _plain_parts(name: str) -> list[str]:
    """Give a name's parts; a server that is not ours might name a file that lies elsewhere."""
    parts = name.split("/")
    if not all(part not in {"", ".", ".."} and not set(part) & set("\\:\0") for part in parts):
        raise CellError(f"{clean(name)!r} cannot be saved under its name; read_bytes() gives its content")
    return parts
