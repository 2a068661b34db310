"""Plots: every kind of image, what is written on them, and how little is read for them."""

import math
from dataclasses import replace

import dask.array as da
import matplotlib as mpl
import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner
from matplotlib.figure import Figure
from PIL import Image

import kmdask
from kmdask.cli import main
from kmdask.errors import BundleError, OutputExistsError, ParameterError
from kmdask.plotting import looks, originals
from kmdask.point import Point
from kmdask.rates import Sweep
from kmdask.reading.gdal_source import RasterioSource
from kmdask.rivals import Rival

TABLE = Sweep("dir/$a$.tif", (8, 8, 1), "uint8", 64, 9, True, 255.0, 0, {}, 64, ())
POINTS = tuple(Point(k, k, 9.0 / k, 10.0 * k, k / 2, 8, 4 * k, 0.1) for k in (2, 4, 8))


@pytest.fixture(scope="module")
def bundle(compress, tmp_path_factory):
    """``bundle(pixels, k, **options)``: pixels compressed, anywhere."""
    folder = tmp_path_factory.mktemp("bundles")
    return lambda pixels, k, **options: compress(
        pixels, k, folder / f"{len(list(folder.iterdir()))}.kmdask", formats=("zarr",), **options
    )


def texts(figure):
    """All that is written on a figure."""
    return " ".join(each.get_text() for each in figure.findobj(mpl.text.Text))


def images(figure):
    """Shapes of the pictures on a figure."""
    return [each.get_array().shape for axes in figure.axes for each in axes.get_images()]


# An image


@pytest.mark.parametrize(
    ("shape", "dtype", "k", "missing"),
    [
        ((1, 1, 3), "u1", 1, False),
        ((60, 90, 1), "u1", 4, False),
        ((90, 70, 2), "f4", 6, True),
        ((200, 30, 3), "u1", 16, True),
        ((33, 400, 3), "u2", 300, False),
        ((60, 80, 13), "u2", 5, True),
        ((1, 900, 4), "i2", 1, False),
    ],
)
def test_every_kind_of_image(bundle, scene, holes, shape, dtype, k, missing):
    pixels = scene(*shape).astype(dtype) + (1 if dtype != "u1" else 0)
    pixels = np.maximum(pixels, 1)
    if missing:
        pixels[~holes(*shape[:2])] = np.nan if dtype == "f4" else 0
    image = bundle(pixels, k, nodata=0 if missing and dtype != "f4" else None)
    before = dict(mpl.rcParams)
    figure = image.plot(pixels)
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert dict(mpl.rcParams) == before
    report, told = image.report, texts(figure)
    assert f"k = {report.k_used:,}" in told
    quality = "exact" if math.isinf(report.psnr) else f"PSNR {report.psnr:.2f} dB"
    assert f"{quality}, " in told
    assert f"{'smaller' if report.ratio_raw > 1 else 'larger'} than raw" in told
    assert "e+" not in told
    assert "e-" not in told
    assert ("missing" in told) == missing
    # The entries alone, where there is no original.
    alone = image.plot()
    assert "the entries alone" in texts(alone)
    assert "error" not in texts(alone)
    assert alone._repr_png_().startswith(b"\x89PNG")


def test_crops_are_where_the_error_is_largest(bundle):
    pixels = np.full((200, 300, 3), 90, np.uint8)
    pixels[66:132, 132:198] = np.random.default_rng(0).integers(0, 256, (66, 66, 3))
    image = bundle(pixels, 2)
    look = looks.look_at(image, pixels)
    worst = look.crops[0]
    assert (worst.rows, worst.columns) == (slice(66, 132), slice(132, 198))
    back = image.to_dask().compute()
    different = back[66:132, 132:198].astype(float) - pixels[66:132, 132:198]
    assert worst.mse == pytest.approx(np.mean(different**2))
    np.testing.assert_allclose(worst.error, np.sqrt(np.mean(different**2, axis=2)))
    np.testing.assert_array_equal(worst.original, pixels[66:132, 132:198])
    np.testing.assert_array_equal(worst.compressed, back[66:132, 132:198])
    assert [crop.mse for crop in look.crops] == sorted((c.mse for c in look.crops), reverse=True)
    assert f"{10 * math.log10(255**2 / worst.mse):.1f} dB, at 132, 66" in texts(image.plot(pixels))


def test_missing_pixels_are_white_and_no_error(bundle, scene, holes):
    pixels, valid = np.maximum(scene(64, 64), 1), holes(64, 64)
    pixels[~valid] = 0
    look = looks.look_at(bundle(pixels, 3, nodata=0), pixels)
    assert (look.original[~valid] == 255).all()
    assert (look.compressed[~valid] == 255).all()
    for crop in look.crops:
        np.testing.assert_array_equal(np.isnan(crop.error), ~valid[crop.rows, crop.columns])
    assert (look.values > 0).all()


def test_all_kinds_of_originals_look_alike(bundle, scene, write_raster, tmp_path):
    pixels = scene(200, 150)
    image = bundle(pixels, 5)
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    given = [
        da.from_array(pixels, chunks=(64, 64, 3)),
        write_raster(tmp_path / "a.tif", pixels, **tiled),
        write_raster(tmp_path / "a.png", pixels, driver="PNG"),
    ]
    expected = looks.look_at(image, pixels)
    for each in given:
        look = looks.look_at(image, each)
        np.testing.assert_array_equal(look.values, expected.values)
        assert [crop.mse for crop in look.crops] == [crop.mse for crop in expected.crops]
        if look.original is not None:
            np.testing.assert_array_equal(look.original, pixels)
    np.testing.assert_array_equal(expected.compressed, image.to_dask().compute())


def test_the_source_of_the_report_in_its_window_and_bands(bundle, scene, write_raster, tmp_path):
    path = write_raster(tmp_path / "a.tif", scene(120, 100, 4))
    window = (20, 30, 64, 70)
    image = bundle(path, 3, window=window, bands=(3, 1))
    look = looks.look_at(image)
    assert len(look.crops) > 0
    part = scene(120, 100, 4)[30:100, 20:84][:, :, [2, 0]]
    assert {tuple(value) for value in look.values} <= {tuple(v) for v in part.reshape(-1, 2)}
    path.unlink()
    assert looks.look_at(image).crops == ()


def test_an_overview_of_the_original_is_used(bundle, scene, write_raster, tmp_path, monkeypatch):
    monkeypatch.setattr(originals, "WHOLE", 1000)
    monkeypatch.setattr(originals, "LONGEST", 64)
    path = tmp_path / "a.tif"
    place = {"crs": "EPSG:32629", "transform": Affine(60, 0, 5e5, 0, -60, 6e6)}
    write_raster(path, scene(128, 256), tiled=True, blockxsize=64, blockysize=64, **place)
    image = bundle(path, 4)
    assert looks.look_at(image).original is None
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2, 4, 8])
    with rasterio.open(path, overview_level=1) as dataset:
        overview = np.moveaxis(dataset.read(), 0, 2)
    assert overview.shape == (32, 64, 3)
    np.testing.assert_array_equal(looks.look_at(image).original, overview)


def test_what_is_read_is_bounded(bundle, scene, write_raster, tmp_path, monkeypatch):
    monkeypatch.setattr(originals, "WHOLE", 1000)
    read = []

    def counting(self, rows, columns, plain=RasterioSource.read):
        read.append((rows.stop - rows.start) * (columns.stop - columns.start))
        return plain(self, rows, columns)

    totals = []
    for size in (1280, 1536):
        path = tmp_path / f"{size}.tif"
        pixels = np.tile(scene(256, 256), (size // 256, size // 256, 1))
        write_raster(path, pixels, tiled=True, blockxsize=256, blockysize=256)
        image = bundle(path, 4)
        with monkeypatch.context() as patch:
            patch.setattr(RasterioSource, "read", counting)
            image.plot()
        totals.append(sum(read))
        read.clear()
    assert totals == [25 * 256**2, 25 * 256**2]


def test_originals_that_are_no_original(bundle, scene, write_raster, tmp_path, monkeypatch):
    image = bundle(scene(40, 50), 3)
    with pytest.raises(ParameterError, match="is 50 x 41 pixels of uint8, the compressed image 50"):
        image.plot(scene(41, 50))
    with pytest.raises(ParameterError, match=r"of uint16, the compressed image .* of uint8"):
        image.plot(scene(40, 50).astype(np.uint16))
    with pytest.raises(kmdask.SourceNotFoundError):
        image.plot("nowhere.tif")
    monkeypatch.setattr(originals, "WHOLE", 1000)
    path = write_raster(tmp_path / "a.png", scene(40, 50), driver="PNG")
    with pytest.raises(ParameterError, match="can only be decoded as a whole"):
        image.plot(path)


def test_what_has_changed_since_is_no_original(bundle, scene, write_raster, tmp_path):
    path = write_raster(tmp_path / "a.tif", scene(80, 90))
    image = bundle(path, 3)
    assert looks.look_at(image).crops
    write_raster(path, 255 - scene(80, 90))
    alone = looks.look_at(image)
    assert (alone.original, alone.crops) == (None, ())
    with pytest.raises(ParameterError, match="further from the compressed image"):
        image.plot(path)
    floats = scene(80, 90).astype("f4")
    image = bundle(floats, 3)
    floats[40, 40] = np.nan
    with pytest.raises(ParameterError, match="further from the compressed image"):
        image.plot(floats)


def test_what_was_said_to_be_missing_is_white_in_the_overview(
    bundle, scene, write_raster, tmp_path, monkeypatch
):
    monkeypatch.setattr(originals, "WHOLE", 1000)
    monkeypatch.setattr(originals, "LONGEST", 128)
    pixels = np.maximum(scene(256, 256), 8)
    pixels[:64] = 7
    place = {"crs": "EPSG:32629", "transform": Affine(60, 0, 5e5, 0, -60, 6e6)}
    tiled = {"tiled": True, "blockxsize": 64, "blockysize": 64}
    path = write_raster(tmp_path / "a.tif", pixels, **tiled, **place)
    with rasterio.open(path, "r+") as dataset:
        dataset.build_overviews([2])
    overview = looks.look_at(bundle(path, 3, nodata=7)).original
    assert (overview[:32] == 255).all()
    assert (overview[32:] < 255).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (300, 260), (90, 800), (5000, 7000)])
def test_windows_are_squares_inside(shape):
    windows = looks.look_windows(shape)
    side = min(max(min(shape) // 3, 32), 256)
    assert 0 < len(windows) <= 25
    for window in windows:
        for piece, size in zip(window, shape, strict=True):
            assert 0 <= piece.start < piece.stop <= size
            assert piece.stop - piece.start == min(side, size)


def test_command_line(bundle, scene, write_raster, tmp_path, monkeypatch):
    path = write_raster(tmp_path / "a.tif", scene(40, 50))
    image = bundle(path, 3)

    def run(*arguments):
        return CliRunner().invoke(main, ["plot", *map(str, arguments)])

    done = run(image.path)
    written = image.path.with_name(f"{image.path.name}.png")
    assert (done.exit_code, done.stdout.strip()) == (0, str(written)), done.output
    with Image.open(written) as picture:
        assert picture.width == 1950
    monkeypatch.chdir(image.path)
    assert "exists already" in run(".").stderr
    done = run(image.path, "--original", path, "--to", tmp_path / "b.svg")
    assert done.exit_code == 0, done.output
    assert b"<svg" in (tmp_path / "b.svg").read_bytes()[:1000]
    for arguments, told in (
        ((image.path,), "exists already"),
        ((image.path, "--to", "a.jpg"), "ends in .png, .svg, .pdf"),
        ((image.path, "--overwrite", "--original", "nowhere.tif"), "nowhere.tif"),
        ((tmp_path / "c",), "no kmdask bundle"),
    ):
        refused = run(*arguments)
        assert refused.exit_code == 1
        assert told in refused.stderr
    with pytest.raises(OutputExistsError):
        image.plot(path=written)
    with pytest.raises(BundleError):
        kmdask.open(tmp_path / "c")


# A sweep


def curve(figure):
    """The points of the palettes."""
    (line,) = (each for each in figure.axes[0].lines if "palette" in str(each.get_label()))
    return line.get_xydata()


def fields(**changed):
    return TABLE.__class__(**{**vars(TABLE), **changed})


def test_a_sweep_by_sampled_bytes():
    figure = fields(points=POINTS).plot()
    assert isinstance(figure, Figure)
    np.testing.assert_allclose(curve(figure), [[k / 2, 10 * k] for k in (2, 4, 8)])
    told = texts(figure)
    assert "$a$.tif" in told
    assert "the knee" in told
    assert "as stored" in figure.axes[0].get_xlabel()


def test_a_sweep_by_entropy(tmp_path):
    points = tuple(Point(k, k, 0.0, math.inf, k - 1.0, 8) for k in (1, 2))
    figure = fields(points=points, sample_pixels=0).plot(tmp_path / "a.pdf")
    assert curve(figure)[:, 0].tolist() == [0, 1]
    assert "entropy" in figure.axes[0].get_xlabel()
    assert "without loss" in texts(figure)
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("sampled", [64, 0])
def test_a_sweep_with_entropy_constrained_palettes(sampled):
    rated = tuple(
        replace(p, k=256, psnr=p.psnr + 1, sample_bytes=5 * p.k if sampled else None)
        for p in POINTS
    )
    figure = fields(points=POINTS, entropy_constrained=rated, sample_pixels=sampled).plot()
    np.testing.assert_allclose(curve(figure), [[k / 2, 10 * k] for k in (2, 4, 8)])
    (line,) = (each for each in figure.axes[0].lines if "entropy-con" in str(each.get_label()))
    x = [k * 5 / 8 if sampled else k / 2 for k in (2, 4, 8)]
    np.testing.assert_allclose(line.get_xydata(), [*zip(x, [21, 41, 81], strict=True)])
    assert line.get_color() != figure.axes[0].lines[0].get_color()
    assert "entropy-constrained" in texts(figure)


def test_a_sweep_with_rivals():
    points = tuple(Point(**{**vars(point), "sample_mse": 4.0 / point.k}) for point in POINTS)
    rivals = (
        Rival("jpeg", 10, None, 32, 9.0, 30.0),
        Rival("jpeg", 90, None, 64, 1.0, 40.0),
        Rival("webp", None, None, 96, 0.0, math.inf),
        Rival("png", None, 2, 40, 9.0, 30.0),
    )
    table = fields(points=points, rivals=rivals)
    figure = table.plot()
    np.testing.assert_allclose(curve(figure)[:, 1], [table.sample_psnr(p) for p in points])
    lines = {str(line.get_label()): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert lines["JPEG"] == [[4, 30], [8, 40]]
    assert lines["WebP"][0][0] == 12
    assert lines["PNG of the indices"] == [[5, 30]]
    dotted = [line.get_xydata().tolist() for line in figure.axes[0].lines if line.get_ls() == ":"]
    assert dotted == []
    spared = fields(points=(*points, Point(**{**vars(points[0]), "k": 16, "sample_bytes": 80})))
    spared = Sweep(**{**vars(spared), "rivals": rivals})
    dotted = [line for line in spared.plot().axes[0].lines if line.get_ls() == ":"]
    assert [line.get_xydata().tolist() for line in dotted] == [[[8, 40], [10, 40]]]
    assert spared.rival_is_bound(spared.points[-1], "jpeg")
    assert not spared.rival_is_bound(points[0], "jpeg")


def curve_of(psnr, ks):
    points = tuple(Point(k, k, 1.0, psnr(math.log2(k)), 1 + k / 1e4, 8) for k in ks)
    return fields(points=points, sample_pixels=0).plot()


def test_labels_of_points_that_are_close_are_left_out():
    figure = curve_of(lambda bits: 30 + 6 * min(bits, 3) + 0.5 * max(bits - 3, 0), range(1, 40))
    told = [text.get_text() for text in figure.axes[0].texts]
    assert 1 <= len(told) < 20
    assert str(figure.axes[0].get_legend().texts[-1].get_text()) == "the knee"
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_curve_that_does_not_bend_has_no_knee():
    legend = curve_of(lambda bits: 30 + 6 * bits, (2, 4, 8)).axes[0].get_legend()
    assert "the knee" not in [text.get_text() for text in legend.texts]


def test_codecs_are_in_a_row_of_the_legend_below_that_of_palettes():
    points = tuple(Point(k, k, 1.0, 30 + psnr, 1 + k, 8, sample_bytes=8 * k)
                   for k, psnr in ((2, 0), (4, 9), (8, 10)))  # fmt: skip
    rivals = [
        Rival(codec, quality, None, 10 + quality, 1.0, 20 + quality)
        for codec in ("jpeg", "webp", "jxl", "avif")
        for quality in (1, 5)
    ]
    rivals += [Rival("png", None, None, 30, 0.0, math.inf), Rival("png", None, 4, 12, 1.0, 25)]
    axes = fields(points=points, rivals=tuple(rivals), entropy_constrained=points).plot().axes[0]
    rows = {
        tuple(each.get_text() for each in legend.texts): legend.get_window_extent()
        for legend in axes.findobj(mpl.legend.Legend)
    }
    lower = rows["JPEG", "WebP", "JPEG XL", "AVIF", "PNG", "PNG of the indices"]
    upper = rows["palette, as stored", "entropy-constrained, as stored", "the knee"]
    assert len(rows) == 2
    assert max(lower.x1, upper.x1) < axes.figure.bbox.x1
    assert (upper.x0, upper.height) == pytest.approx((lower.x0, lower.height))
    # Both have a margin of half a line.
    assert upper.y0 > lower.y0 + 0.7 * lower.height
