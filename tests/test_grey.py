"""The best levels of a grey image, against trying all of them."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmdask.fitting.grey import best_levels


def error(values, counts, levels):
    return (counts * np.min((values[:, None] - np.array(levels)) ** 2, axis=1)).sum()


@given(
    st.dictionaries(st.integers(0, 12), st.integers(1, 1000), min_size=1, max_size=8),
    st.integers(1, 8),
)
def test_no_other_levels_are_better(histogram, k):
    values = np.array(sorted(histogram))
    counts = np.array([histogram[value] for value in values.tolist()])
    k = min(k, len(values))
    found = best_levels(values, counts, k)
    least = min(error(values, counts, levels) for levels in combinations(range(13), k))
    assert error(values, counts, found) == least
    assert len(set(found.tolist())) == k
    assert sorted(found.tolist()) == found.tolist()


@pytest.mark.parametrize("k", [1, 2, 255, 256])
def test_all_values_of_a_terapixel(k):
    values = np.arange(256)
    levels = best_levels(values, np.full(256, 1 << 32), k)
    assert len(levels) == k
    assert np.abs(np.diff(levels) - 256 / k).max(initial=0) < 1
