"""Health: whether the server works."""

from __future__ import annotations

from typing import Literal

from kasal_jupyter.schemas.base import Model


class Health(Model):
    """The answer of ``GET /health``."""

    status: Literal["ok", "maintenance"]
    version: str
