"""LLM names: which provider serves them here, how it spells them, and with which key."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Self, cast
from urllib.parse import urlsplit

from kasal_jupyter.errors import nearest
from kasal_jupyter.models.providers import (
    ALIASES,
    PROVIDERS,
    Credentials,
    Provider,
    endpoint,
    provider_named,
)
from kasal_jupyter.models.retired import retired, spelling
from kasal_jupyter.models.served import ServedModels
from kasal_jupyter.schemas import spec
from kasal_jupyter.schemas.spec import RunEmbedder, RunModel, RunSearch
from kasal_jupyter.tools.guard import HostGuard

SANDBOX = "sandbox"

OFFLINE = "offline"
"""The embedder that needs nobody."""

OPENAI_DEFAULT = "gpt-4.1-mini"
"""The model of an agent that names none, where a key says that OpenAI is wanted; CrewAI's own default."""

KEYLESS = "no-key"
"""What is sent as key to an OpenAI-compatible server that was named without one."""

OPENAI_NAME = re.compile(r"(gpt|chatgpt|o\d|codex)([-.]|$)|ft:gpt-", re.IGNORECASE)
"""A name that needs no ``openai/`` before it."""

_BARE_NAMES: tuple[tuple[re.Pattern[str], str], ...] = (
    (OPENAI_NAME, "openai"),
    (re.compile(r"claude-", re.IGNORECASE), "anthropic"),
    (re.compile(r"gemini-", re.IGNORECASE), "gemini"),
    (
        re.compile(r"((us|us-gov|eu|apac|jp|au|ca|global)\.)?(anthropic|amazon|meta|mistral|cohere|ai21)\."),
        "bedrock",
    ),
)
"""Names that say by themselves who serves them."""

_OFFICIAL = frozenset({"api.openai.com", "api.anthropic.com", "generativelanguage.googleapis.com"})
"""Where the dates of the providers' own deprecations hold."""


class ModelUnavailable(ValueError):
    """A model cannot run here; the text says why and what to do."""


class NoDefaultModel(ModelUnavailable):
    """No model is named, and there is none that would be meant."""


def _nothing_stored(_owner: str) -> Mapping[str, Credentials]:
    return {}


def _today() -> date:
    return datetime.now(UTC).date()


@dataclass(frozen=True)
class ModelCatalog:
    """What models can run in this server.

    Parameters
    ----------
    default_model
        The model of an agent that names none; empty for *whatever a key says*.
    environ
        Where keys and addresses are looked up, at every call, so that a key set later counts at once.
    served
        What servers of models say they serve.
    stored
        Gives what is stored for the providers that an owner may use: the owner's own and the server's.
    default_embedder
        What makes vectors of texts: ``offline``, ``openai/<model>``, ``ollama/<model>``.
    guard
        Which hosts the addresses may name that were given by users who may not name any.
    own
        What is stored for the owner whose catalogue this is; see :meth:`of`.
    today
        Gives the day by which models are retired.
    keyless
        Whether a model may be named whose provider cannot be asked now: nobody will be.
    """

    default_model: str = ""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    served: ServedModels = field(default_factory=ServedModels, repr=False, compare=False)
    stored: Callable[[str], Mapping[str, Credentials]] = field(default=_nothing_stored, repr=False)
    default_embedder: str = OFFLINE
    guard: HostGuard = field(default_factory=HostGuard, repr=False, compare=False)
    own: Mapping[str, Credentials] = field(default_factory=dict, repr=False)
    today: Callable[[], date] = field(default=_today, repr=False)
    keyless: bool = False

    def of(self, owner: str) -> Self:
        """Give the catalogue with the keys that an owner has besides the server's, as they are now."""
        return replace(self, own=self.stored(owner))

    # -- providers -----------------------------------------------------------------------------------

    def providers(self) -> Iterator[Provider]:
        """Give the providers that are known, then those that were registered by name."""
        yield from PROVIDERS.values()
        for name in sorted(self.own):
            if name not in PROVIDERS:
                yield endpoint(name)

    def credentials(self, name: str) -> Credentials | None:
        """Give what is set for a provider; None where nothing is.

        The owner's own comes first, then what an admin has stored for all, then the environment's; each as a
        whole.
        """
        if (own := self.own.get(name)) is not None:
            return own
        known = PROVIDERS.get(name)
        return known.from_environment(self.environ) if known else None

    def fault(self, provider: Provider) -> str | None:
        """Say why a provider cannot be used, and what to do; None where it can."""
        given = self.credentials(provider.name)
        faults = []
        if not provider.installed:
            faults.append(f"needs a package that is not installed here: {provider.install}")
        if given is not None and given.unreadable:
            faults.append(
                f"has a key that cannot be read in this data folder; give it again by {provider.setting}"
            )
        elif missing := provider.missing(given):
            faults.append(f"needs {provider.remedy(missing)}")
        return "; and it ".join(faults) or None

    # -- models --------------------------------------------------------------------------------------

    def resolve(self, name: str | None) -> RunModel:
        """Find who serves a model.

        Parameters
        ----------
        name
            ``sandbox``, ``<provider>/<model>``, or a bare name that says by itself whose it is, such as
            ``gpt-4``, ``claude-3-opus`` and ``gemini-2.5-pro``; None for the default.

        Returns
        -------
        RunModel
            Under the name that was given. Of a model that its provider has retired it is the successor, and
            ``remark`` says so.

        Raises
        ------
        ModelUnavailable
            The model cannot run here.
        """
        name = name or self.default_name()
        if name == SANDBOX:
            return RunModel(name=name, provider="sandbox", model=SANDBOX)
        provider, model = self.split(name)
        if not model:
            raise ModelUnavailable(f'{name!r} names no model; write it as "{provider.name}/<model>"')
        if not self.keyless and (fault := self.fault(provider)):
            raise ModelUnavailable(
                f'{name!r}: {provider.title} {fault}; use "sandbox" to try without a model'
            )
        given = self.credentials(provider.name) or Credentials("environment")
        base_url = given.base_url or provider.home
        spelled, remark = model, None
        if is_official(base_url):
            spelled, remark = self._served_now(provider, name, model)
        return RunModel(
            name=name,
            provider=cast("spec.Provider", provider.protocol),
            model=spelled,
            api_key=given.api_key or (KEYLESS if provider.protocol == "openai" else None),
            base_url=base_url,
            options={key: value for key, value in given.options.items() if key != "deployments"},
            guarded=given.guarded and given.base_url is not None,
            address_set_by=self._address_set_by(provider, given),
            remark=remark,
        )

    def split(self, name: str) -> tuple[Provider, str]:
        """Tell a model's provider from its name there.

        Raises
        ------
        ModelUnavailable
            Nobody is known who serves it.
        """
        before, slash, rest = name.partition("/")
        if slash:
            prefix = ALIASES.get(before.lower(), before.lower())
            known = PROVIDERS.get(prefix)
            if (known is not None and known.kind == "models") or (known is None and prefix in self.own):
                return provider_named(prefix), rest
        else:
            for form, provider in _BARE_NAMES:
                if form.match(name):
                    return PROVIDERS[provider], name
        if slash:
            names = [provider.name for provider in self.providers() if provider.kind == "models"]
            raise ModelUnavailable(
                f"no provider {before!r} is known for {name!r}{nearest(before, names)}; PUT /v1/providers/"
                f'{before.lower()} registers an OpenAI-compatible server by that name, and "openai/{name}" '
                'asks the one that OPENAI_BASE_URL names; use "sandbox" to try without a model'
            )
        raise ModelUnavailable(
            f'no provider is known for {name!r}; write "openai/{name}" where an OpenAI-compatible server '
            f'serves it, "ollama/{name}" where Ollama does, or "sandbox" to try without a model'
        )

    def default_name(self) -> str:
        """Give the model of an agent that names none.

        Raises
        ------
        NoDefaultModel
            There is no default model, and no key that suggests one.
        """
        if self.default_model:
            return self.default_model
        given = self.credentials("openai")
        if given is not None and given.api_key:
            return OPENAI_DEFAULT
        raise NoDefaultModel(
            "the agent names no model, and the server has neither a default model nor OPENAI_API_KEY; "
            'give the agent a model, or use "sandbox" to try without one'
        )

    def _address_set_by(self, provider: Provider, given: Credentials) -> str | None:
        """Say what has set an address that is not for everybody to see; None where errors may name it.

        Who looks after the server finds it there; the others know whom to ask, and about what.
        """
        if given.source == "user" or given.base_url is None or _is_here(given.base_url):
            return None
        if given.source == "environment":
            variable = next((name for name in provider.address if self.environ.get(name, "").strip()), "")
            return f"{variable} in the server's environment"
        return f"the administrator's setting of {provider.name}"

    def _served_now(self, provider: Provider, name: str, model: str) -> tuple[str, str | None]:
        """Give a model as its provider spells it, or its successor with a remark."""
        spelled = spelling(provider.name, model)
        gone = retired(provider.name, spelled, self.today())
        if gone is None:
            return spelled, None
        return gone.successor, (
            f"{name} was retired by {provider.title} on {gone.on:%Y-%m-%d}; {gone.successor} answers "
            "instead; name it, or another, as the model"
        )

    # -- what else is asked of providers ---------------------------------------------------------------

    def search(self) -> RunSearch:
        """Say who searches the web: the engine set nearest to the owner, else ``ddgs``, without a key."""
        best: tuple[int, RunSearch] | None = None
        for provider in PROVIDERS.values():
            given = self.credentials(provider.name) if provider.kind == "search" else None
            if given is None or self.fault(provider):
                continue
            rank = ("user", "server", "environment").index(given.source)
            if best is None or rank < best[0]:
                found = RunSearch.model_validate(
                    {
                        "engine": provider.protocol,
                        "base_url": given.base_url,
                        "api_key": given.api_key,
                        "guarded": given.guarded,
                    }
                )
                best = rank, found
        return best[1] if best else RunSearch()

    def embedder(self, name: str | None = None) -> RunEmbedder:
        """Find what makes vectors of texts.

        Parameters
        ----------
        name
            ``offline``, or ``<provider>/<model>`` of Ollama or an OpenAI-compatible provider; None for the
            server's default.

        Raises
        ------
        ModelUnavailable
            It cannot be used here.
        """
        name = name or self.default_embedder
        if name == OFFLINE:
            return RunEmbedder()
        found = self.resolve(name)
        if found.provider not in {"openai", "ollama"}:
            raise ModelUnavailable(
                f"{name!r} makes no vectors here; an embedder is offline, openai/<model>, ollama/<model> or "
                "a model of another OpenAI-compatible provider"
            )
        return RunEmbedder.model_validate(
            {
                "provider": found.provider,
                "model": found.model,
                "api_key": found.api_key,
                "base_url": found.base_url,
                "guarded": found.guarded,
            }
        )


class SandboxCatalog(ModelCatalog):
    """Models in the sandbox: by whatever name one is asked for, it is the sandbox model."""

    def resolve(self, name: str | None) -> RunModel:
        """Give the sandbox model under the name that was asked for."""
        return RunModel(name=name or SANDBOX, provider="sandbox", model=SANDBOX)

    def embedder(self, name: str | None = None) -> RunEmbedder:
        """Give the one that needs nobody."""
        del name
        return RunEmbedder()


def _is_here(base_url: str) -> bool:
    """Say whether an address is this machine's: there is nothing in it to keep from anybody."""
    try:
        return urlsplit(base_url).hostname in {"localhost", "127.0.0.1", "::1"}
    except ValueError:
        return False


def is_official(base_url: str | None) -> bool:
    """Say whether an address is a maker's own service, for which its dates of retirement hold."""
    if base_url is None:
        return True
    try:
        return urlsplit(base_url).hostname in _OFFICIAL
    except ValueError:
        return False
