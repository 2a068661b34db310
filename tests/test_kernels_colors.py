"""Counting, looking up and nearest entries against NumPy and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kmdask.kernels import colors as kernels
from kmdask.kernels import table as by_code
from kmdask.kernels.views import frozen
from kmdask.pixels import ALL_VALID

VIEWS = {
    "contiguous": lambda pixels: pixels,
    "planar": lambda pixels: np.moveaxis(np.moveaxis(pixels, 2, 0).copy(), 0, 2),
    "strided": lambda pixels: np.repeat(np.repeat(pixels, 2, axis=0), 3, axis=1)[::2, ::3],
    "reversed": lambda pixels: pixels[::-1, ::-1].copy()[::-1, ::-1],
}


def morton(colors):
    """Interleave bit by bit, the first band highest."""
    codes = np.zeros(len(colors), np.uint32)
    for bit in range(8):
        for band in range(colors.shape[1]):
            value = (colors[:, band].astype(np.uint32) >> bit) & 1
            codes |= value << np.uint32(3 * bit + 2 - band)
    return codes


def brute_nearest(colors, palette):
    """Index of the nearest entry of each colour, the first of equals."""
    nearest = np.empty(len(colors), np.uint16)
    for start in range(0, len(colors), 4096):
        part = colors[start : start + 4096, None].astype(np.int64)
        squared = ((part - palette.astype(np.int64)) ** 2).sum(axis=2)
        nearest[start : start + 4096] = squared.argmin(axis=1)
    return nearest


@pytest.fixture(scope="module")
def table():
    return np.zeros(1 << 24, np.uint8)


@pytest.mark.parametrize("bands", [1, 2, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("view", VIEWS)
def test_count_equals_unique(table, scene, bands, masked, view):
    pixels = scene(61, 47, bands) // 8 * 8
    mask = np.random.default_rng(1).integers(0, 3, (61, 47), dtype=np.uint8)
    valid = mask != 0 if masked else np.ones((61, 47), bool)
    expected, expected_counts = np.unique(pixels[valid], axis=0, return_counts=True)
    order = np.argsort(morton(expected))

    codes, counts = kernels.count(VIEWS[view](pixels), frozen(mask) if masked else ALL_VALID, table)

    assert codes.dtype == np.uint32
    assert counts.dtype == np.uint32
    np.testing.assert_array_equal(codes, morton(expected)[order])
    np.testing.assert_array_equal(counts, expected_counts[order])
    assert not table.any()


def test_count_of_extreme_codes(table):
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[1] = 255
    codes, counts = kernels.count(pixels, ALL_VALID, table)
    assert codes.tolist() == [0, (1 << 24) - 1]
    assert counts.tolist() == [3, 3]
    assert not table.any()


@pytest.mark.parametrize("masked", [False, True])
def test_counts_of_more_than_a_byte(table, masked):
    expected = [1, 254, 255, 256, 508, 509, 510, 762, 763, 20_000]
    grey = np.repeat(np.arange(len(expected), dtype=np.uint8) * 20, expected)
    grey = np.random.default_rng(0).permutation(grey)
    mask = ALL_VALID
    if masked:
        grey = np.repeat(grey, 2)
        mask = frozen(np.tile(np.uint8([0, 7]), len(grey) // 2)[None])
    codes, counts = kernels.count(grey[None, :, None], mask, table)
    assert codes.tolist() == morton(np.arange(len(expected))[:, None] * 20).tolist()
    assert counts.tolist() == expected
    assert not table.any()


def test_count_without_valid_pixels(table):
    codes, counts = kernels.count(
        np.ones((2, 3, 3), np.uint8), frozen(np.zeros((2, 3), np.uint8)), table
    )
    assert codes.size == counts.size == 0
    assert not table.any()


tables = st.dictionaries(
    st.integers(0, 30) | st.integers(0, (1 << 24) - 1), st.integers(1, 1 << 40)
)


@given(tables, tables)
def test_add_and_drain_equal_sum_of_dicts(a, b):
    table = np.zeros(1 << 24, np.int64)
    for counted in (a, b):
        codes = np.array(sorted(counted), np.uint32)
        kernels.add(codes, np.array([counted[code] for code in codes.tolist()], np.int64), table)
    expected = {code: a.get(code, 0) + b.get(code, 0) for code in sorted(a.keys() | b.keys())}
    codes, counts = kernels.drain(table)
    assert not table.any()
    assert list(zip(codes.tolist(), counts.tolist(), strict=True)) == list(expected.items())


def test_codes_follow_the_definition_and_come_back():
    codes = np.random.default_rng(0).permutation(1 << 24)[: 1 << 18].astype(np.uint32)
    colors = kernels.decode_codes(codes, 3)
    np.testing.assert_array_equal(morton(colors), codes)
    np.testing.assert_array_equal(kernels.encode_codes(colors), codes)


@pytest.mark.parametrize("bands", [1, 2, 3])
def test_every_value_of_every_band_comes_back(bands):
    colors = np.zeros((256 * bands, bands), np.uint8)
    for band in range(bands):
        colors[256 * band : 256 * (band + 1), band] = np.arange(256)
    codes = kernels.encode_codes(colors)
    np.testing.assert_array_equal(codes, morton(colors))
    np.testing.assert_array_equal(kernels.decode_codes(codes, bands), colors)


def _palettes():
    rng = np.random.default_rng(5)
    unique = np.unique(rng.integers(0, 256, (400, 3), dtype=np.uint8), axis=0)
    shuffled = rng.permutation(unique)
    cube = np.stack(np.meshgrid(*[[0, 255]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = np.stack(np.meshgrid(*[range(16, 256, 48)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    cluster = np.stack(np.meshgrid(*[range(100, 103)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return {
        "one": shuffled[:1],
        "two": shuffled[:2],
        "k=16": shuffled[:16],
        "k=256": shuffled[:256],
        "k=390": shuffled[:390],
        "corners tie in the middle": rng.permutation(cube).astype(np.uint8),
        "grid full of ties": rng.permutation(grid).astype(np.uint8),
        "cluster": rng.permutation(cluster).astype(np.uint8),
        "cluster and one far off": np.uint8([[3, 3, 3], [3, 3, 4], [3, 4, 3], [250, 3, 250]]),
        "grey axis": np.repeat(rng.permutation(256)[:90].astype(np.uint8)[:, None], 3, axis=1),
        "cell borders": np.uint8([[7, 7, 7], [8, 8, 8], [15, 0, 255], [16, 0, 255], [8, 7, 8]]),
    }


def nearest_table(palette):
    table = np.zeros(1 << 24, np.uint8 if len(palette) <= 256 else np.uint16)
    by_code.nearest_table(palette, np.zeros(len(palette)), table)
    return table


@pytest.mark.parametrize("name", _palettes())
def test_nearest_table_equals_brute_force_in_every_cell(name):
    palette = _palettes()[name]
    table = nearest_table(palette)
    rng = np.random.default_rng(0)
    cells = np.arange(1 << 15, dtype=np.uint32) << np.uint32(9)
    inside = rng.integers(0, 512, cells.size, dtype=np.uint32)
    codes = np.concatenate([cells, cells + np.uint32(511), cells + inside])
    near = np.clip(
        palette[rng.integers(len(palette), size=5000)] + rng.integers(-6, 7, (5000, 3)), 0, 255
    ).astype(np.uint8)
    codes = np.concatenate([codes, morton(near)])
    np.testing.assert_array_equal(
        table[codes], brute_nearest(kernels.decode_codes(codes, 3), palette)
    )


@pytest.mark.parametrize("bands", [1, 2])
def test_nearest_table_of_fewer_bands(bands):
    rng = np.random.default_rng(2)
    palette = np.unique(rng.integers(0, 256, (20, bands), dtype=np.uint8), axis=0)[::-1].copy()
    colors = np.stack(np.meshgrid(*[range(256)] * bands), axis=-1).reshape(-1, bands)
    colors = colors.astype(np.uint8)
    table = nearest_table(palette)
    np.testing.assert_array_equal(table[morton(colors)], brute_nearest(colors, palette))


@given(
    st.integers(0, 1 << 32),
    st.integers(1, 3),
    st.integers(1, 400),
    st.sampled_from([0.0, 30.0]),
    st.sampled_from([0, 200, 250]),
)
def test_nearest_of_codes_equals_brute_force(seed, bands, k, penalty, low):
    rng = np.random.default_rng(seed)
    palette = rng.integers(low, 256, (k, bands), dtype=np.uint8)  # full of ties where it is narrow
    penalties = np.round(rng.random(k) * penalty)
    colors = np.unique(rng.integers(low // 2, 256, (300, bands), dtype=np.uint8), axis=0)
    codes = np.sort(morton(colors))
    indices = np.empty(len(codes), np.uint16)
    by_code.nearest_of_codes(frozen(codes), frozen(palette), frozen(penalties**2), indices)
    values = kernels.decode_codes(codes, bands).astype(int)
    squared = ((values[:, None] - palette.astype(int)) ** 2).sum(axis=2) + penalties**2
    np.testing.assert_array_equal(indices, squared.argmin(axis=1))


@given(arrays(np.uint8, (3, 5, 3)), arrays(np.uint8, (3, 5), elements=st.sampled_from([0, 1, 255])))
def test_look_up(pixels, mask):
    table = (np.arange(1 << 24, dtype=np.uint32) * np.uint32(2654435761) >> np.uint32(24)).astype(
        np.uint8
    )
    expected = table[morton(pixels.reshape(-1, 3))].reshape(3, 5)
    for view in VIEWS.values():
        indices = np.empty(pixels.shape[:2], np.uint8)
        by_code.look_up(view(pixels), ALL_VALID, table, 7, indices)
        np.testing.assert_array_equal(indices, expected)
        indices = np.empty(pixels.shape[:2], np.uint8)
        by_code.look_up(view(pixels), frozen(mask), table, 7, indices)
        np.testing.assert_array_equal(indices, np.where(mask == 0, 7, expected))
