"""Functions of the notebook as tools of its crews: ``@kasal.tool``."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, overload

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.frames.frames import cut, is_frame, read_frame, shape_text, table_text
from kasal_jupyter.kernel.plain_values import is_scalar, scalar
from kasal_jupyter.wellformed import text_of

if TYPE_CHECKING:
    from kasal_jupyter.kernel.functions.tool_schema import Signature
    from kasal_jupyter.schemas.crews import CrewDetails
    from kasal_jupyter.schemas.tools import ClientTool

F = TypeVar("F", bound=Callable[..., Any])

TIMEOUT = 60.0
"""Seconds that a call may take, where the tool does not say."""

MAX_CHARS = 8_000
"""Characters of a result that an agent is given, where the tool does not say."""

MOST_CHARS = 200_000
"""The most it may say: more is no prompt, and not kept in a trace either."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class NotebookTool:
    """A function of the notebook that agents can call.

    Attributes
    ----------
    definition
        What the server and the agents know of it.
    function
        What is called, in this kernel.
    signature
        How an agent's arguments become the function's.
    max_chars
        How many characters of a result the agent is given.
    """

    definition: ClientTool
    function: Callable[..., Any] = field(repr=False)
    signature: Signature = field(repr=False)
    max_chars: int = MAX_CHARS

    @property
    def name(self) -> str:
        """What crews call it by."""
        return self.definition.name


_registered: dict[str, NotebookTool] = {}


def registered() -> dict[str, NotebookTool]:
    """Give this kernel's tools by name."""
    return dict(_registered)


def tools_named_by(crew: CrewDetails) -> dict[str, NotebookTool]:
    """Give those of this kernel's tools that a crew names."""
    named = {name for agent in crew.agents for name in agent.tools}
    named |= {name for task in crew.tasks for name in task.tools}
    return {name: tool for name, tool in _registered.items() if name in named}


@overload
def tool(function: F, /) -> F: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float = TIMEOUT,
    max_chars: int = MAX_CHARS,
) -> Callable[[F], F]: ...


def tool(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float = TIMEOUT,
    max_chars: int = MAX_CHARS,
) -> F | Callable[[F], F]:
    """Make a function of the notebook a tool that its crews can call.

    The function runs here, in the notebook's kernel, with the notebook's variables as they are at that
    moment. Agents learn what it takes from its type hints, its defaults and its docstring (Google, NumPy or
    reST style). It may be ``async``. What it returns is given to the agent as text; a frame (pandas, polars,
    pyarrow …) is described to the agent, and kept whole in the result's ``frames``.

    Parameters
    ----------
    function
        The function; it is given back as it is.
    name
        What crews call the tool; the function's name, by default. A tool of the same name is replaced.
    description
        What the agents are told that it does; by default what the docstring says.
    timeout
        Seconds that a call may take, 3,600 at the most; then the agent is told that there is no answer.
    max_chars
        Characters of a result that the agent is given, 200,000 at the most; the rest is cut, with a note.

    Returns
    -------
    function
        The function itself, or a decorator where options are given.

    Raises
    ------
    CellError
        It cannot be a tool; the message says why, and what to do.

    Warns
    -----
    UserWarning
        It has no description: agents would guess what it does.

    Examples
    --------
    >>> @kasal.tool
    ... def price_of(product: str, days: int = 30) -> float:
    ...     '''Tell the mean price of a product.
    ...
    ...     Args:
    ...         product: Its name, as the catalogue has it.
    ...         days: How many of the last days count.
    ...     '''
    ...     return prices.query("product == @product").tail(days)["price"].mean()
    """
    if function is None:
        return lambda decorated: _register(decorated, name, description, timeout, max_chars)
    return _register(function, name, description, timeout, max_chars)


def make_tool(
    function: Callable[..., Any],
    name: str | None = None,
    description: str | None = None,
    timeout: float = TIMEOUT,
    max_chars: int = MAX_CHARS,
    *,
    for_all: bool = False,
) -> NotebookTool:
    """Make a tool of a function, without registering it; see :func:`tool`.

    ``for_all`` offers it to every agent of a run that it is brought to.

    Raises
    ------
    CellError
        It cannot be one.
    """
    from kasal_jupyter.kernel.functions.tool_schema import read_signature
    from kasal_jupyter.schemas.tools import MOST_CLIENT_SECONDS, MOST_DESCRIPTION, ClientTool

    if not callable(function):
        raise CellError(f"@kasal.tool makes a tool of a function, not of a {type(function).__name__}")
    called = str(name or getattr(function, "__name__", ""))
    if not _NAME.fullmatch(called):
        raise CellError(
            f"@kasal.tool: a tool cannot be called {called!r}; pass name=, of ASCII letters, digits and "
            "underscores, 64 at the most"
        )
    if not 0 < timeout <= MOST_CLIENT_SECONDS:
        raise CellError(
            f"@kasal.tool: timeout is {timeout!r}; give seconds, above 0 and at most {MOST_CLIENT_SECONDS}"
        )
    if not 0 < max_chars <= MOST_CHARS:
        raise CellError(f"@kasal.tool: max_chars is {max_chars!r}; give a number from 1 to {MOST_CHARS:,}")
    signature = read_signature(function, called)
    definition = ClientTool(
        name=called,
        description=(description or signature.description)[:MOST_DESCRIPTION],
        parameters=signature.schema,
        timeout=timeout,
        for_all=for_all,
    )
    return NotebookTool(definition, function, signature, max_chars)


def _register(function: F, name: str | None, description: str | None, timeout: float, max_chars: int) -> F:
    from kasal_jupyter.tools.tool import builtin_names

    made = make_tool(function, name, description, timeout, max_chars)
    if made.name in builtin_names():
        raise CellError(
            f"@kasal.tool: {made.name!r} is a built-in tool, and agents would not know which is meant; give "
            f'yours another name: @kasal.tool(name="my_{made.name}")'
        )
    if not (description or "").strip() and not made.signature.described:
        warnings.warn(
            f"@kasal.tool: {made.name} has no description: agents have its name and its arguments alone to "
            'go by. Write a docstring, or pass description="…"',
            stacklevel=3,
        )
    _registered[made.name] = made
    return function


# -- what a tool gave, as text --------------------------------------------------------------------------

# What a tool of the notebook gave, as the text that its agent is told.

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
