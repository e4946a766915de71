"""``/crews/import`` and ``/crews/{crew_id}/export``: crews from elsewhere, and on their way there."""

from __future__ import annotations

import asyncio
import base64
import binascii

from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.operation import Media, operation
from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.formats.bundle import MESSAGE, files_of_mapping, files_of_zip
from kasal_jupyter.formats.exporting import as_zip, export_crew
from kasal_jupyter.formats.importing import import_crew
from kasal_jupyter.formats.intake import Imported
from kasal_jupyter.formats.outline import Exported, whole_body
from kasal_jupyter.formats.yaml_export import export_yaml, file_name
from kasal_jupyter.runs.drafts import draft
from kasal_jupyter.schemas.exchange import (
    CrewExported,
    CrewImport,
    CrewImported,
    CrewRead,
    ExportQuery,
    Remark,
)

YAML = Media("application/yaml", "The crew's YAML, for `format=yaml`.")
ZIP = Media("application/zip", "The project in a folder, for `format=crewai`.")
CANVAS = Media("application/vnd.kasal.crew+json", "What Kasal's canvas saves, for `format=kasal`.")

FILE_HEADERS = {
    "Content-Disposition": "The file's name, where the answer is a file.",
    "X-Kasal-Remarks": "How many things could not be carried over as they are. As JSON, the answer has them.",
}


class CrewImportHandler(ApiHandler):
    """``POST /crews/import``."""

    tag = "Crew Management"
    message = MESSAGE

    @operation(
        "Import a crew",
        access="editor",
        body=CrewImport,
        answers={201: CrewImported, 200: CrewRead},
    )
    async def post(self) -> None:
        """Make a crew of a CrewAI project, a `crew.jsonc`, an export of Kasal's canvas, or YAML.

        Nothing of it is executed: references to code are refused by name. What there is no place for is left
        out and listed. With `save: false` nothing is stored.
        """
        body = self.body(CrewImport)
        owner = self.caller.owner
        tools = self.parts.runs.toolbox(owner).names()
        # A large file takes its time to be read.
        found = await asyncio.to_thread(_read, body, tools)
        await self.parts.webhooks.require_allowed(found.crew.webhook)
        if not body.save:
            draft(found.crew, owner)
            yaml = await asyncio.to_thread(lambda: export_yaml(found.crew).only[1])
            self.answer(CrewRead(format=found.format, crew=found.crew, yaml=yaml, remarks=found.remarks))
            return
        crew = (await self.parts.crews.create(found.crew, owner)).crew
        self.answer(
            CrewImported(
                id=crew.id, name=crew.name, status=crew.status, format=found.format, remarks=found.remarks
            ),
            201,
        )


class CrewExportHandler(ApiHandler):
    """``GET /crews/{crew_id}/export``."""

    tag = "Crew Management"

    @operation(
        "Export a crew",
        access="viewer",
        query=ExportQuery,
        answers={200: (CrewExported, YAML, ZIP, CANVAS)},
        errors=(404,),
        answer_headers=FILE_HEADERS,
    )
    async def get(self, crew_id: str) -> None:
        """Write a crew as YAML, as a CrewAI project that runs with CrewAI alone, or for Kasal's canvas.

        The answer is the file itself, a project as a zip file. With `Accept: application/json` it is an
        object with the text of each file, and with all that could not be carried over.
        """
        query = self.query(ExportQuery)
        self.own(self.parts.store.crews.get(crew_id), f"crew {crew_id}")
        crew = whole_body(self.parts.crews.whole(crew_id))
        found = await asyncio.to_thread(export_crew, crew, query.format)
        if sources := self.parts.store.knowledge.count(crew_id=crew_id):
            reason = f"{sources} files or texts are attached to the crew, and stay on this server"
            found.remarks.append(Remark(field="knowledge", reason=reason))
        self.set_header("X-Kasal-Remarks", str(len(found.remarks)))
        if "application/json" in self.request.headers.get("Accept", ""):
            self.answer(
                CrewExported(name=crew.name, format=query.format, files=found.files, remarks=found.remarks)
            )
            return
        medium, name, content = _as_file(found, query.format, file_name(crew.name))
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.set_header("Content-Type", medium.type)
        self.finish(content)


def _read(body: CrewImport, tools: list[str]) -> Imported:
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
    return import_crew(files, wanted=body.format, name=body.name, tools=tools)


def _as_file(found: Exported, wanted: str, stem: str) -> tuple[Media, str, bytes]:
    if wanted == "crewai":
        return ZIP, f"{stem}.zip", as_zip(found.files, stem)
    path, text = found.only
    return (YAML if wanted == "yaml" else CANVAS), path, text.encode()
