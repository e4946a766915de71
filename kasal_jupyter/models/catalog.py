"""LLM names: which provider serves them here, how it spells them, and with which key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from kasal_jupyter.models.served import ServedModels
from kasal_jupyter.schemas.spec import RunModel

SANDBOX = "sandbox"

OPENAI_DEFAULT = "gpt-4.1-mini"
"""The model of an agent that names none, where a key says that OpenAI is wanted; CrewAI's own default."""

KEYLESS = "no-key"
"""What is sent as key to an OpenAI-compatible server that was named without one."""

OPENAI_NAME = re.compile(r"(gpt|chatgpt|o\d|codex)([-.]|$)|ft:gpt-", re.IGNORECASE)
"""A name that needs no ``openai/`` before it."""

OTHER_PROVIDERS = {
    "claude": "Anthropic",
    "anthropic/": "Anthropic",
    "gemini": "Google",
    "azure/": "Azure",
    "bedrock/": "Bedrock",
    "ollama/": "Ollama",
}
"""Who serves the models whose names begin like this."""


class ModelUnavailable(ValueError):
    """A model cannot run here; the text says why and what to do."""


@dataclass(frozen=True)
class ModelCatalog:
    """What models can run in this server.

    Parameters
    ----------
    default_model
        The model of an agent that names none; empty for *whatever a key says*.
    environ
        Where ``OPENAI_API_KEY`` and ``OPENAI_BASE_URL`` are looked up, at every call, so that a key
        set later counts at once.
    served
        What an OpenAI-compatible server says it serves.
    """

    default_model: str = ""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    served: ServedModels = field(default_factory=ServedModels, repr=False, compare=False)

    @property
    def key(self) -> str | None:
        """The key for OpenAI, or for the server at :attr:`base_url`."""
        return self.environ.get("OPENAI_API_KEY") or None

    @property
    def base_url(self) -> str | None:
        """The OpenAI-compatible server; None for OpenAI itself."""
        return self.environ.get("OPENAI_BASE_URL") or None

    def resolve(self, name: str | None) -> RunModel:
        """Find who serves a model.

        Parameters
        ----------
        name
            ``sandbox``, ``openai/<model>`` or a bare OpenAI name such as ``gpt-4``; None for the default.

        Raises
        ------
        ModelUnavailable
            The model cannot run here.
        """
        name = name or self.default_name()
        if name == SANDBOX:
            return RunModel(name=name, provider="sandbox", model=SANDBOX)
        if name.startswith("openai/"):
            return self._openai(name, name.removeprefix("openai/"))
        if OPENAI_NAME.match(name):
            return self._openai(name, name)
        for prefix, provider in OTHER_PROVIDERS.items():
            if name.startswith(prefix):
                raise ModelUnavailable(
                    f"{name!r} is served by {provider}, which is not available on this server; "
                    f'use an OpenAI-compatible model as "openai/<model>", or "sandbox" to try without a model'
                )
        raise ModelUnavailable(
            f'no provider is known for {name!r}; write "openai/{name}" where an OpenAI-compatible server '
            'serves it, or "sandbox" to try without a model'
        )

    def default_name(self) -> str:
        """Give the model of an agent that names none.

        Raises
        ------
        ModelUnavailable
            There is no default model, and no key that suggests one.
        """
        if self.default_model:
            return self.default_model
        if self.key:
            return OPENAI_DEFAULT
        raise ModelUnavailable(
            "the agent names no model, and the server has neither a default model nor OPENAI_API_KEY; "
            'give the agent a model, or use "sandbox" to try without one'
        )

    def _openai(self, name: str, model: str) -> RunModel:
        if not model:
            raise ModelUnavailable(f'{name!r} names no model; write it as "openai/<model>"')
        if self.key is None and self.base_url is None:
            raise ModelUnavailable(
                f"{name!r} needs OPENAI_API_KEY in the server's environment (or OPENAI_BASE_URL for a server "
                'that asks for no key); use "sandbox" to try without a model'
            )
        return RunModel(
            name=name, provider="openai", model=model, api_key=self.key or KEYLESS, base_url=self.base_url
        )


class SandboxCatalog(ModelCatalog):
    """Models in the sandbox: by whatever name one is asked for, it is the sandbox model."""

    def resolve(self, name: str | None) -> RunModel:
        """Give the sandbox model under the name that was asked for."""
        return RunModel(name=name or SANDBOX, provider="sandbox", model=SANDBOX)
