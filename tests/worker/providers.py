"""The providers of models, each with its server on loopback and a model that it serves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.servers.anthropic_server import AnthropicServer
from tests.servers.bedrock_server import BedrockServer
from tests.servers.gemini_server import GeminiServer
from tests.servers.model_server import ModelServer
from tests.servers.ollama_chat_server import OllamaChatServer
from tests.servers.openai_server import AzureServer, OpenAIServer

KEY = "sk-test-1234567890abcdef"
SECRET = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"

AWS = {
    "aws_access_key_id": "AKIAIOSFODNN7EXAMPLE",
    "aws_secret_access_key": SECRET,
    "aws_region_name": "us-east-1",
}


@dataclass(frozen=True)
class Provider:
    """How a provider is asked in tests.

    ``model`` is a name that its price list has; ``sent`` gives what of a request the agent's settings became.
    """

    name: str
    server: type[ModelServer]
    model: str
    sent: Callable[[dict[str, Any]], dict[str, Any]]
    settings: dict[str, Any]
    usage: dict[str, int]
    options: dict[str, str] = field(default_factory=dict)
    key: str | None = KEY

    def spec(self, url: str, name: str = "model") -> dict[str, dict[str, Any]]:
        """Describe its model for a run's spec."""
        return {
            name: {
                "name": name,
                "provider": self.name,
                "model": self.model,
                "api_key": self.key,
                "base_url": url,
                "options": self.options,
            }
        }


def _named(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda request: {name: request.get(name) for name in names}


_OPENAI_USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 5,
    "total_tokens": 25,
    "cached_tokens": 8,
    "reasoning_tokens": 2,
}
_ANTHROPIC_USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 5,
    "total_tokens": 25,
    "cached_tokens": 8,
    "cache_write_tokens": 2,
}
_OPENAI_SETTINGS = {"temperature": 0.25, "top_p": 0.5, "max_tokens": 77, "seed": 11, "stop": ["END"]}

PROVIDERS = (
    Provider(
        "openai", OpenAIServer, "gpt-4o-mini", _named(*_OPENAI_SETTINGS), _OPENAI_SETTINGS, _OPENAI_USAGE
    ),
    Provider(
        "ollama",
        OllamaChatServer,
        "llama3.2",
        _named(*_OPENAI_SETTINGS),
        _OPENAI_SETTINGS,
        _OPENAI_USAGE,
        key=None,
    ),
    Provider(
        "azure",
        AzureServer,
        "gpt-4o-mini",
        _named("temperature", "top_p", "max_tokens", "seed"),
        {"temperature": 0.25, "top_p": 0.5, "max_tokens": 77, "seed": 11},
        _OPENAI_USAGE,
        options={"api_version": "2024-10-21"},
    ),
    Provider(
        "anthropic",
        AnthropicServer,
        "claude-sonnet-4-5",
        _named("temperature", "top_p", "max_tokens"),
        {"temperature": 0.25, "top_p": 0.5, "max_tokens": 77},
        _ANTHROPIC_USAGE,
    ),
    Provider(
        "gemini",
        GeminiServer,
        "gemini-2.5-flash",
        lambda request: request["generationConfig"],
        {"temperature": 0.25, "topP": 0.5, "maxOutputTokens": 77, "seed": 11},
        {
            "prompt_tokens": 20,
            "completion_tokens": 8,
            "total_tokens": 28,
            "cached_tokens": 8,
            "reasoning_tokens": 3,
        },
    ),
    Provider(
        "bedrock",
        BedrockServer,
        "anthropic.claude-3-haiku-20240307-v1:0",
        lambda request: request["inferenceConfig"],
        {"temperature": 0.25, "topP": 0.5, "maxTokens": 77},
        _ANTHROPIC_USAGE,
        options=AWS,
        key=None,
    ),
)
