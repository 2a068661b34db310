"""Headers that claim too much, and files with any damage: errors of ours, in bounded memory."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import zarr
from PIL import Image

from kmdask import KmdaskError, UnsupportedImageError, open_raster

HUGE = 2**31 - 1
PYTHON_2 = "ignore:Reading `.npy` or `.npz` file required additional header parsing:UserWarning"


def forge_tiff(path, width, height, *, tile=None, rows=None, compression=1, bands=1):
    """Write the header of a TIFF without its pixels."""
    tags = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 277: bands}
    if tile:
        tags |= {322: tile, 323: tile, 324: 8, 325: 100}
    else:
        tags |= {273: 8, 278: rows or height, 279: 100}
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items())]
    content = struct.pack("<H", len(tags)) + b"".join(entries) + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + content + bytes(300))


def forge_png(path, width, height):
    """Write a PNG of a few bytes that is whole but for its pixels."""

    def chunk(kind, content):
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


TIFFS = {
    "one strip": {"width": HUGE, "height": HUGE},
    "one tile": {"width": HUGE, "height": HUGE, "tile": 2**30},
    "large tiles": {"width": 2**20, "height": 2**20, "tile": 2**15, "compression": 8},
    "rows": {"width": 100_000, "height": 100_000, "rows": 1, "compression": 8},
    "long and thin": {"width": 1, "height": HUGE, "compression": 8},
    "flat and wide": {"width": HUGE, "height": 1},
    "bands": {"width": 1000, "height": 1000, "tile": 256, "bands": 65_535, "compression": 8},
}


@pytest.mark.parametrize("name", TIFFS)
def test_tiffs_that_claim_too_much(tmp_path, name):
    path = tmp_path / "a.tif"
    forge_tiff(path, **TIFFS[name])
    with pytest.raises(UnsupportedImageError, match=r"a\.tif"):
        open_raster(path)


@pytest.mark.parametrize("size", [60_000, HUGE])
def test_pngs_that_claim_too_much(tmp_path, size):
    path = tmp_path / "a.png"
    forge_png(path, size, size)
    with pytest.raises(KmdaskError, match=r"a\.png"):
        open_raster(path)


@pytest.mark.parametrize(("size", "bands"), [(HUGE, 1), (10**7, 1), (1000, 5000)])
def test_vrts_that_claim_too_much(tmp_path, size, bands):
    path = tmp_path / "a.vrt"
    lines = "".join(f'<VRTRasterBand dataType="Byte" band="{n + 1}"/>' for n in range(bands))
    path.write_text(f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}">{lines}</VRTDataset>')
    with pytest.raises(UnsupportedImageError, match=r"a\.vrt"):
        open_raster(path)


def test_many_bands_are_no_harm_if_few_are_chosen(tmp_path):
    path = tmp_path / "a.vrt"
    lines = "".join(f'<VRTRasterBand dataType="Byte" band="{n + 1}"/>' for n in range(5000))
    path.write_text(f'<VRTDataset rasterXSize="9" rasterYSize="9">{lines}</VRTDataset>')
    assert open_raster(path, bands=(4999, 1)).pixels.compute().shape == (9, 9, 2)


def test_flat_images_are_no_bombs(tmp_path):
    image = Image.new("1", (30_000, 20_000), 1)
    image.save(tmp_path / "a.png")  # 600 megapixels in 80 kB
    image.save(tmp_path / "a.tif", compression="group4")
    for name in ("a.png", "a.tif"):
        from kmdask.reading.plans import plan_source
        from kmdask.reading.sources import find_source

        plan_source(find_source(str(tmp_path / name)))


# Damage. GDAL is C and C++, so what it makes of damage is found out in a process of its own.

MUTATING = """
import sys, zlib
from pathlib import Path
import numpy as np
import dask
from kmdask import KmdaskError, open_raster

dask.config.set(scheduler="synchronous")
rng = np.random.default_rng(int(sys.argv[2]))
work = Path(sys.argv[3])
for seed in sorted(Path(sys.argv[1]).iterdir()):
    content = np.fromfile(seed, np.uint8)
    for round in range(int(sys.argv[4])):
        broken = content.copy()
        kind = rng.integers(4)
        if kind == 0:  # a few bytes anywhere
            broken[rng.integers(len(broken), size=rng.integers(1, 9))] = rng.integers(256)
        elif kind == 1:  # a few bytes of the header
            first = min(len(broken), 300)
            broken[rng.integers(first, size=3)] = rng.choice([0, 1, 2, 127, 128, 255], 3)
        elif kind == 2:  # the end is missing
            broken = broken[: rng.integers(len(broken))]
        else:  # a piece is another piece
            size = int(rng.integers(1, 1 + len(broken) // 2))
            a, b = rng.integers(len(broken) - size + 1, size=2)
            broken[a : a + size] = content[b : b + size]
        path = work / f"broken{seed.suffix}"
        path.write_bytes(broken.tobytes())
        print(seed.name, round, kind, flush=True)
        try:
            opened = open_raster(path, scratch=work)
            if opened.pixels.nbytes < 1 << 24:
                opened.pixels.compute()
                opened.mask is None or opened.mask.compute()
        except KmdaskError as error:
            assert "broken" in str(error), error
"""


@pytest.fixture(scope="module")
def seeds(tmp_path_factory, scene, write_raster):
    """Small files of every kind."""
    folder = tmp_path_factory.mktemp("seeds")
    pixels = scene(40, 50)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.png", "a.jpg", "a.webp"):
        Image.fromarray(pixels).save(folder / name, exif=exif)
    Image.fromarray(pixels).quantize(16).save(folder / "a.gif")
    Image.fromarray(pixels).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(pixels).save(folder / "a.jp2")
    tiled = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    write_raster(folder / "jpeg.tif", pixels, compress="jpeg", photometric="ycbcr", **tiled)
    write_raster(folder / "lzw.tif", pixels, compress="lzw", nodata=0, **tiled)
    many = scene(40, 50, 11).astype(np.uint16) * 200
    write_raster(folder / "many.tif", many, pixels[:, :, 0] > 99, compress="zstd", predictor=2)
    floats = pixels.astype(np.float32)
    write_raster(folder / "float.tif", floats, compress="deflate", predictor=3, nodata=-9999)
    np.save(folder / "a.npy", many)
    return folder


def mutate(seeds, tmp_path, rounds, seed=0):
    python = [sys.executable, "-W", "error", "-W", PYTHON_2]
    done = subprocess.run(
        [*python, "-c", MUTATING, seeds, str(seed), tmp_path, str(rounds)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == 0, done.stdout[-200:] + done.stderr[-3000:]


@pytest.mark.slow
def test_mutated_files(tmp_path, seeds):
    mutate(seeds, tmp_path, rounds=60)


@pytest.mark.slow
def test_mutated_real_files(tmp_path, real_image):
    folder = real_image("odd")
    small = tmp_path / "seeds"
    small.mkdir()
    for path in folder.iterdir():
        if 0 < path.stat().st_size < 60_000:
            (small / path.name).symlink_to(path)
    (tmp_path / "work").mkdir()
    mutate(small, tmp_path / "work", rounds=15)


def test_the_memory_of_a_bomb_within_a_tile_is_bounded(tmp_path, write_raster):
    # A tile of 4096 squared unfolds from 16 kB; it is read, being no larger than any other.
    pixels = np.zeros((4096, 4096, 1), np.uint8)
    path = write_raster(
        tmp_path / "a.tif", pixels, compress="deflate", tiled=True, blockxsize=4096, blockysize=4096
    )
    assert path.stat().st_size < 50_000
    assert not open_raster(path).window(slice(0, 9), slice(0, 9))[0].compute().any()
    stream = io.BytesIO()
    Image.new("L", (20_000, 20_000)).save(stream, "PNG")
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    assert open_raster(tmp_path / "a.png").shape == (20_000, 20_000)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_mutated_zarr_metadata(tmp_path, zarr_format):
    path = tmp_path / "broken.zarr"
    scales = [{"axes": [{"name": n} for n in "cyx"], "datasets": [{"path": "0"}]}]
    group = zarr.create_group(path, zarr_format=zarr_format, attributes={"multiscales": scales})
    group.create_array("0", data=np.ones((3, 30, 40), np.uint16), chunks=(1, 16, 16))
    files = [file for file in path.rglob("*z*") if file.is_file()]
    whole = {file: file.read_bytes() for file in files}
    rng = np.random.default_rng(0)
    for _ in range(100):
        for file, content in whole.items():
            file.write_bytes(content)
        file = files[rng.integers(len(files))]
        broken = bytearray(whole[file])
        for _ in range(rng.integers(1, 4)):
            broken[rng.integers(len(broken))] = rng.choice(list(b'0129"{}[],:antuxy-e\xff'))
        file.write_bytes(broken)
        try:
            opened = open_raster(path)
            if opened.pixels.nbytes < 1 << 24:
                opened.pixels.compute()
        except KmdaskError as error:
            assert "broken" in str(error)  # noqa: PT017  most damage is found, some is none
