"""What a span opens to: its prompt, messages, arguments, result and error, as labelled texts."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from kasal_jupyter.events.trace import Span
from kasal_jupyter.kernel.views.figures import counted
from kasal_jupyter.kernel.views.rows import Row, memories_text


class Section(NamedTuple):
    """A labelled text of a span; a label alone is a remark.

    ``bad`` marks an error, ``answer`` what people read: it may be Markdown.
    """

    label: str
    text: str = ""
    bad: bool = False
    answer: bool = False


def sections(row: Row) -> list[Section]:
    """Give what the row's span holds, in reading order; nothing that is empty."""
    span = row.span
    match span.kind:
        case "llm":
            found = _model_call(span, row.before)
        case "tool":
            found = _tool_call(span)
        case _:
            found = [*_text("plan", row.plan), *_work(span, row.work)]
    if span.error:
        found.append(Section("error", span.error, bad=True))
    return found


def _work(span: Span, work: Span | None) -> list[Section]:
    agent = work or span
    found = [
        *_text("skipped", span.opened.get("reason")),
        *_text("recalled", memories_text(agent.recalled)),
        *_text("prompt", agent.opened.get("prompt")),
        *_text("tools", ", ".join(agent.opened.get("tools") or ())),
    ]
    if result := span.closed.get("result"):
        found.append(Section("result", result, answer=True))
    found += _remark(span)
    for check in span.checks:
        said = "accepts it" if check.accepted else "refuses it"
        found.append(
            Section(f"guardrail, attempt {check.attempt}: {said}", check.feedback, bad=not check.accepted)
        )
    if "structured" in span.closed:
        found.append(Section("result as JSON", as_json(span.closed["structured"])))
    return found


def _tool_call(span: Span) -> list[Section]:
    arguments = span.opened.get("arguments")
    return [
        *_text("arguments", as_json(arguments) if arguments else None),
        *_text("result", span.closed.get("result")),
    ]


def _model_call(span: Span, before: Span | None) -> list[Section]:
    messages = span.opened.get("messages") or []
    known = _shared(before.opened.get("messages") or [], messages) if before else 0
    found = [Section(f"{counted(known, 'message')} as in the call before")] if known else []
    for message in messages[known:]:
        found += _text(str(message.get("role", "message")), _said(message))
    found += _text("tools offered", ", ".join(span.opened.get("tools") or ()))
    if settings := span.opened.get("settings"):
        found.append(Section("settings", as_json(settings)))
    found += _text("reasoning", span.closed.get("reasoning"))
    found += _text("answer", span.closed.get("text") or span.text)
    for call in span.closed.get("tool_calls") or ():
        found += _text("asks for a tool", f"{call['name']} {call['arguments']}")
    if (reason := span.closed.get("finish_reason")) not in {None, "stop", "tool_calls"}:
        found += _text("finish reason", reason)
    return found + _remark(span)


def _remark(span: Span) -> list[Section]:
    """Say what is wrong with an answer that is not whole."""
    remark = span.closed.get("remark")
    return [Section("remark", remark, bad=True)] if remark else []


def _text(label: str, text: str | None) -> list[Section]:
    return [Section(label, text)] if text else []


def _shared(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> int:
    """Count the messages that both calls begin with."""
    known = 0
    for earlier, later in zip(before, now, strict=False):
        if earlier != later:
            break
        known += 1
    return known


def _said(message: dict[str, Any]) -> str:
    content = message.get("content")
    parts = [] if content is None else [content if isinstance(content, str) else as_json(content)]
    parts.extend(
        f"{call.get('function', {}).get('name', 'tool')} {call.get('function', {}).get('arguments', '')}"
        for call in message.get("tool_calls") or []
        if isinstance(call, dict)
    )
    return "\n".join(parts)


def as_json(value: object) -> str:
    """Write a value as JSON: on one line where it is short."""
    line = json.dumps(value, ensure_ascii=False, default=str)
    return line if len(line) <= 100 else json.dumps(value, ensure_ascii=False, indent=2, default=str)
