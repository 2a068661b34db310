"""Pyramid levels: the same however the image is chunked, and equal to NumPy on the whole image."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdask import pyramid as build
from kmdask.chunks import TILE, level_shapes

chunks = st.lists(st.integers(1, 23), min_size=1, max_size=5).map(tuple)


def reference(pixels, valid):
    """Every level of the whole image at once: (pixels, valid), averaged in float64."""
    yield pixels, valid
    while valid.shape != (1, 1):
        height, width = valid.shape
        pad = [(0, height % 2), (0, width % 2)]
        blocks = (-(-height // 2), 2, -(-width // 2), 2)
        known = np.pad(valid, pad).reshape(blocks).astype(float)
        values = np.pad(pixels, [*pad, (0, 0)]).astype(float).reshape(*blocks, pixels.shape[2])
        count = known.sum(axis=(1, 3))
        mean = (values * known[..., None]).sum(axis=(1, 3)) / np.maximum(count, 1)[..., None]
        pixels, valid = np.rint(mean).astype(np.uint8), count > 0
        yield pixels, valid


def check(levels, pixels, valid, *, masked):
    levels = list(levels)
    assert [level.shape for level in levels] == list(level_shapes(valid.shape))
    for level, (colors, known) in zip(levels, reference(pixels, valid), strict=True):
        assert level.pixels.dtype == np.uint8
        assert (level.mask is not None) == masked
        np.testing.assert_array_equal(level.pixels.compute()[known], colors[known])
        if masked:
            assert level.mask.dtype == np.uint8
            assert level.mask.chunks == level.pixels.chunks[:2]
            np.testing.assert_array_equal(level.mask.compute() != 0, known)


@settings(max_examples=8)
@given(rows=chunks, columns=chunks, masked=st.booleans(), bands=st.sampled_from([1, 3]))
def test_levels_do_not_depend_on_chunks(scene, holes, rows, columns, masked, bands):
    shape = sum(rows), sum(columns)
    pixels = scene(*shape, bands)
    valid = holes(*shape) if masked else np.ones(shape, bool)
    with pytest.MonkeyPatch.context() as patch:
        # Joined every few pixels, not every few thousand.
        patch.setitem(build.__globals__, "TILE", 4)
        patch.setitem(build.__globals__, "SHARD", 16)
        levels = list(
            build(
                da.from_array(pixels, chunks=(rows, columns, -1)),
                da.from_array(valid, chunks=(rows, columns)) if masked else None,
            )
        )
        for level in levels:
            assert all(size % 4 == 0 for axis in level.pixels.chunks[:2] for size in axis[:-1])
    check(levels, pixels, valid, masked=masked)


@pytest.mark.parametrize("chunk", [(1024, 1024), (512, 1500), (5, 1500), (1100, 7), (513, 511)])
def test_levels_of_real_chunk_sizes(scene, chunk):
    pixels = scene(1100, 1500)
    levels = list(build(da.from_array(pixels, chunks=(*chunk, -1))))
    check(levels, pixels, np.ones((1100, 1500), bool), masked=False)
    for level in levels:
        assert all(size % TILE == 0 for axis in level.pixels.chunks[:2] for size in axis[:-1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 37), (41, 1), (3000, 2)])
def test_levels_of_thin_images(scene, holes, shape):
    pixels = scene(*shape)
    valid = holes(*shape)
    valid[-1, -1] = True
    levels = build(
        da.from_array(pixels, chunks=(1000, 7, -1)), da.from_array(valid, chunks=(1000, 7))
    )
    check(levels, pixels, valid, masked=True)


def test_a_level_without_a_valid_pixel_stays_so(scene):
    valid = np.zeros((6, 5), bool)
    levels = build(da.from_array(scene(6, 5)), da.from_array(valid))
    assert not any(level.mask.compute().any() for level in levels)
