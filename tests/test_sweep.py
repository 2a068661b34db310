"""What numbers of colours cost and give, against compressing with each of them and counting."""

import csv
import errno
import io
import json
import math
from contextlib import redirect_stdout
from itertools import pairwise

import dask.array as da
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import kmdask
from kmdask.cli import main
from kmdask.cli_show import show_sweep
from kmdask.errors import EmptyImageError, OutputExistsError, ParameterError
from kmdask.point import Point
from kmdask.rates import Sweep
from kmdask.stored import projected
from kmdask.writing.sampled import sample_windows

KS = (2, 7)


@pytest.fixture(scope="module")
def sweep(client):
    """``sweep(...)``: `kmdask.sweep` on one cluster for all tests."""
    return lambda *arguments, **options: kmdask.sweep(*arguments, client=client, **options)


@pytest.fixture(scope="module")
def deep(scene, holes):
    """Five bands of 16 bits with missing pixels, more colours than can be counted."""
    pixels = scene(60, 80, 5).astype(np.uint16) * 37 + 1
    pixels[~holes(60, 80)] = 0
    return pixels


def entropy(indices):
    """Bits of an index, by counting."""
    _, counts = np.unique(indices, return_counts=True)
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def stored(image):
    """Bytes of the chunks of the indices."""
    return sum(path.stat().st_size for path in (image.path / "image.zarr/indices").glob("*/*"))


def numbers(table):
    """All of a table that does not depend on the clock."""
    return [{**row, "seconds": 0} for row in table.rows()]


READ = []
"""First row and column of each chunk that was made, of an array of `counted`."""


def make_chunk(block_info=None):
    # Of this module, and not of a function: what a task appends to a copy is lost.
    place = block_info[None]["array-location"]
    READ.append(tuple(start for start, _ in place[:2]))
    y, x, band = np.ogrid[tuple(slice(*span) for span in place)]
    return ((y // 7 * 3 + x // 11 * 5 + band) % 50).astype(np.uint8)


def counted(shape, size):
    """An array of three bands in chunks, of which each that is read is counted."""
    READ.clear()
    chunks = da.core.normalize_chunks((*size, 3), (*shape, 3))
    meta = np.empty((0, 0, 0), np.uint8)
    return da.map_blocks(make_chunk, chunks=chunks, dtype=np.uint8, meta=meta)


# Against compress


@pytest.mark.parametrize(("nodata", "bands", "codec"), [(None, 1, "bz2"), (255, 3, "zstd")])
def test_points_are_those_of_compress(
    sweep, compress, scene, holes, tmp_path, nodata, bands, codec
):
    pixels = np.minimum(scene(60, 1090, bands), 254)
    if nodata is not None:
        pixels[~holes(60, 1090)] = nodata
    table = sweep(pixels, KS, nodata=nodata, seed=3, codec=codec)
    assert (table.shape, table.exact, table.sample_pixels) == ((60, 1090, bands), True, 60 * 1090)
    for point in table.points:
        image = compress(
            pixels,
            point.k,
            tmp_path / f"{point.k}.kmdask",
            nodata=nodata,
            seed=3,
            codec=codec,
            ssim=False,
            formats=("zarr",),
        )
        report = image.report
        assert point.mse <= report.mse
        if point.mse < report.mse:
            # A better one was grown from the palette before: what there is to say of it is above.
            continue
        assert (point.entries, point.psnr) == (report.k_used, report.psnr)
        assert point.bits_per_pixel == pytest.approx(entropy(image.indices.compute()))
        assert point.index_bytes == round(point.bits_per_pixel * 60 * 1090 / 8)
        # All chunks are in the sample, those at the edges too.
        assert point.sample_bytes == stored(image)
        assert (point.stored_bytes, point.stored_error) == (report.sizes["zarr"], 0)
    assert table.points[0].mse == kmdask.open(tmp_path / "2.kmdask").report.mse


def test_refined_points_are_over_all_pixels(sweep, compress, deep, tmp_path):
    options = {"nodata": 0, "scale": "std", "refine": 1}
    table = sweep(deep, (6, 12), **options)
    report = compress(deep, 6, tmp_path / "a.kmdask", formats=("zarr",), **options).report
    first = table.points[0]
    assert (first.mse, first.psnr) == pytest.approx((report.mse, report.psnr))
    assert first.bits_per_pixel == pytest.approx(
        entropy(kmdask.open(tmp_path / "a.kmdask").indices.compute())
    )
    expected = {"scale": "std", "pca": None, "refine": 1, "space": "rgb", "window": None}
    assert table.options == expected


def test_cells_are_an_estimate_and_said_to_be(sweep, compress, deep, tmp_path):
    table = sweep(deep, (6, 12), nodata=0)
    report = compress(deep, 6, tmp_path / "a.kmdask", nodata=0, refine=0, formats=("zarr",)).report
    assert not table.exact
    # What is left out is how far pixels are from the means of their cells.
    assert 0.8 * report.mse < table.points[0].mse < 1.001 * report.mse


# Entropy-constrained


def test_entropy_constrained_points_are_those_of_compress(sweep, compress, scene, holes, tmp_path):
    # Mostly dark: of entries that are used as often as others, none is dearer.
    pixels = ((scene(60, 1090) & 0xF8) / 255) ** 4 * 254
    pixels = pixels.astype(np.uint8)
    pixels[~holes(60, 1090)] = 255
    options = {"nodata": 255, "seed": 3, "codec": "bz2"}
    table = sweep(pixels, (3, 9), entropy_constrained=True, **options)
    assert numbers(table) == numbers(sweep(pixels, (3, 9), **options))
    for plain, rated in zip(table.points, table.entropy_constrained, strict=True):
        report = compress(
            pixels,
            out=tmp_path / f"{plain.k}.kmdask",
            target_bpp=rated.target_bpp,
            formats=("zarr",),
            **options,
        ).report
        assert (rated.k, rated.entries) == (report.k, report.k_used) == (255, report.k_used)
        assert (rated.mse, rated.psnr, rated.delta_e) == (report.mse, report.psnr, report.delta_e)
        assert (rated.stored_bytes, rated.stored_error) == (report.sizes["zarr"], 0)
        assert rated.bits_per_pixel == pytest.approx(report.entropy)
        assert report.attained <= rated.target_bpp + 1e-12
        # The entropy of both is that of all pixels, missing ones among them, or of valid ones.
        valid = table.valid_pixels / (60 * 1090)
        missing = -valid * math.log2(valid) - (1 - valid) * math.log2(1 - valid)
        assert plain.bits_per_pixel == pytest.approx(missing + valid * rated.target_bpp)
        assert plain.target_bpp is None
    assert table.entropy_constrained[-1].mse < table.points[-1].mse


def test_entropy_constrained_points_are_refined_too(sweep, compress, deep, tmp_path):
    options = {"nodata": 0, "refine": 1}
    (rated,) = sweep(deep, (6,), entropy_constrained=True, sample=0, **options).entropy_constrained
    report = compress(
        deep, out=tmp_path / "a.kmdask", target_bpp=rated.target_bpp, formats=("zarr",), **options
    ).report
    assert rated.mse < report.mse * 1.05
    assert rated.stored_bytes is None


def test_entropy_constrained_points_without_a_sample_or_a_client_of_ones_own(scene):
    table = kmdask.sweep(scene(40, 50), (3, 9), entropy_constrained=True, sample=0)
    for plain, rated in zip(table.points, table.entropy_constrained, strict=True):
        assert (plain.k, rated.stored_bytes) == (plain.entries, None)
        assert rated.bits_per_pixel <= plain.bits_per_pixel + 1e-12
        assert rated.mse <= plain.mse * (1 + 1e-12)


def test_entropy_constrained_points_of_images_of_one_color(sweep):
    table = sweep(np.full((20, 30, 3), 7, np.uint8), (1, 2), entropy_constrained=True)
    for point in (*table.points, *table.entropy_constrained):
        assert (point.entries, point.mse, point.bits_per_pixel) == (1, 0, 0)


# Alone


@settings(max_examples=6)
@given(
    pixels=hnp.arrays(
        np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))
    ),
    ks=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    scale=st.sampled_from([None, 0.01]),
)
def test_the_error_never_rises(sweep, pixels, ks, scale):
    bands = pixels.shape[2]
    factors = None if scale is None else (scale, *[1.0] * (bands - 1))
    table = sweep(pixels, ks, scale=factors, sample=0)
    assert [point.k for point in table.points] == sorted(set(ks))
    assert all(right.mse <= left.mse for left, right in pairwise(table.points))
    different = len(np.unique(pixels.reshape(-1, bands), axis=0))
    for point in table.points:
        assert point.entries <= min(point.k, different)
        assert 0 <= point.bits_per_pixel <= math.log2(point.entries) + 1e-9
        if point.k >= different:
            assert (point.mse, point.entries) == (0, different)


def test_same_numbers_however_it_is_chunked(sweep, scene):
    pixels = scene(40, 1100)
    tables = [
        sweep(da.from_array(pixels, chunks=(*size, 3)), (2, 4)) for size in ((40, 1100), (24, 300))
    ]
    assert numbers(tables[0]) == numbers(tables[1])


def test_read_once_with_a_sample_too(sweep):
    array = counted((1100, 2200), (400, 1024))
    part, whole = sweep(array, (2, 4), sample=2), sweep(array, (2, 4), sample=6)
    assert len(READ) == 2 * len(set(READ)) == 18
    assert part.sample_pixels < whole.sample_pixels == 1100 * 2200
    for point, exact in zip(part.points, whole.points, strict=True):
        assert exact.stored_error == 0 < point.stored_error
        assert point.stored_bytes == pytest.approx(exact.stored_bytes, rel=0.5)


@given(st.data())
def test_projected_by_the_ratio(data):
    n = data.draw(st.integers(2, 40))
    known = np.array(data.draw(st.lists(st.floats(1, 9), min_size=n, max_size=n)))
    m = data.draw(st.integers(1, n))
    # What is in proportion is known from any part, and all is known from all.
    estimate, error = projected(3 * known[:m], known[:m], known.sum(), n)
    assert estimate == pytest.approx(3 * known.sum())
    assert error == pytest.approx(0, abs=1e-6) or m == 1
    assert projected(known**2, known, known.sum(), n) == (pytest.approx((known**2).sum()), 0)


@pytest.mark.parametrize("n", [0, 1, 4, 11, 12, 40])
def test_windows_of_the_sample(n):
    windows = sample_windows((2100, 3100), n)
    assert len(set(map(str, windows))) == len(windows) == min(n, 12)
    for rows, columns in windows:
        assert rows.start % 1024 == columns.start % 1024 == 0
        assert rows.stop in (rows.start + 1024, 2100)
        assert columns.stop in (columns.start + 1024, 3100)


def test_knee(sweep):
    # 16 different colours and a little noise: what more entries gain is little.
    rng = np.random.default_rng(0)
    colors = rng.integers(20, 230, (16, 3))
    pixels = (colors[rng.integers(16, size=(60, 60))] + rng.integers(-2, 3, (60, 60, 3))).astype(
        "u1"
    )
    table = sweep(pixels, (4, 8, 16, 32), sample=0)
    assert table.knee.k == 16
    assert table.bends
    assert "the knee of the curve is at k=16" in shown(table)


@pytest.mark.parametrize(
    ("entries", "psnrs"),
    [
        ((4,), (30.0,)),
        ((2, 4), (10.0, 30.0)),
        ((3, 3), (math.inf, math.inf)),
        ((2, 2, 3), (20.0, 20.0, math.inf)),
        ((2, 3, 3, 3), (20.0, math.inf, math.inf, math.inf)),
        ((2, 4, 8), (70.0, 80.0, 90.0)),
        ((2, 4, 8), (10.0, 20.0, 50.0)),
        ((2, 4, 8, 16, 16), (10.0, 16.0, 22.0, 28.0, 28.0)),
    ],
)
def test_curves_without_a_knee(entries, psnrs):
    pairs = zip(entries, psnrs, strict=True)
    points = tuple(Point(2 << i, n, 1.0, psnr, 1.0, 8) for i, (n, psnr) in enumerate(pairs))
    table = Sweep("a.tif", (4, 5, 3), "uint8", 20, 16, True, 255.0, 0, {}, 0, points)
    assert not table.bends
    assert "the curve has no knee" in shown(table)
    assert table.knee in points


def shown(table):
    with redirect_stdout(io.StringIO()) as told:
        show_sweep(table)
    return told.getvalue()


# What is wrong


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"ks": ()}, "at least one"),
        ({"ks": 5}, "at least one"),
        ({"ks": (2, 0)}, "from 1 to 65,536; got 0"),
        ({"ks": (2, 70_000)}, "got 70000"),
        ({"sample": -1}, "got -1"),
        ({"sample": True}, "got True"),
        ({"entropy_constrained": 2}, "True or False; got 2"),
        ({"entropy_constrained": True, "fixed": ["#ffffff"]}, "leave one of them out"),
        ({"scale": (1, 1)}, "one for each of the 3 bands"),
    ],
)
def test_refused(sweep, scene, options, told):
    with pytest.raises(ParameterError, match=told):
        sweep(scene(20, 30), **options)


def test_nothing_valid(sweep):
    with pytest.raises(EmptyImageError):
        sweep(np.zeros((20, 30), np.uint8), nodata=0)


# Saved


def test_files(sweep, tmp_path):
    pixels = np.arange(16, dtype=np.uint8).reshape(4, 4)
    table = sweep(pixels, (2, 16), scale=(2.0,), window=(0, 0, 4, 4), entropy_constrained=True)
    files = {"json": tmp_path / "a.json", "csv": tmp_path / "a.csv"}
    table.write(**files)
    assert Sweep.from_json(files["json"].read_bytes()) == table
    assert json.loads(files["json"].read_text())["points"][1]["psnr"] is None
    rows = list(csv.DictReader(io.StringIO(files["csv"].read_text())))
    points = [*table.points, *table.entropy_constrained]
    assert [float(row["psnr"]) for row in rows] == [point.psnr for point in points]
    assert [int(row["sample_bytes"]) for row in rows] == [p.sample_bytes for p in points]
    asked = [float(row["target_bpp"]) for row in rows if row["target_bpp"]]
    assert asked == [point.target_bpp for point in table.entropy_constrained]
    with pytest.raises(OutputExistsError):
        table.write(**files)
    table.write(**files, overwrite=True)
    with pytest.raises(ParameterError, match="the other file to write"):
        table.write(json=files["csv"], csv=files["csv"], overwrite=True)


def test_command_line(tmp_path, client, scene, write_raster, monkeypatch):
    source = write_raster(tmp_path / "scene.tif", scene(60, 80))

    def run(*arguments):
        with client.as_current():
            return CliRunner().invoke(main, ["sweep", *map(str, arguments)])

    files = ("--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv")
    done = run(source, "--ks", "3,2", *files)
    assert done.exit_code == 0, done.output
    table = Sweep.from_json((tmp_path / "a.json").read_bytes())
    assert [point.k for point in table.points] == [2, 3]
    assert f"{table.points[1].psnr:.2f} dB" in done.stdout
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 3
    done = run(source, "--ks", "3", "--entropy-constrained", "--json", tmp_path / "c.json")
    assert done.exit_code == 0, done.output
    (rated,) = Sweep.from_json((tmp_path / "c.json").read_bytes()).entropy_constrained
    assert f"   256 {rated.entries:>7} {rated.mse:>9.4g} {rated.psnr:.2f} dB" in done.stdout
    refused = run(source, *files)
    assert refused.exit_code == 1
    assert "a.json" in refused.stderr
    assert run(source, "--ks", "2,x").exit_code == 2
    before = source.read_bytes()
    refused = run(source, "--json", source, "--overwrite")
    assert (refused.exit_code, "is the source" in refused.stderr) == (1, True)
    assert source.read_bytes() == before
    # What cannot be written is told before the work.
    lost = run(source, "--ks", "2", "--json", tmp_path / "nowhere" / "a.json")
    assert (lost.exit_code, "no folder" in lost.stderr, lost.stdout) == (1, True, "")

    # What is found is told, also where it cannot be written after all.
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr("kmdask.storage.write_file", full)
    lost = run(source, "--ks", "2", "--sample", 0, "--json", tmp_path / "b.json")
    assert lost.exit_code == 1
    assert f"{table.points[0].psnr:.2f} dB" in lost.stdout
