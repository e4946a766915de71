"""Runs as archives: what says in one what the run was asked, and what an import answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from kasal_jupyter.schemas.base import WHOLE, Model
from kasal_jupyter.schemas.executions import TIME_PATTERN, Budget, Status

HEAD, JOURNAL, ARTIFACTS = "run.json", "journal.jsonl", "artifacts/"
"""What an archive has: what it is, the events, and the files that the run has written."""

Named = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class ArchivedRun(Model):
    """What a run was asked, in its archive: without keys, and without what belongs to one server alone."""

    kasal_run: Literal[1] = Field(1, description="The form of the archive.")
    product: Named = Field(description="The version that has written it.")
    job_id: Named
    crew_id: Named
    crew_name: Named
    crew_version: Annotated[int, WHOLE] | None = None
    created_at: Annotated[str, StringConstraints(pattern=TIME_PATTERN)]
    inputs: dict[str, Any]
    budget: Budget | None = None
    models: Annotated[list[Annotated[str, StringConstraints(max_length=200)]], Field(max_length=1_000)]
    """One is empty, where an agent names none and the server has no default."""
    spec: dict[str, Any] | None = Field(
        description="The message that has started it; null: an older version has run it, and kept none."
    )
    events: Annotated[int, Field(ge=1), WHOLE] = Field(description="How many the journal has.")


class ExecutionImported(Model):
    """The answer of ``POST /executions/import``."""

    job_id: str = Field(description="Its id here: a new one.")
    was: str = Field(description="Its id where it ran.")
    status: Status
    crew_id: str = Field(description="Your crew, where it is one of yours here; else none that is there.")
    crew_name: str
    events: int
    artifacts: int = Field(description="How many files it has.")
