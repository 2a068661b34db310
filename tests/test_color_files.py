"""Palettes from files of other programs, and written for them."""

import io
import warnings
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import GimpPaletteFile, Image
from rasterio.errors import NotGeoreferencedWarning

import kmdask
from kmdask import Band, Display, Palette, PaletteError, ParameterError, SavedPalette
from kmdask.cli import main
from kmdask.color_exports import Named, write
from kmdask.color_files import is_hex, kind_of, read
from kmdask.errors import OutputExistsError
from kmdask.palette_source import as_saved

COLORS = np.uint8([[27, 158, 119], [0, 0, 0], [217, 95, 2], [27, 158, 119], [255, 255, 255]])
HEXES = ["#1b9e77", "#000000", "#d95f02", "#1b9e77", "#ffffff"]

TABLES = st.integers(1, 300).flatmap(
    lambda k: st.binary(min_size=3 * k, max_size=3 * k).map(
        lambda raw: np.frombuffer(raw, np.uint8).reshape(-1, 3)
    )
)


def nearest(pixels, colors):
    """The first of the nearest, by brute force."""
    gaps = pixels[:, :, None].astype(int) - colors[None, None].astype(int)
    return (gaps**2).sum(3).argmin(2)


# Each format against who else reads or writes it.


@settings(max_examples=10)
@given(colors=TABLES, kind=st.sampled_from(["hex", "gpl", "clr", "qml"]))
def test_what_is_written_is_read(colors, kind):
    content = write(kind, Named(colors, "a b\nc", [f"<{i}>" for i in range(len(colors))]))
    assert kind_of(content[:4096]) == kind
    assert read(kind, content).tolist() == colors.tolist()


@settings(max_examples=10)
@given(colors=TABLES)
def test_pillow_reads_gimp_palettes(colors):
    content = write("gpl", Named(colors, "a", [""] * len(colors)))
    theirs, mode = GimpPaletteFile.GimpPaletteFile(io.BytesIO(content)).getpalette()
    assert mode == "RGB"
    expected = colors[:256].tobytes()
    assert theirs[: len(expected)] in (expected, expected[: len(theirs)])
    assert len(theirs) >= min(len(expected), 3 * 253)


def test_gimp_palettes_as_they_are_found():
    content = (
        b"\xef\xbb\xbfGIMP Palette\r\nName: Caf\xc3\xa9\r\nColumns: 3\r\n# 1 2 3\r\n\r\n"
        b"255 0 0 red 9 9 9\r\n  0   9\t0\r\n1 2 3\tname: x\r\n"
    )
    assert kind_of(content) == "gpl"
    assert read("gpl", content).tolist() == [[255, 0, 0], [0, 9, 0], [1, 2, 3]]
    old = b"GIMP Palette\n#\n3 2 1\n"
    assert read("gpl", old).tolist() == [[3, 2, 1]]


def test_a_style_paints_indices():
    content = write("qml", Named(COLORS, "", [f'{i} < "é"' for i in range(5)]))
    renderer = ET.fromstring(content).find("pipe/rasterrenderer")  # noqa: S314  our own
    assert (renderer.get("type"), renderer.get("band")) == ("paletted", "1")
    entries = renderer.findall("colorPalette/paletteEntry")
    assert [int(entry.get("value")) for entry in entries] == [0, 1, 2, 3, 4]
    assert [entry.get("color") for entry in entries] == HEXES
    assert {entry.get("alpha") for entry in entries} == {"255"}
    assert entries[2].get("label") == '2 < "é"'


def test_colour_maps_and_styles_are_in_the_order_of_their_values():
    clr = b"# of QGIS\n7 1 2 3 255 seven, or so\n2,9,9,9\n3 0 0 0 0 transparent\n-1: 5 5 5\n"
    assert kind_of(clr) == "clr"
    assert read("clr", clr).tolist() == [[5, 5, 5], [9, 9, 9], [1, 2, 3]]
    entries = "".join(
        f'<paletteEntry value="{value}" color="{color}" alpha="{alpha}" label=""/>'
        for value, color, alpha in [(7, "#010203", 255), (2, "#090909", 9), (3, "#000000", 0)]
    )
    qml = (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'><qgis><pipe>"
        f'<rasterrenderer type="paletted"><colorPalette>{entries}</colorPalette>'
        "</rasterrenderer></pipe></qgis>"
    )
    assert read("qml", qml.encode()).tolist() == [[9, 9, 9], [1, 2, 3]]


@pytest.mark.parametrize("k", [1, 17, 256, 300])
def test_a_picture(tmp_path, k):
    colors = np.random.default_rng(k).permutation(1 << 12)[:k] * 4093
    colors = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], axis=1).astype(np.uint8)
    picture = Image.open(io.BytesIO(write("png", Named(colors, "", [""] * k))))
    rgba = np.asarray(picture.convert("RGBA"))
    for i in range(k):
        row, column = divmod(i, 16)
        assert rgba[row * 40 + 20, column * 40 + 20].tolist() == [*colors[i].tolist(), 255]
    assert (picture.mode == "P") == (k <= 256)
    if k == 17:
        assert rgba[60, 60, 3] == 0, "nothing where there is no colour"
    if k <= 256:
        picture.save(tmp_path / "a.png")
        assert SavedPalette.read(tmp_path / "a.png").palette == Palette(colors)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.gpl", b"GIMP Palette\nName: x\n1 2\n", "line 3 is '1 2'"),
        ("a.gpl", b"GIMP Palette\n1 2 256\n", r"\[1, 2, 256\] is no red, green and blue"),
        ("a.gpl", b"GIMP Palette\nName: x\n", "there is no colour in it"),
        ("a.gpl", b"GIMP Palette\n1 2 99999999999999999999\n", "no palette"),
        ("a.hex", b"ff0000\nred\n", "'red' is no colour"),
        ("a.clr", b"0 1 2 3\nsomething\n", "line 2 is 'something'"),
        ("a.qml", b"<qgis><pipe/></qgis>", "there is no colour in it"),
        ("a.qml", b"<qgis><pipe>", "no element found"),
        ("a.qml", b'<!DOCTYPE qgis [<!ENTITY a "b">]><qgis/>', "entities"),
        ("a.hex", b"fff\n" * 65_537, "65,536"),
        ("a.bin", bytes(range(256)), "colour table"),
        ("a.txt", b"hello", "colour table"),
    ],
)
def test_damaged(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PaletteError, match=message) as caught:
        SavedPalette.read(tmp_path / name)
    assert name in str(caught.value)


def test_what_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "a.gpl").open("wb") as file:
        file.write(b"GIMP Palette\n1 2 3\n")
        file.truncate(1 << 40)
    with pytest.raises(PaletteError, match="larger than 32 MiB"):
        SavedPalette.read(tmp_path / "a.gpl")


# Colour tables of rasters.


@pytest.fixture
def table(tmp_path):
    """``table(colors, name, **profile)``: a raster whose colour table has these; its path."""

    def make(colors, name="a.tif", **profile):
        fields = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 2, "width": 2}
        transform = rasterio.Affine(1, 0, 0, 0, -1, 9)
        with rasterio.open(tmp_path / name, "w", transform=transform, **fields | profile) as raster:
            raster.write(np.zeros((1, 2, 2), raster.dtypes[0]))
            raster.write_colormap(1, dict(enumerate(colors)))
        return tmp_path / name

    return make


def test_of_a_geotiff(table):
    colors = [(1, 2, 3), (0, 0, 0), (9, 9, 9), (1, 2, 3), (7, 7, 7)]
    found = SavedPalette.read(table(colors))
    # GDAL fills the table up to 256 entries with black ones.
    assert found.palette.colors.tolist() == [list(color) for color in colors]
    assert SavedPalette.read(table(colors, "b.tif", dtype="uint16")).palette == found.palette


def test_of_a_geotiff_with_nodata(table):
    # Its entry is transparent to GDAL.
    found = SavedPalette.read(table([(255, 0, 255), (1, 2, 3), (4, 5, 6)], nodata=0))
    assert found.palette.hex == ["#010203", "#040506"]


def test_without_a_table(tmp_path, write_raster, scene):
    with pytest.raises(PaletteError, match="its first band has no colour table"):
        SavedPalette.read(write_raster(tmp_path / "a.tif", scene(8, 8)))


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_of_a_palette_image(tmp_path, name):
    image = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2), mode=None)
    image = image.convert("P")
    image.putpalette([0, 0, 0, 9, 8, 7, 200, 100, 50, 255, 255, 255])
    image.save(tmp_path / name)
    found = SavedPalette.read(tmp_path / name).palette
    assert found.hex[:4] == ["#000000", "#090807", "#c86432", "#ffffff"]


def test_an_image_of_a_bundle_is_the_palette_of_another(tmp_path, compress, scene):
    pixels = scene(40, 50)
    one = compress(pixels, 6, tmp_path / "a.kmdask", formats=("zarr", "cog"))
    two = compress(pixels, out=tmp_path / "b.kmdask", palette=tmp_path / "a.kmdask" / "image.tif")
    assert two.palette == one.palette
    assert (two.indices.compute() == one.indices.compute()).all()


# What comes out of each kind.


@pytest.mark.parametrize(
    "kind", ["list", "string", "hex", "gpl", "clr", "qml", "png", "json", "tif"]
)
def test_indices_are_places_in_the_file(tmp_path, compress, table, scene, kind):
    pixels = scene(30, 40)
    source = {"list": HEXES, "string": ",".join(HEXES)}.get(kind)
    if kind == "tif":
        source = table([tuple(color) for color in COLORS.tolist()])
    elif source is None:
        source = tmp_path / f"a.{kind}"
        as_saved(HEXES).export(source)
    options = {"formats": ("zarr",), "ssim": False}
    image = compress(pixels, out=tmp_path / "a.kmdask", palette=source, **options)
    assert image.palette.colors.tolist() == COLORS.tolist(), "their own order, repeated or not"
    assert (image.indices.compute() == nearest(pixels, COLORS)).all()
    assert image.report.shares[3] == 0
    assert (image.report.k, image.report.peak) == (5, 255)
    place = None if kind in {"list", "string"} else str(source)
    assert image.report.palette == {"path": place, "sources": []}
    assert image.colormap.hex == HEXES
    if kind == "list":
        again = compress(pixels[::-1], out=tmp_path / "b.kmdask", palette=image.path, **options)
        assert again.palette == image.palette


def test_the_bands_are_those_of_the_image(tmp_path, compress, write_raster, scene):
    pixels = scene(20, 30)
    source = write_raster(
        tmp_path / "a.tif", pixels[:, :, ::-1], photometric="MINISBLACK", interleave="pixel"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        raster = rasterio.open(source, "r+")
    with raster:
        color = rasterio.enums.ColorInterp
        raster.colorinterp = (color.blue, color.green, color.red)
    image = compress(source, out=tmp_path / "a.kmdask", palette=HEXES)
    assert [band.number for band in image.bands] == [3, 2, 1]
    assert (image.indices.compute() == nearest(pixels, COLORS)).all()


def test_grey_colours_fit_grey_images(tmp_path, compress, scene):
    grey, greys = scene(20, 30, 1), ["#ffffff", "#101010", "#808080"]
    image = compress(grey[:, :, 0], out=tmp_path / "a.kmdask", palette=greys)
    assert image.palette.colors.ravel().tolist() == [255, 16, 128]
    assert (image.indices.compute() == nearest(grey, np.uint8([[255], [16], [128]]))).all()
    rgb = compress(scene(20, 30), out=tmp_path / "b.kmdask", palette=greys)
    assert rgb.palette.hex == greys


@pytest.mark.parametrize(("bands", "dtype"), [(1, "uint8"), (5, "uint8"), (3, "uint16")])
def test_of_other_images(tmp_path, compress, scene, bands, dtype):
    with pytest.raises(ParameterError, match="they must agree"):
        compress(scene(9, 9, bands).astype(dtype), out=tmp_path / "a", palette=HEXES)
    assert list(tmp_path.iterdir()) == []


def test_what_is_a_palette():
    assert not is_hex("facade")
    assert is_hex("#facade")
    for wrong in (3, [1, 2], (), [("a",)]):
        with pytest.raises(ParameterError, match="palette is"):
            as_saved(wrong)
    with pytest.raises(ParameterError, match="'#12' is no colour"):
        as_saved(["#fff", "#12"])
    with pytest.raises(ParameterError, match="plain"):
        SavedPalette(
            Palette(COLORS[:, :1]), (Band(1),), Display((1,), (0,), (1,)), 5, 1, plain=True
        )


# Exports.


def test_export(tmp_path):
    saved = as_saved(HEXES)
    for name, kind in [("a.gpl", None), ("b", "clr"), ("c.txt", None)]:
        saved.export(tmp_path / name, kind)
        assert SavedPalette.read(tmp_path / name) == saved
    with pytest.raises(OutputExistsError):
        saved.export(tmp_path / "a.gpl")
    as_saved("#fff,#000").export(tmp_path / "a.gpl", overwrite=True)
    assert len(SavedPalette.read(tmp_path / "a.gpl").palette) == 2
    # JSON takes the place of JSON alone, as what `write` writes does.
    with pytest.raises(OutputExistsError, match="no palette that kmdask saved"):
        saved.export(tmp_path / "a.gpl", "json", overwrite=True)
    for name in ("a.xyz", "a"):
        with pytest.raises(ParameterError, match="format="):
            saved.export(tmp_path / name)
    saved.export("memory://colours/a.gpl")
    assert SavedPalette.read("memory://colours/a.gpl") == saved
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gpl", "b", "c.txt"]


def test_what_is_shown_is_exported():
    colors = np.array([[0, 500], [100, 1000]], np.uint16)
    display = Display(bands=(2,), low=(500.0,), high=(1000.0,))
    saved = SavedPalette(Palette(colors), (Band(1), Band(2)), display, 2, 9.0)
    assert saved.exported("hex") == b"#000000\n#ffffff\n"
    assert b'label="100, 1000"' in saved.exported("qml")


def test_the_command(tmp_path, compress, scene):
    image = compress(scene(20, 30), 4, tmp_path / "a.kmdask")

    def run(*arguments):
        done = CliRunner().invoke(main, ["palette", *map(str, arguments)])
        return done.exit_code, done.output

    code, shown = run(image.path)
    lines = shown.splitlines()
    assert (code, len(lines)) == (0, 5)
    for i, color in enumerate(image.palette.hex):
        assert lines[i + 1].split()[:3] == [str(i), color, f"{image.report.shares[i]:.2%}"]
    assert run(image.path, "--format", "hex") == (0, "".join(f"{h}\n" for h in image.palette.hex))
    assert run(image.path, "--to", tmp_path / "a.gpl") == (0, f"{tmp_path / 'a.gpl'}: 4 colours\n")
    assert SavedPalette.read(tmp_path / "a.gpl").palette == image.palette
    assert run(image.path, "--to", tmp_path / "a.gpl")[0] == 1
    assert run(image.path, "--to", tmp_path / "a.gpl", "--overwrite")[0] == 0
    assert "is the source" in run(tmp_path / "a.gpl", "--to", tmp_path / "a.gpl", "--overwrite")[1]
    assert run(image.path, "--to", tmp_path / "j", "--format", "json")[0] == 0
    assert SavedPalette.read(tmp_path / "j") == SavedPalette.read(image.path)
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "j").read_bytes())
    assert SavedPalette.read(tmp_path / "bom") == SavedPalette.read(image.path)
    assert run(image.path, "--format", "png")[0] == 2
    assert "is none of hex" in run(image.path, "--format", "act")[1]
    assert "no palette" in run(tmp_path / "absent")[1]
    code, shown = run("#1b9e77,#d95f02")
    assert (code, len(shown.splitlines())) == (0, 3)


def test_info_says_where_colours_are_from(tmp_path, compress, scene):
    image = compress(scene(8, 9), out=tmp_path / "a.kmdask", palette=HEXES)
    shown = CliRunner().invoke(main, ["info", str(image.path)]).output
    assert "5 in the palette, given\n" in shown
    assert kmdask.open(image.path).report.palette == {"path": None, "sources": []}
