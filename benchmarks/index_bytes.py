"""Bytes of the same indices with the same palette, as kmdask stores them and as others could.

The middle of a scene is compressed; then its index image is written by each codec that is there.
What a codec wrote is decoded and compared: a peer that quantises by itself, of an image that has
no more than k colours, need not change any, and the table says whether it did.

Some decode at random, a piece at a time (kmdask's chunks, tiles and GeoTIFF); others only from the
first row on. Seconds are of one run and tell no more than the order of magnitude.

Run ``python benchmarks/index_bytes.py --size 16mp``.
"""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import deflate
import numpy as np
import zarr
from middle import parser_of, read
from PIL import Image
from processes import written
from timing import save

import kmdask
from kmdask.kernels.tiles import pack_rows
from kmdask.writing.png import bit_depth

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

DEFLATE_LEVEL = 9


@dataclass(frozen=True)
class Indexed:
    """An index image."""

    indices: npt.NDArray[np.uint8]
    palette: npt.NDArray[np.uint8]

    @property
    def colors(self) -> npt.NDArray[np.uint8]:
        """The image in full colour."""
        colors: npt.NDArray[np.uint8] = self.palette[self.indices]
        return colors

    def image(self) -> Image.Image:
        """The image as Pillow has it."""
        image = Image.fromarray(self.indices, "P")
        image.putpalette(self.palette.tobytes())
        return image


@dataclass(frozen=True)
class Codec:
    """A way to write an index image to a file."""

    name: str
    write: Callable[[Indexed, Path], None]
    tool: str | None = None
    random: str = "no"
    """Whether a part can be decoded without the rest."""


def pillow(indexed: Indexed, path: Path) -> None:
    """Write with Pillow, as small as it can: `optimize` tries zlib's level 9."""
    indexed.image().save(path, optimize=True, bits=bit_depth(len(indexed.palette)))


def libdeflate(indexed: Indexed, path: Path) -> None:
    """Write without filters, all of it compressed at once by libdeflate."""
    height, width = indexed.indices.shape
    bits = bit_depth(len(indexed.palette))
    header = struct.pack(">IIBBBBB", width, height, bits, 3, 0, 0, 0)
    rows = pack_rows(indexed.indices, bits)
    packed = bytes(deflate.zlib_compress(rows, DEFLATE_LEVEL))
    parts: dict[bytes, bytes] = {
        b"IHDR": header,
        b"PLTE": indexed.palette.tobytes(),
        b"IDAT": packed,
        b"IEND": b"",
    }
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, content in parts.items():
            file.write(struct.pack(">I", len(content)) + kind + content)
            file.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(kind))))


def pngquant(indexed: Indexed, path: Path) -> None:
    """Write with pngquant, which takes no palette but finds it: there are no more colours."""
    source = _full(indexed, path)
    number = str(max(2, len(indexed.palette)))
    _run("pngquant", "--nofs", "--speed", "1", "--output", str(path), number, str(source))


def libvips(indexed: Indexed, path: Path) -> None:
    """Write with libvips, which finds the palette as pngquant does."""
    source = _full(indexed, path)
    bits = bit_depth(len(indexed.palette))
    options = f"palette,bitdepth={bits},dither=0,compression=9,effort=10"
    _run("vips", "copy", str(source), f"{path}[{options}]")


def _full(indexed: Indexed, path: Path) -> Path:
    """Write the image in full colour, for those who start from there."""
    source = path.with_name("full.png")
    Image.fromarray(indexed.colors).save(source, compress_level=1)
    return source


def _run(*command: str) -> None:
    subprocess.run(command, capture_output=True, check=True)


CODECS = (
    Codec("PNG, pngquant", pngquant, tool="pngquant"),
    Codec("PNG, libvips", libvips, tool="vips"),
    Codec("PNG, Pillow optimised", pillow),
    Codec(f"PNG, libdeflate {DEFLATE_LEVEL}", libdeflate),
)


def measure(pixels: npt.NDArray[np.uint8], k: int, work: Path) -> list[dict[str, Any]]:
    """Compress with kmdask, then write its indices with all others."""
    bundle = work / "image.kmdask"
    kmdask.compress(pixels, k, bundle, formats=("zarr", "tiles", "cog"), overwrite=True)
    group = zarr.open_group(bundle / "image.zarr", mode="r")
    stored: dict[str, Any] = {name: group[name] for name in ("indices", "palette")}
    indexed = Indexed(stored["indices"][:], stored["palette"][:])
    levels = sorted((bundle / "tiles_files").iterdir(), key=lambda each: int(each.name))
    rows = [
        _row("kmdask, zarr", k, written(bundle / "image.zarr" / "indices"), pixels, random="yes"),
        _row("kmdask, tiles of full size", k, written(levels[-1]), pixels, random="yes"),
        _row(
            "kmdask, GeoTIFF with overviews", k, written(bundle / "image.tif"), pixels, random="yes"
        ),
    ]
    for codec in CODECS:
        if codec.tool and shutil.which(codec.tool) is None:
            rows.append({"name": codec.name, "k": k, "missing": True})
            continue
        path = work / "image.png"
        path.unlink(missing_ok=True)
        start = time.perf_counter()
        codec.write(indexed, path)
        seconds = time.perf_counter() - start
        row = _row(codec.name, k, written(path), pixels, random=codec.random)
        rows.append(row | {"same": _same(path, indexed), "seconds": seconds})
    ours = rows[0]["bytes"]
    return [row | ({"times_zarr": row["bytes"] / ours} if "bytes" in row else {}) for row in rows]


def _row(
    name: str, k: int, size: int, pixels: npt.NDArray[np.uint8], *, random: str
) -> dict[str, Any]:
    bits = 8 * size / (pixels.shape[0] * pixels.shape[1])
    return {"name": name, "k": k, "bytes": size, "bits_per_pixel": bits, "random_access": random}


def _same(path: Path, indexed: Indexed) -> bool:
    """Whether a file has the colours of the image, pixel by pixel."""
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        return bool(np.array_equal(np.asarray(image.convert("RGB")), indexed.colors))


def main() -> None:
    """Run the benchmark from the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("-k", type=int, nargs="+", default=[16, 64, 256])
    args = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None
    pixels = read(args)
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        rows = [row for k in args.k for row in measure(pixels, k, Path(folder))]
    print(f"{'':<32}{'k':>5}{'MB':>8}{'bits/px':>9}{'x zarr':>8}  parts  same")
    for row in rows:
        line = f"{row['name']:<32}{row['k']:>5}"
        if "missing" in row:
            print(f"{line}  not installed")
            continue
        line += f"{row['bytes'] / 1e6:>8.2f}{row['bits_per_pixel']:>9.3f}{row['times_zarr']:>8.2f}"
        same = {True: "yes", False: "no", None: ""}[row.get("same")]
        print(f"{line}  {row['random_access']:<5}  {same}")
    save(args.json, {"shape": pixels.shape[:2], "rows": rows})


if __name__ == "__main__":
    main()
