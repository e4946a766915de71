"""The models that one may choose from, with what they cost and whether they can run here and now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from kasal_jupyter.errors import nearest
from kasal_jupyter.models import prices
from kasal_jupyter.models.catalog import (
    OPENAI_DEFAULT,
    OPENAI_NAME,
    SANDBOX,
    ModelCatalog,
    ModelUnavailable,
    SandboxCatalog,
    is_official,
)
from kasal_jupyter.models.prices import KnownModel
from kasal_jupyter.models.providers import Provider
from kasal_jupyter.models.retired import retired, retired_names, spelling
from kasal_jupyter.models.sandbox import CONTEXT_WINDOW
from kasal_jupyter.models.served import Protocol, Served, place_of
from kasal_jupyter.schemas.models import ModelInfo, ModelPrice

SANDBOX_MODEL = ModelInfo(
    name=SANDBOX,
    provider=SANDBOX,
    available=True,
    context_window=CONTEXT_WINDOW,
    price=ModelPrice(input=0.0, output=0.0),
)

OPENAI_GENERATIONS = 3
"""Generations of OpenAI's models that are listed: the older ones are hardly served any more."""

OTHER_GENERATIONS = 2
"""Generations of the others', and of OpenAI's where they cannot run: the newest of each family only."""

_OWN_NAMES = {"openai": "", "anthropic": "claude-", "gemini": "gemini-"}
"""Providers with names that say whose they are, and how those begin; OpenAI's have a form of their own."""

_TRIED = {
    "azure": "Azure does not say which deployments there are: name one as azure/<deployment>, and give "
    'options.deployments by PUT /v1/providers/azure, e.g. "gpt-4o, my-mini", to have them listed',
}


async def list_models(catalog: ModelCatalog) -> list[ModelInfo]:
    """Give the models to choose from: what can run first, the default one before all, then what cannot.

    Any other name that :meth:`ModelCatalog.resolve` knows runs as well. Ollama and OpenAI-compatible servers
    are asked what they serve, all at the same time; everything else is known without asking anybody.
    """
    if isinstance(catalog, SandboxCatalog):
        return [SANDBOX_MODEL.model_copy(update={"default": True})]
    ready = await readiness(catalog)
    return await asyncio.to_thread(_Listing(catalog, ready, datetime.now(UTC)).models)


@dataclass(frozen=True, slots=True)
class Readiness:
    """Which providers can be used now: the one source of what is told of providers and of models.

    Attributes
    ----------
    catalog
        What is set for them.
    served
        What those servers said that were asked, by the providers' names.
    """

    catalog: ModelCatalog
    served: Mapping[str, Served]

    def lack(self, provider: Provider) -> str | None:
        """Say why a provider cannot be used, and what to do, as what follows its title; None where it can."""
        if isinstance(self.catalog, SandboxCatalog) and provider.kind == "models":
            return "is not asked in the sandbox, where each model is the sandbox model"
        if (fault := self.catalog.fault(provider)) is not None:
            return fault
        answer = self.served.get(provider.name)
        return None if answer is None or answer.reached else self.unlisted(provider, answer)

    def unlisted(self, provider: Provider, answer: Served) -> str:
        """Say why a server's models are not known, as what follows its title."""
        base_url = _address(self.catalog, provider)
        assert base_url is not None, "somebody was asked"
        hint = "start Ollama, or set OLLAMA_HOST; " if provider.protocol == "ollama" else ""
        when = "" if answer.reached else " when it answers"
        return (
            f"at {place_of(base_url)} was asked which models it serves: {answer.failure}; {hint}"
            f'a model of it can be used as "{provider.name}/<model>"{when}'
        )


async def readiness(catalog: ModelCatalog, only: str | None = None) -> Readiness:
    """Look which providers can be used: servers of models are asked, all at the same time.

    Parameters
    ----------
    catalog
        What is set for them.
    only
        The one provider that is of interest; None for all.
    """

    def to_ask() -> list[Provider]:
        return [
            each
            for each in catalog.providers()
            if (only is None or each.name == only) and _is_asked(catalog, each)
        ]

    # Nothing blocks the loop: the first look at the prices loads them, and packages are looked for.
    asked = await asyncio.to_thread(to_ask)
    answers = await asyncio.gather(*(_ask(catalog, provider) for provider in asked))
    return Readiness(catalog, {each.name: answer for each, answer in zip(asked, answers, strict=True)})


def _is_asked(catalog: ModelCatalog, provider: Provider) -> bool:
    """Say whether a provider is a server that is asked: OpenAI itself, with a hundred models, is not."""
    if isinstance(catalog, SandboxCatalog) or provider.kind != "models":
        return False
    if provider.protocol not in {"openai", "ollama"} or catalog.fault(provider):
        return False
    base_url = _address(catalog, provider)
    return base_url is not None and prices.provider_of(base_url) != prices.OPENAI


async def _ask(catalog: ModelCatalog, provider: Provider) -> Served:
    given = catalog.credentials(provider.name)
    base_url = _address(catalog, provider)
    assert base_url is not None, "it is a server that is asked"
    return await catalog.served.of(
        base_url,
        given.api_key if given else None,
        cast("Protocol", provider.protocol),
        catalog.guard if given and given.guarded else None,
    )


def _address(catalog: ModelCatalog, provider: Provider) -> str | None:
    given = catalog.credentials(provider.name)
    return (given.base_url if given else None) or provider.home


@dataclass(frozen=True, slots=True)
class _Listing:
    catalog: ModelCatalog
    ready: Readiness
    at: datetime

    def models(self) -> list[ModelInfo]:
        listed: dict[str, ModelInfo] = {}
        providers = [each for each in self.catalog.providers() if each.kind == "models"]
        for model in (
            *(model for each in providers[:1] for model in self._of(each)),
            SANDBOX_MODEL,
            *(model for each in providers[1:] for model in self._of(each)),
        ):
            listed.setdefault(model.name, model)
        try:
            default = self.catalog.default_name()
            found = listed.get(default) or self._unlisted(default)
            listed[default] = found.model_copy(update={"default": True})
        except ModelUnavailable:
            pass  # Every agent has to name its model here.
        # Sorting is stable: what was listed first stays before the others.
        return sorted(
            listed.values(),
            key=lambda model: (not model.available, not model.default, model.retired is not None),
        )

    def _unlisted(self, name: str) -> ModelInfo:
        try:
            provider, model = self.catalog.split(name)
        except ModelUnavailable as error:
            return ModelInfo(name=name, provider="unknown", available=False, reason=str(error))
        return self._info(provider, name, model)

    def _of(self, provider: Provider) -> Iterator[ModelInfo]:
        """Give the models of a provider."""
        ready = self.catalog.fault(provider) is None
        if (answer := self.ready.served.get(provider.name)) is not None:
            yield from self._of_server(provider, answer)
        elif provider.name in _OWN_NAMES:
            yield from self._of_maker(provider, ready=ready)
        elif provider.name == "azure":
            yield from self._of_azure(provider, ready=ready)
        elif provider.name == "bedrock":
            yield from self._of_bedrock(provider, ready=ready)

    def _of_maker(self, provider: Provider, *, ready: bool) -> Iterator[ModelInfo]:
        """Give the models of a maker under their own names: by the list of prices, without those retired."""
        own = [model for model in prices.chat_models(provider.name, self.at) if _is_own(provider, model.name)]
        served = [model for model in own if not self._is_retired(provider, model.name)]
        generations = OPENAI_GENERATIONS if provider.name == prices.OPENAI else OTHER_GENERATIONS
        talking = prices.current(served, generations)
        if not ready:
            usual = [model for model in talking if model.name == OPENAI_DEFAULT]
            talking = [*prices.newest(prices.current(served, OTHER_GENERATIONS)), *usual]
        for model in talking:
            yield self._info(provider, model.name, model.name, model)
        if ready and is_official(_address(self.catalog, provider)):
            for name in retired_names(provider.name, self.at.date()):
                yield self._info(provider, name, name)

    def _of_server(self, provider: Provider, served: Served) -> Iterator[ModelInfo]:
        """Give what a server said it serves, or why it did not say."""
        if served.failure is not None:
            yield ModelInfo(
                name=f"{provider.name}/<model>",
                provider=self._called(provider),
                available=False,
                reason=f"{provider.title} {self.ready.unlisted(provider, served)}",
                has_key=self._has_key(provider),
            )
        for model in served.models:
            bare = provider.name == prices.OPENAI and OPENAI_NAME.match(model.name)
            info = self._info(provider, model.name if bare else f"{provider.name}/{model.name}", model.name)
            yield info.model_copy(update={"context_window": model.context_window or info.context_window})

    def _of_azure(self, provider: Provider, *, ready: bool) -> Iterator[ModelInfo]:
        given = self.catalog.credentials(provider.name)
        named = given.options.get("deployments", "") if given else ""
        for deployment in filter(None, map(str.strip, named.split(","))):
            yield self._info(provider, f"azure/{deployment}", deployment)
        if not ready or not named:
            info = self._info(provider, "azure/<deployment>", "<deployment>")
            yield info.model_copy(update={"available": False, "reason": info.reason or _TRIED["azure"]})

    def _of_bedrock(self, provider: Provider, *, ready: bool) -> Iterator[ModelInfo]:
        if not ready:
            yield self._info(provider, "bedrock/<model>", "<model>")
            return
        for model in prices.chat_models(provider.name, self.at):
            # A region's own names begin with that region's.
            if not model.name.startswith("regional."):
                yield self._info(provider, f"bedrock/{model.name}", model.name, model)

    def _is_retired(self, provider: Provider, model: str) -> bool:
        spelled = spelling(provider.name, model)
        return retired(provider.name, spelled, self.at.date()) is not None

    def _called(self, provider: Provider) -> str:
        """Name who answers what is meant for a provider: another server may stand in OpenAI's place."""
        base_url = _address(self.catalog, provider)
        if provider.name != prices.OPENAI or base_url is None:
            return provider.name
        return prices.provider_of(base_url) or place_of(base_url)

    def _has_key(self, provider: Provider) -> bool:
        given = self.catalog.credentials(provider.name)
        return given is not None and bool(given.api_key or given.options.get("aws_secret_access_key"))

    def _info(self, provider: Provider, name: str, model: str, known: KnownModel | None = None) -> ModelInfo:
        reason, gone = None, None
        try:
            found = self.catalog.resolve(name)
            if found.remark is not None:
                gone = retired(provider.name, spelling(provider.name, model), self.at.date())
                model, known = found.model, None
        except ModelUnavailable as error:
            reason = str(error)
        if reason is None and (lack := self.ready.lack(provider)) is not None:
            reason = f"{provider.title} {lack}"
        known = known or prices.known_model(
            model, _address(self.catalog, provider), self.at, provider=provider.protocol
        )
        return ModelInfo(
            name=name,
            provider=self._called(provider),
            available=reason is None,
            reason=reason,
            context_window=known.context_window if known else None,
            price=known.price if known else None,
            has_key=self._has_key(provider),
            retired=gone.on.isoformat() if gone else None,
            successor=gone.successor if gone else None,
        )


async def doubts(catalog: ModelCatalog, names: Iterable[str]) -> dict[str, str]:
    """Say of models, by their names, what makes it doubtful that they are served, where something does.

    A server of models is asked what it serves; a maker's models are known by the list of prices. Neither may
    know the newest one, so that this keeps no run from being started.
    """
    if isinstance(catalog, SandboxCatalog):
        return {}
    wanted: dict[str, tuple[Provider, dict[str, str]]] = {}

    def sort() -> None:
        for name in names:
            with suppress(ModelUnavailable):
                provider, model = catalog.split(name)
                if catalog.fault(provider) is None:
                    wanted.setdefault(provider.name, (provider, {}))[1][name] = model

    # Packages are looked for, and the prices loaded, where that holds up nobody.
    await asyncio.to_thread(sort)
    looks = await asyncio.gather(*(readiness(catalog, each) for each in wanted))

    def found() -> dict[str, str]:
        return {
            name: said
            for ready, (provider, models) in zip(looks, wanted.values(), strict=True)
            for name, model in models.items()
            if (said := _doubt(ready, provider, model))
        }

    return await asyncio.to_thread(found)


def _doubt(ready: Readiness, provider: Provider, model: str) -> str | None:
    catalog, answer = ready.catalog, ready.served.get(provider.name)
    base_url = _address(catalog, provider)
    test = f"`provider test {provider.name} --model {model}` asks it"
    if answer is not None and not answer.reached:
        return f"{provider.title} {ready.unlisted(provider, answer)}"
    if answer is not None:
        served = [each.name for each in answer.models]
        # Ollama takes a name without a tag for the latest.
        if answer.failure is not None or model in served or f"{model}:latest" in served:
            return None
        near = nearest(model, served) or ";"
        return f"{provider.title} does not list {model!r}{near} {test}"
    if provider.name not in _OWN_NAMES or not is_official(base_url) or model.startswith("ft:"):
        return None
    at, spelled = datetime.now(UTC), spelling(provider.name, model)
    if retired(provider.name, spelled, at.date()) is not None:
        return None
    if prices.known_model(spelled, base_url, at, provider=provider.protocol) is not None:
        return None
    near = nearest(model, [each.name for each in prices.chat_models(provider.name, at)]) or ";"
    return f"No model {model!r} of {provider.title} is known here{near} {test}"


def _is_own(provider: Provider, name: str) -> bool:
    if provider.name == prices.OPENAI:
        return OPENAI_NAME.match(name) is not None
    return name.startswith(_OWN_NAMES[provider.name])
