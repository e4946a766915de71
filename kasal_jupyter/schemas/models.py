"""Models: what can run on this server."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from kasal_jupyter.schemas.base import ListQuery, Model


class ModelPrice(Model):
    """What a model costs, in US dollars a million tokens, as its provider lists it."""

    input: float
    output: float


class ModelInfo(Model):
    """A model, and whether it can run here and now."""

    name: str = Field(description="What an agent's model is called to use it.")
    provider: str
    available: bool = Field(description="Whether a run may use it now: there is a key, or none is needed.")
    reason: str | None = Field(None, description="Why it is not available, and what to do.")
    context_window: int | None = Field(None, description="Tokens; null where unknown.")
    price: ModelPrice | None = Field(None, description="Null where unknown.")
    default: bool = Field(False, description="Whether agents that name no model get it.")
    has_key: bool = Field(False, description="Whether there is a key for its provider.")
    retired: str | None = Field(None, description="The day on which its provider has retired it.")
    successor: str | None = Field(
        None, description="What answers by its name since then, where the provider has retired it."
    )


class ModelQuery(ListQuery):
    """The query of ``GET /models``."""

    available: bool | None = Field(None, description="Only those that can run, or only the others.")
    provider: str | None = Field(None, max_length=200, description="Only this provider's.")
    sort: Literal["available", "-available", "name", "-name", "provider", "-provider", "price", "-price"] = (
        Field("-available", description="By default, those that can run come first; unknown prices last.")
    )


class ModelList(Model):
    """The answer of ``GET /models``."""

    models: list[ModelInfo]
    total: int
    page: int
    per_page: int
