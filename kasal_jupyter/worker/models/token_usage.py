"""The tokens of a call as its provider counts them, in one form.

A provider may say anything: nothing, words, less than nothing, more than there can be. What is no count is
unknown; the answer that it came with is as good as any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kasal_jupyter.events.event import TokenUsage
from kasal_jupyter.schemas.usage import is_count

# OpenAI's and Azure's names, Gemini's, Anthropic's, whose cached tokens CrewAI has added to the prompt's.
_PROMPT = ("prompt_tokens", "prompt_token_count", "input_tokens")
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
_COMPLETION = ("completion_tokens", "candidates_token_count", "output_tokens")


def token_usage(counted: object) -> TokenUsage | None:
    """Read what CrewAI passes on of a provider's counts; None where the provider counts nothing, or nonsense.

    CrewAI reports a provider that counts nothing as a total of zero, or as zeros. No prompt has no tokens.
    """
    if not isinstance(counted, Mapping) or not counted:
        return None
    if "inputTokens" in counted:
        return _bedrock(counted)
    prompt, completion = _first(counted, _PROMPT), _first(counted, _COMPLETION)
    if prompt is None or completion is None or not (prompt or completion):
        return None
    return _usage(
        prompt,
        completion,
        cached=_first(counted, ("cached_prompt_tokens",)),
        written=_first(counted, ("cache_creation_tokens",)),
        reasoning=_first(counted, ("reasoning_tokens",)),
        total=_first(counted, ("total_tokens",)),
    )


def openai_counts(counted: Mapping[str, Any]) -> dict[str, Any]:
    """Give the counts of an OpenAI-compatible server under CrewAI's names, whatever stands there."""
    return {name: counted.get(name) for name in _COUNTS} | _details(counted, "prompt", "completion")


def responses_counts(counted: Mapping[str, Any]) -> dict[str, Any]:
    """Give the counts of OpenAI's Responses API under CrewAI's names."""
    names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
    whole = {ours: counted.get(theirs) for ours, theirs in names.items()}
    return whole | {"total_tokens": counted.get("total_tokens")} | _details(counted, "input", "output")


def anthropic_counts(counted: Mapping[str, Any]) -> dict[str, Any]:
    """Give Anthropic's counts under CrewAI's names; its prompt tokens are without those of the cache."""
    cached, written = counted.get("cache_read_input_tokens"), counted.get("cache_creation_input_tokens")
    parts = [part for part in (counted.get("input_tokens"), cached, written) if part]
    prompt = sum(parts) if all(is_count(part) for part in parts) else parts
    return {
        "input_tokens": prompt,
        "output_tokens": counted.get("output_tokens"),
        "cached_prompt_tokens": cached,
        "cache_creation_tokens": written,
    }


def _details(counted: Mapping[str, Any], prompt: str, completion: str) -> dict[str, Any]:
    """Give what OpenAI's servers tell apart within the prompt and the answer."""
    details = {
        "cached_prompt_tokens": (f"{prompt}_tokens_details", "cached_tokens"),
        "reasoning_tokens": (f"{completion}_tokens_details", "reasoning_tokens"),
    }
    return {
        name: part.get(field)
        for name, (details_name, field) in details.items()
        if isinstance(part := counted.get(details_name), Mapping)
    }


def _bedrock(counted: Mapping[str, Any]) -> TokenUsage | None:
    """Read Bedrock's counts, whose prompt tokens are without those that a cache gave or was given."""
    cached = _first(counted, ("cacheReadInputTokens", "cacheReadInputTokenCount"))
    written = _first(counted, ("cacheWriteInputTokens", "cacheWriteInputTokenCount"))
    prompt, completion = _first(counted, ("inputTokens",)), _first(counted, ("outputTokens",))
    if prompt is None or completion is None or cached is None or written is None:
        return None
    prompt += cached + written
    return _usage(prompt, completion, cached=cached, written=written) if prompt or completion else None


def _usage(
    prompt: int,
    completion: int,
    *,
    cached: int | None = 0,
    written: int | None = 0,
    reasoning: int | None = 0,
    total: int | None = 0,
) -> TokenUsage:
    usage = TokenUsage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=total or prompt + completion
    )
    if cached:
        usage["cached_tokens"] = cached
    if written:
        usage["cache_write_tokens"] = written
    if reasoning:
        usage["reasoning_tokens"] = reasoning
    return usage


def _first(counted: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """Give the first count that is there, 0 where there is none; None where it is no count."""
    value = next((value for name in names if (value := counted.get(name))), 0)
    return value if is_count(value) else None
