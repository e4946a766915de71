"""Errors as an answer shows them: the reference's *Error Response Format*."""

from __future__ import annotations

from pydantic import Field

from kasal_jupyter.schemas.base import Given, Model


class FaultDetails(Model):
    """One thing that is wrong with a request."""

    field: str = Field(description="Where: a path into the body such as `tasks[1].agent`, or a header.")
    reason: str = Field(description="What is wrong, and what to do about it.")


class ErrorDetails(Model):
    """What is wrong with the request; empty where the message says it all."""

    field: Given[str] = Field(None, description="Of the first fault.")
    reason: Given[str] = Field(None, description="Of the first fault.")
    errors: Given[list[FaultDetails]] = Field(None, description="Every fault, where there are several.")


class ErrorFields(Model):
    """What went wrong."""

    code: str = Field(description="For programs, e.g. `VALIDATION_ERROR`, `NOT_FOUND`, `RATE_LIMIT`.")
    message: str = Field(description="For people.")
    details: ErrorDetails


class ErrorBody(Model):
    """The body of every answer with a status of 400 and above."""

    error: ErrorFields
