"""Crews in and out of other formats, in a limited process: what reads and writes them takes its time.

Each function here is given JSON, and gives JSON, as :class:`kasal_jupyter.confined.ConfinedPool` calls it;
the server's side of each is the method of :class:`Exchange` of the same name.
"""

from __future__ import annotations

import base64
import binascii
import difflib
from collections.abc import Collection
from typing import Any

import orjson

from kasal_jupyter.confined import ConfinedPool, TooMuch
from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.formats.bundle import MESSAGE, files_of_mapping, files_of_zip
from kasal_jupyter.formats.exporting import export_crew, export_yaml
from kasal_jupyter.formats.importing import import_crew
from kasal_jupyter.formats.intake import Imported
from kasal_jupyter.formats.outline import Exported
from kasal_jupyter.formats.yaml_answer import crew_of_answer
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.exchange import CrewImport, ExportFormat, Remark
from kasal_jupyter.schemas.generate import CrewGenerate


class Exchange:
    """One owner's crews on their way in and out.

    Parameters
    ----------
    pool
        Where they are read and written.
    owner
        Whose they are.
    """

    def __init__(self, pool: ConfinedPool, owner: str) -> None:
        self._pool = pool
        self._owner = owner

    async def read(self, body: CrewImport, tools: Collection[str]) -> tuple[Imported, str]:
        """Read a crew that is imported; with the same as YAML.

        Parameters
        ----------
        body
            The crew's files.
        tools
            The tools that there are here.

        Raises
        ------
        InvalidRequest
            There is no crew in them, or with every fault that it has.
        """
        given = {"body": body.model_dump(exclude_unset=True), "tools": list(tools)}
        found = await self._call("read", given)
        remarks = [Remark(**remark) for remark in found["remarks"]]
        return Imported(_crew(found["crew"]), found["format"], remarks), found["yaml"]

    async def write(self, crew: CrewCreate, wanted: ExportFormat) -> Exported:
        """Write a crew in a format."""
        found = await self._call("write", {"crew": _plain(crew), "format": wanted})
        return Exported(found["files"], [Remark(**remark) for remark in found["remarks"]])

    async def compare(self, before: CrewCreate, after: CrewCreate, names: tuple[str, str]) -> str:
        """Give the unified diff of two crews' YAML, with a name for each; empty where it is the same."""
        given = {"before": _plain(before), "after": _plain(after), "names": names}
        return str(await self._call("compare", given))

    async def understand(self, answer: str, request: CrewGenerate) -> tuple[CrewCreate, str]:
        """Read a model's answer as a crew; with the same as YAML.

        Raises
        ------
        InvalidRequest
            It is none; with every fault.
        """
        given = {"answer": answer, "request": request.model_dump(exclude_unset=True)}
        found = await self._call("understand", given)
        return _crew(found["crew"]), found["yaml"]

    async def _call(self, function: str, given: dict[str, Any]) -> Any:
        try:
            return orjson.loads(
                await self._pool.call(self._owner, f"{__name__}:{function}", orjson.dumps(given))
            )
        except TooMuch as error:
            reason = f"{error}; make it smaller, or simpler"
            raise InvalidRequest(f"{MESSAGE}: {reason}", faults=[Fault("crew", reason)]) from None


def read(given: bytes) -> bytes:
    """Read a crew, as :meth:`Exchange.read` says."""
    asked = orjson.loads(given)
    body = CrewImport.model_validate(asked["body"], strict=True)
    if body.archive is not None:
        try:
            data = base64.b64decode(body.archive, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidRequest(MESSAGE, faults=[Fault("archive", "It is no base64")]) from None
        files = files_of_zip(data)
    elif body.files is not None:
        files = files_of_mapping(body.files)
    else:
        assert body.text is not None, "one of the three is given"
        files = files_of_mapping({"crew": body.text})
    found = import_crew(files, wanted=body.format, name=body.name, tools=asked["tools"])
    return _answer(found.crew, format=found.format, remarks=[each.model_dump() for each in found.remarks])


def write(given: bytes) -> bytes:
    """Write a crew, as :meth:`Exchange.write` says."""
    asked = orjson.loads(given)
    found = export_crew(_crew(asked["crew"]), asked["format"])
    return orjson.dumps({"files": found.files, "remarks": [each.model_dump() for each in found.remarks]})


def compare(given: bytes) -> bytes:
    """Compare two crews, as :meth:`Exchange.compare` says: difflib may take the square of the lines."""
    asked = orjson.loads(given)
    before, after = (
        export_yaml(_crew(asked[which])).only[1].splitlines(keepends=True) for which in ("before", "after")
    )
    return orjson.dumps("".join(difflib.unified_diff(before, after, *asked["names"])))


def understand(given: bytes) -> bytes:
    """Read a model's answer, as :meth:`Exchange.understand` says."""
    asked = orjson.loads(given)
    return _answer(crew_of_answer(asked["answer"], CrewGenerate.model_validate(asked["request"])))


def _answer(crew: CrewCreate, **more: Any) -> bytes:
    return orjson.dumps({"crew": _plain(crew), "yaml": export_yaml(crew).only[1], **more})


def _plain(crew: CrewCreate) -> dict[str, Any]:
    # What was not set stays unset: answers leave it out.
    return crew.model_dump(mode="json", exclude_unset=True)


def _crew(plain: dict[str, Any]) -> CrewCreate:
    return CrewCreate.model_validate(plain)
