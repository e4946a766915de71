"""Models that their providers have retired, or have said when they will, and what to use instead.

From OpenAI's, Anthropic's and Google's pages of deprecations, as of November 2026. The dates hold for the
providers' own services: Azure, Bedrock and whoever else serves these models have schedules of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

_OPENAI: tuple[tuple[str, str, str], ...] = (
    ("2024-09-13", "gpt-3.5-turbo", "gpt-3.5-turbo-0301 gpt-3.5-turbo-0613 gpt-3.5-turbo-16k-0613"),
    ("2024-09-13", "gpt-3.5-turbo", "gpt-3.5-turbo-16k"),
    ("2024-12-06", "gpt-4o", "gpt-4-vision-preview gpt-4-1106-vision-preview"),
    ("2025-06-06", "gpt-4o", "gpt-4-32k gpt-4-32k-0314 gpt-4-32k-0613"),
    ("2025-07-14", "gpt-4.1", "gpt-4.5-preview gpt-4.5-preview-2025-02-27"),
    ("2025-07-28", "o3", "o1-preview o1-preview-2024-09-12"),
    ("2025-10-27", "o4-mini", "o1-mini o1-mini-2024-09-12"),
    ("2026-01-16", "gpt-5.4-mini", "codex-mini-latest"),
    ("2026-02-17", "gpt-5.1-chat-latest", "chatgpt-4o-latest"),
    ("2026-03-26", "gpt-4.1", "gpt-4-0314 gpt-4-0125-preview gpt-4-turbo-preview"),
    ("2026-07-23", "gpt-5.3-chat-latest", "gpt-5-chat-latest gpt-5.1-chat-latest"),
    ("2026-07-23", "gpt-5.4", "gpt-5-codex gpt-5.1-codex gpt-5.1-codex-max gpt-5.2-codex"),
    ("2026-07-23", "gpt-5.4-mini", "gpt-5.1-codex-mini"),
    ("2026-08-10", "gpt-5.5", "gpt-5.2-chat-latest gpt-5.3-chat-latest"),
    ("2026-09-28", "gpt-5.6-terra", "gpt-3.5-turbo-1106"),
    ("2026-10-23", "gpt-5.6-terra", "gpt-3.5-turbo gpt-3.5-turbo-0125 o4-mini o4-mini-2025-04-16"),
    ("2026-10-23", "gpt-5.6-sol", "gpt-4 gpt-4-0613 gpt-4-1106-preview gpt-4o-2024-05-13"),
    ("2026-10-23", "gpt-5.6-sol", "gpt-4-turbo gpt-4-turbo-2024-04-09"),
    ("2026-10-23", "gpt-5.6-sol", "o1 o1-2024-12-17 o1-pro o1-pro-2025-03-19 o3-mini o3-mini-2025-01-31"),
    ("2026-10-23", "gpt-5.6-luna", "gpt-4.1-nano gpt-4.1-nano-2025-04-14"),
    ("2026-12-11", "gpt-6.1-sol", "gpt-5 gpt-5-2025-08-07 gpt-5-pro gpt-5-pro-2025-10-06"),
    ("2026-12-11", "gpt-6.1-sol", "o3 o3-2025-04-16 o3-pro o3-pro-2025-06-10"),
    ("2026-12-11", "gpt-6.1-terra", "gpt-5-mini gpt-5-mini-2025-08-07"),
    ("2026-12-11", "gpt-6-luna", "gpt-5-nano gpt-5-nano-2025-08-07"),
    ("2027-01-14", "gpt-6-luna", "gpt-4o gpt-4o-2024-08-06 gpt-4o-2024-11-20"),
    ("2027-01-14", "gpt-6-luna", "gpt-4o-mini gpt-4o-mini-2024-07-18"),
    ("2027-01-14", "gpt-6-luna", "gpt-4.1 gpt-4.1-2025-04-14 gpt-4.1-mini gpt-4.1-mini-2025-04-14"),
)

_ANTHROPIC: tuple[tuple[str, str, str], ...] = (
    ("2024-11-06", "claude-3-5-haiku-20241022", "claude-instant-1 claude-instant-1.1 claude-instant-1.2"),
    ("2024-11-06", "claude-3-5-sonnet-20241022", "claude-1 claude-1.1 claude-1.2 claude-1.3"),
    ("2025-07-21", "claude-sonnet-4-20250514", "claude-2 claude-2.0 claude-2.1 claude-3-sonnet-20240229"),
    ("2025-10-28", "claude-sonnet-4-5-20250929", "claude-3-5-sonnet-20240620 claude-3-5-sonnet-20241022"),
    ("2026-01-05", "claude-opus-4-1-20250805", "claude-3-opus-20240229"),
    ("2026-02-19", "claude-sonnet-4-6", "claude-3-7-sonnet-20250219"),
    ("2026-02-19", "claude-haiku-4-5-20251001", "claude-3-5-haiku-20241022"),
    ("2026-04-20", "claude-haiku-4-5-20251001", "claude-3-haiku-20240307"),
    ("2026-06-15", "claude-sonnet-4-6", "claude-sonnet-4-20250514"),
    ("2026-06-15", "claude-opus-4-8", "claude-opus-4-20250514"),
    ("2026-08-05", "claude-opus-4-8", "claude-opus-4-1-20250805"),
    ("2026-11-30", "claude-sonnet-5-5", "claude-sonnet-4-5-20250929"),
)

_GOOGLE: tuple[tuple[str, str, str], ...] = (
    ("2025-02-15", "gemini-1.5-flash", "gemini-pro gemini-1.0-pro gemini-1.0-pro-001 gemini-pro-vision"),
    ("2025-09-29", "gemini-2.5-pro", "gemini-1.5-pro gemini-1.5-pro-001 gemini-1.5-pro-002"),
    ("2025-09-29", "gemini-2.5-pro", "gemini-1.5-pro-latest"),
    ("2025-09-29", "gemini-2.5-flash", "gemini-1.5-flash gemini-1.5-flash-001 gemini-1.5-flash-002"),
    ("2025-09-29", "gemini-2.5-flash", "gemini-1.5-flash-latest"),
    ("2025-09-29", "gemini-2.5-flash-lite", "gemini-1.5-flash-8b gemini-1.5-flash-8b-001"),
    ("2025-12-02", "gemini-3.1-pro-preview", "gemini-2.5-pro-preview-03-25 gemini-2.5-pro-preview-05-06"),
    ("2025-12-02", "gemini-3.1-pro-preview", "gemini-2.5-pro-preview-06-05"),
    ("2026-03-09", "gemini-3.1-pro-preview", "gemini-3-pro-preview"),
    ("2026-05-25", "gemini-3.1-flash-lite", "gemini-3.1-flash-lite-preview"),
    ("2026-06-01", "gemini-3.5-flash", "gemini-2.0-flash gemini-2.0-flash-001"),
    ("2026-06-01", "gemini-3.1-flash-lite", "gemini-2.0-flash-lite gemini-2.0-flash-lite-001"),
    ("2026-12-01", "gemini-3.8-flash", "gemini-2.5-pro"),
    ("2026-12-01", "gemini-3.5-flash-lite", "gemini-2.5-flash"),
)

_SPELLINGS: dict[str, dict[str, str]] = {
    "anthropic": {
        **{name: f"{name}-20240229" for name in ("claude-3-opus", "claude-3-sonnet")},
        "claude-3-opus-latest": "claude-3-opus-20240229",
        "claude-3-haiku": "claude-3-haiku-20240307",
        "claude-3-5-sonnet": "claude-3-5-sonnet-20241022",
        "claude-3-5-sonnet-latest": "claude-3-5-sonnet-20241022",
        "claude-3-5-haiku": "claude-3-5-haiku-20241022",
        "claude-3-5-haiku-latest": "claude-3-5-haiku-20241022",
        "claude-3-7-sonnet": "claude-3-7-sonnet-20250219",
        "claude-3-7-sonnet-latest": "claude-3-7-sonnet-20250219",
        **{f"claude-{size}-4": f"claude-{size}-4-20250514" for size in ("opus", "sonnet")},
        **{f"claude-{size}-4-0": f"claude-{size}-4-20250514" for size in ("opus", "sonnet")},
        **{f"claude-4-{size}": f"claude-{size}-4-20250514" for size in ("opus", "sonnet")},
        "claude-opus-4-1": "claude-opus-4-1-20250805",
        "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
        "claude-haiku-4-5": "claude-haiku-4-5-20251001",
        "claude-opus-4-5": "claude-opus-4-5-20251101",
    },
}
"""Names that people write, as their provider spells them."""


@dataclass(frozen=True, slots=True)
class Retired:
    """A model that is served no more.

    Attributes
    ----------
    on
        Since when.
    successor
        What its provider recommends instead, or what it recommends instead of that by now.
    """

    on: date
    successor: str


def spelling(provider: str, model: str) -> str:
    """Give a model's name as its provider spells it: ``claude-3-opus`` is ``claude-3-opus-20240229`` there.

    Parameters
    ----------
    provider
        ``openai``, ``anthropic`` or ``gemini``; of others, names are taken as they are.
    model
        The name as it was written, dots for dashes included.
    """
    spellings = _SPELLINGS.get(provider)
    if spellings is None:
        return model
    plain = model.lower()
    return spellings.get(plain) or spellings.get(plain.replace(".", "-"), model)


def retired(provider: str, model: str, at: date) -> Retired | None:
    """Say whether a provider has retired a model, and what to use instead; None for one that it serves.

    Parameters
    ----------
    provider
        As for :func:`spelling`.
    model
        As the provider spells it.
    at
        The day that is asked about.
    """
    table = _TABLES.get(provider, {})
    first = table.get(model)
    if first is None or first.on > at:
        return None
    latest = first
    # Successors are retired too, in time.
    while (following := table.get(latest.successor)) and following.on <= at:
        latest = following
    return Retired(first.on, latest.successor)


def retired_names(provider: str, at: date) -> Iterator[str]:
    """Give the names of a provider's models that are retired, as people write them: without dates.

    The latest come first.
    """
    table = _TABLES.get(provider, {})
    written = {spelled: name for name, spelled in reversed(_SPELLINGS.get(provider, {}).items())}
    found = [(entry.on, written.get(model, model)) for model, entry in table.items() if entry.on <= at]
    for _, name in sorted(found, key=lambda pair: pair[0], reverse=True):
        if not name[-4:].isdigit() and "preview" not in name and "latest" not in name:
            yield name


def _table(rows: tuple[tuple[str, str, str], ...]) -> dict[str, Retired]:
    return {
        model: Retired(date.fromisoformat(on), successor)
        for on, successor, models in rows
        for model in models.split()
    }


_TABLES = {"openai": _table(_OPENAI), "anthropic": _table(_ANTHROPIC), "gemini": _table(_GOOGLE)}
