"""One palette for many images: saved, read again, and used without another fit."""

import json
import shutil
from dataclasses import replace
from xml.etree import ElementTree as ET

import dask.array as da
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from distributed import Client, LocalCluster

import kmdask
from kmdask import Band, Display, LinearSpace, Palette, SavedPalette
from kmdask.cli import main
from kmdask.errors import (
    BundleError,
    ClusterError,
    EmptyImageError,
    OutputError,
    OutputExistsError,
    PaletteError,
    ParameterError,
)
from kmdask.options import Options
from kmdask.pipeline import request

FORMATS = ("zarr", "tiles", "cog")


@pytest.fixture(scope="module")
def fit(client):
    return lambda *arguments, **options: kmdask.fit(*arguments, client=client, **options)


@pytest.fixture(scope="module")
def land():
    """``land(height, width, bands, dtype)``: fields of some hundred values, 0 where missing."""

    def make(height, width, bands, dtype, seed=0):
        rng = np.random.default_rng(seed)
        spectra = rng.integers(300, 3000, (12, bands))
        kinds = rng.integers(0, 12, (height // 9 + 1, width // 13 + 1))
        kinds = kinds.repeat(9, axis=0).repeat(13, axis=1)[:height, :width]
        pixels = (spectra[kinds] + rng.normal(0, 40, (height, width, bands))).astype(dtype)
        pixels[: height // 5, : width // 3] = 0
        return pixels

    return make


def contents(bundle):
    """The bytes of every file but the report; what attributes say, but for ``shared``."""
    files = {}
    for path in bundle.rglob("*"):
        name = str(path.relative_to(bundle))
        if path.name in {".zattrs", ".zmetadata"}:
            files[name] = path.read_text().replace('"shared": true', '"shared": false')
        elif path.is_file() and name != "report.json":
            files[name] = path.read_bytes()
    return files


def saved(dtype="uint8", bands=3, k=4, **fields):
    rng = np.random.default_rng(7)
    if np.dtype(dtype).kind == "f":
        colors = (rng.random((k, bands)) / 3).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        colors = rng.integers(limits.min, limits.max, (k, bands), dtype, endpoint=True)
        colors[0, 0], colors[1, 0] = limits.min, limits.max
    usual = {
        "palette": Palette(colors),
        "bands": tuple(Band(number) for number in range(1, bands + 1)),
        "display": Display((1,), (0.1,), (1 / 3,), (2.0, 98.0)),
        "k": k,
        "peak": 1 / 3,
    }
    return SavedPalette(**usual | fields)


# What is in the file.


@pytest.mark.parametrize(
    "dtype",
    ["uint8", "int8", "uint16", "int32", "int64", "uint64", "float32", "float64"],
)
def test_every_digit_is_kept(tmp_path, dtype):
    one = saved(
        dtype,
        bands=2,
        space=LinearSpace((1 / 3, 0.1), ((0.1, 0.7), (1e-17, -1.0))),
        options={"scale": "std", "pca": 2, "refine": "converge"},
        sources=("é.tif", "b.tif"),
        seed=5,
    )
    one.write(tmp_path / "p.json")
    again = SavedPalette.read(tmp_path / "p.json")
    assert again == one
    assert again.palette.colors.dtype == dtype
    assert again.palette.colors.tobytes() == one.palette.colors.tobytes()
    assert again.path == str(tmp_path / "p.json")
    assert json.loads((tmp_path / "p.json").read_text())["kmdask"] == kmdask.__version__


def test_bands_without_a_number_for_missing(tmp_path):
    bands = (Band(4, "B08", nodata=float("nan"), scale=1e-4), Band(2, nodata=float("-inf")))
    saved(bands=2).write(tmp_path / "a.json")
    one = replace(saved(bands=2), bands=bands, display=Display((4,), (0.0,), (1.0,)))
    again = SavedPalette.from_json(one.to_json())
    assert str(again.bands) == str(bands)
    assert again.numbers == (4, 2)


def changed(**fields):
    return json.dumps(json.loads(saved().to_json()) | fields).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{}",
        b"[]",
        b"3",
        b'{"kind": "kmdask palette"}',
        saved().to_json()[:-40],
        b"[" * 100_000,
        changed(kind="something else"),
        changed(format_version=2),
        changed(dtype="uint7"),
        changed(dtype="object"),
        changed(dtype="int8", colors=[[1, 2, 300]]),
        changed(colors=[[1, 2, 0.5]]),
        changed(colors=[[1, 2], [3]]),
        changed(colors=[[1, 2]]),
        changed(colors=[]),
        changed(dtype="float32", colors=[[1.0, 2.0, float("nan")]]),
        changed(bands=[{"number": 1}]),
        changed(bands=None),
        changed(display={"bands": [9], "low": [0], "high": [1], "stretch": None}),
        changed(display={}),
        changed(space={"scale": [1.0], "components": []}),
        changed(k="many"),
        changed(peak=None),
        changed(options=3),
    ],
)
def test_damaged(tmp_path, content):
    (tmp_path / "p.json").write_bytes(content)
    with pytest.raises(PaletteError, match=r"p\.json"):
        SavedPalette.read(tmp_path / "p.json")


def test_nothing_there(tmp_path):
    with pytest.raises(PaletteError, match="there is no palette at"):
        SavedPalette.read(tmp_path / "p.json")
    with pytest.raises(PaletteError, match="there is no palette at"):
        kmdask.compress(np.zeros((4, 4), np.uint8), out=tmp_path / "o", palette=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_written_once_and_whole(tmp_path):
    path = tmp_path / "p.json"
    saved(k=4).write(path)
    with pytest.raises(OutputExistsError, match="overwrite"):
        saved(k=5).write(path)
    assert len(SavedPalette.read(path).palette) == 4
    saved(k=5).write(path, overwrite=True)
    assert len(SavedPalette.read(path).palette) == 5
    with pytest.raises(OutputError, match="permission"):
        saved().write(tmp_path / "absent" / "p.json")
    with pytest.raises(OutputExistsError):
        saved().write(tmp_path, overwrite=True)
    assert list(tmp_path.iterdir()) == [path], "nothing temporary is left"


def test_an_image_is_not_replaced(tmp_path, write_raster, scene):
    # Of two images and no output the second is taken for it.
    one, two = (write_raster(tmp_path / name, scene(8, 9)) for name in ("a.tif", "b.tif"))
    before = two.read_bytes()
    done = CliRunner().invoke(main, ["fit", str(one), str(two), "-k", "2", "--overwrite"])
    assert done.exit_code == 1
    assert "to a file whose name ends in .json; got" in done.stderr
    assert "b.tif'" in done.stderr
    with pytest.raises(OutputExistsError, match="is no palette"):
        saved().write(two, overwrite=True)
    assert two.read_bytes() == before


@pytest.mark.parametrize("name", ["both", "both.tif", "json", "memory://palettes/both.png"])
def test_the_name_of_a_palette_says_what_it_is(tmp_path, scene, name):
    with pytest.raises(ParameterError, match=r"name ends in \.json; got '.*" + name[-4:]):
        kmdask.fit(scene(4, 5), 2, name)
    assert not list(tmp_path.iterdir())


def test_the_ending_may_be_in_capitals(scene, client):
    kmdask.fit(scene(4, 5) & 0xC0, 2, "BOTH.JSON", client=client)
    assert len(SavedPalette.read("BOTH.JSON").palette) == 2


def test_in_an_object_store():
    saved().write("memory://palettes/a.json")
    assert SavedPalette.read("memory://palettes/a.json") == saved()
    with pytest.raises(OutputExistsError):
        saved().write("memory://palettes/a.json")


def test_of_a_bundle_in_an_object_store(tmp_path, compress, scene):
    pixels = scene(40, 50)
    there = compress(pixels, 5, "memory://bundles/a.kmdask")
    given = compress(pixels, out=tmp_path / "a.kmdask", palette="memory://bundles/a.kmdask")
    assert given.palette == there.palette
    assert given.report.palette["path"] == "memory://bundles/a.kmdask"


# What it makes of an image.


@pytest.fixture(params=["rgb", "holes", "grey", "std", "pca", "weighted", "float"])
def case(request, tmp_path, scene, holes, land, write_raster):
    """A source of some kind, and options of the fit."""
    path, options = tmp_path / "a.tif", {}
    if request.param == "rgb":
        write_raster(path, scene(600, 530) & 0xF0)
    elif request.param == "holes":
        write_raster(path, scene(300, 210) & 0xF0, holes(300, 210))
    elif request.param == "grey":
        write_raster(path, scene(90, 131, 1))
    elif request.param == "weighted":
        write_raster(path, scene(90, 131))
        options = {"scale": (1, 0.5, 2), "display": (3, 2, 1)}
    elif request.param == "float":
        write_raster(path, land(120, 90, 2, np.float32) / np.float32(7), nodata=0)
    else:
        write_raster(path, land(120, 90, 5, np.uint16), nodata=0)
        options = {"scale": "std", "pca": 3 if request.param == "pca" else None, "refine": 1}
        options["stretch"] = (5, 95)
    return path, options


def test_as_if_it_had_been_fitted(tmp_path, compress, fit, case):
    path, options = case
    direct = compress(path, 9, tmp_path / "direct.kmdask", formats=FORMATS, seed=3, **options)
    fitted = fit(path, 9, tmp_path / "p.json", seed=3, **options)
    assert fitted == SavedPalette.read(tmp_path / "p.json")
    for palette in (fitted, tmp_path / "p.json", tmp_path / "direct.kmdask"):
        out = tmp_path / "given.kmdask"
        given = compress(path, out=out, palette=palette, formats=FORMATS)
        assert contents(given.path) == contents(direct.path)
        attributes = zarr.open_group(out / "image.zarr", mode="r").attrs["kmdask"]
        assert attributes["options"]["shared"] is True
        ours, theirs = given.report, direct.report
        assert (ours.colors, ours.exact_colors) == (None, None)
        assert (ours.k, ours.k_used, ours.seed) == (9, theirs.k_used, 3)
        assert ours.valid_pixels == theirs.valid_pixels
        assert ours.mse == pytest.approx(theirs.mse, rel=1e-12)
        assert ours.shares == pytest.approx(theirs.shares, rel=1e-12)
        assert ours.peak == theirs.peak
        assert set(ours.seconds) == {"open", "write"}
        assert ours.palette["sources"] == [str(path)]
        assert ours.palette["path"] == (
            str(palette) if palette is not fitted else str(tmp_path / "p.json")
        )
        assert theirs.palette is None
        shutil.rmtree(out)


def test_a_palette_of_a_bundle_of_a_given_palette(tmp_path, compress, fit, scene):
    one = fit(scene(40, 50), 5)
    assert one.path is None
    compress(scene(40, 50, seed=1), out=tmp_path / "b.kmdask", palette=one)
    again = SavedPalette.read(tmp_path / "b.kmdask")
    assert replace(again, sources=()) == replace(one, sources=())
    assert again.sources == one.sources == ("array (40, 50, 3)",)


def test_nobody_knows_that_all_are_valid(tmp_path, compress, fit, scene, write_raster):
    pixels = scene(90, 131)
    path = write_raster(tmp_path / "a.tif", pixels, np.ones((90, 131), bool))
    direct = compress(path, 9, tmp_path / "direct.kmdask")
    given = compress(path, out=tmp_path / "given.kmdask", palette=fit(path, 9))
    assert (direct.nodata, given.nodata) == (None, 9)
    np.testing.assert_array_equal(given.indices.compute(), direct.indices.compute())
    assert given.report.valid_pixels == 90 * 131


@pytest.mark.parametrize("kind", ["tif", "zarr", "dask"])
def test_regions_make_the_whole(tmp_path, compress, fit, land, write_raster, write_zarr, kind):
    pixels = land(130, 190, 4, np.uint16)
    source = pixels
    if kind == "tif":
        source = write_raster(tmp_path / "a.tif", pixels, nodata=0)
    elif kind == "zarr":
        source = write_zarr(tmp_path / "a.zarr", pixels)
    else:
        source = da.from_array(pixels, chunks=(50, 60, 2))
    palette = fit(source, 12, nodata=0)
    whole = compress(source, 12, tmp_path / "whole.kmdask", nodata=0)
    indices, squared, valid = np.zeros((130, 190), np.uint8), 0.0, 0
    for row, height in ((0, 70), (70, 60)):
        for column, width in ((0, 133), (133, 57)):
            window = (column, row, width, height)
            part = compress(
                source,
                out=tmp_path / f"{row}-{column}.kmdask",
                palette=palette,
                window=window,
                nodata=0,
            )
            assert part.palette == whole.palette
            indices[row : row + height, column : column + width] = part.indices.compute()
            squared += part.report.mse * part.report.valid_pixels
            valid += part.report.valid_pixels
    np.testing.assert_array_equal(indices, whole.indices.compute())
    assert valid == whole.report.valid_pixels == (pixels != 0).any(axis=2).sum()
    assert squared / valid == pytest.approx(whole.report.mse)


def test_a_region_of_nothing(tmp_path, compress, fit, land, write_raster):
    source = write_raster(tmp_path / "a.tif", land(130, 190, 4, np.uint16), nodata=0)
    palette, window = fit(source, 12), (0, 0, 40, 20)
    part = compress(source, out=tmp_path / "a.kmdask", palette=palette, window=window)
    assert (part.indices.compute() == 12).all()
    assert (part.report.valid_pixels, part.report.mse) == (0, 0)
    with pytest.raises(EmptyImageError):
        compress(source, 12, tmp_path / "b.kmdask", window=window)


def test_bands_of_the_palette(tmp_path, compress, fit, land, write_raster):
    pixels = land(120, 90, 5, np.uint16)
    source = write_raster(tmp_path / "a.tif", pixels, nodata=0)
    palette = fit(source, 7, bands=(4, 1, 3), display=(1,))
    direct = compress(source, 7, tmp_path / "a.kmdask", bands=(4, 1, 3), display=(1,))
    given = compress(source, out=tmp_path / "b.kmdask", palette=palette)
    assert contents(given.path) == contents(direct.path)
    # The same bands under other numbers.
    other = write_raster(tmp_path / "b.tif", pixels[:, :, [0, 2, 3]], nodata=0)
    moved = compress(other, out=tmp_path / "c.kmdask", palette=palette, bands=(3, 1, 2))
    np.testing.assert_array_equal(moved.indices.compute(), direct.indices.compute())
    assert moved.display == replace(direct.display, bands=(1,))
    assert (moved.colormap.rgb == direct.colormap.rgb).all()
    assert ET.parse(moved.path / "tiles.dzi")  # noqa: S314  our own file


def test_pixels_as_near_to_two_entries(tmp_path, compress):
    """Each pixel has the nearest entry, found by brute force, with an image the fit never saw."""
    one = replace(saved(k=30), display=Display((1,), (0.0,), (255.0,)), peak=255.0)
    pixels = np.random.default_rng(1).integers(0, 256, (64, 48, 3)).astype(np.uint8)
    result = compress(pixels, out=tmp_path / "a.kmdask", palette=one)
    far = pixels[:, :, None].astype(int) - one.palette.colors.astype(int)
    squared = (far**2).sum(axis=-1)
    np.testing.assert_array_equal(result.indices.compute(), squared.argmin(axis=-1))
    assert result.report.mse == pytest.approx(squared.min(axis=-1).mean() / 3)


# What does not agree.


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({}, "give k"),
        ({"k": 4, "palette": saved()}, "k is 4, and there is a palette already"),
        ({"seed": 1, "palette": saved()}, "seed is 1"),
        ({"scale": np.ones(3), "palette": saved()}, "scale is"),
        ({"pca": 1, "palette": saved()}, "pca is 1"),
        ({"refine": 0, "palette": saved()}, "refine is 0"),
        ({"display": (1,), "palette": saved()}, "display is"),
        ({"stretch": (1, 99), "palette": saved()}, "stretch is"),
        ({"estimator": object(), "palette": saved()}, "estimator"),
        ({"palette": 5}, "palette is what kmdask.fit returns"),
        ({"palette": saved().palette}, "palette is what kmdask.fit returns"),
        ({"palette": saved("uint16")}, r"3 bands of uint16, .* 3 of uint8: they must agree"),
        ({"palette": saved(bands=2), "bands": (1,)}, r"2 bands of uint8, .* 1 of uint8"),
        ({"palette": saved(bands=4)}, r"no band 4.*bands of the palette"),
        ({"palette": saved(k=257), "formats": FORMATS}, "256"),
        ({"palette": saved(), "window": (0, 0, 51, 1)}, "window"),
    ],
)
def test_what_does_not_agree(tmp_path, compress, scene, arguments, match):
    with pytest.raises(ParameterError, match=match):
        compress(scene(40, 50), out=tmp_path / "a.kmdask", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_no_index_for_invalid_pixels(tmp_path, compress):
    colors = np.stack(np.divmod(np.arange(65_536), 256), axis=1).astype(np.uint16)
    one = replace(saved("uint16", bands=2), palette=Palette(colors), k=65_536)
    with pytest.raises(ParameterError, match="need one of the 65,536 indices"):
        compress(np.ones((8, 9, 2), np.uint16), out=tmp_path / "a", palette=one, nodata=0)


def test_a_damaged_bundle_is_no_palette(tmp_path, compress, scene):
    bundle = compress(scene(40, 50), 4, tmp_path / "a.kmdask").path
    (bundle / "report.json").unlink()
    with pytest.raises(BundleError, match=r"damaged: there is no report\.json"):
        SavedPalette.read(bundle)


def test_going_on_takes_the_same_palette_and_region():
    def asked(**options):
        return request(np.zeros((8, 9, 3), np.uint8), Options(k=None, **options), None)

    one, other = saved(), saved(seed=1)
    assert asked(palette=one) == asked(palette=replace(one, path="elsewhere"))
    assert asked(palette=one) != asked(palette=other)
    assert asked(palette=one) != asked(palette=one, window=(0, 0, 4, 4))


def test_going_on_with_a_palette(tmp_path, monkeypatch, compress, fit, land, write_raster):
    source = write_raster(tmp_path / "a.tif", land(130, 190, 4, np.uint16), nodata=0)
    options = {"palette": fit(source, 9), "window": (3, 4, 150, 120), "formats": FORMATS}
    whole = compress(source, out=tmp_path / "whole.kmdask", **options)

    def lost(*_arguments):
        raise ClusterError("the cluster was lost")

    sizes_of = kmdask.pipeline.sizes_of
    monkeypatch.setattr("kmdask.pipeline.sizes_of", lost)
    with pytest.raises(ClusterError):
        compress(source, out=tmp_path / "part.kmdask", **options)
    monkeypatch.setattr("kmdask.pipeline.sizes_of", sizes_of)
    # What is there has been written: nothing is read for it again.
    monkeypatch.setattr("kmdask.reading.gdal_source.RasterioSource.read", lost)
    part = compress(source, out=tmp_path / "part.kmdask", resume=True, **options)
    assert contents(part.path) == contents(whole.path)
    assert part.report.mse == whole.report.mse
    assert part.report.palette == whole.report.palette


# One palette for several images.


@pytest.mark.parametrize("bands", [1, 3])
def test_counted_together(fit, scene, bands):
    whole = scene(90, 131, bands)
    expected = fit(whole, 9)
    for parts in ([whole[:31], whole[31:]], [whole[:, 70:], whole[:5, :70], whole[5:, :70]]):
        together = fit(parts, 9)
        assert together.palette == expected.palette
        assert len(together.sources) == len(parts)


def test_gathered_together(fit, land):
    pixels = land(200, 180, 5, np.uint16)
    pixels[:, 60:] = np.minimum(pixels[:, 60:] * 2, 4000)
    parts = [pixels[:80, :60], pixels[:80, 60:], pixels[80:]]
    alone, together = fit(pixels, 16, nodata=0), fit([*parts, pixels[:9, :9]], 16, nodata=0)
    assert together.peak == alone.peak
    valid = pixels[(pixels != 0).any(axis=2)].astype(float)

    def error(one):
        return ((valid[:, None] - one.palette.colors) ** 2).sum(axis=-1).min(axis=1).mean()

    assert error(together) <= 1.1 * error(alone)
    # Of the first part alone it does not know the others.
    assert error(fit(parts[0], 16, nodata=0)) > 2 * error(alone)


def test_few_colours_of_all_images(fit):
    rng = np.random.default_rng(0)
    images = [rng.integers(low, low + 3, (20, 30, 1)).astype(np.uint16) for low in (5, 90, 7000)]
    together = fit(images, 30, nodata=1)
    expected = np.unique(np.concatenate([image.ravel() for image in images]))
    np.testing.assert_array_equal(together.palette.colors[:, 0], expected)


def test_an_image_of_nothing_among_others(fit, land):
    nothing = np.zeros((70, 60, 4), np.uint16)
    pixels = land(120, 90, 4, np.uint16)
    assert fit([nothing, pixels], 8, nodata=0).palette == fit(pixels, 8, nodata=0).palette
    with pytest.raises(EmptyImageError):
        fit([nothing, nothing], 8, nodata=0)


def test_no_entry_is_nodata_even_if_none_is_missing(fit):
    pixels = np.full((40, 50, 1), 7, np.uint8)
    pixels[:20] = 9  # whose mean is 8
    assert fit(pixels, 1, nodata=8).palette.colors.tolist() == [[9]]


def test_images_that_are_not_alike(tmp_path, fit, scene):
    with pytest.raises(ParameterError, match=r"1 band of uint8, .* has 3 of uint8"):
        fit([scene(40, 50), scene(40, 50, 1)], 4)
    with pytest.raises(ParameterError, match="3 of uint8"):
        fit([scene(40, 50), scene(40, 50).astype(np.uint16)], 4)
    with pytest.raises(ParameterError, match="empty list"):
        fit([], 4, tmp_path / "p.json")
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_copied_first(tmp_path, fit, scene, write_raster):
    paths = []
    for number in range(2):
        paths.append(tmp_path / f"{number}.png")
        write_raster(paths[-1], scene(60, 50, seed=number), driver="PNG")
    (tmp_path / "out").mkdir()
    arrays = [scene(60, 50, seed=number) for number in range(2)]
    assert fit(paths, 6).palette == fit(arrays, 6, tmp_path / "out" / "p.json").palette
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["p.json"]
    with pytest.raises(OutputExistsError):
        fit(paths, 6, tmp_path / "out" / "p.json")
    with pytest.raises(OutputError):
        fit(paths, 6, tmp_path / "absent" / "p.json")


# From the command line, and on a cluster.


def test_command_line(tmp_path, monkeypatch, scene, write_raster):
    monkeypatch.chdir(tmp_path)
    whole = scene(90, 131)
    for name, part in (("left", whole[:, :70]), ("right", whole[:, 70:])):
        write_raster(tmp_path / f"{name}.tif", part)

    def run(*arguments):
        result = CliRunner().invoke(main, [*arguments, "-q"])
        assert result.exit_code == 0, result.output
        return result.stdout

    assert "both.json: 8 colours" in run("fit", "left.tif", "right.tif", "both.json", "-k", "8")
    told = json.loads(
        run("fit", "left.tif", "one.json", "-k", "8", "--window", "0,0,20,30", "--json")
    )
    assert told == {
        "path": str(tmp_path / "one.json"),
        "sources": ["left.tif"],
        "k": 8,
        "k_used": 8,
    }
    shown = run("compress", "right.tif", "--palette", "both.json", "--window", "3,4,50,60")
    assert "50 x 60" in shown
    assert "8 in the palette, fitted to left.tif, right.tif" in shown
    assert shown == run("info", str(tmp_path / "right.kmdask"))
    expected = kmdask.compress(whole, 8, tmp_path / "whole.kmdask").indices[4:64, 73:123]
    np.testing.assert_array_equal(kmdask.open("right.kmdask").indices, expected)
    refused = CliRunner().invoke(
        main, ["compress", "right.tif", "-k", "3", "--palette", "both.json"]
    )
    assert refused.exit_code == 2
    assert "one of -k, --psnr, --max-bytes, --ratio, --palette" in refused.stderr


@pytest.mark.cluster
def test_on_processes(tmp_path, compress, fit, land, write_raster):
    """Fitted on one cluster, used on another: the same bytes as here."""
    paths = [
        write_raster(tmp_path / f"{seed}.tif", land(600, 530, 4, np.uint16, seed), nodata=0)
        for seed in range(2)
    ]
    here = fit(paths, 9)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as other,
    ):
        there = kmdask.fit(paths, 9, tmp_path / "p.json", client=other)
        window, out = (17, 33, 500, 520), tmp_path / "there.kmdask"
        kmdask.compress(paths[1], out=out, palette=there, window=window, client=other)
    assert there == here
    compress(paths[1], out=tmp_path / "here.kmdask", palette=here, window=window)
    assert contents(tmp_path / "here.kmdask") == contents(out)
