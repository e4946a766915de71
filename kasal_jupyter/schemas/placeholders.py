"""The ``{placeholders}`` of a crew's texts: found, filled in once, and braces that stand for themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

# No step is ever taken back: the time is linear in the text, whatever it holds.
_BRACED = re.compile(r"(?<!\{)(\{++)([^\W\d][\w\-]*+)(\}++)")


def names(text: str) -> Iterator[str]:
    """Give the names of the inputs that a text has a place for, as often as they stand there."""
    for opened, name, closed in _BRACED.findall(text):
        if min(len(opened), len(closed)) % 2:
            yield name


AGENT_TEXTS = ("role", "goal", "backstory")
TASK_TEXTS = ("description", "expected_output", "guardrail", "output_file")
"""The texts of agents and tasks that inputs are filled into; and those of a task's context."""


def texts_of(agents: Iterable[Any], tasks: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Give the texts of a crew that inputs are filled into, each with the field that it stands in.

    Parameters
    ----------
    agents, tasks
        A crew's members, stored or not yet.
    """
    for place, agent in enumerate(agents):
        for name in AGENT_TEXTS:
            yield getattr(agent, name) or "", f"agents[{place}].{name}"
    for place, task in enumerate(tasks):
        for name in TASK_TEXTS:
            yield getattr(task, name) or "", f"tasks[{place}].{name}"
        for entry, text in enumerate(task.context or ()):
            yield text, f"tasks[{place}].context[{entry}]"


def fill(text: str, inputs: Mapping[str, Any]) -> str:
    """Give a text with its placeholders filled in. What a value says is never filled in itself.

    Parameters
    ----------
    text
        A text of a crew's.
    inputs
        The values; a name that has none stays as it is written.
    """

    def written(found: re.Match[str]) -> str:
        opened, name, closed = found.groups()
        pairs, single = divmod(min(len(opened), len(closed)), 2)
        if single and name not in inputs:
            return found[0]
        middle = str(inputs[name]) if single else name
        # What has no counterpart on the other side belongs to the text around it.
        used = 2 * pairs + single
        return f"{opened[used - pairs :]}{middle}{closed[used - pairs :]}"

    return _BRACED.sub(written, text)


def literal(text: str) -> str:
    """Write a text so that filling it in gives it back: braces around a name are doubled."""
    return rewrite(text, lambda _name, depth: 2 * depth)


def rewrite(text: str, depth: Callable[[str, int], int]) -> str:
    """Give a text with other numbers of braces around its names.

    Parameters
    ----------
    text
        The text.
    depth
        Told a name and how many pairs stand around it; says how many shall.
    """

    def written(found: re.Match[str]) -> str:
        opened, name, closed = found.groups()
        pairs = min(len(opened), len(closed))
        braces = depth(name, pairs)
        return f"{opened[pairs:]}{'{' * braces}{name}{'}' * braces}{closed[pairs:]}"

    return _BRACED.sub(written, text)
