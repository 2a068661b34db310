"""PNGs of indices, read back by Pillow and by GDAL."""

from __future__ import annotations

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile

from kmdask.display import Colormap
from kmdask.writing.png import bit_depth, encode_png

CASES = [  # k, transparent, bits
    (1, False, 1),
    (1, True, 1),
    (2, False, 1),
    (2, True, 2),
    (3, False, 2),
    (4, False, 2),
    (4, True, 4),
    (5, False, 4),
    (16, False, 4),
    (16, True, 8),
    (17, False, 8),
    (255, True, 8),
    (256, False, 8),
]


def picture(k, shape, *, transparent):
    rng = np.random.default_rng(k)
    rgb = rng.integers(0, 256, (k, 3), dtype=np.uint8)
    dtype = np.uint8 if k + transparent <= 256 else np.uint16
    indices = rng.integers(0, k + transparent, shape, dtype=dtype)
    indices.flat[-1] = k - 1 + transparent
    return indices, Colormap(rgb, k if transparent else None)


def chunks(png):
    """Kind and content of each chunk, checksums checked."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    at = 8
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        (checksum,) = struct.unpack(">I", png[at + 8 + size : at + 12 + size])
        assert checksum == zlib.crc32(kind + content)
        yield kind, content
        at += 12 + size


@pytest.mark.parametrize(("k", "transparent", "bits"), CASES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 13), (40, 33)])
def test_what_readers_see(k, transparent, bits, shape):
    indices, colormap = picture(k, shape, transparent=transparent)
    # As tiles come: a window of a larger array.
    png = encode_png(np.pad(indices, 3)[3:-3, 3:-3], colormap)

    colors = np.concatenate([colormap.rgb, np.zeros((int(transparent), 3), np.uint8)])
    opacity = np.where(np.arange(len(colors)) < k, 255, 0)
    rgba = np.column_stack([colors, opacity])[indices]

    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == "P"
        assert image.size == shape[::-1]
        np.testing.assert_array_equal(np.asarray(image), indices)
        np.testing.assert_array_equal(np.asarray(image.convert("RGBA")), rgba)

    with warnings.catch_warnings(), MemoryFile(png) as file:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with file.open(driver="PNG") as dataset:
            np.testing.assert_array_equal(dataset.read(1), indices)
            table = dataset.colormap(1)
            np.testing.assert_array_equal(
                [table[i] for i in range(len(colors))], np.column_stack([colors, opacity])
            )

    content = dict(chunks(png))
    assert list(content) == [b"IHDR", b"PLTE", *[b"tRNS"] * transparent, b"IDAT", b"IEND"]
    assert struct.unpack(">IIBBBBB", content[b"IHDR"]) == (*shape[::-1], bits, 3, 0, 0, 0)
    assert content[b"PLTE"] == colors.tobytes()
    if transparent:
        assert content[b"tRNS"] == b"\xff" * k + b"\0"


@pytest.mark.parametrize(("k", "transparent"), [(256, True), (257, False), (65_535, True)])
@pytest.mark.parametrize("shape", [(1, 1), (3, 13), (40, 33)])
def test_more_colours_than_a_palette_holds(k, transparent, shape):
    indices, colormap = picture(k, shape, transparent=transparent)
    png = encode_png(np.pad(indices, 3)[3:-3, 3:-3], colormap)

    valid = indices < k
    colors = colormap.rgb[np.where(valid, indices, 0)]
    with Image.open(io.BytesIO(png)) as image:
        assert image.mode == ("RGBA" if transparent else "RGB")
        rgba = np.asarray(image.convert("RGBA"))
    np.testing.assert_array_equal(rgba[:, :, 3], np.where(valid, 255, 0))
    np.testing.assert_array_equal(rgba[valid][:, :3], colors[valid])
    with warnings.catch_warnings(), MemoryFile(png) as file:
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with file.open(driver="PNG") as dataset:
            np.testing.assert_array_equal(
                np.moveaxis(dataset.read(), 0, 2)[valid][:, :3], colors[valid]
            )
            np.testing.assert_array_equal(dataset.dataset_mask(), np.where(valid, 255, 0))


def test_bit_depth_is_the_smallest_that_png_knows():
    for entries in range(1, 257):
        bits = bit_depth(entries)
        assert bits in {1, 2, 4, 8}
        assert entries <= 2**bits
        assert bits == 1 or entries > 2 ** (bits // 2)


@pytest.mark.parametrize("k", [16, 1000])
def test_equal_indices_give_equal_bytes(k):
    indices, colormap = picture(k, (50, 50), transparent=False)
    assert encode_png(indices, colormap) == encode_png(np.asfortranarray(indices), colormap)
