"""Vectors as they are stored: a byte a dimension, and a factor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kasal_jupyter.memory.words import PARTS_WEIGHT, number_of, parts_of

DIMENSIONS = 256
"""Of the offline embedder's vectors. Those of 10,000 texts have 2.6 MB."""

_LARGEST = 127

_MIX = 0x9E3779B1
"""Spreads numbers that are alike: a checksum's bits are not independent (Knuth's multiplicative hashing)."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A vector in bytes.

    Attributes
    ----------
    data
        A signed byte a dimension.
    factor
        What they are multiplied by; the whole then has length 1. 0.0 for no vector.
    """

    data: bytes
    factor: float


def pack(vector: Sequence[float]) -> Packed:
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
        return Packed(bytes(len(vector)), 0.0)
    up = _LARGEST / largest
    return Packed(bytes(round(value * up) & 0xFF for value in vector), largest / _LARGEST / length)


def offline_vector(stems: Mapping[str, float]) -> list[float]:
    """Give the vector of weighted stems; its length is whatever it is.

    Each stem, and each of its parts, falls on a dimension, with a sign, by its number: two that fall together
    add noise to a comparison, of either sign, and no bias (feature hashing, Weinberger et al. 2009).
    """
    vector = [0.0] * DIMENSIONS
    for stemmed, weight in stems.items():
        mixed = number_of(stemmed) * _MIX >> 16 & 0xFFFFFFFF
        vector[(mixed >> 1) % DIMENSIONS] += weight if mixed & 1 else -weight
        if parts := parts_of(stemmed):
            share = weight * PARTS_WEIGHT / math.sqrt(len(parts))
            for part in parts:
                mixed = part * _MIX >> 16 & 0xFFFFFFFF
                vector[(mixed >> 1) % DIMENSIONS] += share if mixed & 1 else -share
    return vector


def embed_offline(stems: Mapping[str, float]) -> Packed:
    """Give the vector of the stems of a text that is remembered, see :func:`~.words.stems_of`.

    How rare a word is in what the crew knows is not in it, but in the question's: it changes with every
    memory, and the vectors stay.
    """
    return pack(offline_vector(stems))
