"""Health and maintenance mode: whether the server works, and the reference's error 503."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kasal_jupyter.schemas.base import WHOLE, Document, LongText, Model

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


# Health: whether the server works.


class Health(Model):
    """The answer of ``GET /health``."""

    status: Literal["ok", "maintenance"]
    version: str
