"""What models cost, as far as it is known offline: the list of genai-prices, which nothing here updates.

The list takes a tenth of a second and 8 MB to load, so it is imported at the first use. The zygote does that
before it forks: the runs' processes share it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from kasal_jupyter.events.event import TokenUsage
from kasal_jupyter.schemas.models import ModelPrice

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo as PricedModel

OPENAI = "openai"

_LISTED_AS = {"gemini": "google", "bedrock": "aws"}
"""What the list calls providers that we call otherwise."""

_WHEREVER = frozenset({"azure", "bedrock"})
"""Providers whose prices are the same at whatever address: everybody has another."""

_OTHER_USES = frozenset(
    {
        *(
            "audio",
            "realtime",
            "transcribe",
            "translate",
            "whisper",
            "tts",
            "live",
            "image",
            "vision",
            "omni",
        ),
        *("embedding", "moderation", "instruct", "search", "research", "robotics", "computer", "oss"),
    }
)
"""Words in the names of models that no agent can talk to, or that their maker does not serve itself."""

_OTHER_MEDIA = ("output_audio_mtok", "output_image_mtok", "output_video_mtok")

_NO_VERSION = frozenset({"preview", "latest", "exp"})

_SNAPSHOT = re.compile(r"-(\d{4}|\d{6,8}|\d{4}-\d\d-\d\d)$|\bft\b|:")
"""How the name of one day's state of a model, or of a fine-tuned one, differs from the model's own."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that the list has.

    Attributes
    ----------
    name
        As its provider spells it.
    context_window
        Tokens; None where unknown.
    price
        On the day; None where unknown.
    """

    name: str
    context_window: int | None
    price: ModelPrice | None


def load() -> None:
    """Load the list, which happens at the first question otherwise."""
    _prices()


def provider_of(base_url: str | None) -> str | None:
    """Say whose API an address is, e.g. ``openrouter``; OpenAI's where there is none, None where unknown."""
    if base_url is None:
        return OPENAI
    try:
        return _prices().find_provider(None, None, _address(base_url)).id
    except LookupError:
        return None


def cost(
    model: str,
    base_url: str | None,
    usage: TokenUsage | None,
    at: datetime,
    *,
    provider: str = OPENAI,
) -> float | None:
    """Give what a model call costs, in US dollars; None where that is unknown, which is never zero.

    Parameters
    ----------
    model
        As the provider spells it.
    base_url
        Where it was asked; None for the provider's own address. A model of the same name on somebody's own
        server has no price that is known.
    usage
        The tokens as the provider counted them; None where it did not.
    at
        When it was asked: prices change, and some follow the time of day.
    provider
        Who was asked, as :class:`~kasal_jupyter.schemas.spec.RunModel` has it.
    """
    if usage is None:
        return None
    from genai_prices import Usage

    try:
        counted = Usage(
            input_tokens=usage["prompt_tokens"],
            output_tokens=usage["completion_tokens"],
            cache_read_tokens=usage.get("cached_tokens"),
            cache_write_tokens=usage.get("cache_write_tokens"),
        )
        found = _found(model, base_url, provider)
        if _price(found, at) is None:
            return None
        calculated = _prices().calc(counted, model, **_where(base_url, provider), genai_request_timestamp=at)
    except (LookupError, ValueError):
        # A ValueError: counts that cannot be, such as more cached tokens than there are.
        return None
    return float(calculated.total_price)


def known_model(
    model: str, base_url: str | None, at: datetime, *, provider: str = OPENAI
) -> KnownModel | None:
    """Give what the list says of a model; None where it does not have it.

    Parameters
    ----------
    model, base_url, at, provider
        As for :func:`cost`.
    """
    try:
        return _known(_found(model, base_url, provider), at)
    except LookupError:
        return None


def chat_models(provider: str, at: datetime) -> tuple[KnownModel, ...]:
    """Give the models of a provider that an agent can talk to, the latest version first.

    Snapshots of a model, previews of one that is out, and names without a known price are left out.

    Parameters
    ----------
    provider
        By its name here: ``openai``, ``anthropic``, ``gemini``, ``bedrock``.
    at
        When.
    """
    return _chat_models(_LISTED_AS.get(provider, provider), datetime.combine(at.date(), time(12), UTC))


def current(models: Iterable[KnownModel], generations: int) -> list[KnownModel]:
    """Give the models of the latest generations: what stands before the point in their versions."""
    numbered = [(version[0], model) for model in models if (version := _version(model.name))]
    latest = max((generation for generation, _ in numbered), default=0)
    return [model for generation, model in numbered if latest - generation < generations]


def newest(models: Iterable[KnownModel]) -> list[KnownModel]:
    """Give the first model of each family."""
    first: dict[frozenset[str], KnownModel] = {}
    for model in models:
        first.setdefault(_family(model.name), model)
    return list(first.values())


@lru_cache(maxsize=16)
def _chat_models(provider: str, noon: datetime) -> tuple[KnownModel, ...]:
    try:
        listed = _prices().find_provider(None, provider, None).models
    except LookupError:
        return ()
    models = [
        known
        for known in (_known(model, noon) for model in listed if _talks(model, noon))
        if known.price is not None
    ]
    finished = {(_family(model.name), _version(model.name)) for model in models if not _preview(model.name)}
    kept = (
        model
        for model in models
        if not _preview(model.name)
        or not any(
            family == _family(model.name) and version >= _version(model.name) for family, version in finished
        )
    )
    by_name = sorted(kept, key=lambda model: model.name)
    return tuple(sorted(by_name, key=lambda model: _version(model.name), reverse=True))


def _prices() -> DataSnapshot:
    from genai_prices.data_snapshot import get_snapshot

    return get_snapshot()


def _where(base_url: str | None, provider: str) -> dict[str, Any]:
    if base_url is None or provider in _WHEREVER:
        return {"provider_id": _LISTED_AS.get(provider, provider), "provider_api_url": None}
    return {"provider_id": None, "provider_api_url": _address(base_url)}


def _address(base_url: str) -> str:
    """Give an address as the list knows it: without a user's name, which may look like another host."""
    scheme, _, rest = base_url.strip().partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}".lower() + slash + path


def _found(model: str, base_url: str | None, provider: str) -> PricedModel:
    return _prices().find_provider_model(model, None, **_where(base_url, provider))[1]


def _known(model: PricedModel, at: datetime) -> KnownModel:
    return KnownModel(model.id, model.context_window, _price(model, at))


def _price(model: PricedModel, at: datetime) -> ModelPrice | None:
    """Give a model's price for text; None for one that is sold by the hour, say."""
    from genai_prices.types import TieredPrices

    prices = model.get_prices(at)
    # Prices by the length of the prompt begin with the usual one.
    usual = [
        price.base if isinstance(price, TieredPrices) else price
        for price in (prices.input_mtok, prices.output_mtok)
    ]
    if usual[0] is None or usual[1] is None:
        return None
    return ModelPrice(input=float(usual[0]), output=float(usual[1]))


def _talks(model: PricedModel, at: datetime) -> bool:
    """Say whether a model is there for chats, and current: the list keeps what nobody serves any more."""
    prices = model.get_prices(at)
    return not (
        model.deprecated
        or _SNAPSHOT.search(model.id)
        or _OTHER_USES.intersection(_words(model.id))
        or any(getattr(prices, medium) is not None for medium in _OTHER_MEDIA)
    )


def _preview(name: str) -> bool:
    return "preview" in _words(name)


def _words(name: str) -> Iterator[str]:
    return (found.group() for found in re.finditer(r"[a-z]+", name.lower()))


def _family(name: str) -> frozenset[str]:
    """Give what models of several versions have in common: ``claude-3-5-haiku`` and ``claude-haiku-4-5``."""
    return frozenset(_words(name)) - _NO_VERSION


def _version(name: str) -> tuple[int, ...]:
    # Numbers with a letter behind them are sizes, but for the o of OpenAI's.
    return tuple(int(found) for found in re.findall(r"(?<!\d)\d+(?![\da-np-z])", name.lower()))
