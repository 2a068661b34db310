"""Other codecs on the sampled chunks, against Pillow by itself."""

import csv
import io
import math
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import kmdask
from kmdask.cli import main
from kmdask.errors import ParameterError
from kmdask.rates import Sweep
from kmdask.rivals import LADDERS, Rival, psnr_at
from kmdask.writing.sampled import sample_windows

OPTIONS = {
    "jpeg": {"optimize": True},
    "webp": {"method": 4},
    "jxl": {"effort": 7},
    "avif": {},
}


@pytest.fixture(scope="module")
def sweep(client):
    """``sweep(...)``: `kmdask.sweep` on one cluster for all tests."""
    return lambda *arguments, **options: kmdask.sweep(*arguments, client=client, **options)


def coded(pixels, codec, **options):
    """What Pillow makes of pixels: bytes, and the pixels that come back."""
    pytest.importorskip("pillow_jxl") if codec == "jxl" else None
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, codec, **options)
    with Image.open(file) as image:
        mode = "L" if pixels.shape[2] == 1 else "RGB"
        return len(file.getvalue()), np.asarray(image.convert(mode)).reshape(pixels.shape)


@pytest.mark.parametrize(("bands", "nodata"), [(3, None), (1, 255)])
def test_bytes_and_errors_are_those_of_pillow(sweep, scene, holes, bands, nodata):
    pixels, valid = np.minimum(scene(20, 1100, bands), 254), np.ones((20, 1100), bool)
    if nodata is not None:
        valid = holes(20, 1100)
        pixels[~valid] = nodata
    table = sweep(pixels, (2, 5), nodata=nodata, against=("jpeg", "webp", "jxl", "png"))
    windows = sample_windows((20, 1100), 8)
    for rival in table.rivals:
        if rival.k is not None:
            continue
        options = OPTIONS.get(rival.codec, {"optimize": True})
        if rival.quality is None:
            options = options | ({"lossless": True} if rival.codec != "png" else {})
        else:
            options = options | {"quality": rival.quality}
        if rival.codec == "jpeg":
            options = options | {"subsampling": "4:4:4" if rival.quality >= 85 else "4:2:0"}
        parts = [coded(pixels[window].copy(), rival.codec, **options) for window in windows]
        back = np.concatenate([part for _, part in parts], axis=1)
        assert rival.sample_bytes == sum(size for size, _ in parts)
        error = np.mean((back[valid].astype(float) - pixels[valid]) ** 2)
        assert rival.mse == pytest.approx(error)
        psnr = 10 * math.log10(table.peak**2 / error) if error else math.inf
        assert rival.psnr == pytest.approx(psnr)
    tried = [(rival.codec, rival.quality) for rival in table.rivals if rival.k is None]
    assert tried == [(c, q) for c in ("jpeg", "webp", "jxl", "png") for q in LADDERS[c]]


@pytest.mark.parametrize("k", [3, 20])
def test_a_palette_on_the_same_pixels(sweep, compress, scene, tmp_path, k):
    pixels = scene(30, 1100)
    table = sweep(pixels, (k,), against=["png"], sample=1)
    (window,) = sample_windows((30, 1100), 1)
    (point,), (lossless, rival) = table.points, table.rivals
    assert (lossless.k, lossless.mse, rival.k) == (None, 0, k)
    image = compress(pixels, k, tmp_path / "a.kmdask", formats=("zarr",))
    assert image.report.mse == point.mse
    different = image.to_dask().compute()[window].astype(float) - pixels[window]
    assert point.sample_mse == rival.mse == pytest.approx(np.mean(different**2))
    assert table.sample_psnr(point) == rival.psnr
    # Not far from Pillow's, of the same indices with as many bits.
    shown = Image.fromarray(image.indices.compute()[window])
    shown.putpalette(image.colormap.rgb.tobytes())
    file = io.BytesIO()
    shown.save(file, "PNG", optimize=True, bits=2 if k == 3 else 8)
    assert 0.7 < rival.sample_bytes / len(file.getvalue()) < 1.1


def test_many_bands_have_palette_pngs_alone(sweep, scene):
    pixels = scene(30, 40, 5)
    table = sweep(pixels, (2, 300), against=("png",))
    assert [(rival.codec, rival.k) for rival in table.rivals] == [("png", 2)]
    with pytest.raises(ParameterError, match=r"one or three bands of 8 bits; .* has 5 of uint8"):
        sweep(pixels, (2,), against=("png", "jpeg"))
    with pytest.raises(ParameterError, match="has 1 of uint16"):
        sweep(pixels[:, :, :1].astype(np.uint16), (2,), against=("webp",))


def test_without_being_asked_nothing_is_compared(sweep, scene):
    table = sweep(scene(20, 30), (2,))
    assert table.rivals == ()
    assert table.points[0].sample_mse is None
    assert table.sample_psnr(table.points[0]) is None
    assert table.rival_psnr(table.points[0], "jpeg") is None


def test_psnr_in_the_same_bytes():
    ladder = [
        Rival("webp", 10, None, 1000, 4.0, 30.0),
        Rival("webp", 90, None, 4000, 1.0, 40.0),
        Rival("webp", None, None, 9000, 0.0, math.inf),
        Rival("png", None, 4, 10, 4.0, 30.0),
    ]
    sizes = (999, 1000, 2000, 4000, 8999, 9000)
    assert [psnr_at(ladder, "webp", size) for size in sizes] == [None, 30, 35, 40, 40, math.inf]
    assert psnr_at(ladder, "png", 100) is None


def test_nothing_valid_in_the_sample(sweep):
    pixels = np.zeros((1030, 1030), np.uint8)
    pixels[:2, :2] = 9
    with pytest.raises(ParameterError, match="pixel of 1 sampled chunk is"):
        sweep(pixels, (2,), nodata=0, against=("png",), sample=1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"against": "jpeg"}, "got 'jpeg'"),
        ({"against": ("gif",)}, "of jpeg, webp, jxl, avif, png; got"),
        ({"against": 3}, "got 3"),
        ({"against": ("jpeg",), "sample": 0}, "sample=0 is none"),
    ],
)
def test_refused(sweep, scene, options, told):
    with pytest.raises(ParameterError, match=told):
        sweep(scene(20, 30), (2,), **options)


def test_a_codec_that_is_not_installed(sweep, scene, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(ParameterError, match=r'pip install "\.\[codecs\]" in'):
        sweep(scene(20, 30), (2,), against=("jxl",))


def test_files_and_command_line(tmp_path, scene, write_raster):
    source = write_raster(tmp_path / "scene.tif", scene(60, 80))

    def run(*arguments):
        return CliRunner().invoke(main, ["sweep", *map(str, arguments)])

    files = [tmp_path / name for name in ("a.json", "a.csv", "a.png")]
    named = [
        each for pair in zip(("--json", "--csv", "--plot"), files, strict=True) for each in pair
    ]
    done = run(source, "--ks", "3,2", "--against", "jpeg,png", *named)
    assert done.exit_code == 0, done.output
    table = Sweep.from_json(files[0].read_bytes())
    assert table.to_json() == files[0].read_bytes()
    rows = list(csv.DictReader(io.StringIO(files[1].read_text())))
    assert [row["codec"] for row in rows] == ["", "", *(r.codec for r in table.rivals)]
    assert [float(row["psnr"]) for row in rows[2:]] == [r.psnr for r in table.rivals]
    reached = table.rival_psnr(table.points[1], "jpeg")
    line = next(line for line in done.stdout.splitlines()[::-1] if line.split()[0] == "3")
    assert f"{table.sample_psnr(table.points[1]):.2f}" in line.split()
    least = ">=" * table.rival_is_bound(table.points[1], "jpeg")
    assert ("-" if reached is None else f"{least}{reached:.2f}") in line.split()
    with Image.open(files[2]) as picture:
        assert picture.format == "PNG"
    for arguments, told in (
        (("--plot", files[2]), "exists already"),
        (("--plot", tmp_path / "a.gif"), "ends in .png, .svg, .pdf"),
        (("--against", "gif"), "against names codecs"),
        (("--json", "b.json", "--csv", "b.json"), "need a file each"),
    ):
        refused = run(source, *arguments)
        assert refused.exit_code in {1, 2}
        assert told in refused.stderr
        assert "Traceback" not in refused.stderr
