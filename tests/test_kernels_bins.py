"""Colours joined to cells, against the definition."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kmdask.fitting.seeding import Cells, bin_cells

CODES = st.lists(st.integers(0, 255) | st.integers(0, 2**32 - 1), min_size=1, max_size=60)


@given(CODES, st.integers(1, 70), st.sampled_from([np.float32, np.float64]))
def test_cells_share_the_first_bits_as_many_as_fit(codes, limit, dtype):
    codes = np.sort(np.array(codes, np.uint32))
    rng = np.random.default_rng(len(codes))
    values = rng.integers(0, 256, (len(codes), 3)).astype(dtype)
    weights = rng.integers(1, 9, len(codes)).astype(np.float64)
    found = bin_cells(Cells(codes, values, weights), limit)
    cuts = [codes.astype(np.uint64) >> np.uint64(bits) for bits in range(33)]
    cut = next(cut for cut in cuts if len(np.unique(cut)) <= limit)
    expected, own = np.unique(cut, return_inverse=True)
    np.testing.assert_array_equal(found.codes, expected)
    np.testing.assert_array_equal(found.weights, np.bincount(own, weights))
    sums = [np.bincount(own, weights * band) for band in values.T.astype(np.float64)]
    np.testing.assert_array_equal(found.means, np.stack(sums, axis=1) / found.weights[:, None])
