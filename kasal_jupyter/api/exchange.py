"""Crews from elsewhere, from a sentence, and on their way out."""

from __future__ import annotations

from kasal_jupyter.api.crews import changed_by
from kasal_jupyter.api.handler import ApiHandler
from kasal_jupyter.api.long_answer import AwaitedAnswer
from kasal_jupyter.api.operation import Media, operation
from kasal_jupyter.executions.dry_run import draft
from kasal_jupyter.executions.generate import generate_crew
from kasal_jupyter.formats.bundle import MESSAGE
from kasal_jupyter.formats.limited import Exchange
from kasal_jupyter.formats.outline import Exported, file_name, whole_body
from kasal_jupyter.places import FILES, beside_loop
from kasal_jupyter.schemas.exchange import (
    CrewExported,
    CrewGenerate,
    CrewGenerated,
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
        found = await Exchange(self.parts.confined, owner).read(body, tools)
        await self.ask_once_more()
        await self.parts.webhooks.require_allowed(found.crew.webhook)
        if not body.save:
            await draft(found.crew, owner)
            await self.answer_with(lambda: found, size=len(found.crew.agents) + len(found.crew.tasks))
            return
        change = changed_by(self, source="import")
        crew = (await self.parts.crews.create(found.crew, owner, change)).crew
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
        self.crew(crew_id)
        crews = self.parts.crews
        crew = await beside_loop(
            lambda: whole_body(crews.whole(crew_id)), size=crews.size(crew_id), owner=self.caller.owner
        )
        found = await Exchange(self.parts.confined, self.caller.owner).write(crew, query.format)
        if sources := self.parts.store.knowledge.count(crew_id=crew_id):
            reason = f"{sources} files or texts are attached to the crew, and stay on this server"
            found.remarks.append(Remark(field="knowledge", reason=reason))
        self.set_header("X-Kasal-Remarks", str(len(found.remarks)))
        if "application/json" in self.request.headers.get("Accept", ""):
            self.answer(
                CrewExported(name=crew.name, format=query.format, files=found.files, remarks=found.remarks)
            )
            return
        medium, name, content = await FILES.do(
            lambda: _as_file(found, query.format, file_name(crew.name)), owner=self.caller.owner
        )
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.set_header("Content-Type", medium.type)
        self.finish(content)


def _as_file(found: Exported, wanted: str, stem: str) -> tuple[Media, str, bytes]:
    if wanted == "crewai":
        from kasal_jupyter.formats.conversion import as_zip

        return ZIP, f"{stem}.zip", as_zip(found.files, stem)
    path, text = found.only
    return (YAML if wanted == "yaml" else CANVAS), path, text.encode()


# ``/crews/generate``: a crew from a sentence.


class CrewGenerateHandler(AwaitedAnswer):
    """``POST /crews/generate``."""

    tag = "Crew Management"
    message = "No crew can be made of this"

    @operation(
        "Generate a crew",
        access="editor",
        body=CrewGenerate,
        answers={200: CrewGenerated, 201: CrewGenerated},
        errors=(422, 502),
    )
    async def post(self) -> None:
        """Have a model make a crew of a sentence.

        The model is asked in an execution, which is stopped when the client goes. What it says is checked as
        a run would be; faults go back to it, twice at the most. With `save: true` the crew is stored (201).
        """
        request = self.body(CrewGenerate)
        owner = self.caller.owner
        found = await self.while_awaited(generate_crew(self.parts.runs, request, owner, self.parts.confined))
        if found is None:
            return
        stored = None
        if request.save:
            change = changed_by(self, source="generate")
            stored = (await self.parts.crews.create(found.crew, owner, change)).crew
        self.answer(
            CrewGenerated(
                crew=found.crew,
                yaml=found.yaml,
                model=found.model,
                attempts=len(found.job_ids),
                job_ids=found.job_ids,
                id=stored.id if stored else None,
                status=stored.status if stored else None,
            ),
            201 if stored else 200,
        )
