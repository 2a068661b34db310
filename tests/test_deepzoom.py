"""Deep Zoom trees, put together again by a reader that knows only the format."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree as ET

import dask
import dask.array as da
import numpy as np
import pytest
from PIL import Image

from kmdask import OutputError, Palette, decode, encode, pyramid
from kmdask.deepzoom import write_description, write_levels

PALETTE = Palette.from_centers(
    np.array([[0, 0, 0], [90, 60, 30], [128, 128, 128], [200, 40, 40], [250, 250, 250.0]])
)


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
    sizes = dask.compute(*write_levels(levels, palette, folder, transparent=mask is not None))
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


def test_nothing_is_written_before_it_is_computed(tmp_path):
    writes = write_levels(
        [da.zeros((2, 2), dtype=np.uint8)], PALETTE, tmp_path / "t_files", transparent=False
    )
    assert not list(tmp_path.rglob("*.png"))
    dask.compute(*writes)
    assert [path.name for path in tmp_path.rglob("*.png")] == ["0_0.png"]


def test_a_full_disk_is_named(tmp_path):
    (writes,) = write_levels(
        [da.zeros((2, 2), dtype=np.uint8)], PALETTE, tmp_path / "t_files", transparent=False
    )
    Path(tmp_path / "t_files" / "0" / "0_0.png").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"0_0\.png.*No space left"):
        writes.compute()
