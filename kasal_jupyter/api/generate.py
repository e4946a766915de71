"""``/crews/generate``: a crew from a sentence."""

from __future__ import annotations

from kasal_jupyter.api.crews import changed_by
from kasal_jupyter.api.long_answer import AwaitedAnswer
from kasal_jupyter.api.operation import operation
from kasal_jupyter.executions.generate import generate_crew
from kasal_jupyter.schemas.generate import CrewGenerate, CrewGenerated


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
