"""Vectors: made by an embedder, which is somebody else's, and as they are stored."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from kasal_jupyter.models.served import Asker, AskFailed
from kasal_jupyter.schemas.spec import RunEmbedder
from kasal_jupyter.tools.guard import HostGuard

_LARGEST = 127

_FACTOR = struct.Struct("<f")
"""What a vector's bytes are multiplied by; the whole then has length 1. 0.0 for a vector of zeros."""


def pack(vector: Sequence[float]) -> bytes:
    """Write a vector with a byte a dimension, whatever its length is.

    Raises
    ------
    ValueError
        A number of it is none.
    """
    largest = max(map(abs, vector), default=0.0)
    length = math.sqrt(sum(value * value for value in vector))
    if not math.isfinite(length):
        raise ValueError("a vector has a number that is not finite")
    if not length:
        return _FACTOR.pack(0.0) + bytes(len(vector))
    up = _LARGEST / largest
    data = bytes(round(value * up) & 0xFF for value in vector)
    return _FACTOR.pack(largest / _LARGEST / length) + data


def dimensions_of(packed_length: int) -> int:
    """Give the dimensions of a vector that has so many bytes."""
    return max(0, packed_length - _FACTOR.size)


def cosines(blocks: Iterable[Sequence[tuple[int, bytes]]], query: Sequence[float]) -> dict[int, float]:
    """Give the cosine of each vector with a query's by its number; not of those of another length.

    Parameters
    ----------
    blocks
        Numbers and packed vectors: what is compared at a time.
    query
        The other vector, of any length but zero.
    """
    # In a run's process it is there already, by CrewAI; the server has it from its first search on.
    import numpy as np

    asked = np.array(query, dtype=np.float32)
    asked /= np.linalg.norm(asked) or 1.0
    size = _FACTOR.size + len(query)
    found: dict[int, float] = {}
    for block in blocks:
        fitting = [(number, data) for number, data in block if len(data) == size]
        if not fitting:
            continue
        rows = np.frombuffer(b"".join(data for _, data in fitting), dtype=np.uint8).reshape(-1, size)
        factors = rows[:, : _FACTOR.size].copy().view("<f4")[:, 0]
        scores = rows[:, _FACTOR.size :].view(np.int8).astype(np.float32) @ asked * factors
        found.update(zip((number for number, _ in fitting), scores.tolist(), strict=True))
    return found


# Embedders that are somebody else's: an OpenAI-compatible server's, and Ollama's.

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
