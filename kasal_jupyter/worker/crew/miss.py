"""What is not recorded, in words: what was asked, and in what the nearest recorded call differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from kasal_jupyter.hiding import here
from kasal_jupyter.worker.crew.earlier import EarlierRun, Given
from kasal_jupyter.worker.process.outbox import encode

BEFORE, BEHIND = 20, 60
"""Characters that are shown of a text, before and behind where it begins to differ."""

MOST_CALLS = 200
"""Calls of an agent in a task that are compared."""


_SAID = {"memory": "query", "person": "question"}
"""What tells calls of a kind apart."""


def difference(asked: Mapping[str, Any], given: Given | None, earlier: EarlierRun) -> str:
    """Say what was asked, and why there is no answer to it.

    Parameters
    ----------
    asked
        What.
    given
        The call, where it was recorded without an answer that could be given.
    earlier
        What was recorded.
    """
    what = f"{_who(asked)} {_asks(asked)}"
    if given is not None:
        if given.answered is None:
            return f"{what}, as it did there, but the call had no answer when that run ended."
        return f"{what}, as it did there, but {given.cut:,} characters of the answer were not recorded."
    calls = list(islice(earlier.alike(asked["kind"], asked["task"], asked["agent"]), MOST_CALLS))
    if not calls:
        return f"{what}, and did nothing like it there."
    nearest = max(calls, key=lambda call: _nearness(asked, call))
    return f"{what}. The nearest call there differs: {'; '.join(_differences(asked, nearest))}."


def _who(asked: Mapping[str, Any]) -> str:
    agent = asked["agent"] or "the crew"
    return f"{agent}, in the task {_quoted(asked['task'])}," if asked["task"] else agent


def _asks(asked: Mapping[str, Any]) -> str:
    if asked["kind"] == "model":
        return f"asks {asked['model']}"
    if asked["kind"] == "person":
        return f"asks a person {_quoted(asked['question'])}"
    return f"calls {asked['tool']}" if asked["kind"] == "tool" else "looks for memories"


def _nearness(asked: Mapping[str, Any], call: Mapping[str, Any]) -> int:
    """Say how much of a call is what is asked."""
    if asked["kind"] == "model":
        pairs = zip(asked["messages"], call["messages"], strict=False)
        return sum(_common(_text(one), _text(other)) for one, other in pairs)
    if asked["kind"] == "tool":
        same = 10_000 if asked["tool"] == call.get("tool") else 0
        return same + _common(_text(asked["arguments"]), _text(call.get("arguments")))
    name = _SAID[asked["kind"]]
    return _common(asked[name], str(call.get(name) or ""))


def _differences(asked: Mapping[str, Any], call: Mapping[str, Any]) -> list[str]:
    if asked["kind"] == "model":
        found = _of_models(asked, call)
    elif asked["kind"] == "tool":
        found = _of_tools(asked, call)
    else:
        name = _SAID[asked["kind"]]
        what = {"question": "the question", "query": "what is looked for"}[name]
        found = _of_texts(what, asked[name], str(call.get(name) or ""))
        found = found or _of_texts("the result", asked.get("output") or "", str(call.get("output") or ""))
    return found or ["in nothing that was recorded, so it was asked less often there, or in another form"]


def _of_models(asked: Mapping[str, Any], call: Mapping[str, Any]) -> list[str]:
    found = []
    if asked["model"] != call.get("model"):
        found.append(f"{call.get('model')} was asked")
    offered = [_name(tool) for tool in asked["tools"] or ()]
    found += _of_names(offered, call.get("tools") or ())
    theirs = call["messages"]
    for at, (one, other) in enumerate(zip(asked["messages"], theirs, strict=False), 1):
        if one != other:
            found += _of_texts(f"message {at} ({one['role']})", _text(one), _text(other))
            break
    else:
        if len(asked["messages"]) != len(theirs):
            found.append(f"there are {len(asked['messages'])} messages, and there were {len(theirs)}")
    settings = call.get("settings") or {}
    found += [
        f"{name} is {value}, and was {settings.get(name)}"
        for name, value in asked["settings"].items()
        if name not in {"stop", "stream", "max_tokens"} and settings.get(name) != value
    ]
    return found


def _of_tools(asked: Mapping[str, Any], call: Mapping[str, Any]) -> list[str]:
    if asked["tool"] != call.get("tool"):
        return [f"{call.get('tool')} was called"]
    return _of_texts("its arguments", _text(asked["arguments"]), _text(call.get("arguments")))


def _of_names(names: Iterable[str], others: Sequence[str]) -> list[str]:
    more = [name for name in names if name not in others]
    fewer = [name for name in others if name not in set(names)]
    found = [f"{', '.join(more)} is offered"] if more else []
    return found + ([f"{', '.join(fewer)} was offered"] if fewer else [])


def _of_texts(what: str, one: str, other: str) -> list[str]:
    one, other = here().hide(one), here().hide(other)
    if one == other:
        return []
    at = _common(one, other)
    return [f"{what} says {_excerpt(one, at)}, and said {_excerpt(other, at)}"]


def _excerpt(text: str, at: int) -> str:
    begin = max(0, at - BEFORE)
    shown = text[begin : at + BEHIND]
    return f"{'…' if begin else ''}{_quoted(shown)}{'…' if at + BEHIND < len(text) else ''}"


def _quoted(text: str) -> str:
    return f"“{' '.join(text.split())}”"


def _common(one: str, other: str) -> int:
    """Say how many characters two texts have in common at their beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _text(value: Any) -> str:
    if isinstance(value, dict) and isinstance(content := value.get("content"), str) and content:
        return content
    return encode(value).decode()


def _name(tool: Mapping[str, Any]) -> str:
    function: Mapping[str, Any] = tool.get("function", tool)
    return str(function.get("name"))
