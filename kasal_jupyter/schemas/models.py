"""Models and their providers: what can run on this server, and what was set for it. No key is answered."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from kasal_jupyter.schemas.base import Document, Listed, ListQuery, Model, Name, Query, called
from kasal_jupyter.schemas.tools import Entrusted, Secret, address, header_value, long_enough


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


class ModelList(Listed[ModelInfo], alias_generator=called("models")):
    """The answer of ``GET /models``."""


# Providers: who serves models and searches the web, and what was set for them. Keys are never answered.

Scope = Literal["user", "server"]
"""For whom something is set: for the caller's own runs, or for everybody's."""

Source = Literal["user", "server", "environment"]
"""Where what counts was set. A user's comes before the server's, and that before the environment's."""

NAME_FORM = r"^[a-z][a-z0-9_-]{0,39}$"
"""A provider's name: what stands before the slash in a model's."""


def _header_value(text: str) -> str:
    header_value(text)
    if text.lower().startswith("bearer "):
        raise ValueError("give the key alone, without 'Bearer'")
    return text


def _base_url(text: str) -> str:
    address(text)
    if "?" in text:
        raise ValueError("no query in the address; give a key as api_key")
    return text


BaseUrl = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2_000),
    AfterValidator(_base_url),
    Field(json_schema_extra={"pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s@#?{}\\]+$"}),
]
"""An ``http`` or ``https`` address without user, password and query."""

ApiKey = Annotated[Secret, AfterValidator(_header_value)]

OptionName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class ProviderSet(Model):
    """The body of ``PUT /providers/{provider}``: all that is set; what is left out is not set."""

    api_key: ApiKey | None = Field(
        None, repr=False, description="It is stored encrypted and never given out again."
    )
    base_url: BaseUrl | None = Field(
        None,
        description="Another address than the provider's own. An OpenAI-compatible server's is what its "
        "clients take, usually with /v1 at its end.",
    )
    options: Annotated[dict[OptionName, Entrusted], AfterValidator(long_enough)] = Field(
        default_factory=dict,
        max_length=20,
        repr=False,
        description="What else the provider takes, e.g. api_version, aws_region_name. Stored encrypted.",
    )
    scope: Scope = Field("user", description="Whether it is for the caller's runs, or for everybody's.")


class ProviderQuery(Query):
    """The query of ``DELETE /providers/{provider}``."""

    scope: Scope = Field("user", description="Which setting is meant: the caller's, or everybody's.")


class ProviderInfo(Model):
    """A provider, and whether it can be used; never a key."""

    name: str = Field(description="What stands before the slash in its models' names.")
    title: str
    kind: Literal["models", "search"]
    ready: bool = Field(description="Whether everything that it needs is there.")
    reason: str | None = Field(None, description="Why it is not, and what to do.")
    source: Source | None = Field(None, description="Where what counts was set; null where nothing is.")
    has_key: bool = Field(description="Whether there is a key.")
    base_url: str | None = Field(
        None, description="The address that was set; one that is not the caller's is shown to admins only."
    )
    options: list[str] = Field(description="The names of the options that are set.")
    variables: list[str] = Field(description="The variables of the server's environment that set it, too.")
    install: str | None = Field(None, description="The command that installs it, where it has to be.")
    remark: str | None = Field(
        None, description="What is unsafe about what is set; of what is not the caller's, for admins only."
    )
    scopes: list[Scope] = Field(description="What is stored that the caller may delete or replace.")

    @property
    def lack(self) -> str:
        """Why it is not ready, for where its title stands already; empty where it is."""
        return (self.reason or "").removeprefix(f"{self.title} ")


class ProviderTest(Model):
    """The body of ``POST /providers/{provider}/test``."""

    model: Name | None = Field(
        None, description="The model to ask, as the provider calls it; else one that it serves is chosen."
    )


class ProviderTested(Model):
    """What one small request has shown."""

    provider: str
    model: str | None = Field(None, description="The model that was asked; null where none was.")
    works: bool = Field(description="Whether key, address and model work.")
    message: str = Field(description="What was found, and what to do where it does not work.")
    code: str | None = Field(None, description="Of the failure, as an execution's error has it.")
    answer: str | None = Field(None, description="The beginning of what the model has said.")
    duration_ms: int = Field(0, ge=0, description="How long that took.")
    job_id: str | None = Field(None, description="The execution in which it was asked, with its trace.")

    @property
    def told(self) -> str:
        """What was found, in lines for a person."""
        lines = [f"{'✔' if self.works else '✖'} {self.message}"]
        if self.answer:
            lines.append(f"  It said: {self.answer}")
        if self.job_id:
            lines.append(f"  {self.duration_ms / 1_000:.1f} s; the trace is that of {self.job_id}")
        return "\n".join(lines)


class ProviderList(Model):
    """The answer of ``GET /providers``."""

    providers: list[ProviderInfo]


class StoredProvider(Document):
    """What is stored for a provider: sealed as a whole. Never an answer."""

    id: str
    owner: str = Field(description="Whose it is; empty where it is the server's.")
    name: str
    sealed: str = Field(repr=False, description="A SealedProvider as JSON, encrypted.")
    guarded: bool = Field(description="Whether its address is held to the rules for tools.")
    created_at: str
    updated_at: str


class SealedProvider(Model):
    """What is sealed."""

    api_key: str | None = Field(None, repr=False)
    base_url: str | None = None
    options: dict[str, str] = Field(default_factory=dict, repr=False)
