"""Crews in and out of other formats, in a limited process: what reads and writes them takes its time.

Each function here is given JSON, and gives JSON, as :class:`kasal_jupyter.confined.ConfinedPool` calls it;
the server's side of each is the method of :class:`Exchange` of the same name. What they work with is imported
there: it takes a tenth of a second, and the server does not need it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Collection
from typing import Any, TypeVar

import orjson

from kasal_jupyter.confined import ConfinedPool, TooMuch
from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.formats.bundle import MESSAGE, files_of_mapping, files_of_zip
from kasal_jupyter.formats.outline import Exported
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.exchange import CrewGenerate, CrewImport, CrewRead, ExportFormat, Remark

T = TypeVar("T")


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

    async def read(self, body: CrewImport, tools: Collection[str]) -> CrewRead:
        """Read a crew that is imported.

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
        return await self._call(
            "read",
            lambda: {"body": body.model_dump(exclude_unset=True), "tools": list(tools)},
            lambda found: CrewRead(
                format=found["format"],
                crew=_crew(found["crew"]),
                yaml=found["yaml"],
                remarks=[Remark(**remark) for remark in found["remarks"]],
            ),
        )

    async def write(self, crew: CrewCreate, wanted: ExportFormat) -> Exported:
        """Write a crew in a format."""
        return await self._call(
            "write",
            lambda: {"crew": _plain(crew), "format": wanted},
            lambda found: Exported(found["files"], [Remark(**remark) for remark in found["remarks"]]),
        )

    async def compare(self, before: CrewCreate, after: CrewCreate, names: tuple[str, str]) -> str:
        """Give the unified diff of two crews' YAML, with a name for each; empty where it is the same."""
        return await self._call(
            "compare", lambda: {"before": _plain(before), "after": _plain(after), "names": names}, str
        )

    async def understand(self, answer: str, request: CrewGenerate) -> tuple[CrewCreate, str]:
        """Read a model's answer as a crew; with the same as YAML.

        Raises
        ------
        InvalidRequest
            It is none; with every fault.
        """
        return await self._call(
            "understand",
            lambda: {"answer": answer, "request": request.model_dump(exclude_unset=True)},
            lambda found: (_crew(found["crew"]), found["yaml"]),
        )

    async def _call(self, function: str, given: Callable[[], dict[str, Any]], made: Callable[[Any], T]) -> T:
        try:
            return await self._pool.call(
                self._owner,
                f"{__name__}:{function}",
                lambda: orjson.dumps(given()),
                lambda answer: made(orjson.loads(answer)),
            )
        except TooMuch as error:
            reason = f"{error}; make it smaller, or simpler"
            raise InvalidRequest(f"{MESSAGE}: {reason}", faults=[Fault("crew", reason)]) from None


def read(given: bytes) -> bytes:
    """Read a crew, as :meth:`Exchange.read` says."""
    from kasal_jupyter.formats.conversion import import_crew

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
    from kasal_jupyter.formats.conversion import export_crew

    asked = orjson.loads(given)
    found = export_crew(_crew(asked["crew"]), asked["format"])
    return orjson.dumps({"files": found.files, "remarks": [each.model_dump() for each in found.remarks]})


def compare(given: bytes) -> bytes:
    """Compare two crews, as :meth:`Exchange.compare` says: difflib may take the square of the lines."""
    import difflib

    asked = orjson.loads(given)
    before, after = (_yaml(_crew(asked[which])).splitlines(keepends=True) for which in ("before", "after"))
    return orjson.dumps("".join(difflib.unified_diff(before, after, *asked["names"])))


def understand(given: bytes) -> bytes:
    """Read a model's answer, as :meth:`Exchange.understand` says."""
    from kasal_jupyter.formats.yaml_crew import crew_of_answer

    asked = orjson.loads(given)
    return _answer(crew_of_answer(asked["answer"], CrewGenerate.model_validate(asked["request"])))


def _answer(crew: CrewCreate, **more: Any) -> bytes:
    return orjson.dumps({"crew": _plain(crew), "yaml": _yaml(crew), **more})


def _yaml(crew: CrewCreate) -> str:
    from kasal_jupyter.formats.conversion import export_yaml

    return export_yaml(crew).only[1]


def _plain(crew: CrewCreate) -> dict[str, Any]:
    # What was not set stays unset: answers leave it out.
    return crew.model_dump(mode="json", exclude_unset=True)


def _crew(plain: dict[str, Any]) -> CrewCreate:
    return CrewCreate.model_validate(plain)
