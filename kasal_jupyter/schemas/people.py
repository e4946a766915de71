"""People in the loop: who answers a run's questions, how long they have, and which calls need their leave."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from kasal_jupyter.schemas.base import Model, Name

APPROVE, REJECT = "approve", "reject"

AskedKind = Literal["question", "review", "approval"]
"""What a person is asked: an agent's own question, whether a task's result will do, or leave for a call."""

OnTimeout = Literal["approve", "reject", "fail"]

MOST_SECONDS = 604_800.0
"""Longest time that a person may have: a week."""


class People(Model):
    """Who answers for a crew's results and calls, and what happens where nobody does."""

    may_answer: list[Name] = Field(
        default_factory=list,
        max_length=64,
        description="Email addresses of users besides the owner who may answer its runs' questions.",
    )
    timeout: float = Field(
        86_400.0, ge=1, le=MOST_SECONDS, description="Seconds that a review or an approval is waited for."
    )
    on_timeout: OnTimeout = Field(
        "reject", description="What then counts as the answer; fail ends the run with INPUT_TIMEOUT."
    )


@dataclass(frozen=True, slots=True)
class ApprovalRule:
    """Which calls need a person's leave.

    Attributes
    ----------
    tool
        A pattern of tools' names: ``*`` stands for any text, ``?`` for any character.
    arguments
        Patterns of arguments by name, all of which must fit.
    """

    tool: str
    arguments: Mapping[str, str]

    def fits(self, tool: str, arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
        """Say whether a call needs leave.

        What was not given is what the tool takes then; where its schema does not say, it may be anything,
        and fits.
        """
        if not _is_like(tool, self.tool):
            return False
        known: Mapping[str, Any] = parameters.get("properties") or {}
        for name, pattern in self.arguments.items():
            if name in arguments:
                value = arguments[name]
            elif "default" in (known.get(name) or {}):
                value = known[name]["default"]
            else:
                continue
            if not _is_like(_written(value), pattern):
                return False
        return True


def _is_like(text: str, pattern: str) -> bool:
    """Say whether a text fits a pattern, in whatever case: an agent that writes ``Post`` posts as well."""
    return fnmatchcase(text.casefold(), pattern.casefold().replace("[", "[[]"))


def _written(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def approval_rule(text: str) -> ApprovalRule:
    """Read a rule: ``http_request``, ``mcp_*``, ``http_request(method=POST, url=https://*.example.com/*)``.

    Raises
    ------
    ValueError
        It is none.
    """
    name, bracket, rest = text.strip().partition("(")
    name = name.strip()
    if not name or ")" in name or (bracket and not rest.endswith(")")):
        raise ValueError("write a tool's name, or tool(argument=pattern, …)")
    arguments: dict[str, str] = {}
    last = None
    for part in rest[:-1].split(",") if bracket else ():
        argument, equals, pattern = part.partition("=")
        if equals and argument.strip().isidentifier():
            last = argument.strip()
            arguments[last] = pattern
        elif last is not None:
            # A comma of the pattern before.
            arguments[last] += f",{part}"
        else:
            raise ValueError(f"{part.strip()!r} is no argument=pattern")
    return ApprovalRule(name, {argument: pattern.strip() for argument, pattern in arguments.items()})


def _rule(text: str) -> str:
    approval_rule(text)
    return text


NeedsApproval = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=1_000), AfterValidator(_rule)]],
    Field(
        max_length=64,
        description="Calls that a person is asked about first: a tool's name or a pattern of names, with "
        "patterns of arguments in brackets where only some calls are meant: "
        "`http_request(method=POST, url=https://*)`.",
    ),
]


def rule_for(
    rules: Iterable[str], tool: str, arguments: Mapping[str, Any], parameters: Mapping[str, Any]
) -> str | None:
    """Give the first rule by which a call needs a person's leave; None where it needs none."""
    return next((rule for rule in rules if approval_rule(rule).fits(tool, arguments, parameters)), None)
