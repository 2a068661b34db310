"""Colour counts: the same however the image is cut, and equal to NumPy's."""

from __future__ import annotations

from collections import Counter

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdask import EmptyImageError, ParameterError, count_colors
from kmdask.fitting import colors, threads

chunks = st.lists(st.integers(1, 9), min_size=1, max_size=3).map(tuple)


def brute(pixels, valid=None):
    flat = pixels.reshape(-1, pixels.shape[2]) if valid is None else pixels[valid]
    return Counter(map(tuple, flat.tolist()))


def as_dict(counted):
    rows = counted.colors.compute().astype(int).tolist()
    counts = counted.counts.compute().tolist()
    assert len(set(map(tuple, rows))) == len(rows) == len(counted)
    return dict(zip(map(tuple, rows), counts, strict=True))


@settings(max_examples=12)
@given(
    rows=chunks,
    columns=chunks,
    bands=st.sampled_from([1, 3]),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_counts_do_not_depend_on_chunks(scene, rows, columns, bands, masked, seed):
    shape = sum(rows), sum(columns)
    pixels = scene(*shape, bands, seed) // 64
    valid = np.random.default_rng(seed).random(shape) < 0.8
    valid[0, 0] = True
    mask = da.from_array(valid, chunks=(rows, columns)) if masked else None
    whole = da.from_array(valid, chunks=-1) if masked else None

    counted = count_colors(da.from_array(pixels, chunks=(rows, columns, -1)), mask)
    at_once = count_colors(da.from_array(pixels, chunks=-1), whole)

    assert as_dict(counted) == brute(pixels, valid if masked else None)
    assert counted.pixels == (valid.sum() if masked else valid.size)
    # Not only the same colours, but the same rows in the same blocks.
    np.testing.assert_array_equal(counted.colors.compute(), at_once.colors.compute())
    np.testing.assert_array_equal(counted.counts.compute(), at_once.counts.compute())
    assert counted.colors.chunks == at_once.colors.chunks


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_mask_dtypes(scene, holes, dtype):
    pixels, valid = scene(30, 20), holes(30, 20)
    mask = da.from_array(valid.astype(dtype) * dtype(200), chunks=(7, 9))
    counted = count_colors(da.from_array(pixels, chunks=(7, 9, -1)), mask)
    assert as_dict(counted) == brute(pixels, valid)


@pytest.mark.parametrize("rows", [1, 3, 7, 1000])
def test_blocks_of_rows(monkeypatch, scene, rows):
    pixels = scene(20, 30) // 64
    expected = brute(pixels)
    monkeypatch.setattr(colors, "IN_ONE", 3 * len(expected) - 1)
    monkeypatch.setattr(colors, "ROWS", rows)
    counted = count_colors(da.from_array(pixels, chunks=(11, 30, -1)))
    assert as_dict(counted) == expected
    assert counted.colors.dtype == np.float64
    assert counted.counts.dtype == np.int64
    assert counted.colors.chunks == (counted.counts.chunks[0], (3,))
    sizes = counted.counts.chunks[0]
    assert set(sizes[:-1]) <= {rows}
    assert sum(sizes) == len(expected)


@pytest.mark.parametrize("rows", [1, 3, 7, 1000])
def test_colors_that_one_task_can_fit_to_are_one_block_made_in_parts(monkeypatch, scene, rows):
    pixels = scene(20, 30) // 64
    expected = brute(pixels)
    monkeypatch.setattr(colors, "IN_ONE", 3 * len(expected))
    monkeypatch.setattr(threads, "PART", rows)
    counted = count_colors(da.from_array(pixels, chunks=(11, 30, -1)))
    assert as_dict(counted) == expected
    assert counted.colors.numblocks == (1, 1)


def test_many_chunks_are_merged_in_a_tree(scene):
    pixels = scene(9, 9) // 32
    counted = count_colors(da.from_array(pixels, chunks=(1, 1, -1)))
    assert as_dict(counted) == brute(pixels)


def test_chunks_without_valid_pixels_count_nothing(scene):
    pixels = scene(8, 8)
    valid = np.zeros((8, 8), bool)
    valid[5, 6] = True
    mask = da.from_array(valid, chunks=2)
    counted = count_colors(da.from_array(pixels, chunks=(2, 2, -1)), mask)
    assert as_dict(counted) == {tuple(pixels[5, 6].tolist()): 1}


def test_no_valid_pixel_at_all(scene):
    pixels = da.from_array(scene(5, 6), chunks=(3, 3, -1))
    with pytest.raises(EmptyImageError, match=r"every pixel .* invalid .* check"):
        count_colors(pixels, da.zeros((5, 6), chunks=3, dtype=np.uint8))


def test_results_of_different_masks_have_different_keys(scene):
    # On a cluster equal keys are one result: the second count would get the first one's colours.
    pixels = da.from_array(scene(8, 8), chunks=(4, 4, -1))
    first = da.from_array(np.arange(64).reshape(8, 8) % 2 == 0, chunks=4)
    names = {
        count_colors(pixels, mask).colors.name for mask in (None, first, da.logical_not(first))
    }
    assert len(names) == 3


def test_mask_in_other_chunks(scene, holes):
    # As many blocks, but of other shapes.
    pixels, valid = scene(8, 8), holes(8, 8)
    lazy = da.from_array(pixels, chunks=(2, 8, -1))
    mask = da.from_array(valid, chunks=(8, 2))
    assert as_dict(count_colors(lazy, mask)) == brute(pixels, valid)


UNKNOWN = da.from_array(np.arange(64, dtype=np.uint8), chunks=16)
UNKNOWN = UNKNOWN[UNKNOWN > 3][:, None, None]


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (da.zeros((4, 4, 3), dtype=np.complex64), "complex64"),
        (da.zeros((4, 4, 3), dtype=bool), "bool"),
        (da.zeros((4, 4, 3), dtype="datetime64[s]"), "datetime64"),
        (da.zeros((4, 4), dtype=np.uint8), r"\(4, 4\)"),
        (da.zeros((4, 0, 3), dtype=np.uint8), r"\(4, 0, 3\)"),
        (UNKNOWN, "chunks are unknown"),
    ],
    ids=["complex", "bool", "dates", "no bands", "no columns", "unknown chunks"],
)
def test_pixels_that_cannot_be_counted(pixels, said):
    with pytest.raises(ParameterError, match=said):
        count_colors(pixels)


def test_a_mask_of_another_shape(scene):
    with pytest.raises(ParameterError, match=r"\(5, 4\).*\(4, 5, 3\)"):
        count_colors(da.from_array(scene(4, 5)), da.ones((5, 4), dtype=np.uint8))


@pytest.mark.parametrize(
    ("dtype", "bands", "exact"),
    [(np.uint8, 2, True), (np.uint8, 4, False), (np.int8, 1, False), (np.uint16, 1, False)],
)
def test_which_colours_are_counted_one_by_one(scene, dtype, bands, exact):
    counted = count_colors(da.from_array((scene(9, 8, bands) // 2).astype(dtype)))
    assert counted.exact == exact
    assert counted.colors.dtype == np.float64
    assert (counted.pixels, counted.counts.sum().compute()) == (72, 72)


def test_bands_in_chunks_of_their_own(scene):
    pixels = scene(6, 6)
    lazy = da.from_array(pixels, chunks=(3, 3, 1))
    assert as_dict(count_colors(lazy)) == brute(pixels)


def test_what_a_failure_leaves_is_not_counted_again(monkeypatch):
    pixels = np.full((2, 3, 1), 7, np.uint8)
    colors._count(pixels, None)

    def failing(counted, mask, table):  # noqa: ARG001
        table[5] = 1
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(colors.kernels, "count", failing)
        with pytest.raises(MemoryError):
            colors._count(pixels, None)
    table = colors._count(pixels, None)
    assert table.counts.tolist() == [6]


def test_the_graph_has_a_layer_for_each_stage_not_for_each_chunk():
    pixels = da.zeros((64, 64, 3), dtype=np.uint8, chunks=(4, 4, 3))
    table, counted = colors.ColorCounter(3).table(pixels, None)
    assert len(table.dask.layers) <= 3
    assert counted.compute().tolist() == [1] * 256
