"""Who serves models, and who searches the web: what each needs, and where the environment says it.

The variables are those that the providers' own SDKs and CrewAI read.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from kasal_jupyter.hiding import MIN_WORD, unhidden_among
from kasal_jupyter.schemas import spec
from kasal_jupyter.schemas.models import Source

Kind = Literal["models", "search"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """What somebody has set for a provider: all of it comes from one place.

    A user's address never gets the server's key, so nothing is mixed.

    Attributes
    ----------
    source
        Who has set it.
    api_key, base_url, options
        What was set. The options are named as :class:`~kasal_jupyter.schemas.spec.RunModel` has them.
    guarded
        Whether the address is a user's who may not name any.
    unreadable
        Whether nothing of it is known: it was encrypted with another data folder's key, say, or is damaged.
    """

    source: Source
    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    guarded: bool = False
    unreadable: bool = False

    def remark(self) -> str | None:
        """Say what of it is too short to be hidden; None where nothing is."""
        given = {"api_key": self.api_key, "base_url": self.base_url, **self.options}
        names = unhidden_among((name, value) for name, value in given.items() if value)
        return (
            f"the secret in {' and '.join(names)} has fewer than {MIN_WORD} characters: it cannot be hidden "
            "in what models, tools and logs say"
            if names
            else None
        )


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider that is known.

    Attributes
    ----------
    name
        What stands before the model's name: ``openrouter/…``.
    title
        For people.
    protocol
        How it is spoken to; of a search engine, the engine.
    kind
        Whether it serves models, or searches the web.
    key, address
        The variables of the environment that may hold its key and its address; the first that is set counts.
    options
        What else it takes, each with its variables.
    home
        Its address, where none is set; None where its SDK knows it, or it has none.
    path
        What its address ends with, where it was given without: Ollama's tools name a host only.
    extra, module
        The extra to install for it, and a module that is there when it was.
    needs
        What must be set: ``key``, ``address``, and options by name.
    """

    name: str
    title: str
    protocol: spec.Provider | str
    kind: Kind = "models"
    key: tuple[str, ...] = ()
    address: tuple[str, ...] = ()
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    home: str | None = None
    path: str = ""
    extra: str | None = None
    module: str | None = None
    needs: tuple[str, ...] = ("key",)

    @property
    def installed(self) -> bool:
        """Whether what it needs in Python is there; nothing is imported to find out."""
        return self.module is None or _is_there(self.module)

    @property
    def install(self) -> str | None:
        """The command that installs what it needs; None where it needs nothing."""
        return f'pip install "kasal-jupyter[{self.extra}]"' if self.extra else None

    def variables(self) -> list[str]:
        """Give the variables of the environment that it is set by."""
        return [*self.key, *self.address, *(name for names in self.options.values() for name in names)]

    def from_environment(self, environ: Mapping[str, str]) -> Credentials | None:
        """Give what the environment sets for it; None where nothing is."""
        key = _first(environ, self.key)
        address = _first(environ, self.address)
        options = {name: value for name, names in self.options.items() if (value := _first(environ, names))}
        secret = any(name in options for name in self.needs)
        if key is None and address is None and not secret:
            # A region or an API version alone says nothing.
            return None
        return Credentials("environment", key, self.whole_address(address), options)

    def whole_address(self, address: str | None) -> str | None:
        """Give an address as its clients take it: with a scheme, and with the provider's own path."""
        if not address:
            return None
        if "://" not in address:
            address = f"{'https' if self.path and self.home is None else 'http'}://{address}"
        try:
            parts = urlsplit(address)
            port = parts.port
        except ValueError:
            return address
        path = parts.path.rstrip("/")
        netloc = parts.netloc
        if self.protocol == "ollama":
            path = path.removesuffix("/v1").removesuffix("/api")
            if port is None and parts.scheme == "http" and parts.hostname:
                netloc = f"{netloc}:{_OLLAMA_PORT}"
            # What Ollama listens on is no address to call.
            netloc = netloc.replace("0.0.0.0", "127.0.0.1", 1) if parts.hostname == "0.0.0.0" else netloc  # noqa: S104
        if self.path and not path.endswith(self.path):
            path += self.path
        return urlunsplit((parts.scheme, netloc, path, parts.query, ""))

    def missing(self, given: Credentials | None) -> list[str]:
        """Give what has to be set still, of :attr:`needs`; for a choice, ``key or address``."""
        if given is None:
            return list(self.needs)
        there = {"key": given.api_key, "address": given.base_url or self.home, **given.options}
        return [need for need in self.needs if not any(there.get(one) for one in need.split(" or "))]

    def remedy(self, missing: Iterable[str]) -> str:
        """Say how what is missing can be set, for the end of a sentence."""
        fields: list[str] = []
        variables: list[str] = []
        for need in missing:
            for one in need.split(" or "):
                fields.append({"key": "api_key", "address": "base_url"}.get(one, f"options.{one}"))
                names = {"key": self.key, "address": self.address}.get(one, self.options.get(one, ()))
                variables += names[:1]
        last = "or" if any(" or " in need for need in missing) else "and"
        by_environment = f"{_listed(variables, last)} in the server's environment, or " if variables else ""
        return f"{by_environment}{_listed(fields, last)} by {self.setting}"

    @property
    def setting(self) -> str:
        """How something is set for it, from a program and from a terminal."""
        return f"PUT /v1/providers/{self.name} (jupyter kasal provider set {self.name})"


def _listed(words: Sequence[str], last: str) -> str:
    *some, end = words
    return f"{', '.join(some)} {last} {end}" if some else end


_OLLAMA_PORT = 11434

_AWS = {
    "aws_access_key_id": ("AWS_ACCESS_KEY_ID",),
    "aws_secret_access_key": ("AWS_SECRET_ACCESS_KEY",),
    "aws_session_token": ("AWS_SESSION_TOKEN",),
    "aws_region_name": ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_REGION_NAME"),
}


def _compatible(name: str, title: str, home: str | None, prefix: str, **more: object) -> Provider:
    """Describe a provider that speaks OpenAI's API."""
    given = {
        "key": (f"{prefix}_API_KEY",),
        "address": (f"{prefix}_BASE_URL",),
        "needs": ("key",),
        **more,
    }
    return Provider(name=name, title=title, protocol="openai", home=home, **given)  # type: ignore[arg-type]


_KNOWN: tuple[Provider, ...] = (
    Provider(
        "openai",
        "OpenAI",
        "openai",
        key=("OPENAI_API_KEY",),
        address=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
        needs=("key or address",),
    ),
    Provider(
        "anthropic",
        "Anthropic",
        "anthropic",
        key=("ANTHROPIC_API_KEY",),
        address=("ANTHROPIC_BASE_URL",),
        extra="anthropic",
        module="anthropic",
    ),
    Provider(
        "gemini",
        "Google Gemini",
        "gemini",
        key=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        address=("GOOGLE_GEMINI_BASE_URL",),
        extra="gemini",
        module="google.genai",
    ),
    Provider(
        "azure",
        "Azure",
        "azure",
        key=("AZURE_API_KEY", "AZURE_OPENAI_API_KEY"),
        address=("AZURE_ENDPOINT", "AZURE_OPENAI_ENDPOINT", "AZURE_API_BASE"),
        options={"api_version": ("AZURE_API_VERSION",), "deployments": ("AZURE_DEPLOYMENTS",)},
        extra="azure",
        module="azure.ai.inference",
        needs=("key", "address"),
    ),
    Provider(
        "bedrock",
        "Amazon Bedrock",
        "bedrock",
        options=_AWS,
        extra="bedrock",
        module="boto3",
        needs=("aws_access_key_id", "aws_secret_access_key", "aws_region_name"),
    ),
    Provider(
        "ollama",
        "Ollama",
        "ollama",
        key=("OLLAMA_API_KEY",),
        address=("OLLAMA_HOST", "OLLAMA_API_BASE"),
        home=f"http://127.0.0.1:{_OLLAMA_PORT}",
        needs=(),
    ),
    _compatible("openrouter", "OpenRouter", "https://openrouter.ai/api/v1", "OPENROUTER"),
    _compatible(
        "databricks",
        "Databricks",
        None,
        "DATABRICKS",
        key=("DATABRICKS_TOKEN", "DATABRICKS_API_KEY"),
        address=("DATABRICKS_HOST", "DATABRICKS_BASE_URL"),
        path="/serving-endpoints",
        needs=("key", "address"),
    ),
    _compatible("vllm", "vLLM", None, "VLLM", needs=("address",)),
    _compatible("lmstudio", "LM Studio", None, "LMSTUDIO", needs=("address",)),
    _compatible("groq", "Groq", "https://api.groq.com/openai/v1", "GROQ"),
    _compatible("mistral", "Mistral", "https://api.mistral.ai/v1", "MISTRAL"),
    _compatible("deepseek", "DeepSeek", "https://api.deepseek.com/v1", "DEEPSEEK"),
    _compatible("together", "Together AI", "https://api.together.xyz/v1", "TOGETHER"),
    _compatible("fireworks", "Fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS"),
    _compatible("xai", "xAI", "https://api.x.ai/v1", "XAI"),
    _compatible("cerebras", "Cerebras", "https://api.cerebras.ai/v1", "CEREBRAS"),
    _compatible("deepinfra", "DeepInfra", "https://api.deepinfra.com/v1/openai", "DEEPINFRA"),
    _compatible(
        "dashscope", "DashScope", "https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "DASHSCOPE"
    ),
    Provider("tavily", "Tavily", "tavily", "search", key=("TAVILY_API_KEY",), address=("TAVILY_BASE_URL",)),
    Provider(
        "brave",
        "Brave Search",
        "brave",
        "search",
        key=("BRAVE_API_KEY", "BRAVE_SEARCH_API_KEY"),
        address=("BRAVE_BASE_URL",),
    ),
    Provider(
        "searxng",
        "SearXNG",
        "searxng",
        "search",
        key=("SEARXNG_API_KEY",),
        address=("SEARXNG_URL", "SEARXNG_BASE_URL", "SEARX_HOST"),
        needs=("address",),
    ),
)

PROVIDERS: Mapping[str, Provider] = {provider.name: provider for provider in _KNOWN}
"""Those that need no registering, by name, in the order in which they are listed."""

ALIASES: Mapping[str, str] = {
    "claude": "anthropic",
    "google": "gemini",
    "azure_openai": "azure",
    "aws": "bedrock",
    "ollama_chat": "ollama",
    "hosted_vllm": "vllm",
    "lm_studio": "lmstudio",
    "together_ai": "together",
    "fireworks_ai": "fireworks",
}
"""Other names that CrewAI and LiteLLM have for them."""

RESERVED = frozenset({"sandbox", "offline", "ft", "models"})
"""Names that no endpoint of a user's can have: they mean something before a slash, or alone."""


def endpoint(name: str) -> Provider:
    """Describe an OpenAI-compatible server that somebody registers under a name."""
    return Provider(name, name, "openai", needs=("address",))


def provider_named(name: str) -> Provider:
    """Give a provider by its name; an unknown one is somebody's own OpenAI-compatible server."""
    return PROVIDERS.get(name) or endpoint(name)


@cache
def _is_there(module: str) -> bool:
    # The parents are looked for first: to find a sub-module, Python imports them.
    parent, _, _ = module.rpartition(".")
    try:
        return (not parent or _is_there(parent)) and importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _first(environ: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((value for name in names if (value := environ.get(name, "").strip())), None)
