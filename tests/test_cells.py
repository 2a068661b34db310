"""Cells against brute force in NumPy: which pixels are in each, how many, and their exact sums."""

from __future__ import annotations

import math
from fractions import Fraction

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdask import EmptyImageError, count_colors
from kmdask.fitting import cells
from kmdask.fitting.cells import CellCounter, Grid, Units

chunks = st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple)
INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int64", "uint64"]
DTYPES = [*INTEGERS, "float32", "float64"]


@pytest.fixture(scope="module")
def image(scene):
    """``image(dtype, height, width, bands, seed=0)``: a picture over the range of its type."""

    def make(dtype, height, width, bands, seed=0):
        dtype = np.dtype(dtype)
        values = scene(height, width, bands, seed) / 255
        values[height // 2, : width // 2] += np.linspace(-0.01, 0.01, bands)
        if dtype.kind == "f":
            return (1e4 * (values - 0.4)).astype(dtype)
        limits = np.iinfo(dtype)
        low, high = (float(limits.min), float(limits.max) * (1 - 2**-11))
        return (low + np.clip(values, 0, 1) * (high - low)).astype(dtype)

    return make


def grid_of(pixels, valid=None):
    sample = pixels.reshape(-1, pixels.shape[2]) if valid is None else pixels[valid]
    sample = sample.astype(np.float64)
    axes = np.linalg.svd(sample - sample.mean(axis=0), full_matrices=False)[2][:8].T
    units = Units.of(sample, pixels.dtype, pixels.shape[0] * pixels.shape[1])
    return Grid.of(sample, np.ascontiguousarray(axes), units)


def gathered(pixels, grid, valid=None, chunks=(-1, -1)):
    counter = CellCounter(grid, pixels.dtype)
    mask = None if valid is None else da.from_array(valid.astype(np.uint8), chunks=chunks)
    table, done = counter.table(da.from_array(pixels, chunks=(*chunks, -1)), mask)
    found, ones = dask.compute(table, done)
    assert (ones == 1).all()
    return found


def codes_of(values, grid):
    """The code of each of some pixels, bit by bit."""
    place = np.zeros((len(values), grid.axes.shape[1])) - grid.origin
    for band, weights in zip(values.T, grid.axes, strict=True):
        place += band[:, None] * weights
    codes = np.zeros(len(values), np.int64)
    for at, bits in zip(place.T, grid.dealt, strict=True):
        step = np.floor(np.clip(at, 0, 2 ** len(bits) - 1)).astype(np.int64)
        for rank, bit in enumerate(reversed(bits)):
            codes |= (step >> rank & 1) << bit
    return codes


def brute(pixels, grid, valid=None, most=1 << 18):
    """Codes, counts, sums in units and dropped bits, for all pixels at once."""
    flat = pixels.reshape(-1, pixels.shape[2]) if valid is None else pixels[valid]
    values = flat.astype(np.float64)
    codes = codes_of(values, grid)
    dropped = 0
    while np.unique(codes >> dropped).size > most:
        dropped += 1
    found, inverse, counts = np.unique(codes >> dropped, return_inverse=True, return_counts=True)
    units = grid.units
    whole = np.rint((values - units.offset) / units.quantum).clip(-units.limit, units.limit)
    sums = np.zeros((found.size, pixels.shape[2]), np.int64)
    np.add.at(sums, inverse.ravel(), whole.astype(np.int64))
    return found, counts, sums, dropped


def check(found, expected):
    for part, other in zip(found[:4], expected, strict=True):
        np.testing.assert_array_equal(part, other)
    assert (found.codes.dtype, found.counts.dtype, found.sums.dtype) == ("u4", "i8", "i8")


def same(one, other):
    for part, its in zip(one, other, strict=True):
        np.testing.assert_array_equal(part, its)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cells_equal_brute_force(image, holes, monkeypatch, dtype):
    pixels, valid = image(dtype, 31, 47, 4), holes(31, 47)
    if pixels.dtype.kind == "f":
        pixels[~valid] = [np.nan, np.inf, -np.inf, 0]
    grid = grid_of(pixels, valid)
    found = gathered(pixels, grid, valid)
    check(found, brute(pixels, grid, valid))
    np.testing.assert_array_equal(found.low, pixels[valid].min(axis=0))
    np.testing.assert_array_equal(found.high, pixels[valid].max(axis=0))
    same(gathered(pixels, grid, valid, (9, 20)), found)
    monkeypatch.setattr("kmdask.kernels.strips.VALUES", 1)
    same(gathered(pixels, grid, valid), found)

    # Whatever the cells, the sum over all of them is that of the pixels.
    total = [sum(map(int, band)) for band in found.sums.T]
    units = grid.units
    pixel_total = [sum(map(Fraction, band.tolist())) for band in pixels[valid].T]
    for band, units_total in enumerate(total):
        exact = Fraction(units_total) * Fraction(float(units.quantum[band]))
        exact += int(valid.sum()) * Fraction(float(units.offset[band]))
        if pixels.dtype.itemsize <= 4 and pixels.dtype.kind != "f":
            assert exact == pixel_total[band]
        else:
            span = float(np.ptp(pixels[valid][:, band].astype(float)))
            assert abs(exact - pixel_total[band]) <= Fraction(span) * int(valid.sum()) / 2**40


@settings(max_examples=12)
@given(
    rows=chunks,
    columns=chunks,
    dtype=st.sampled_from(["uint16", "float32", "float64"]),
    masked=st.booleans(),
    most=st.sampled_from([1, 7, 40, 1 << 18]),
    merged=st.sampled_from([1, cells.MERGED]),
    seed=st.integers(0, 99),
)
def test_cells_do_not_depend_on_chunks(
    image, holes, rows, columns, dtype, masked, most, merged, seed
):
    shape = sum(rows), sum(columns)
    pixels = image(dtype, *shape, 3, seed)
    valid = holes(*shape, seed) if masked else None
    if masked:
        valid[-1, -1] = True
    grid = grid_of(pixels, valid)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "MOST", most)
        patch.setattr(cells, "MERGED", merged)
        found = gathered(pixels, grid, valid, (rows, columns))
        same(gathered(pixels, grid, valid), found)
    assert 1 <= found.codes.size <= most
    check(found, brute(pixels, grid, valid, most))


@pytest.mark.parametrize("most", [1, 2, 3, 100, 1000])
def test_coarser_cells_are_joined_cells(monkeypatch, image, most):
    pixels = image("uint16", 60, 50, 5)
    grid = grid_of(pixels)
    fine = gathered(pixels, grid)
    assert fine.codes.size > 1000
    monkeypatch.setattr(cells, "MOST", most)
    found = gathered(pixels, grid, chunks=(13, 50))
    assert most / 3 < found.codes.size <= most
    check(found, brute(pixels, grid, most=most))
    np.testing.assert_array_equal(np.unique(fine.codes >> found.dropped), found.codes)
    assert found.counts.sum() == fine.counts.sum() == 3000


@pytest.mark.parametrize(("bands", "together"), [(4, 8), (30, 4), (100, 2), (400, 2)])
def test_few_results_of_many_bands_are_in_memory_at_once(image, bands, together):
    pixels = image("uint16", 20, 10, bands)
    lazy = da.from_array(pixels, chunks=(1, 10, -1))
    table, _ = CellCounter(grid_of(pixels), pixels.dtype).table(lazy, None)
    merges = [task for key, task in table.dask.items() if str(key[0]).startswith("merge")]
    assert max(len(group) for _, group in merges) == together


@pytest.mark.parametrize("bands", [1, 2, 3, 8, 9, 33])
def test_any_number_of_bands(image, bands):
    pixels = image("uint16", 40, 30, bands)
    grid = grid_of(pixels)
    assert len(grid.dealt) <= 8
    found = gathered(pixels, grid, chunks=(17, 11))
    assert found.sums.shape == (found.codes.size, bands)
    check(found, brute(pixels, grid))


def test_what_lies_outside_goes_to_the_last_cells(image):
    pixels = image("int16", 20, 30, 2) // 64
    grid = grid_of(pixels)
    far = pixels.copy()
    far[0, 0], far[0, 1] = [-32768, -32768], [32767, 32767]
    found = gathered(far, grid)
    check(found, brute(far, grid))
    ends = codes_of(np.array([[-32768.0] * 2, [32767.0] * 2]), grid)
    corners = {
        sum(end << bit for end, bits in zip(pair, grid.dealt, strict=True) for bit in bits)
        for pair in [(0, 0), (0, 1), (1, 0), (1, 1)]
    }
    assert set(ends.tolist()) <= corners & set(found.codes.tolist())
    assert (found.low.tolist(), found.high.tolist()) == ([-32768] * 2, [32767] * 2)


def test_floats_far_off_count_as_far_as_sums_allow():
    pixels = np.random.default_rng(0).normal(0, 1, (40, 50, 2))
    sample = pixels.reshape(-1, 2)
    grid = Grid.of(sample, np.eye(2), Units.of(sample, pixels.dtype, 2000))
    pixels[0, 0] = [1e200, -1e200]
    found = gathered(pixels, grid)
    check(found, brute(pixels, grid))
    assert (found.high[0], found.low[1]) == (1e200, -1e200)
    spans = np.ptp(np.percentile(sample, cells.ROBUST, axis=0), axis=0)
    means = grid.units.values(found.sums, found.counts)
    assert cells.OUTLYING < np.abs(means).max() / spans.max() < 2.1 * cells.OUTLYING


def test_the_code_tells_all_steps_apart(image):
    pixels = image("uint16", 20, 20, 3)
    grid = grid_of(pixels)
    every = [bit for bits in grid.dealt for bit in bits]
    assert sorted(every) == list(range(32))
    assert all(list(bits) == sorted(bits, reverse=True) for bits in grid.dealt)
    assert max(map(len, grid.dealt)) <= 16
    parts = grid.parts()
    for axis, bits in enumerate(grid.dealt):
        steps = parts[axis, : 1 << len(bits)].astype(np.int64)
        assert (np.diff(steps) > 0).all()
        assert steps[-1] == sum(1 << bit for bit in bits)
        assert not parts[axis, 1 << len(bits) :].any()


def test_the_longest_axis_is_cut_first():
    sample = np.random.default_rng(0).normal(0, [8, 1, 1], (5000, 3))
    grid = Grid.of(sample, np.eye(3), Units.of(sample, sample.dtype, 5000))
    assert {31, 30, 29} <= set(grid.dealt[0])
    assert len(grid.dealt[0]) - len(grid.dealt[1]) in {2, 3, 4}


# Units


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("pixels", [1, 1 << 20, 1 << 31])
def test_units_of_integers(dtype, pixels):
    limits = np.iinfo(dtype)
    sample = np.array([[float(limits.min)], [float(limits.max)]])
    units = Units.of(sample, np.dtype(dtype), pixels)
    assert units.limit * pixels < 2**63
    if limits.bits <= 16 or (limits.bits == 32 and pixels <= 1 << 30):
        assert (units.offset.tolist(), units.quantum.tolist()) == ([0], [1])
    # The extremes are within the limit, and come back to within a quantum.
    steps = np.rint((sample - units.offset) / units.quantum)
    assert np.abs(steps).max() <= units.limit
    back = units.values(steps.astype(np.int64), np.ones(2, np.int64))
    np.testing.assert_allclose(back, sample, rtol=0, atol=units.quantum[0] / 2)


@given(
    low=st.floats(-1e30, 1e30),
    span=st.floats(0, 1e30).filter(lambda span: span == 0 or span > 1e-30),
    pixels=st.sampled_from([1, 1000, 1 << 30, 1 << 40]),
)
def test_units_of_floats_come_back(low, span, pixels):
    sample = low + np.linspace(0, 1, 50)[:, None] * span
    units = Units.of(sample, np.dtype(np.float64), pixels)
    assert units.limit * pixels <= 2**62
    assert math.frexp(units.quantum[0])[0] == 0.5, "a power of two, so that dividing is exact"
    steps = np.rint((sample - units.offset) / units.quantum)
    assert np.abs(steps).max() <= units.limit
    back = units.values(steps.astype(np.int64) * 3, np.full(50, 3))
    np.testing.assert_allclose(back, sample, rtol=1e-15, atol=units.quantum[0] / 2)
    assert units.quantum[0] <= max(np.ptp(sample), abs(low), 1e-37) * 2.0**-14


# Images that are hardly any


@pytest.mark.parametrize("dtype", ["uint16", "float32", "int64", "uint64"])
@pytest.mark.parametrize("value", [0, 1, 12345])
def test_constant_images_have_one_colour(dtype, value):
    counted = count_colors(da.full((20, 30, 4), value, dtype=dtype, chunks=(7, 30, 4)))
    assert counted.colors.compute().tolist() == [[value] * 4]
    assert counted.counts.compute().tolist() == [600]
    assert (counted.low, counted.high, counted.exact) == (value, value, False)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_one_valid_pixel(image, dtype):
    pixels, valid = image(dtype, 20, 30, 5), np.zeros((20, 30), bool)
    valid[13, 17] = True
    mask = da.from_array(valid, chunks=(6, 30))
    counted = count_colors(da.from_array(pixels, chunks=(6, 30, -1)), mask)
    assert counted.colors.compute().tolist() == [pixels[13, 17].tolist()]
    assert counted.counts.compute().tolist() == [1]


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_no_valid_pixel(dtype):
    pixels = da.ones((20, 30, 5), dtype=dtype, chunks=(6, 30, 5))
    with pytest.raises(EmptyImageError, match=r"every pixel .* invalid .* check"):
        count_colors(pixels, da.zeros((20, 30), dtype=np.uint8))


def test_what_is_not_finite_is_not_counted(image):
    pixels = image("float32", 20, 30, 3)
    pixels[0, :3] = [[np.nan, 1, 1], [1, np.inf, 1], [1, 1, -np.inf]]
    counted = count_colors(da.from_array(pixels, chunks=(6, 30, -1)))
    assert counted.pixels == counted.counts.compute().sum() == 597
    assert np.isfinite(counted.colors.compute()).all()


def test_the_colours_are_the_means_of_cells(image, holes):
    pixels, valid = image("uint16", 50, 60, 4), holes(50, 60)
    counted = count_colors(da.from_array(pixels, chunks=(20, 60, -1)), da.from_array(valid))
    colors, counts = dask.compute(counted.colors, counted.counts)
    assert counted.pixels == counts.sum() == valid.sum()
    assert (np.diff(counted.codes.compute().astype(np.int64)) > 0).all()
    np.testing.assert_array_equal(
        np.rint(counts @ colors).astype(np.int64), pixels[valid].sum(axis=0, dtype=np.int64)
    )
    assert (counted.low, counted.high) == (pixels[valid].min(), pixels[valid].max())


def test_the_peak_of_many_bands_of_8_bits_is_that_of_few(image):
    counted = count_colors(da.from_array(image("uint8", 20, 30, 4) // 2 + 20))
    assert (counted.low, counted.high) == (0, 255)
