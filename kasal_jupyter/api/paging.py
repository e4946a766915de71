"""Pages of a list: ``?page=2&per_page=50``."""

from __future__ import annotations

from dataclasses import dataclass

from tornado.web import RequestHandler

from kasal_jupyter.errors import Fault, InvalidRequest

MOST_PER_PAGE = 500


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which part of a list is asked for; pages count from 1."""

    page: int
    per_page: int

    @property
    def offset(self) -> int:
        """Items before the page."""
        return (self.page - 1) * self.per_page


def read_page(handler: RequestHandler) -> PageRequest:
    """Read a request's ``page`` and ``per_page``.

    Raises
    ------
    InvalidRequest
        One of them is no such number.
    """
    return PageRequest(
        page=read_number(handler, "page", 1, least=1, most=10**9),
        per_page=read_number(handler, "per_page", 100, least=1, most=MOST_PER_PAGE),
    )


def read_number(handler: RequestHandler, name: str, default: int, *, least: int, most: int) -> int:
    """Read a whole number from the query.

    Raises
    ------
    InvalidRequest
        It is none, or out of its bounds.
    """
    text = handler.get_query_argument(name, None)
    if text is None:
        return default
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
    if not least <= number <= most:
        raise InvalidRequest(
            "Invalid query", faults=[Fault(name, f"A whole number from {least} to {most} is required")]
        )
    return number
