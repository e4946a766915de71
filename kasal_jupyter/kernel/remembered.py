"""What a crew recalled and what it will remember, in the words of the views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kasal_jupyter.kernel.clean import one_line
from kasal_jupyter.kernel.figures import counted

MARK = "✎"

_WORDS = {"short_term": "short term", "long_term": "long term", "knowledge": "knowledge"}


def recalled_note(event: Mapping[str, Any]) -> str:
    """Say how much an agent was reminded of; nothing where that was nothing, and nothing went wrong."""
    memories = event.get("memories") or []
    passages = sum(memory["type"] == "knowledge" for memory in memories)
    said = [
        counted(count, word, many)
        for count, word, many in (
            (len(memories) - passages, "memory", "memories"),
            (passages, "passage", "passages"),
        )
        if count
    ]
    if event.get("remark"):
        said.append("by words alone")
    return f"recalled {', '.join(said)}" if said else ""


def stored_note(event: Mapping[str, Any]) -> str:
    """Say how much a crew will remember of a run."""
    return f"will remember {counted(len(event.get('memories') or []), 'memory', 'memories')}"


def listed(event: Mapping[str, Any]) -> str:
    """Write what was recalled, or is to be remembered: its type, how near it was, its text, a line each."""
    lines = []
    for memory in event.get("memories") or []:
        about = one_line(memory.get("category") or "", 80)
        kind = _WORDS.get(memory["type"], memory["type"])
        near = f" {memory['score']:.2f}" if "score" in memory else ""
        lines.append(f"[{kind}{f' · {about}' if about else ''}{near}] {one_line(memory['content'], 400)}")
    if remark := event.get("remark"):
        lines.append(str(remark))
    return "\n".join(lines)
