"""Artifacts: the files that a run has written."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kasal_jupyter.schemas.base import ListQuery, Model


class ArtifactInfo(Model):
    """A file in a run's folder."""

    name: str = Field(description="Its path below the run's folder, with slashes.")
    size: int = Field(description="Bytes.")
    media_type: str = Field(description="By the name's ending.")
    modified: str


class ArtifactQuery(ListQuery):
    """The query of ``GET /executions/{job_id}/artifacts``."""

    format: Literal["json", "zip"] | None = Field(
        None, description="zip: all files in one archive, as `Accept: application/zip` asks for as well."
    )
    sort: Literal["name", "-name", "size", "-size", "modified", "-modified"] = "name"


class ArtifactList(Model):
    """The answer of ``GET /executions/{job_id}/artifacts``."""

    artifacts: list[ArtifactInfo]
    total: int
    page: int
    per_page: int
