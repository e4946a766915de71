"""Vectors: a byte a dimension is enough to tell which is nearest."""

import math
import random

import pytest

from kasal_jupyter.memory.vectors import cosines, dimensions_of, pack


def cosine(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other))


def test_cosines_are_those_of_the_vectors():
    numbers = random.Random(1)
    vectors = [[numbers.gauss(0, 3) for _ in range(64)] for _ in range(50)]
    query = [numbers.gauss(0, 3) for _ in range(64)]
    packed = [(number, pack(vector)) for number, vector in enumerate(vectors)]
    found = cosines([packed[:20], packed[20:]], query)
    assert found == pytest.approx({n: cosine(vector, query) for n, vector in enumerate(vectors)}, abs=0.02)


def test_a_vector_of_another_length_is_left_out_and_one_of_zeros_is_near_to_nothing():
    packed = [(1, pack([1.0, 0.0])), (2, pack([1.0, 0.0, 0.0])), (3, pack([0.0, 0.0]))]
    assert cosines([packed], [2.0, 0.0]) == pytest.approx({1: 1.0, 3: 0.0})
    assert cosines([packed[1:2]], [2.0, 0.0]) == {}
    assert dimensions_of(len(pack([0.5] * 5))) == 5
    assert dimensions_of(0) == 0


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_refused(number):
    with pytest.raises(ValueError, match="not finite"):
        pack([1.0, number])
