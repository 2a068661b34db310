"""What the indices of an image take, compressed in several ways, against the best palette PNG.

The palette is kmdask's. PNGs are of the whole window, packed, without filters, compressed by zlib
at level 9 and libdeflate at levels 9 and 12, and as Pillow optimizes them; the smallest is what the
others are compared with. Codecs get chunks of 1024 x 1024, as they are stored, with one thread, and
what comes back is compared. Speeds are megapixels per second of processor time. ``--orders`` adds
palettes in other orders than that of lightness: a short tour through the colours, a random one.

Codecs of imagecodecs are compared where it is installed (``pip install imagecodecs``).

Run ``python benchmarks/index_codecs.py scene.tif --window 8192,8192,4096,4096 --json codecs.json``;
``benchmarks/scene.py`` makes a scene.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import io
import json
import lzma
import time
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import deflate
import numpy as np
import numpy.typing as npt
from numcodecs import BZ2, LZMA, Blosc, Delta, Zlib, Zstd
from PIL import Image

import kmdask
from kmdask.chunks import CHUNK
from kmdask.display import Colormap
from kmdask.kernels.tiles import pack_rows
from kmdask.writing.codecs import BZ2_LEVEL, ZSTD_LEVEL, Strips
from kmdask.writing.png import bit_depth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Chunk = npt.NDArray[np.uint8]

RAW_LZMA = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 4, "lp": 0, "pb": 0}]

TIMES = 20
"""Sweeps of 2-opt at most."""


def indices_of(args: argparse.Namespace, k: int) -> tuple[Chunk, npt.NDArray[Any]]:
    """The indices of a window, and the palette that is fitted to it."""
    raster = kmdask.open_raster(args.scene, window=args.window)
    palette = kmdask.fit_palette(kmdask.count_colors(raster.pixels), k, seed=0)
    return kmdask.encode(raster.pixels, palette).compute(), palette.colors


def tour(colors: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """A short path through all colours: to the nearest that is left, then shortened by 2-opt."""
    points = colors.astype(np.float64)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    path, left = [0], set(range(1, len(points)))
    while left:
        path.append(min(left, key=lambda each: (apart[path[-1], each], each)))
        left.remove(path[-1])
    order = np.array(path)
    for _ in range(TIMES):
        shorter = False
        for i in range(len(order) - 2):
            # Turn round what lies between i and j: two steps are left out, two come in.
            after = np.append(order[i + 3 :], -1)
            ends = order[i + 2 :]
            there = np.where(after < 0, 0.0, apart[ends, after])
            instead = np.where(after < 0, 0.0, apart[order[i + 1], after])
            gain = apart[order[i], order[i + 1]] + there - apart[order[i], ends] - instead
            if gain.max() > 1e-9:
                end = i + 3 + int(gain.argmax())
                order[i + 1 : end] = order[i + 1 : end][::-1].copy()
                shorter = True
        if not shorter:
            break
    return order


def renumbered(indices: Chunk, order: npt.NDArray[np.intp]) -> Chunk:
    """The indices of a palette in another order."""
    places = np.empty(len(order), np.uint8)
    places[order] = np.arange(len(order))
    return places[indices]


def orders_of(colors: npt.NDArray[Any], *, all_of_them: bool) -> dict[str, npt.NDArray[np.intp]]:
    """Orders of a palette, by name."""
    orders = {"lightness": np.arange(len(colors))}
    if all_of_them:
        orders["tour"] = tour(colors)
        orders["random"] = np.random.default_rng(0).permutation(len(colors))
    return orders


def pngs_of(indices: Chunk, colors: npt.NDArray[Any]) -> dict[str, int]:
    """Bytes of palette PNGs of all indices."""
    entries = len(colors)
    rows = pack_rows(indices, bit_depth(entries))
    # The chunks of a PNG and its palette, as kmdask.writing.png writes them.
    around = 8 + 25 + (12 + 3 * entries) + 12 + 12
    sizes = {f"PNG libdeflate {n}": around + len(deflate.zlib_compress(rows, n)) for n in (9, 12)}
    sizes["PNG zlib 9"] = around + len(zlib.compress(rows.tobytes(), 9))
    image, file = Image.fromarray(indices), io.BytesIO()
    image.putpalette(Colormap(np.ascontiguousarray(colors)).rgb.tobytes())
    image.save(file, "PNG", optimize=True, bits=bit_depth(entries))
    return {**sizes, "PNG Pillow optimize": file.tell()}


def codecs_of(entries: int) -> dict[str, list[Any]]:
    """Codecs of one chunk, by name: filters, and what compresses."""
    strips = Strips(CHUNK, bit_depth(entries))
    codecs: dict[str, list[Any]] = {f"zstd {n}": [Zstd(n)] for n in (1, ZSTD_LEVEL, 6, 9, 12, 19)}
    codecs |= {
        "delta, zstd 3": [Delta("u1"), Zstd(ZSTD_LEVEL)],
        "blosc bitshuffle": [Blosc("zstd", 3, Blosc.BITSHUFFLE)],
        "zlib 9": [Zlib(9)],
        "lzma": [LZMA(lzma.FORMAT_RAW, filters=RAW_LZMA)],
        "bz2": [BZ2(BZ2_LEVEL)],
        "strips, zstd 3": [strips, Zstd(ZSTD_LEVEL)],
        "strips, zstd 9": [strips, Zstd(9)],
        "strips, bz2 1": [strips, BZ2(1)],
        "strips, bz2": [strips, BZ2(BZ2_LEVEL)],
    }
    return codecs | (_images() if importlib.util.find_spec("imagecodecs") else {})


def _images() -> dict[str, list[Any]]:
    module: Any = importlib.import_module("imagecodecs.numcodecs")
    lossless = {"lossless": True, "numthreads": 1}
    return {
        "JPEG-LS": [module.Jpegls()],
        "JPEG 2000": [module.Jpeg2k(level=0, reversible=True, numthreads=1)],
        **{f"JPEG XL {n}": [module.Jpegxl(effort=n, **lossless)] for n in (1, 2, 4, 5, 7)},
        # It knows no grey: three equal bands.
        "WebP 2": [_Three(), module.Webp(method=2, **lossless, hasalpha=False)],
        "brotli 5": [module.Brotli(level=5)],
    }


class _Three:
    """A filter that makes three equal bands of one."""

    def encode(self, chunk: Any) -> Any:
        return np.repeat(chunk[..., None], 3, axis=2)

    def decode(self, chunk: Any) -> Any:
        return np.ascontiguousarray(chunk[..., 0])


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and its processor time."""
    start = time.process_time()
    result = function()
    return result, time.process_time() - start


def through(steps: Iterable[Callable[[Any], Any]], data: Any) -> Any:
    """Data after all steps."""
    for step in steps:
        data = step(data)
    return data


def measure(chunks: list[Chunk], codecs: list[Any]) -> dict[str, float]:
    """Bytes and speeds of all chunks; an error if one does not come back as it was."""
    size, writing, reading = 0, 0.0, 0.0
    for chunk in chunks:
        stored, took = timed(partial(through, [codec.encode for codec in codecs], chunk))
        back, again = timed(partial(through, [codec.decode for codec in codecs[::-1]], stored))
        size, writing, reading = size + len(stored), writing + took, reading + again
        if not np.array_equal(np.frombuffer(back, np.uint8), chunk.ravel()):
            raise AssertionError(f"{codecs} lost something")
    pixels = sum(chunk.size for chunk in chunks) / 1e6
    return {"bytes": size, "encode": pixels / writing, "decode": pixels / reading}


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene")
    parser.add_argument("--window", type=lambda text: tuple(map(int, text.split(","))))
    parser.add_argument("--k", type=int, nargs="+", default=[16, 64, 256], help="up to 256")
    parser.add_argument("--codecs", nargs="+", help="only those whose names contain one of these")
    parser.add_argument("--orders", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    print(f"{'k':>4} {'order':10}{'codec':20}{'bytes':>10}{'to PNG':>8}  MP/s: encode, decode")
    for k in args.k:
        indices, colors = indices_of(args, k)
        # Whole chunks: at the edges padding would count.
        indices = indices[: len(indices) // CHUNK * CHUNK, : indices.shape[1] // CHUNK * CHUNK]
        best = 0.0
        for order, numbers in orders_of(colors, all_of_them=args.orders).items():
            image = renumbered(indices, numbers)
            tall, wide = (range(0, size, CHUNK) for size in image.shape)
            chunks = [image[y : y + CHUNK, x : x + CHUNK].copy() for y in tall for x in wide]
            found: dict[str, dict[str, float]] = {
                name: {"bytes": size} for name, size in pngs_of(image, colors[numbers]).items()
            }
            best = best or min(row["bytes"] for row in found.values())
            for name, codecs in codecs_of(len(colors)).items():
                if args.codecs is None or any(part in name for part in args.codecs):
                    found[name] = measure(chunks, codecs)
            for name, row in found.items():
                ratio = row["bytes"] / best
                speeds = "".join(f"{row[key]:9.1f}" for key in ("encode", "decode") if key in row)
                line = f"{k:4} {order:10}{name:20}{row['bytes']:10.0f}{ratio:8.3f}{speeds}"
                print(line, flush=True)
                rows.append({"k": k, "order": order, "codec": name, "to_png": ratio, **row})
    if args.json:
        told = {"scene": args.scene, "window": args.window, "rows": rows}
        args.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
