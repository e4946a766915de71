"""The tokens of a call as its provider counts them, in one form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kasal_jupyter.schemas.events import TokenUsage

# OpenAI's and Azure's names, Gemini's, Anthropic's, whose cached tokens CrewAI has added to the prompt's.
_PROMPT = ("prompt_tokens", "prompt_token_count", "input_tokens")
_COMPLETION = ("completion_tokens", "candidates_token_count", "output_tokens")


def token_usage(counted: Mapping[str, Any] | None) -> TokenUsage | None:
    """Read what CrewAI passes on of a provider's counts; None where the provider counts nothing.

    CrewAI reports a provider that counts nothing as a total of zero, or as zeros. No prompt has no tokens.
    """
    if not counted:
        return None
    if "inputTokens" in counted:
        return _bedrock(counted)
    prompt, completion = _first(counted, _PROMPT), _first(counted, _COMPLETION)
    if not prompt and not completion:
        return None
    return _usage(
        prompt,
        completion,
        cached=_first(counted, ("cached_prompt_tokens",)),
        written=_first(counted, ("cache_creation_tokens",)),
        reasoning=_first(counted, ("reasoning_tokens",)),
        total=_first(counted, ("total_tokens",)),
    )


def _bedrock(counted: Mapping[str, Any]) -> TokenUsage | None:
    """Read Bedrock's counts, whose prompt tokens are without those that a cache gave or was given."""
    cached = _first(counted, ("cacheReadInputTokens", "cacheReadInputTokenCount"))
    written = _first(counted, ("cacheWriteInputTokens", "cacheWriteInputTokenCount"))
    prompt = _first(counted, ("inputTokens",)) + cached + written
    completion = _first(counted, ("outputTokens",))
    return _usage(prompt, completion, cached=cached, written=written) if prompt or completion else None


def _usage(
    prompt: int, completion: int, *, cached: int = 0, written: int = 0, reasoning: int = 0, total: int = 0
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


def _first(counted: Mapping[str, Any], names: tuple[str, ...]) -> int:
    return next((int(value) for name in names if (value := counted.get(name))), 0)
