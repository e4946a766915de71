"""What the server says of itself: health, maintenance mode, and the reference's *Error Response Format*."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kasal_jupyter.schemas.base import WHOLE, Document, Given, LongText, Model

MAINTENANCE_ID = "maintenance"
"""The id of the one document there is."""


class MaintenanceUpdate(Model):
    """The body of ``PUT /maintenance``."""

    enabled: bool
    message: LongText = Field("", max_length=500, description="Why, for those who are refused.")
    retry_after: Annotated[int, Field(ge=1, le=86_400 * 7), WHOLE] = Field(
        300, description="Seconds after which they may try again."
    )


class MaintenanceState(MaintenanceUpdate):
    """The answer of ``GET /maintenance`` and ``PUT /maintenance``."""

    since: str | None = Field(None, description="When it was switched on.")


class Maintenance(MaintenanceState, Document):
    """The state as it is stored."""

    id: str = MAINTENANCE_ID


class Health(Model):
    """The answer of ``GET /health``."""

    status: Literal["ok", "maintenance"]
    version: str


# Errors as an answer shows them: the reference's *Error Response Format*.


class FaultDetails(Model):
    """One thing that is wrong with a request."""

    field: str = Field(description="Where: a path into the body such as `tasks[1].agent`, or a header.")
    reason: str = Field(description="What is wrong, and what to do about it.")


class ErrorDetails(Model):
    """What is wrong with the request; empty where the message says it all."""

    field: Given[str] = Field(None, description="Of the first fault.")
    reason: Given[str] = Field(None, description="Of the first fault.")
    errors: Given[list[FaultDetails]] = Field(None, description="Every fault, where there are several.")


class ErrorFields(Model):
    """What went wrong."""

    code: str = Field(description="For programs, e.g. `VALIDATION_ERROR`, `NOT_FOUND`, `RATE_LIMIT`.")
    message: str = Field(description="For people.")
    details: ErrorDetails


class ErrorBody(Model):
    """The body of every answer with a status of 400 and above."""

    error: ErrorFields
