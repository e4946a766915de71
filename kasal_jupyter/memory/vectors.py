"""Vectors as they are stored: a factor, and a byte a dimension."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence

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
