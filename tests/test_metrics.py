"""Errors from the colour counts against errors from all pixels."""

from __future__ import annotations

import math

import dask
import dask.array as da
import numpy as np
import pytest

from kmdask import Metrics, Palette, count_colors, decode, encode, measure
from kmdask.errors import ParameterError
from kmdask.fitting import threads
from kmdask.fitting.space import LinearSpace
from kmdask.metrics import metrics_of, pixel_errors


def brute(pixels, valid, palette):
    values = pixels[valid].astype(int)
    squared = ((values[:, None] - palette.colors.astype(int)) ** 2).sum(axis=2)
    nearest = squared.argmin(axis=1)
    mse = squared.min(axis=1).sum() / values.size
    return mse, np.bincount(nearest, minlength=len(palette)) / len(values)


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rows", [13, threads.PART])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_metrics_equal_brute_force(monkeypatch, scene, holes, bands, masked, rows, k):
    monkeypatch.setattr(threads, "PART", rows)
    pixels = scene(40, 50, bands) // 4
    valid = holes(40, 50) if masked else np.ones((40, 50), bool)
    centers = np.random.default_rng(k).uniform(0, 63, (k, bands))
    palette = Palette.from_centers(centers)
    mask = da.from_array(valid, chunks=(17, 50)) if masked else None
    counted = count_colors(da.from_array(pixels, chunks=(17, 50, -1)), mask)

    measured = measure(counted, palette)

    mse, shares = brute(pixels, valid, palette)
    assert measured.mse == pytest.approx(mse, rel=1e-12)
    gaps = pixels.astype(float) - decode(encode(da.from_array(pixels), palette), palette).compute()
    assert measured.band_mse == pytest.approx((gaps[valid] ** 2).mean(axis=0), rel=1e-12)
    assert measured.band_max_error == tuple(abs(gaps[valid]).max(axis=0))
    assert measured.psnr == pytest.approx(10 * math.log10(255**2 / mse), rel=1e-12)
    np.testing.assert_allclose(measured.shares, shares, rtol=1e-12, atol=0)


def test_ties_count_for_the_lowest_index_as_in_encoding():
    palette = Palette(np.array([[0], [2], [6]], np.uint8))
    image = da.from_array(np.array([[[1], [1], [4], [6]]], np.uint8))
    assert measure(count_colors(image), palette).shares == (0.5, 0.25, 0.25)


def test_unused_entries_have_no_share():
    palette = Palette(np.array([[0], [100], [200]], np.uint8))
    image = da.from_array(np.array([[[0], [200]]], np.uint8))
    assert measure(count_colors(image), palette).shares == (0.5, 0.0, 0.5)


def test_exact_images_have_infinite_psnr():
    palette = Palette(np.array([[3, 2, 1]], np.uint8))
    image = da.from_array(np.full((4, 5, 3), [3, 2, 1], np.uint8))
    measured = measure(count_colors(image), palette)
    assert measured == Metrics(mse=0.0, shares=(1.0,), delta_e=0.0)
    assert measured.psnr == math.inf
    assert type(measured.mse) is float


# From the pixels


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("dtype", "k"), [("uint16", 5), ("uint16", 300), ("float32", 5)])
def test_errors_of_pixels_equal_brute_force(scene, holes, dtype, k, masked):
    pixels = (scene(40, 50, 4).astype(float) * [300, 7, 90, 1] - 5000).clip(0).astype(dtype)
    valid = holes(40, 50) if masked else np.ones((40, 50), bool)
    if dtype == "float32":
        pixels = pixels / np.float32(3)
        pixels[~valid] = np.nan
    flat = pixels[valid]
    palette = Palette(np.unique(np.random.default_rng(k).permutation(flat)[:k], axis=0))
    lazy = da.from_array(pixels, chunks=(17, 50, -1))
    mask = da.from_array(valid, chunks=(17, 50)) if masked else None
    indices = encode(lazy, palette, mask)
    errors, done = dask.compute(*pixel_errors(lazy, indices, palette))

    assert done.tolist() == [1] * 3
    values, entries = flat.astype(float), palette.colors.astype(float)
    squared = (values[:, None] - entries) ** 2
    labels = squared.sum(axis=2).argmin(axis=1)
    expected = ((values - entries[labels]) ** 2).sum(axis=0)
    np.testing.assert_allclose(errors[0, :4], expected, rtol=1e-12)
    counts = np.bincount(labels, minlength=len(palette))
    np.testing.assert_array_equal(errors[0, 4:-2], counts)

    measured = metrics_of(errors, 4, peak=1000.0)
    assert measured.mse == pytest.approx(expected.sum() / flat.size, rel=1e-12)
    assert measured.psnr == pytest.approx(10 * math.log10(1e6 / measured.mse))
    assert measured.band_mse == pytest.approx(expected / len(flat), rel=1e-12)
    assert measured.band_max_error == pytest.approx(
        abs(values - entries[labels]).max(axis=0), rel=1e-12
    )
    np.testing.assert_allclose(measured.shares, counts / counts.sum())


def test_errors_are_those_of_the_bands_wherever_the_nearest_was_looked_for(scene):
    pixels = scene(20, 30)
    palette = Palette(pixels[::7, 3])
    space = LinearSpace((0.01, 1.0, 1.0))
    measured = measure(count_colors(da.from_array(pixels)), palette, space=space)
    values, entries = pixels.reshape(-1, 3).astype(float), palette.colors.astype(float)
    labels = (((values[:, None] - entries) * space.scale) ** 2).sum(axis=2).argmin(axis=1)
    assert measured.mse == pytest.approx(((values - entries[labels]) ** 2).mean(), rel=1e-12)


@pytest.mark.parametrize("space", [None, LinearSpace((1.0, 1.0, 1.0))], ids=["table", "search"])
@pytest.mark.parametrize("k", [2, 300])
def test_errors_of_penalised_entries(scene, k, space):
    pixels = scene(40, 50)
    rng = np.random.default_rng(k)
    colors = np.unique(rng.permutation(pixels.reshape(-1, 3))[:k], axis=0)
    penalties = np.round(rng.random(len(colors)) * 30) ** 2
    palette = Palette(colors, penalties)
    measured = measure(count_colors(da.from_array(pixels)), palette, space=space)
    values, entries = pixels.reshape(-1, 3).astype(float), colors.astype(float)
    labels = (((values[:, None] - entries) ** 2).sum(axis=2) + penalties).argmin(axis=1)
    assert measured.mse == pytest.approx(((values - entries[labels]) ** 2).mean(), rel=1e-12)
    shares = np.bincount(labels, minlength=len(colors)) / len(labels)
    np.testing.assert_array_equal(measured.shares, shares)


def test_a_palette_of_other_bands_measures_nothing(scene):
    colors = count_colors(da.from_array(scene(4, 5)))
    with pytest.raises(ParameterError, match="the colours have 3 bands, the palette has 2"):
        measure(colors, Palette(np.zeros((1, 2), np.uint8)))


@pytest.mark.parametrize("peak", [0.0, 65535.0])
def test_exact_and_constant_images_have_infinite_psnr(peak):
    assert Metrics(0.0, (1.0,), peak).psnr == math.inf
    assert Metrics(1.0, (1.0,), 0.0).psnr == math.inf
