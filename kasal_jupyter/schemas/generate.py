"""A crew from a sentence."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from kasal_jupyter.schemas.base import WHOLE, Model, Name
from kasal_jupyter.schemas.crews import CrewCreate, CrewStatus

MOST_OF_AN_ANSWER = 60_000
"""Characters of an answer that are read, and given back to the model."""

GENERATE_SECONDS = 180
"""How long making a crew may take, where nothing else is asked for."""

MOST_SECONDS = 900

InputName = Annotated[str, StringConstraints(pattern=r"^[^\W\d][\w\-]{0,99}$")]
"""What may stand between the braces of a ``{placeholder}``."""


class CrewGenerate(Model):
    """The body of ``POST /crews/generate``."""

    description: Annotated[str, StringConstraints(min_length=1, max_length=20_000, pattern=r"\S")] = Field(
        description="What the crew is to do, in words."
    )
    name: Name | None = Field(None, description="The crew's name; else the model gives one.")
    model: Name | None = Field(
        None, description="The model that makes it, and that its agents use; else the server's default."
    )
    inputs: list[InputName] = Field(
        default_factory=list, max_length=32, description="Inputs that each run of the crew is to take."
    )
    save: bool = Field(False, description="Whether the crew is stored; else it is only shown.")
    timeout: Annotated[int, Field(ge=1, le=MOST_SECONDS), WHOLE] = Field(
        GENERATE_SECONDS, description="Seconds that it may take in all."
    )


class CrewGenerated(Model):
    """The answer of ``POST /crews/generate``: a crew that could run here, given its inputs."""

    crew: CrewCreate
    yaml: str = Field(description="The same crew as YAML.")
    model: str = Field(description="The model that made it.")
    attempts: int = Field(ge=1, description="How often the model was asked.")
    job_ids: list[str] = Field(
        description="The executions in which it was asked, with their traces and costs."
    )
    id: str | None = Field(None, description="The stored crew's.")
    status: CrewStatus | None = Field(None, description="The stored crew's.")
