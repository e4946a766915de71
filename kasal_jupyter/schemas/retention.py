"""What is kept of executions and for how long, and what a pruning takes away."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from kasal_jupyter.schemas.base import WHOLE, Given, Model

PruneAction = Literal["delete", "delete_files", "delete_log", "compress"]
"""``delete``: the whole execution; ``delete_files``: its artifacts; ``compress``: its journal and its log."""

PruneRule = Literal["age", "number", "size"]

Days = Annotated[float, Field(ge=0, le=36_500)]
Count = Annotated[int, Field(ge=0, le=10**15), WHOLE]


class RetentionRules(Model):
    """How long what is kept; 0 is for ever, of numbers and sizes any. The books are kept in any case."""

    compress_days: Days = Field(7.0, description="Days after their end; their journals and logs, compressed.")
    log_days: Days = Field(30.0, description="Days after its end that an execution's log is kept.")
    artifact_days: Days = Field(0.0, description="Days after its end that an execution's files are kept.")
    execution_days: Days = Field(0.0, description="Days after its end that an execution is kept at all.")
    executions: Count = Field(50_000, description="Executions that are kept: the last ones to end.")
    bytes: Count = Field(
        20_000_000_000, description="Bytes that all journals, files and logs may have: the last ones to end."
    )


class PruneRequest(Model):
    """The body of ``POST /prune``: what is not given is as the server is set."""

    dry_run: bool = Field(False, description="Whether nothing is done, and what would be is told.")
    compress_days: Given[Days] = Field(None, description="See the answer's `rules`.")
    log_days: Given[Days] = None
    artifact_days: Given[Days] = None
    execution_days: Given[Days] = None
    executions: Given[Count] = None
    bytes: Given[Count] = None


class PruneStep(Model):
    """What one rule takes away, or would."""

    action: PruneAction
    rule: PruneRule
    executions: int = Field(description="How many it concerns.")
    bytes: int = Field(description="Bytes that go; of what is only to be compressed, those that it has now.")


class PruneReport(Model):
    """The answer of ``POST /prune``."""

    dry_run: bool
    rules: RetentionRules
    steps: list[PruneStep] = Field(description="By action and rule; those that concern nothing are left out.")
    held: int = Field(
        description="Executions that a rule would delete, and that stay: they go on, others that may go on "
        "take their answers from them, their batch has not ended, or their webhooks are being delivered."
    )
    executions: int = Field(description="How many there are, after it.")
    bytes: int = Field(description="Bytes that their journals, files and logs have, after it.")
