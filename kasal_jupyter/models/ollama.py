"""What an Ollama server has installed, with how much each model takes in."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kasal_jupyter.models.small_requests import Asker, AskFailed

MOST_SHOWN = 200
"""Models whose details are asked for: one question each."""

_AT_ONCE = 8


def installed(asker: Asker) -> Iterator[tuple[str, int | None]]:
    """Give the models that are installed and can be talked to, with the tokens that they take.

    Parameters
    ----------
    asker
        Asks the server, by its root.

    Raises
    ------
    AskFailed
        It does not say what is installed.
    """
    names = _names(asker.ask("/api/tags"))
    loaded = _loaded(asker)

    def details(name: str) -> dict[str, Any]:
        try:
            found = asker.ask("/api/show", {"model": name})
        except AskFailed:
            # It is installed all the same.
            return {}
        return found if isinstance(found, dict) else {}

    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ollama") as pool:
        shown = list(pool.map(details, names[:MOST_SHOWN]))
    for place, name in enumerate(names):
        about = shown[place] if place < len(shown) else {}
        capabilities = about.get("capabilities")
        if isinstance(capabilities, list) and "completion" not in capabilities:
            continue  # It makes vectors.
        # What a loaded one was given, else what it could take at most.
        yield name, loaded.get(name) or _longest(about)


def _names(answer: Any) -> list[str]:
    listed = answer.get("models") if isinstance(answer, dict) else None
    if not isinstance(listed, list):
        raise AskFailed("it did not answer with a list of models")
    found = (model.get("name") or model.get("model") for model in listed if isinstance(model, dict))
    return [name for name in found if isinstance(name, str)]


def _loaded(asker: Asker) -> dict[str, int]:
    try:
        answer = asker.ask("/api/ps")
    except AskFailed:
        return {}
    listed = answer.get("models") if isinstance(answer, dict) else None
    return {
        model["name"]: model["context_length"]
        for model in (listed if isinstance(listed, list) else ())
        if isinstance(model, dict)
        and isinstance(model.get("name"), str)
        and type(model.get("context_length")) is int
        and model["context_length"] > 0
    }


def _longest(about: dict[str, Any]) -> int | None:
    info = about.get("model_info")
    if not isinstance(info, dict):
        return None
    sizes = (value for name, value in info.items() if str(name).endswith(".context_length"))
    return next((size for size in sizes if type(size) is int and size > 0), None)
