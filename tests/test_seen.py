"""How large differences look, added up over pixels: against NumPy, and against the counts."""

import dask
import dask.array as da
import numpy as np
import pytest
from ottosson import CONES_TO_LAB, RGB_TO_CONES

import kmdask
from kmdask import Oklab, Palette
from kmdask.metrics import metrics_of, pixel_errors
from kmdask.seen import seen_in_pixels, seen_mean


def lab(pixels):
    shares = pixels.astype(float) / 255
    light = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    return np.cbrt(light @ RGB_TO_CONES.T) @ CONES_TO_LAB.T


def seen(first, second, valid):
    return np.linalg.norm(lab(first) - lab(second), axis=-1)[valid].mean()


@pytest.fixture(scope="module")
def noise():
    """More colours than are remembered at once, among them some that come back."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 500, 3), np.uint8)
    pixels[200:] = pixels[:100]
    return pixels


@pytest.mark.parametrize("masked", [False, True])
def test_sums_are_those_of_numpy(noise, holes, masked):
    other, valid = noise[::-1, ::-1], np.ones((300, 500), bool)
    if masked:
        valid = np.tile(holes(60, 100), (5, 5))
    mask = (valid * np.uint8(255)) if masked else None
    for first, second in ((noise, other), (np.asfortranarray(noise), other)):
        found = seen_mean(seen_in_pixels(first, second, mask), valid.sum())
        assert found == pytest.approx(seen(noise, other, valid), rel=1e-8)
    top, left, right = np.s_[:7], np.s_[7:, :123], np.s_[7:, 123:]
    parts = [
        seen_in_pixels(noise[part], other[part], None if mask is None else mask[part])
        for part in (top, left, right)
    ]
    assert seen_mean(sum(parts), valid.sum()) == found


@pytest.mark.parametrize("shape", [(20, 30, 1), (20, 30, 4)])
def test_other_pixels_are_not_seen(shape):
    pixels = np.zeros(shape, np.uint8)
    assert seen_mean(seen_in_pixels(pixels, pixels, None), 600) is None
    rgb = np.zeros((20, 30, 3), np.uint16)
    assert seen_mean(seen_in_pixels(rgb, rgb.astype(np.uint8), None), 600) is None


def test_sums_of_any_size_are_exact():
    # More units than a float64 or an int64 holds, by one.
    sums = np.array([2.0**40 + 1, 1.0])
    assert seen_mean(sums, 1) == float(2**40 + 1)
    assert seen_mean(np.zeros(2), 0) == 0


@pytest.mark.parametrize("k", [5, 300])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("space", [None, Oklab()])
def test_pixels_and_counts_agree_to_the_last_bit(noise, scene, holes, k, masked, space):
    pixels = np.concatenate([noise[:60, :80], scene(60, 80)])
    valid = np.tile(holes(60, 80), (2, 1)) if masked else np.ones((120, 80), bool)
    palette = Palette(np.unique(noise[0, :k], axis=0))
    mask = da.from_array(valid) if masked else None
    expected = kmdask.measure(
        kmdask.count_colors(da.from_array(pixels), mask), palette, space=space
    )
    for size in ((120, 80), (17, 33)):
        lazy = da.from_array(pixels, chunks=(*size, 3))
        indices = kmdask.encode(lazy, palette, mask, space=space)
        errors, _ = pixel_errors(lazy, indices, palette)
        measured = metrics_of(dask.compute(errors)[0], 3, 255.0)
        assert measured == expected
    decoded = kmdask.decode(indices, palette).compute()
    assert measured.delta_e == pytest.approx(seen(pixels, decoded, valid), rel=1e-8)


def test_reports_and_comparisons_have_it(compress, client, scene, tmp_path):
    pixels = scene(60, 1100)
    valid = np.ones((60, 1100), bool)
    plain = compress(pixels, 6, tmp_path / "a.kmdask", formats=("zarr",))
    given = compress(
        pixels, out=tmp_path / "b.kmdask", palette=tmp_path / "a.kmdask", formats=("zarr",)
    )
    smooth = compress(pixels, 6, tmp_path / "c.kmdask", smooth=0.5, formats=("zarr",))
    assert given.report.delta_e == plain.report.delta_e < smooth.report.delta_e
    for result in (plain, given, smooth):
        expected = seen(pixels, result.to_dask().compute(), valid)
        assert result.report.delta_e == pytest.approx(expected, rel=1e-8)
        found = kmdask.compare(pixels, result, client=client, ssim=False)
        assert found.delta_e == found.to_dict()["delta_e"] == result.report.delta_e
    same = kmdask.compare(pixels, pixels, client=client, ssim=False)
    assert same.delta_e == 0
