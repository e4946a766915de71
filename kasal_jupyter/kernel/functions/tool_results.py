"""What a tool of the notebook gave, as the text that its agent is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kasal_jupyter.kernel.frames.frames import cut, is_frame, read_frame, shape_text, table_text
from kasal_jupyter.kernel.plain_values import is_scalar, scalar
from kasal_jupyter.wellformed import text_of

MOST_ERROR = 1_000
"""Characters of an error that an agent is told."""


@dataclass(frozen=True, slots=True)
class Table:
    """A frame with a note for the agent.

    Attributes
    ----------
    frame
        The frame.
    note
        A sentence that stands above it.
    """

    frame: Any
    note: str


def result_text(value: Any, most: int, frames: list[Any]) -> str:
    """Give a result as text of so many characters at the most.

    A text stays what it is; what JSON can say is written as JSON, dataclasses, dates, sets, enumerations,
    pydantic models and numpy's numbers included; frames become tables, also within a list or a dictionary;
    of all else, ``str()``.

    Parameters
    ----------
    value
        What the function returned.
    most
        Characters; what goes beyond is cut, with a note of how much that is.
    frames
        Takes the frames that are met, as they are.
    """
    if isinstance(value, str):
        return cut(value, most)
    if value is None:
        return "Done; there is no result."
    if isinstance(value, Table):
        frames.append(value.frame)
        return cut(f"{value.note} {_table(value.frame, max(most - len(value.note) - 1, 0))}", most)
    if is_frame(value):
        frames.append(value)
        return _table(value, most)
    return cut(_json(value, most, frames), most)


def error_text(error: BaseException) -> str:
    """Give an error as one readable line with its type."""
    said = " ".join(text_of(error).split())
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return text if len(text) <= MOST_ERROR else f"{text[: MOST_ERROR - 1]}…"


def _json(value: Any, most: int, frames: list[Any]) -> str:
    from pydantic_core import PydanticSerializationError, from_json, to_json

    unknown: list[Any] = []

    def plain(part: Any) -> Any:
        if is_frame(part):
            frames.append(part)
            return _table(part, most)
        # By what they can do, not by their class: numpy need not be installed.
        if is_scalar(part):
            return scalar(part)
        if hasattr(part, "tolist"):
            # Its own scalars have other digits than Python's.
            return list(part) if getattr(part, "ndim", 0) else part.tolist()
        if part is value:
            unknown.append(part)
        return str(part)

    try:
        written = to_json(value, fallback=plain, bytes_mode="base64").decode()
    except (PydanticSerializationError, ValueError):
        # It contains itself, or a key that is no text.
        return str(value)
    if unknown:
        # An object of a class of its own has no JSON.
        return str(value)
    # A date, say: its text needs no quotes.
    return str(from_json(written)) if written.startswith('"') else written


def _table(value: Any, most: int) -> str:
    frame = read_frame(value, "the result")
    return cut(f"A table of {shape_text(frame)}:\n{table_text(frame, most - 60)}", most)
