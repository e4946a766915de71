"""The models that one may choose from, with what they cost and whether they can run here and now."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from kasal_jupyter.models import prices
from kasal_jupyter.models.catalog import (
    OPENAI_DEFAULT,
    OPENAI_NAME,
    OTHER_PROVIDERS,
    SANDBOX,
    ModelCatalog,
    ModelUnavailable,
    SandboxCatalog,
)
from kasal_jupyter.models.prices import KnownModel
from kasal_jupyter.models.sandbox import CONTEXT_WINDOW
from kasal_jupyter.models.served import Served, place_of
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
"""Generations of those models that cannot run here, the newest of each family only."""


async def list_models(catalog: ModelCatalog) -> list[ModelInfo]:
    """Give the models to choose from: what can run first, the default one before all, then what cannot.

    Any other name that :meth:`ModelCatalog.resolve` knows runs as well. An OpenAI-compatible server is asked
    what it serves; everything else is known without asking anybody.
    """
    if isinstance(catalog, SandboxCatalog):
        return [SANDBOX_MODEL.model_copy(update={"default": True})]
    base_url = catalog.base_url
    # Nothing blocks the loop: the first look at the prices loads them.
    provider = await asyncio.to_thread(prices.provider_of, base_url)
    served = None
    if base_url is not None and provider != prices.OPENAI:
        served = await catalog.served.of(base_url, catalog.key)
    return await asyncio.to_thread(_Listing(catalog, base_url, provider, datetime.now(UTC)).models, served)


@dataclass(frozen=True, slots=True)
class _Listing:
    catalog: ModelCatalog
    base_url: str | None
    provider: str | None
    at: datetime

    def models(self, served: Served | None) -> list[ModelInfo]:
        listed: dict[str, ModelInfo] = {}
        for model in (*self._of_openai(served), SANDBOX_MODEL, *self._of_others()):
            listed.setdefault(model.name, model)
        try:
            default = self.catalog.default_name()
            found = listed.get(default) or self._unlisted(default)
            listed[default] = found.model_copy(update={"default": True})
        except ModelUnavailable:
            pass  # Every agent has to name its model here.
        # Sorting is stable: what was listed first stays before the others.
        return sorted(listed.values(), key=lambda model: (not model.available, not model.default))

    def _unlisted(self, name: str) -> ModelInfo:
        for prefix, provider in OTHER_PROVIDERS.items():
            if name.startswith(prefix):
                return self._info(name, provider.lower(), None)
        known = prices.known_model(name.removeprefix("openai/"), self.base_url, self.at)
        return self._info(name, self._openai(), known)

    def _of_openai(self, served: Served | None) -> Iterator[ModelInfo]:
        """Give OpenAI's models, or those of the server that stands in its place."""
        if served is not None:
            yield from self._of_server(served)
            return
        talking = prices.current(self._bare(prices.OPENAI), OPENAI_GENERATIONS)
        if self.catalog.key is None and self.base_url is None:
            usual = [model for model in talking if model.name == OPENAI_DEFAULT]
            talking = [*prices.newest(prices.current(talking, OTHER_GENERATIONS)), *usual]
        for model in talking:
            yield self._info(model.name, self._openai(), model)

    def _of_server(self, served: Served) -> Iterator[ModelInfo]:
        if served.failure is not None:
            assert self.base_url is not None, "somebody was asked"
            yield ModelInfo(
                name="openai/<model>",
                provider=self._openai(),
                available=False,
                reason=f"{place_of(self.base_url)} was asked which models it serves: {served.failure}; "
                'a model of it can be used as "openai/<model>" when it answers',
            )
        for model in served.models:
            name = model.name if OPENAI_NAME.match(model.name) else f"openai/{model.name}"
            known = prices.known_model(model.name, self.base_url, self.at)
            info = self._info(name, self._openai(), known)
            yield info.model_copy(update={"context_window": model.context_window or info.context_window})

    def _of_others(self) -> Iterator[ModelInfo]:
        for prefix, provider in OTHER_PROVIDERS.items():
            theirs = [
                model
                for model in prices.chat_models(provider.lower(), self.at)
                if model.name.startswith(prefix)
            ]
            for model in prices.newest(prices.current(theirs, OTHER_GENERATIONS)):
                yield self._info(model.name, provider.lower(), model)

    def _bare(self, provider: str) -> Iterable[KnownModel]:
        return (model for model in prices.chat_models(provider, self.at) if OPENAI_NAME.match(model.name))

    def _openai(self) -> str:
        """Name who answers what is meant for OpenAI."""
        if self.provider is not None:
            return self.provider
        return place_of(self.base_url) if self.base_url is not None else prices.OPENAI

    def _info(self, name: str, provider: str, known: KnownModel | None) -> ModelInfo:
        try:
            self.catalog.resolve(name)
            reason = None
        except ModelUnavailable as error:
            reason = str(error)
        return ModelInfo(
            name=name,
            provider=provider,
            available=reason is None,
            reason=reason,
            context_window=known.context_window if known else None,
            price=known.price if known else None,
        )
