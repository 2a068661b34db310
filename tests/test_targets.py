"""Targets in place of k, against fitting every k there is."""

import math
from contextlib import contextmanager

import dask.array as da
import numpy as np
import pytest
from bundles import contents
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import kmdask
from kmdask.choosing import bend_of, knee_of
from kmdask.cli import main
from kmdask.errors import ParameterError
from kmdask.options import Options
from kmdask.progress import Silent
from kmdask.targets import Target, first_reaching, knee


@pytest.fixture
def packed(compress, tmp_path, scene):
    """``packed(**options)``: a small scene, grey lest fits take long, compressed without tiles."""
    pixels = scene(120, 150, 1)

    def make(**options):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.kmdask"
        return compress(pixels, **{"out": path, "formats": ("zarr",), "ssim": False} | options)

    return make


def written(image):
    """Bytes of image.zarr, by looking."""
    return sum(path.stat().st_size for path in image.path.glob("image.zarr/**/*") if path.is_file())


# The search


@given(crossing=st.integers(1, 2000), most=st.integers(1, 2000), steep=st.floats(0.05, 5))
def test_first_reaching(crossing, most, steep):
    tried = []

    def gain(k):
        tried.append(k)
        # Bent, and without end from a k on.
        return math.inf if k > 1500 else k**steep - crossing**steep

    least = next((k for k in range(1, most + 1) if k >= crossing or k > 1500), None)
    assert first_reaching(gain, 1, most) == least
    assert len(tried) == len(set(tried)) <= 30


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 3))
def test_first_reaching_where_gains_fall_too(signs, least):
    gains = {least + i: 1.0 if sign else -1.0 for i, sign in enumerate(signs)}
    most = max(gains)
    found = first_reaching(gains.__getitem__, least, most)
    if found is None:
        assert gains[most] < 0
    else:
        assert gains[found] > 0
        assert found == least or gains[found - 1] < 0


def test_few_are_tried():
    tried = []

    def psnr(k):
        return 8 + 4 * math.log2(k) - 0.1 * math.log2(k) ** 2

    def gain(k):
        tried.append(k)
        return psnr(k) - 37.3

    expected = next(k for k in range(1, 1 << 16) if psnr(k) >= 37.3)
    assert first_reaching(gain, 1, 1 << 16) == expected
    assert len(tried) <= 12
    assert max(tried) < 8 * expected


def test_knee():
    # The example of the paper: y = -1 / x + 5, with the knee at x = 0.22 of a tenth to one.
    x = np.linspace(0, 0.9, 10) + 0.1
    assert knee(x, -1 / x + 5) == np.abs(x - 0.3).argmin()
    assert knee([0, 1, 2], [0, 1, 4]) is None
    assert knee([0, 1], [0, 1]) is None
    assert knee([0, 1, 2], [3, 3, 3]) is None


# compress


def test_psnr(packed):
    image = packed(psnr=30)
    k = image.report.k
    assert image.report.asked == {"psnr": 30.0}
    assert packed(k=k - 1).report.psnr < 30 <= image.report.psnr
    # But for what was asked the same bundle.
    assert contents(image.path) == contents(packed(k=k).path)


def test_psnr_is_met_after_smoothing(packed):
    plain, smoothed = (packed(k=9, smooth=smooth).report.psnr for smooth in (0, 0.5))
    asked = (plain + smoothed) / 2
    image = packed(psnr=asked, smooth=0.5)
    k = image.report.k
    assert packed(psnr=asked).report.k <= 9 < k
    assert packed(k=k - 1, smooth=0.5).report.psnr < asked <= image.report.psnr
    assert image.report.attained == image.report.psnr
    assert contents(image.path) == contents(packed(k=k, smooth=0.5).path)
    with pytest.raises(ParameterError, match=r"dB at least after smoothing; .*, or smooth less"):
        packed(psnr=90, smooth=2.0)


def test_psnr_after_smoothing_of_deep_and_missing_pixels(compress, tmp_path, scene, holes):
    pixels = scene(60, 80, 4).astype(np.uint16) * 37 + 1
    pixels[~holes(60, 80)] = 0
    options = {"nodata": 0, "refine": 0, "smooth": 0.5, "formats": ("zarr",), "overwrite": True}
    found = compress(pixels, psnr=24, out=tmp_path / "a.kmdask", **options).report
    fewer = compress(pixels, found.k - 1, tmp_path / "a.kmdask", **options).report
    # Of all pixels, and not of their groups.
    assert fewer.psnr < 24 <= found.psnr


def test_psnr_after_smoothing_is_estimated_with_a_margin(monkeypatch, compress, tmp_path, scene):
    pixels = np.tile(scene(120, 150, 1), (9, 14, 1))
    # Less contrast, and so less error, on the one side than on the other.
    pixels = (pixels * np.linspace(0.2, 1, pixels.shape[1])[:, None]).astype(np.uint8)
    options = {"smooth": 0.4, "formats": ("zarr",), "ssim": False, "overwrite": True}
    asked = compress(pixels, 9, tmp_path / "a.kmdask", **options).report.psnr
    exact = compress(pixels, psnr=asked, out=tmp_path / "a.kmdask", **options).report
    assert (exact.psnr, exact.k) == (asked, 9)
    monkeypatch.setattr("kmdask.palette_fit.affordable", lambda _: 3)
    part = compress(pixels, psnr=asked, out=tmp_path / "a.kmdask", **options).report
    assert part.psnr > asked


@pytest.mark.parametrize("codec", ["zstd", "bz2"])
def test_max_bytes(packed, codec):
    allowed = 12_000
    image = packed(max_bytes=allowed, codec=codec)
    k = image.report.k
    assert written(image) <= allowed < written(packed(k=k + 1, codec=codec))
    assert image.report.asked == {"max_bytes": allowed}
    assert image.report.attained == written(image)


def test_ratio(packed):
    image = packed(ratio=1.7)
    assert image.report.ratio_raw >= 1.7 > packed(k=image.report.k + 1).report.ratio_raw
    # What takes just that is small enough.
    assert packed(max_bytes=written(image)).report.k == image.report.k


def test_missing_pixels_take_a_share(compress, scene, holes, tmp_path):
    pixels = np.minimum(scene(40, 50, 4).astype(np.uint16) * 37, 9000)
    pixels[~holes(40, 50)] = 9999
    options = {"nodata": 9999, "formats": ("zarr",), "refine": 0, "scale": "std", "ssim": False}
    image = compress(pixels, out=tmp_path / "a.kmdask", max_bytes=6700, **options)
    more = compress(pixels, image.report.k + 1, tmp_path / "b.kmdask", **options)
    assert written(image) <= 6700 < written(more)


def test_a_sample_is_kept_to_with_a_margin(packed, monkeypatch):
    allowed = 12_000
    exact = packed(max_bytes=allowed).report.k
    monkeypatch.setattr("kmdask.stored.projected", lambda taken, *_: (float(taken.sum()), 800.0))
    image = packed(max_bytes=allowed)
    assert image.report.k < exact
    assert written(image) <= allowed - 1600


def test_auto_is_the_knee_of_the_sweep(packed, client, scene, monkeypatch):
    monkeypatch.setattr("kmdask.choosing.KS", KS := (2, 4, 8, 16))
    table = kmdask.sweep(scene(120, 150, 1), KS, sample=0, client=client)
    image = packed(k="auto")
    assert (image.report.k, image.report.asked) == (table.knee.k, {"k": "auto"})


def test_few_colours_are_taken_as_they_are(compress, tmp_path):
    pixels = np.uint8([[0, 50], [100, 250]])
    for options in ({"k": "auto"}, {"max_bytes": 10**9}):
        image = compress(pixels, out=tmp_path / "a.kmdask", overwrite=True, **options)
        assert (image.report.k, image.report.mse) == (4, 0)


def test_cells_before_refinement(compress, tmp_path, scene):
    pixels = scene(40, 50, 5).astype(np.uint16) * 37
    report = compress(pixels, out=tmp_path / "a.kmdask", psnr=22, formats=("zarr",)).report
    assert not report.exact_colors
    colors = kmdask.count_colors(da.from_array(pixels))
    k = report.k
    less, enough = (
        kmdask.measure(colors, kmdask.fit_palette(colors, each)).psnr for each in (k - 1, k)
    )
    assert less < 22 <= enough


READ = []
"""The chunks that were read."""


def read_chunk(pixels):
    # Of this module, and not of a function: what a task appends to a copy is lost.
    READ.append(pixels.shape)
    return pixels


def test_one_pass_to_choose(client, scene, tmp_path):
    pixels = da.from_array(scene(40, 60, 1), chunks=(40, 20, 1)).map_blocks(
        read_chunk, dtype=np.uint8, meta=np.empty((0, 0, 0), np.uint8)
    )
    passes = []
    for name, asked in (("a", {"k": 4}), ("b", {"psnr": 20}), ("c", {"max_bytes": 6000})):
        READ.clear()
        kmdask.compress(pixels, out=tmp_path / name, client=client, formats=("zarr",), **asked)
        passes.append(len(READ))
    assert passes[0] > 0
    assert passes == passes[:1] * 3


class Stages(Silent):
    """Remembers the stages of a run."""

    def __init__(self):
        self.names = []

    @contextmanager
    def stage(self, name):
        self.names.append(name)
        yield


def test_resume_goes_on_with_the_same_target_alone(packed, monkeypatch, tmp_path):
    options = {"out": tmp_path / "a.kmdask", "resume": True, "overwrite": True}

    def failing(*_, **__):
        raise OSError("the disk is gone")

    def cut_off(**asked):
        with monkeypatch.context() as broken:
            broken.setattr("kmdask.pipeline.write_outputs", failing)
            with pytest.raises(OSError, match="the disk is gone"):
                packed(**asked, **options)

    cut_off(psnr=20)
    stages = Stages()
    image = packed(psnr=20.0, progress=stages, **options)
    assert stages.names == ["open", "write"]
    assert image.report.asked == {"psnr": 20.0}
    cut_off(psnr=20)
    stages = Stages()
    packed(psnr=21, progress=stages, **options)
    assert stages.names == ["open", "count", "fit", "write"]


# What is wrong


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, "exactly one of them; got none"),
        ({"k": 3, "psnr": 30}, "got k=3 and psnr=30"),
        ({"k": "auto", "ratio": 3}, "got k='auto' and ratio=3"),
        ({"psnr": 3, "max_bytes": 3, "ratio": 2}, "got psnr=3 and max_bytes=3 and ratio=2"),
        ({"k": "many"}, "from 1 to 65,536; got 'many'"),
        ({"psnr": 0}, "psnr is .* got 0"),
        ({"psnr": math.nan}, "got nan"),
        ({"psnr": math.inf}, "got inf"),
        ({"psnr": "35"}, "got '35'"),
        ({"psnr": True}, "got True"),
        ({"max_bytes": 1.5}, "whole number of bytes above 0; got 1.5"),
        ({"max_bytes": -1}, "got -1"),
        ({"ratio": 0}, "above 0; got 0"),
    ],
)
def test_refused(asked, told):
    with pytest.raises(ParameterError, match=told):
        Options(**{"k": None} | asked)


def test_a_palette_is_a_target_too(client):
    palette = kmdask.fit(np.uint8([[0, 9]]), 2, client=client)
    with pytest.raises(ParameterError, match="psnr is 30, and there is a palette already"):
        Options(k=None, psnr=30, palette=palette)


def test_however_it_is_written():
    assert repr(Options(k=None, psnr=35)) == repr(Options(k=None, psnr=np.float32(35)))
    assert repr(Options(k=None, psnr=35)) != repr(Options(k=None, psnr=36))
    assert str(Target("max_bytes", 12_000_000)) == "max_bytes=12000000"


def test_unreachable(packed, compress, scene, tmp_path):
    # With a GeoTIFF there are 256 entries at most.
    pixels = scene(20, 30)
    best = compress(pixels, 256, tmp_path / "best.kmdask", formats=("zarr",)).report.psnr
    with pytest.raises(ParameterError, match=rf"psnr=60 dB .* k=256, .* {best:.2f} dB"):
        compress(pixels, out=tmp_path / "a.kmdask", psnr=60, formats=("zarr", "cog"))
    least = written(packed(k=2))
    with pytest.raises(ParameterError, match=rf"max_bytes=100 .* k=2 takes up to {least:,},"):
        packed(max_bytes=100)
    with pytest.raises(ParameterError, match=rf"ratio=500 .* {120 * 150 / least:.1f} x smaller"):
        packed(ratio=500)


def test_the_knee_of_a_flat_curve_is_its_beginning():
    # What more entries gain beyond that of rounding does not count.
    assert knee_of([(2, 70.0), (4, 80.0), (8, 90.0)]) == 0
    assert knee_of([(2, 10.0), (4, 20.0), (8, 50.0)]) == 2
    assert knee_of([(2, 30.0), (2, 30.0), (3, 95.0), (3, 95.0)]) == 2
    assert bend_of([(2, 10.0), (4, 20.0), (8, 50.0)]) is None
    assert bend_of([(2, 10.0), (2, 10.0), (4, 30.0), (8, 40.0)]) == 2


def test_command_line(tmp_path, client, scene, write_raster, monkeypatch):
    source = write_raster(tmp_path / "scene.tif", scene(30, 40))

    def run(*arguments):
        with client.as_current():
            done = CliRunner().invoke(main, [*map(str, arguments)])
        return done.exit_code, done.stdout + done.stderr

    code, told = run("compress", source, "--psnr", 20, "--no-tiles")
    report = kmdask.open(tmp_path / "scene.kmdask").report
    assert code == 0, told
    assert report.asked == {"psnr": 20.0}
    for shown in (told, run("info", tmp_path / "scene.kmdask")[1]):
        assert f"(k={report.k} chosen for psnr=20.0, came to {report.psnr:.6g})" in shown
    monkeypatch.setattr("kmdask.choosing.KS", (2, 4))
    code, told = run("compress", source, "-k", "auto", "--no-tiles", "--overwrite")
    assert code == 0, told
    for options, got in (
        (("--psnr", 25, "-k", 3), "-k and --psnr"),
        (("--target-bpp", 2, "--max-bytes", 9, "-k", 3), "-k and --max-bytes and --target-bpp"),
        ((), "none of them"),
    ):
        code, told = run("compress", source, *options)
        assert (code, f"--palette, --target-bpp; got {got}." in " ".join(told.split())) == (2, True)
    code, told = run("compress", source, "-k", "lots")
    assert (code, "nor auto" in told) == (2, True)
