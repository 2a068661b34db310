"""Comparisons of images and bundles, against the reports of runs and NumPy."""

from __future__ import annotations

import json
import math

import dask.array as da
import numpy as np
import pytest
from click.testing import CliRunner

import kmdask
from kmdask import report
from kmdask.cli import main

JUDGED = ("mse", "psnr", "ssim", "band_mse", "band_max_error", "max_error", "peak")


@pytest.fixture(scope="module")
def compare(client):
    """``compare(...)``: `kmdask.compare` on one cluster for all tests."""
    return lambda *arguments, **options: kmdask.compare(*arguments, client=client, **options)


def judged(of):
    """All numbers, in a row."""
    return np.hstack([getattr(of, name) for name in JUDGED])


@pytest.fixture(scope="module")
def deep(scene, holes):
    """Four bands of 16 bits with missing pixels."""
    pixels = scene(60, 600, 4).astype(np.uint16) * 37 + 1
    pixels[:, :80][~holes(60, 80)] = 0
    return pixels


def test_source_and_bundle_are_as_far_apart_as_the_report_says(
    compare, compress, tmp_path, scene, write_raster
):
    source = write_raster(tmp_path / "a.tif", scene(40, 600), tiled=True)
    result = compress(source, 7, formats=("zarr",))
    for pair in ((source, result.path), (str(result.path), source), (result, scene(40, 600))):
        found = compare(*pair)
        assert judged(found) == pytest.approx(judged(result.report), rel=1e-12)
        assert (found.shape, found.pixels, found.only_a, found.only_b) == (
            (40, 600, 3), 40 * 600, 0, 0)  # fmt: skip
        assert found.delta_e == result.report.delta_e > 0
    counts = np.bincount(result.indices.compute().ravel()) / (40 * 600)
    assert result.report.entropy == pytest.approx(-(counts * np.log2(counts)).sum())


def test_many_bands_missing_pixels_and_regions(compare, compress, tmp_path, deep, write_raster):
    source = write_raster(tmp_path / "deep.tif", deep, tiled=True, nodata=0)
    region = (30, 5, 520, 50)
    result = compress(source, 12, formats=("zarr",), bands=(4, 1, 2), window=region)
    found = compare(source, result)
    assert judged(found) == pytest.approx(judged(result.report), rel=1e-9)
    assert found.pixels == result.report.valid_pixels
    assert found.pixels < 520 * 50
    assert found.only_a == found.only_b == 0
    one = compare(source, result.path, bands=(1,))
    assert one.band_mse == pytest.approx(result.report.band_mse[1:2])
    # Of the array, too; and a window of both begins at the same pixel.
    array = np.where(deep == 0, np.nan, deep)
    assert compare(result, array).mse == pytest.approx(result.report.mse)
    region_of_it = compare(source, result, window=(100, 6, 50, 20))
    there, colors = deep[11:31, 130:180, [3, 0, 1]], result.to_dask()[6:26, 100:150].compute()
    squared = (there - colors.astype(float)) ** 2
    assert region_of_it.mse == pytest.approx(squared[there.any(axis=2)].mean())
    with pytest.raises(kmdask.ParameterError, match="give a window inside"):
        compare(source, result, window=(500, 0, 21, 5))
    part = compare(result, result, window=(5, 6, 50, 20))
    assert (part.shape, part.mse, part.psnr, part.ssim) == ((20, 50, 3), 0, math.inf, 1)


def test_two_images(compare, tmp_path, deep, write_raster):
    other = deep[:, ::-1] + 5
    other[:3] = 0
    paths = [
        write_raster(tmp_path / f"{i}.tif", each, nodata=0, **options)
        for i, (each, options) in enumerate([(deep, {"tiled": True}), (other, {"blockysize": 1})])
    ]
    found = compare(*paths)
    valid, seen = deep.any(axis=2), other.any(axis=2)
    gaps = (deep.astype(float) - other)[valid & seen]
    assert found.delta_e is None
    assert found.band_mse == pytest.approx((gaps**2).mean(axis=0))
    assert found.band_max_error == tuple(abs(gaps).max(axis=0))
    assert found.max_error == abs(gaps).max()
    assert found.peak == np.ptp(deep[valid])
    assert found.psnr == pytest.approx(10 * np.log10(found.peak**2 / (gaps**2).mean()))
    assert found.pixels == (valid & seen).sum()
    assert (found.only_a, found.only_b) == ((valid & ~seen).sum(), (seen & ~valid).sum())
    again = compare(*paths, peak=found.peak)
    assert again == found
    assert compare(*paths, peak=1.0, ssim=False).ssim is None


def test_pixels_of_floating_point_are_missing_where_they_are_no_numbers(compare, scene):
    first = scene(30, 40, 1).astype(np.float32) + 1000
    second = first + 1
    first[3, 4], second[20] = np.nan, np.inf
    found = compare(first, da.from_array(second, chunks=(7, 9, 1)))
    assert (found.pixels, found.only_a, found.only_b) == (29 * 40 - 1, 40, 1)
    assert (found.mse, found.max_error) == (1.0, 1.0)
    assert 0.9 < found.ssim < 1


def test_what_cannot_be_compared(compare, compress, scene, tmp_path):
    image = scene(20, 30)
    with pytest.raises(kmdask.ParameterError, match=r"30 x 20 .* 29 x 20 .*--window"):
        compare(image, image[:, :29])
    with pytest.raises(kmdask.ParameterError, match=r"of 3 band.* of 1 band.*--bands"):
        compare(image, image[:, :, :1])
    for peak in (0, -1.0, math.nan, "high", True):
        with pytest.raises(kmdask.ParameterError, match="peak is the range"):
            compare(image, image, peak=peak)
    with pytest.raises(kmdask.EmptyImageError, match="valid in both"):
        compare(np.full((9, 9), np.nan), np.zeros((9, 9)))
    with pytest.raises(kmdask.SourceNotFoundError):
        compare(tmp_path / "none.tif", image)
    bundle = compress(image, 2, tmp_path / "a.kmdask", formats=("zarr",))
    with pytest.raises(kmdask.ParameterError, match=r"bands \[1, 2, 3\], not all of \[4\]"):
        compare(bundle, bundle, bands=(4,))
    with pytest.raises(kmdask.ParameterError, match="give a window inside"):
        compare(bundle, bundle, window=(0, 0, 99, 5))


def test_without_similarity(compress, scene, tmp_path):
    plain = compress(scene(20, 30), 3, tmp_path / "a.kmdask", formats=("zarr",), ssim=False)
    assert plain.report.ssim is None
    assert plain.report.max_error > 0


def test_reports_from_before_there_was_more_to_say(compress, scene, tmp_path):
    result = compress(scene(20, 30), 3, tmp_path / "a.kmdask", formats=("zarr",))
    fields = json.loads((result.path / "report.json").read_text())
    for name in ("ssim", "entropy", "band_mse", "band_max_error", "max_error"):
        del fields[name]
    older = report.Report.from_json(json.dumps(fields).encode())
    assert (older.ssim, older.entropy, older.max_error, older.band_mse) == (None,) * 4
    assert older.psnr == result.report.psnr


def test_command(tmp_path, monkeypatch, scene, write_raster):
    def run(*arguments):
        return CliRunner().invoke(main, [str(each) for each in arguments])

    monkeypatch.chdir(tmp_path)
    write_raster(tmp_path / "a.tif", scene(20, 30))
    write_raster(tmp_path / "b.tif", scene(20, 31))
    done = run("compress", "a.tif", "-k", 3, "-q", "--no-tiles")
    assert done.exit_code == 0, done.output
    said = kmdask.open("a.kmdask").report
    assert f"SSIM {said.ssim:.4f}, largest error {said.max_error:.4g}" in done.stdout
    found = run("compare", "a.tif", "a.kmdask", "-q")
    assert found.exit_code == 0, found.output
    quality = f"PSNR {said.psnr:.2f} dB, MSE {said.mse:.4g}, mean delta E OK {said.delta_e:.4f}"
    assert f"{quality}, SSIM {said.ssim:.4f}" in found.stdout
    told = json.loads(run("compare", "a.tif", "a.tif", "-q", "--json", "--no-ssim").stdout)
    assert (told["psnr"], told["ssim"], told["max_error"], told["pixels"]) == (None, None, 0, 600)
    refused = run("compare", "a.tif", "b.tif", "-q")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: ")
    assert len(refused.stderr.splitlines()) == 1
