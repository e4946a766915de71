"""How tools give a model what is long: a portion at a time, with where to go on."""

from __future__ import annotations

from http import HTTPStatus

from kasal_jupyter.hiding import here

MAX_CHARACTERS = 50_000
"""Most of a text that is given to a model at once."""


def portion(text: str, start: int = 0, *, complete: bool = True, most: int = MAX_CHARACTERS) -> str:
    """Give a part of a text, and say where the next begins.

    Parameters
    ----------
    text
        The text, as far as it is known.
    start
        The first character that is wanted.
    complete
        Whether the text is all there is.
    most
        Characters to give at the most.

    Raises
    ------
    ValueError
        It ends before that character.
    """
    # Whole, so that every part of it is counted alike.
    text = here().hide(text) if complete else here().split(text)[0]
    if start >= len(text) and start > 0:
        raise ValueError(f"It has {len(text):,} characters only; start must be smaller.")
    part = text[start : start + most]
    end = start + len(part)
    if end < len(text):
        return f"{part}\n[It goes on: {len(text):,} characters in all. start={end} gives what follows.]"
    if not complete:
        return f"{part}\n[It goes on, but no more of it is read.]"
    return part


def status_text(status: int) -> str:
    """Write an HTTP status with its phrase."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
