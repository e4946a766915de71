"""Operations: what each method of a resource takes, answers and requires.

One declaration serves the handler, which checks against it, and the OpenAPI document, the docs page and the
Postman collection, which are made from it: they cannot say anything else than what is served.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from jupyter_server.auth.decorator import allow_unauthenticated
from pydantic import BaseModel

from kasal_jupyter.schemas.base import Query

Method = TypeVar("Method", bound=Callable[..., Any])

PATH_NAME = re.compile(r"\{([a-z_]+)\}")
"""A name in a path's template."""

Access = Literal["anyone", "viewer", "editor", "admin"]
"""Who may call: anyone at all, any known caller, or a role and those above it."""


@dataclass(frozen=True, slots=True)
class Media:
    """An answer that is not one JSON object.

    Attributes
    ----------
    type
        Its media type, e.g. ``text/html``.
    description
        What it holds.
    """

    type: str
    description: str


Answer = type[BaseModel] | Media | tuple[type[BaseModel] | Media, *tuple[Media, ...]] | None
"""A model as JSON, another medium, one of them as ``Accept`` or the query says, or nothing."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one resource.

    Attributes
    ----------
    summary
        A line that names it.
    description
        The handler's docstring.
    access
        Who may call it.
    body
        The model of the request's body, if there is one.
    files
        What the body may be in the place of that model's JSON.
    upload
        What its body is instead, where that is a file.
    query
        The model of its query.
    answers
        What it gives, by status.
    errors
        The statuses of refusals besides those that every operation may answer.
    headers
        Request headers it understands, with a description each.
    answer_headers
        Headers that its answers have, but for a 204, with a description each.
    in_maintenance
        Whether it is served in maintenance mode as well.
    """

    summary: str
    description: str
    access: Access
    body: type[BaseModel] | None
    query: type[Query]
    answers: Mapping[int, Answer]
    upload: Media | None = None
    errors: tuple[int, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    in_maintenance: bool = False
    files: tuple[Media, ...] = ()

    @property
    def model(self) -> BaseModel | type[BaseModel] | None:
        """The model of the regular answer, if that is JSON."""
        for answer in self.answers.values():
            first = answer[0] if isinstance(answer, tuple) else answer
            if isinstance(first, type):
                return first
        return None


def operation(
    summary: str,
    *,
    access: Access,
    answers: Mapping[int, Answer],
    body: type[BaseModel] | None = None,
    files: tuple[Media, ...] = (),
    upload: Media | None = None,
    query: type[Query] = Query,
    errors: tuple[int, ...] = (),
    headers: Mapping[str, str] | None = None,
    answer_headers: Mapping[str, str] | None = None,
    in_maintenance: bool = False,
) -> Callable[[Method], Method]:
    """Declare a handler's method as an operation of the API; see :class:`Operation`."""

    def declare(method: Method) -> Method:
        described = Operation(
            summary=summary,
            description=(method.__doc__ or "").strip(),
            access=access,
            body=body,
            upload=upload,
            query=query,
            answers=answers,
            errors=errors,
            headers=headers or {},
            answer_headers=answer_headers or {},
            in_maintenance=in_maintenance,
            files=files,
        )
        # The base handler authenticates every method; the mark tells Jupyter's own check so.
        marked: Any = allow_unauthenticated(method if body is None else _with_its_body(method))
        marked.operation = described
        return marked  # type: ignore[no-any-return]

    return declare


def _with_its_body(method: Callable[..., Any]) -> Callable[..., Any]:
    """Have a method begin when the body is read; what is wrong with it is told to whoever takes it."""

    @functools.wraps(method)
    async def begin(handler: Any, *args: str) -> None:
        await handler.read_large_body()
        if (doing := method(handler, *args)) is not None:
            await doing

    return begin


def operation_of(handler: type, method: str) -> Operation | None:
    """Give the operation behind an HTTP method of a handler; None where there is none."""
    return getattr(getattr(handler, method.lower(), None), "operation", None)
