"""Deep Zoom trees, put together again by a reader that knows only the format."""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import dask
import dask.array as da
import numpy as np
import pytest
from PIL import Image

from kmdask import OutputError, Palette, decode, encode, pyramid
from kmdask.display import Colormap
from kmdask.writing.deepzoom import write_description, write_levels
from kmdask.writing.preview import write_preview

PALETTE = Palette.from_centers(
    np.array([[0, 0, 0], [90, 60, 30], [128, 128, 128], [200, 40, 40], [250, 250, 250.0]])
)

COLORMAP = Colormap(PALETTE.rgb)


def read_deepzoom(description):
    """Every level of a Deep Zoom image as RGBA, the single pixel first."""
    image = ET.parse(description).getroot()  # noqa: S314  our own file
    space = "{http://schemas.microsoft.com/deepzoom/2008}"
    assert image.tag == f"{space}Image"
    assert image.get("Overlap") == "0"
    size = image.find(f"{space}Size")
    width, height = int(size.get("Width")), int(size.get("Height"))
    tile, ending = int(image.get("TileSize")), image.get("Format")
    folder = description.with_name(f"{description.stem}_files")
    last = math.ceil(math.log2(max(width, height)))
    assert {path.name for path in folder.iterdir()} == {str(level) for level in range(last + 1)}
    levels = []
    for level in range(last + 1):
        scale = 2 ** (last - level)
        columns, rows = math.ceil(width / scale), math.ceil(height / scale)
        canvas = Image.new("RGBA", (columns, rows), (1, 2, 3, 4))
        expected = set()
        for top in range(0, rows, tile):
            for left in range(0, columns, tile):
                name = f"{left // tile}_{top // tile}.{ending}"
                expected.add(name)
                with Image.open(folder / str(level) / name) as part:
                    assert part.size == (min(tile, columns - left), min(tile, rows - top))
                    canvas.paste(part.convert("RGBA"), (left, top))
        assert {path.name for path in (folder / str(level)).iterdir()} == expected
        levels.append(np.asarray(canvas))
    return levels


def write(tmp_path, pixels, mask, palette=PALETTE):
    levels = [encode(level.pixels, palette, level.mask) for level in pyramid(pixels, mask)]
    write_description(tmp_path / "map.dzi", pixels.shape[:2])
    folder = tmp_path / "map_files"
    colormap = Colormap(palette.rgb, None if mask is None else palette.nodata)
    sizes = dask.compute(*write_levels(levels, colormap, folder))
    return levels, sizes, folder


@pytest.mark.parametrize("shape", [(700, 1300), (1024, 512), (1, 1), (1, 600), (1030, 1)])
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_the_tree_is_the_image(tmp_path, scene, holes, shape, bands, masked):
    grey = Palette.from_centers(np.array([[0.0], [60], [140], [255]]))
    palette = grey if bands == 1 else PALETTE
    pixels, valid = scene(*shape, bands), holes(*shape)
    mask = da.from_array(valid, chunks=(512, 1024)) if masked else None

    levels, sizes, folder = write(
        tmp_path, da.from_array(pixels, chunks=(512, 1024, -1)), mask, palette
    )

    for seen, indices in zip(read_deepzoom(tmp_path / "map.dzi"), levels[::-1], strict=True):
        assert seen.shape[:2] == indices.shape
        opaque = indices.compute() != palette.nodata
        np.testing.assert_array_equal(seen[:, :, 3], np.where(opaque, 255, 0))
        colors = np.broadcast_to(decode(indices, palette).compute(), (*indices.shape, 3))
        np.testing.assert_array_equal(seen[opaque][:, :3], colors[opaque])
    files = [path.stat().st_size for path in folder.rglob("*.png")]
    assert sum(int(level.sum()) for level in sizes) == sum(files)


@pytest.mark.parametrize("masked", [False, True])
def test_more_colours_than_a_palette_png_holds(tmp_path, masked):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (3000, 3), dtype=np.uint8)
    shapes = [(600, 700), (300, 350), *[(-(-300 // 2**i), -(-350 // 2**i)) for i in range(1, 10)]]
    levels = [
        da.from_array(rng.integers(0, 3000 + masked, shape, dtype=np.uint16), chunks=512)
        for shape in shapes
    ]
    write_description(tmp_path / "map.dzi", levels[0].shape)
    colormap = Colormap(rgb, 3000 if masked else None)
    dask.compute(*write_levels(levels, colormap, tmp_path / "map_files"))
    for seen, indices in zip(read_deepzoom(tmp_path / "map.dzi"), levels[::-1], strict=True):
        opaque = indices.compute() < 3000
        np.testing.assert_array_equal(seen[:, :, 3], np.where(opaque, 255, 0))
        np.testing.assert_array_equal(seen[opaque][:, :3], rgb[indices.compute()[opaque]])


@pytest.mark.parametrize("k", [5, 3000])
@pytest.mark.parametrize("grey", [False, True])
def test_previews_are_the_level_that_fits(tmp_path, k, grey):
    rgb = np.zeros((k, 3), np.uint8)
    rgb[:] = np.arange(k)[:, None] % 200
    rgb[:, 2] += 0 if grey else 50
    large = da.zeros((9, 2049), dtype=np.uint16, chunks=512)
    # Flat and aligned to the blocks of JPEG, so that hardly anything is lost.
    small = np.full((16, 1040), k, np.uint16)
    small[:, :512] = k - 1
    levels = [large, da.from_array(small, chunks=512)]
    written = write_preview(levels, Colormap(rgb, k), tmp_path / "p.jpg").compute()
    assert written.sum() == (tmp_path / "p.jpg").stat().st_size
    with Image.open(tmp_path / "p.jpg") as image:
        assert image.mode == ("L" if grey else "RGB")
        seen = np.asarray(image.convert("RGB")).astype(int)
    expected = np.where(small[:, :, None] == k, 255, rgb[k - 1])
    away = np.r_[:496, 528:1040]  # from the edge, over which JPEG smears colours
    assert abs(seen - expected)[:, away].max() <= 4


def test_nothing_is_written_before_it_is_computed(tmp_path):
    writes = write_levels([da.zeros((2, 2), dtype=np.uint8)], COLORMAP, tmp_path / "t_files")
    assert not list(tmp_path.rglob("*.png"))
    dask.compute(*writes)
    assert [path.name for path in tmp_path.rglob("*.png")] == ["0_0.png"]


def test_where_a_tile_cannot_be_written_is_named(tmp_path):
    (writes,) = write_levels([da.zeros((2, 2), dtype=np.uint8)], COLORMAP, tmp_path / "t_files")
    (tmp_path / "t_files" / "0" / "0_0.png" / "in the way").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"t_files/0'.*Is a directory"):
        writes.compute()
