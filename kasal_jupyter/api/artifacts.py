"""``/executions/{job_id}/artifacts``: the files that a run has written."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter
from urllib.parse import quote

from kasal_jupyter.api.executions import execution_of
from kasal_jupyter.api.long_answer import PouredAnswer
from kasal_jupyter.api.operation import Media, operation
from kasal_jupyter.executions.artifacts import list_artifacts, open_artifact, zip_artifacts
from kasal_jupyter.places import FILES
from kasal_jupyter.schemas.executions import ArtifactList, ArtifactQuery

ZIP = Media("application/zip", "All files in one archive.")

CONTENT = Media("application/octet-stream", "The file.")


class FileHandler(PouredAnswer):
    """What is answered with files."""

    tag = "Execution Management"

    async def send(self, chunks: Iterator[bytes], name: str, kind: Media, size: int | None = None) -> None:
        """Send a file to be saved, never to be shown: an agent may have written a page with scripts.

        Parameters
        ----------
        chunks
            Its content; read in threads, at the client's pace.
        name
            What it is saved as.
        kind
            What it is.
        size
            Its bytes, where that is known beforehand.
        """
        self._headers["Content-Type"] = kind.type
        self._headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        self._headers["X-Content-Type-Options"] = "nosniff"
        if size is not None:
            self._headers["Content-Length"] = str(size)
        await self.pour(chunks)


class ArtifactsHandler(FileHandler):
    """``GET /executions/{job_id}/artifacts``."""

    @operation(
        "List artifacts",
        access="viewer",
        query=ArtifactQuery,
        answers={200: (ArtifactList, ZIP)},
        errors=(404, 409),
    )
    async def get(self, job_id: str) -> None:
        """List the files that an execution has written in its folder, also while it goes on.

        With `format=zip`, or `Accept: application/zip`, they come in one archive. Links are left out.
        """
        query = self.query(ArtifactQuery)
        await execution_of(self, job_id)
        folder = self.parts.runs.files.workspace(job_id)
        if query.format == "zip" or (
            query.format is None and "application/zip" in self.request.headers.get("Accept", "")
        ):
            packed = await FILES.do(lambda: zip_artifacts(folder), owner=self.caller.owner)
            await self.send(packed, f"{job_id}.zip", ZIP)
            return
        found = await FILES.do(lambda: list_artifacts(folder), owner=self.caller.owner)
        if query.search is not None:
            text = query.search.casefold()
            found = [info for info in found if text in info.name.casefold()]
        found.sort(key=attrgetter(query.sort.removeprefix("-")), reverse=query.sort.startswith("-"))
        self.answer(ArtifactList.of(query, query.part(found), len(found)))


class ArtifactHandler(FileHandler):
    """``GET /executions/{job_id}/artifacts/{path}``."""

    @operation("Download an artifact", access="viewer", answers={200: CONTENT}, errors=(404,))
    async def get(self, job_id: str, path: str) -> None:
        """Give a file that an execution has written, to be saved.

        The slashes of its name may be written as they are or as `%2F`.
        """
        await execution_of(self, job_id)
        folder = self.parts.runs.files.workspace(job_id)
        artifact = await FILES.do(lambda: open_artifact(folder, path), owner=self.caller.owner)
        with artifact.file:
            name = artifact.info.name.rpartition("/")[2]
            await self.send(artifact.chunks(), name, CONTENT, artifact.info.size)
