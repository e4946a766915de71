"""Webhooks: what a crew's runs report to a receiver, signed as *Standard Webhooks* has it.

https://www.standardwebhooks.com
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from kasal_jupyter.errors import nearest
from kasal_jupyter.schemas.base import Document, Model
from kasal_jupyter.schemas.executions import KINDS
from kasal_jupyter.schemas.tools import endpoint


class WebhookSecret(Model):
    """The answer of ``GET /webhooks/secret`` and ``POST /webhooks/secret/rotate``."""

    secret: str = Field(
        pattern=r"^whsec_[A-Za-z0-9+/]{32,}={0,2}$",
        description="What your webhooks are signed with; keep it where they are received.",
    )
    previous_until: str | None = Field(
        description="Until when the secret before it signs as well; null where there is none."
    )


class SigningSecret(Document):
    """An owner's secret as it is stored: sealed."""

    id: str = Field(description="Whose it is.")
    sealed: str
    previous: str | None = None
    previous_until: str | None = None


class Delivery(Model):
    """What became of one event."""

    seq: int
    type: str
    status: int | None = Field(description="What the receiver answered; null where it did not.")
    attempts: int
    delivered: bool
    error: str | None = Field(description="Why it was not delivered.")
    time: str = Field(description="When that was settled.")


class HookState(Document):
    """Where the delivery of a run's events stands, as it is stored."""

    id: str = Field(description="The run.")
    owner: str = Field(description="Whose secret signs.")
    server: str = Field(description="The server process that delivers.")
    url: str
    events: list[str]
    seq: int = Field(0, description="The last event that is settled.")
    delivered: int = 0
    failed: int = 0
    failing: int = Field(0, description="Events in a row that could not be delivered.")
    deliveries: list[Delivery] = Field(default_factory=list, description="The latest ones.")
    done: bool = False
    remark: str | None = Field(None, description="What else there is to know of it.")


class WebhookReport(Model):
    """The answer of ``GET /executions/{job_id}/webhooks``."""

    job_id: str
    url: str
    events: list[str]
    state: Literal["delivering", "done"]
    delivered: int
    failed: int = Field(description="Events that could not be delivered, or were left out after too many.")
    deliveries: list[Delivery] = Field(description="The latest 100, in order.")
    remark: str | None = Field(None, description="What else there is to know of it.")


def _known_event(name: str) -> str:
    known = sorted(KINDS.keys() | frozenset().union(*KINDS.values()))
    if name not in known:
        hint = nearest(name, known) or f"; there are {', '.join(known)}"
        raise ValueError(f"there is no event {name!r}{hint}")
    return name


class Webhook(Model):
    """Where a crew's runs are reported to, signed as *Standard Webhooks* has it."""

    url: Annotated[str, AfterValidator(endpoint), Field(max_length=2_000)]
    events: list[Annotated[str, AfterValidator(_known_event)]] = Field(
        default_factory=lambda: ["task_complete", "task_failed", "execution_status"],
        min_length=1,
        max_length=64,
        description="Kinds or types of event.",
    )
