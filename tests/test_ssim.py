"""Structural similarity, against scikit-image and against every window by itself."""

from __future__ import annotations

import math

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import structural_similarity

from kmdask import Palette, decode, encode
from kmdask.kernels.ssim import COLUMNS
from kmdask.metrics import psnr_of
from kmdask.similarity import Scale, palette_scale, similarities, similarity_of


def mean(first, second, scale, *, chunks=(999, 999), palette=None, valid=None):
    """The similarity of two images in memory, in chunks."""

    def lazy(array):
        return da.from_array(array, chunks=(*chunks, -1)[: array.ndim])

    mask = None if valid is None else lazy(valid.astype(np.uint8))
    sums, done = similarities(lazy(first), lazy(second), scale, palette=palette, valid=mask)
    return similarity_of(dask.compute(sums, done)[0], scale)


def windows(first, second, peak, valid=None):
    """The mean over windows, one at a time, in float64."""
    height, width, bands = first.shape
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    found = []
    for y in range(height - 6):
        for x in range(width - 6):
            cut = slice(y, y + 7), slice(x, x + 7)
            if valid is not None and not valid[cut].all():
                continue
            for band in range(bands):
                a, b = (each[(*cut, band)].astype(np.float64) for each in (first, second))
                (va, mixed), (_, vb) = np.cov(a.ravel(), b.ravel())
                ma, mb = a.mean(), b.mean()
                luminance = (2 * ma * mb + c1) / (ma**2 + mb**2 + c1)
                found.append(luminance * (2 * mixed + c2) / (va + vb + c2))
    return np.mean(found) if found else None


@pytest.fixture(scope="module")
def pictures(scene):
    """``pictures(dtype, bands)``: an image, its indices and their palette."""

    def make(dtype, bands):
        pixels = scene(40, 530, bands).astype(np.float64)
        factor, base = {"uint8": (1, 0), "uint16": (200, 0), "float32": (0.1, 90)}.get(
            dtype, (1000, -30_000)
        )
        pixels = (pixels * factor + base).astype(dtype)
        palette = Palette(np.unique(pixels[::9, ::60].reshape(-1, bands), axis=0))
        return pixels, encode(da.from_array(pixels), palette).compute(), palette

    return make


@pytest.mark.parametrize(
    ("dtype", "bands"),
    [("uint8", 3), ("uint8", 1), ("uint16", 2), ("int32", 1), ("float32", 2), ("float64", 1)],
)
def test_scikit_image_says_the_same_and_chunks_change_nothing(pictures, monkeypatch, dtype, bands):
    pixels, indices, palette = pictures(dtype, bands)
    colors = decode(da.from_array(indices), palette).compute()
    peak = 255.0 if dtype == "uint8" else float(np.ptp(pixels))
    # It works in single precision otherwise.
    both = [each.astype(np.float64) if dtype == "float32" else each for each in (pixels, colors)]
    expected = structural_similarity(*both, win_size=7, channel_axis=2, data_range=peak)
    scale = palette_scale(palette, peak)
    found = [mean(pixels, colors, scale)]
    for chunks in ((40, 530), (13, 177), (39, 6), (3, 500)):
        found.append(mean(pixels, indices, scale, palette=palette, chunks=chunks))
        found.append(mean(pixels, colors, scale, chunks=chunks))
    monkeypatch.setattr("kmdask.kernels.strips.VALUES", 1)
    found.append(mean(pixels, indices, scale, palette=palette))
    found.append(mean(pixels, colors, scale))
    assert found[0] == pytest.approx(expected, abs=1e-9)
    assert set(found) == {found[0]}, "not a bit differs"


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16"])
def test_sums_hold_the_largest_values_there_are(dtype):
    ends = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype)
    first, second = ends[np.random.default_rng(0).integers(2, size=(2, 30, 40, 1))]
    largest = ends[np.abs(ends.astype(int)).argmax()]
    first[:10, :10] = second[20:, 20:] = largest
    first[20:, :10] = second[20:, :10] = largest
    peak = float(np.ptp(ends.astype(np.float64)))
    found = mean(first, second, Scale(peak, float(ends[0])))
    assert found == pytest.approx(windows(first, second, peak), abs=1e-9)


@pytest.mark.parametrize("dtypes", [("uint8", "uint16"), ("int8", "uint8"), ("float32", "uint8")])
def test_images_of_two_types(dtypes):
    rng = np.random.default_rng(0)
    first, second = (rng.integers(127, size=(12, 20, 2)).astype(dtype) for dtype in dtypes)
    if "uint16" in dtypes:
        second[4:, 7:] += np.uint16(60_000)
    expected = pytest.approx(windows(first, second, 255.0), abs=1e-9)
    assert mean(first, second, Scale(255.0)) == expected
    assert mean(second, first, Scale(255.0)) == expected


def test_more_columns_than_are_worked_on_at_once(scene):
    first = scene(10, COLUMNS + 70, 2)
    second = first & 0xE0
    expected = structural_similarity(first, second, win_size=7, channel_axis=2)
    found = mean(first, second, Scale(255.0))
    assert found == pytest.approx(expected, abs=1e-9)
    assert found == mean(first, second, Scale(255.0), chunks=(10, COLUMNS // 2 - 3))


@settings(max_examples=25)
@given(st.data())
def test_windows_with_invalid_pixels_are_left_out(data):
    dtype = np.dtype(data.draw(st.sampled_from(["uint8", "int8", "int16", "float32"])))
    shape = data.draw(st.tuples(st.integers(1, 16), st.integers(1, 20), st.integers(1, 2)))
    numbers = st.floats(-8, 8, width=16)
    if dtype.kind != "f":
        numbers = st.integers(-128, 127) if dtype == "int8" else st.integers(0, 255)
    first, second = (data.draw(hnp.arrays(dtype, shape, elements=numbers)) for _ in range(2))
    places = st.tuples(*(st.integers(0, size - 1) for size in shape[:2]))
    holes = data.draw(st.lists(places, max_size=3))
    valid = np.ones(shape[:2], bool)
    for hole in holes:
        valid[hole] = False
    if dtype.kind == "f":
        first[~valid] = np.nan
    chunks = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    scale = Scale(255.0, 100.0)
    expected = windows(first, second, 255.0, valid)
    found = mean(first, second, scale, valid=valid, chunks=chunks)
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-9))
    assert found == mean(first, second, scale, valid=valid)


def test_indices_of_invalid_pixels(pictures, holes):
    pixels, indices, palette = pictures("uint8", 3)
    pixels, indices, valid = pixels[:, :40], indices[:, :40].copy(), np.ones((40, 40), bool)
    valid[holes(40, 40)[:, ::-1] ^ True] = False
    valid[20:] = True
    indices[~valid] = palette.nodata
    colors = decode(da.from_array(indices), palette).compute()
    found = mean(pixels, indices, palette_scale(palette, 255.0), palette=palette, chunks=(9, 11))
    assert found == pytest.approx(windows(pixels, colors, 255.0, valid), abs=1e-9)


def test_far_from_zero_nothing_is_lost():
    rng = np.random.default_rng(0)
    first = 1e9 + rng.random((30, 30, 1))
    second = first + rng.normal(0, 0.1, first.shape)
    expected = windows(first, second, 1.0)
    assert mean(first, second, Scale(1.0, 1e9)) == pytest.approx(expected, abs=1e-7)


def test_equal_images_and_such_without_windows():
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    assert mean(image, image, Scale(255.0)) == 1
    assert mean(image[:6], image[:6], Scale(255.0)) is None
    assert mean(image[:, :6], image[:, :6], Scale(255.0)) is None
    assert mean(image * 0, image * 0, Scale(0.0)) is None
    assert mean(image, image, Scale(255.0), valid=np.zeros((20, 20))) is None


@pytest.mark.parametrize("peak", [1e-170, 1e200])
def test_no_squares_of_such_values_are_there(peak):
    image = np.arange(400.0).reshape(20, 20, 1) * (peak / 400)
    assert mean(image, image[::-1], Scale(peak)) is None
    assert math.isfinite(psnr_of(1.0, peak))


def test_values_that_are_large_beside_the_peak():
    rng = np.random.default_rng(0)
    for size in (1e12, 1e180):
        first, second = rng.random((2, 30, 30, 1)) * size
        assert -1 <= mean(first, second, Scale(1e-3)) < 0.5
