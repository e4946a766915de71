"""What a run was asked: kept beside its execution, so that it can be run again as it was."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from kasal_jupyter.schemas.base import Document
from kasal_jupyter.schemas.webhooks import Webhook


class RunRequest(Document):
    """What one run was asked; its inputs stand in its execution. It goes when that goes."""

    id: str = Field(description="The execution's.")
    owner: str
    spec: dict[str, Any] = Field(
        description="The message that has started it, without inputs, keys, addresses and what is of one run."
    )
    webhook: Webhook | None = Field(None, description="Who was told of its events.")
    root: str = Field(description="The first attempt at the run: it itself, where it resumes no other.")
    parent: str | None = Field(None, description="The execution whose record it uses.")
    digest: str | None = Field(
        None, description="Of all that its answer depends on; null where the answer hangs on more."
    )
    once: bool = Field(False, description="Whether it answers for whoever asks for the same meanwhile.")
