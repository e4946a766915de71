"""Health: whether the server works."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from kasal_jupyter.schemas.base import Model


class Health(Model):
    """The answer of ``GET /health``."""

    status: Literal["ok", "maintenance"]
    version: str

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok", "version": "0.1.0"}]})
