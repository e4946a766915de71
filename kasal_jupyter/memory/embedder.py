"""Embedders that are somebody else's: an OpenAI-compatible server's, and Ollama's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kasal_jupyter.models.small_requests import Asker, AskFailed
from kasal_jupyter.schemas.spec import RunEmbedder
from kasal_jupyter.tools.guard import HostGuard

OPENAI_URL = "https://api.openai.com/v1"
OLLAMA_URL = "http://127.0.0.1:11434"

BATCH = 64
"""Texts of one request: what every server takes, and an answer of some MB at most."""

MOST_CHARACTERS = 8_000
"""What is sent of a text: the smallest embedders take 2,048 tokens, and cut off what is longer."""

SECONDS = 10.0
"""How long one request may take."""


class EmbedderFailed(Exception):
    """There are no vectors; the text says why, without keys."""


def embedder_name(embedder: RunEmbedder) -> str:
    """Give the name under which vectors are stored: those of another are no use."""
    return embedder.provider if embedder.provider == "offline" else f"{embedder.provider}/{embedder.model}"


class RemoteEmbedder:
    """Makes vectors by asking a server, from a thread.

    Parameters
    ----------
    embedder
        Whom to ask.
    guard
        Which hosts may be called where its address is a user's; None for any.
    """

    def __init__(self, embedder: RunEmbedder, guard: HostGuard | None = None) -> None:
        self._embedder = embedder
        self._guard = guard if embedder.guarded else None
        self.name = embedder_name(embedder)

    def embed(self, texts: Sequence[str], *, seconds: float = SECONDS) -> list[list[float]]:
        """Give the vectors of at most :data:`BATCH` texts, all of one length.

        Raises
        ------
        EmbedderFailed
            The server gives none.
        """
        asked = [text[:MOST_CHARACTERS] for text in texts]
        ollama = self._embedder.provider == "ollama"
        base = self._embedder.base_url or (OLLAMA_URL if ollama else OPENAI_URL)
        path = "/api/embed" if ollama else "/embeddings"
        body: dict[str, Any] = {"model": self._embedder.model, "input": asked}
        try:
            with Asker(base, self._embedder.api_key, seconds, self._guard) as asker:
                answer = asker.ask(path, body)
        except AskFailed as error:
            raise EmbedderFailed(f"{self.name}: {error}") from None
        try:
            vectors = answer["embeddings"] if ollama else _in_order(answer["data"])
            read = [[float(number) for number in vector] for vector in vectors]
        except (KeyError, TypeError, ValueError):
            raise EmbedderFailed(f"{self.name}: it did not answer with vectors") from None
        if len(read) != len(texts) or len({len(vector) for vector in read}) != 1 or not read[0]:
            raise EmbedderFailed(f"{self.name}: it did not answer with a vector for each text")
        return read


def _in_order(data: list[dict[str, Any]]) -> list[list[float]]:
    """Give the vectors of OpenAI's answer in the order of the texts."""
    return [each["embedding"] for each in sorted(data, key=lambda each: each.get("index", 0))]
