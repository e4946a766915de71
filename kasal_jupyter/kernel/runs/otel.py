"""A trace as OpenTelemetry spans, in the names of its conventions for generative AI.

The document is what ``POST /v1/traces`` of an OTLP/HTTP collector takes as JSON: ids are
hexadecimal, 64-bit numbers are strings, enumerations are numbers (OTLP specification, *JSON
Protobuf Encoding*). The names are those of the semantic conventions for GenAI in the version
:data:`CONVENTIONS`, the first that has a repository of its own (open-telemetry/semantic-conventions-genai);
the document names it, since they still change. What they do not know (a task, a cost) is named ``kasal.…``.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from kasal_jupyter.events.event import Event
from kasal_jupyter.events.trace import Span, Trace
from kasal_jupyter.schemas.base import parse_time
from kasal_jupyter.version import __version__

CONVENTIONS = "0.1.0"
"""The version of the GenAI semantic conventions that the names are of."""

PLANNER = "Planner"
"""What the trace calls the agent that plans, which has no task."""

INTERNAL, CLIENT = 1, 3
"""Kinds of a span: work inside the program, and a call of another service."""

ERROR = 2
"""The status of a span that failed; none is set on one that did not."""

_PROVIDERS = {
    "anthropic": "anthropic",
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "claude": "anthropic",
    "deepseek": "deepseek",
    "gemini": "gcp.gemini",
    "gpt": "openai",
    "groq": "groq",
    "mistral": "mistral_ai",
    "openai": "openai",
    "vertex_ai": "gcp.vertex_ai",
    "xai": "x_ai",
}
"""The conventions' names of the providers that a model's name begins with."""

_SETTINGS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
    "stop": "gen_ai.request.stop_sequences",
    "stream": "gen_ai.request.stream",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
}


def otel_document(trace: Trace, events: list[Event], *, content: bool = True) -> dict[str, Any]:
    """Give a run as a ``resourceSpans`` document; see :meth:`kasal_jupyter.RunResult.to_otel`."""
    last = events[-1]["time"] if events else None
    spans = [_run_span(trace, events, last)] if last else []
    spans += [_span(trace, span, last or "", content=content) for _, span in trace.walk()]
    return {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": _attributes({"service.name": "kasal", "service.version": __version__})
                },
                "scopeSpans": [
                    {
                        "scope": {
                            "name": "kasal_jupyter",
                            "version": __version__,
                            "attributes": _attributes({"kasal.conventions.gen_ai": CONVENTIONS}),
                        },
                        "spans": spans,
                    }
                ],
            }
        ]
    }


def trace_id(job_id: str) -> str:
    """Give a run's trace id: the same at every export, so that a collector that has it adds nothing."""
    return hashlib.sha256(job_id.encode()).hexdigest()[:32]


def span_id(job_id: str, span: int | None) -> str:
    """Give the id of a run's span, or of the run's own."""
    return hashlib.sha256(f"{job_id}/{'' if span is None else span}".encode()).hexdigest()[:16]


def _run_span(trace: Trace, events: list[Event], last: str) -> dict[str, Any]:
    summary = trace.summary
    attributes = {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.agent.name": summary.crew_name,
        "kasal.job_id": trace.job_id,
        "kasal.status": summary.status,
        "kasal.cost": summary.cost,
        "error.type": summary.error.code if summary.error and summary.status != "completed" else None,
    }
    span: dict[str, Any] = {
        "traceId": trace_id(trace.job_id),
        "spanId": span_id(trace.job_id, None),
        "name": f"invoke_workflow {summary.crew_name}".rstrip(),
        "kind": INTERNAL,
        "startTimeUnixNano": _nanoseconds(events[0]["time"]),
        "endTimeUnixNano": _nanoseconds(last),
        "attributes": _attributes(attributes),
    }
    if summary.status in {"failed", "interrupted"}:
        span["status"] = {
            "code": ERROR,
            "message": summary.error.message if summary.error else summary.status,
        }
    return span


def _span(trace: Trace, span: Span, last: str, *, content: bool) -> dict[str, Any]:
    match span.kind:
        case "task":
            name, attributes = f"task {span.name}", _task_attributes(span)
        case "agent":
            planning = span.name == PLANNER and span.opened.get("task_id") is None
            operation = "plan" if planning else "invoke_agent"
            name, attributes = f"{operation} {span.name}", {"gen_ai.operation.name": operation}
        case "llm":
            name, attributes = f"chat {span.name}", _chat_attributes(span, content=content)
        case "tool":
            name, attributes = f"execute_tool {span.name}", _tool_attributes(span, content=content)
    error = span.closed.get("error") if span.state == "failed" else None
    attributes |= {
        "gen_ai.agent.name": span.agent,
        "kasal.span_id": span.id,
        "kasal.state": span.state,
        "error.type": error["code"] if error else None,
    }
    document: dict[str, Any] = {
        "traceId": trace_id(trace.job_id),
        "spanId": span_id(trace.job_id, span.id),
        # A span whose parent is not known, as of the tail of a run, is the run's.
        "parentSpanId": span_id(trace.job_id, span.parent_id if span.parent_id in trace.spans else None),
        "name": name,
        "kind": CLIENT if span.kind == "llm" else INTERNAL,
        "startTimeUnixNano": _nanoseconds(span.opened["time"]),
        # A span that was stopped ended with the run.
        "endTimeUnixNano": _nanoseconds(span.closed.get("time", last)),
        "attributes": _attributes(attributes),
    }
    if error:
        document["status"] = {"code": ERROR, "message": error["message"]}
    return document


def _task_attributes(span: Span) -> dict[str, Any]:
    return {
        "kasal.task.id": span.opened.get("task_id"),
        "kasal.task.name": span.name,
        "kasal.cost": span.cost,
    }


def _chat_attributes(span: Span, *, content: bool) -> dict[str, Any]:
    usage = span.closed.get("usage") or {}
    settings = span.opened.get("settings") or {}
    reason = span.closed.get("finish_reason")
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _provider(span.name),
        "gen_ai.request.model": span.name,
        "gen_ai.response.model": span.closed.get("model"),
        "gen_ai.response.finish_reasons": [reason] if reason else None,
        "gen_ai.usage.input_tokens": usage.get("prompt_tokens"),
        "gen_ai.usage.output_tokens": usage.get("completion_tokens"),
        "gen_ai.usage.cache_read.input_tokens": usage.get("cached_tokens"),
        "gen_ai.usage.cache_write.input_tokens": usage.get("cache_write_tokens"),
        "gen_ai.usage.reasoning.output_tokens": usage.get("reasoning_tokens"),
        "kasal.cost": span.closed.get("cost"),
        **{name: settings.get(key) for key, name in _SETTINGS.items()},
    }
    if content:
        attributes["gen_ai.input.messages"] = _json(
            [_message(each) for each in span.opened.get("messages", ())]
        )
        if span.state == "completed":
            attributes["gen_ai.output.messages"] = _json([_answer(span, reason)])
    return attributes


def _tool_attributes(span: Span, *, content: bool) -> dict[str, Any]:
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": span.name,
        "gen_ai.tool.type": "function",
    }
    if content:
        attributes["gen_ai.tool.call.arguments"] = _json(span.opened.get("arguments") or {})
        if "result" in span.closed:
            attributes["gen_ai.tool.call.result"] = span.closed["result"]
    return attributes


def _provider(model: str) -> str | None:
    """Give the provider that a model's name tells; None where it tells none."""
    name = model.lower()
    return next((provider for start, provider in _PROVIDERS.items() if name.startswith(start)), None)


def _message(message: dict[str, Any]) -> dict[str, Any]:
    """Give a chat message as the conventions write it: a role and typed parts."""
    content = message.get("content")
    role = str(message.get("role", "user"))
    parts: list[dict[str, Any]] = []
    if role == "tool":
        parts.append({"type": "tool_call_response", "id": message.get("tool_call_id"), "response": content})
    elif content:
        parts.append({"type": "text", "content": content if isinstance(content, str) else _json(content)})
    parts += [
        _tool_call(call.get("id"), function.get("name"), function.get("arguments"))
        for call in message.get("tool_calls") or ()
        if isinstance(call, dict) and isinstance(function := call.get("function"), dict)
    ]
    return {"role": role, "parts": parts}


def _answer(span: Span, reason: str | None) -> dict[str, Any]:
    said = {"reasoning": span.closed.get("reasoning"), "text": span.closed.get("text")}
    parts: list[dict[str, Any]] = [{"type": kind, "content": text} for kind, text in said.items() if text]
    parts += [
        _tool_call(call["id"], call["name"], call["arguments"])
        for call in span.closed.get("tool_calls") or ()
    ]
    return {"role": "assistant", "parts": parts, "finish_reason": reason or "stop"}


def _tool_call(call: object, name: object, arguments: object) -> dict[str, Any]:
    return {"type": "tool_call", "id": call, "name": name, "arguments": arguments}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _nanoseconds(time: str) -> str:
    since = parse_time(time) - datetime(1970, 1, 1, tzinfo=UTC)
    return str(since // timedelta(microseconds=1) * 1_000)


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value is not None]


def _value(value: object) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case list():
            return {"arrayValue": {"values": [_value(item) for item in value]}}
        case _:
            return {"stringValue": str(value)}
