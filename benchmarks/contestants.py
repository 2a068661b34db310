"""Who takes part in the race: kmdask, and whatever else turns an image into one of few colours.

Each is a command, given the scene, where to write, and k. What its options leave to choose is
chosen for the least work that is comparable: no dithering, tiles of 512 pixels without overlap.
What a peer cannot do without (GDAL dithers, libvips makes a palette for each tile) is in its note.
"""

from __future__ import annotations

import math
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from machine import imagemagick

if TYPE_CHECKING:
    from collections.abc import Callable

PEERS = Path(__file__).with_name("peers.py")
BASE = "kmdask: zarr, tiles"
"""What others are compared with: what kmdask writes unless told otherwise."""

DECODE = "decode only"
IN_MEMORY = 1.1e8
ALL_PIXELS = 1.7e7


@dataclass(frozen=True)
class Contestant:
    """A way to a palette image."""

    name: str
    command: Callable[[Path, Path, int], list[str]]
    """The command for a source, an output and k."""

    needs: Callable[[], bool]
    """Whether it is installed."""

    ending: str = ""
    """Of the output; none if nothing is written."""

    reads: str = ".tif"
    """Ending of the source."""

    most: float = math.inf
    """Pixels that it takes, in memory or in time; of a larger scene it gets a part."""

    takes: Callable[[int], bool] = lambda _: True
    """Whether it can do that k, in a reasonable time."""

    note: str = ""


def _kmdask(source: Path, out: Path, k: int, *, options: tuple[str, ...] = ()) -> list[str]:
    compress = [sys.executable, "-m", "kmdask", "compress", str(source), str(out)]
    return [*compress, "-k", str(k), "--quiet", *options]


def _peer(name: str) -> Callable[[Path, Path, int], list[str]]:
    def command(source: Path, out: Path, k: int) -> list[str]:
        return [sys.executable, str(PEERS), name, str(source), str(out), "-k", str(k)]

    return command


def _rgb2pct(source: Path, out: Path, k: int) -> list[str]:
    return ["rgb2pct.py", "-n", str(k), str(source), str(out)]


def _dzsave(source: Path, out: Path, k: int) -> list[str]:
    suffix = f".png[palette,colours={k},dither=0]"
    name = str(out.with_suffix(""))
    tiles = ["--tile-size", "512", "--overlap", "0", "--suffix", suffix]
    return ["vips", "dzsave", str(source), name, *tiles]


def _pngsave(source: Path, out: Path, k: int) -> list[str]:
    palette = ["--palette", "--colours", str(k), "--dither", "0"]
    return ["vips", "pngsave", str(source), str(out), *palette]


def _pngquant(source: Path, out: Path, k: int) -> list[str]:
    return ["pngquant", "--nofs", "--output", str(out), str(k), str(source)]


def _imagemagick(source: Path, out: Path, k: int) -> list[str]:
    return [imagemagick() or "", str(source), "+dither", "-colors", str(k), str(out)]


def _is_depth(k: int) -> bool:
    """Whether k is all that some bits of a PNG can count."""
    return k in {2, 4, 16, 256}


def _always() -> bool:
    return True


def _tool(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name) is not None


CONTESTANTS = (
    Contestant(DECODE, _peer("decode"), _always),
    Contestant(
        "kmdask: zarr", partial(_kmdask, options=("--no-tiles",)), _always, ending=".kmdask"
    ),
    Contestant(BASE, _kmdask, _always, ending=".kmdask"),
    Contestant(
        "kmdask: the same, no SSIM",
        partial(_kmdask, options=("--no-ssim",)),
        _always,
        ending=".kmdask",
        note="all other figures of the report",
    ),
    Contestant(
        "kmdask: zarr, tiles, cog", partial(_kmdask, options=("--cog",)), _always, ending=".kmdask"
    ),
    Contestant(
        "GDAL rgb2pct",
        _rgb2pct,
        _tool("rgb2pct.py"),
        ending=".tif",
        note="dithers, and writes a byte a pixel; colours are cut to 5 bits a band",
    ),
    Contestant(
        "libvips dzsave",
        _dzsave,
        _tool("vips"),
        ending=".dzi",
        takes=_is_depth,
        note="a palette for each tile; k is 2, 4, 16 or 256",
    ),
    Contestant(
        "libvips pngsave",
        _pngsave,
        _tool("vips"),
        ending=".png",
        most=IN_MEMORY,
        takes=_is_depth,
        note="holds the whole image, and could not write a gigapixel; k is 2, 4, 16 or 256",
    ),
    Contestant(
        "pngquant",
        _pngquant,
        _tool("pngquant"),
        ending=".png",
        reads=".png",
        most=IN_MEMORY,
        note="reads PNG alone; converting to it is not timed",
    ),
    Contestant(
        "ImageMagick",
        _imagemagick,
        lambda: imagemagick() is not None,
        ending=".png",
        most=IN_MEMORY,
        note="its policy commonly allows 16,000 pixels a side",
    ),
    Contestant(
        "Pillow quantize",
        _peer("pillow"),
        _always,
        ending=".png",
        most=IN_MEMORY,
        note="median cut",
    ),
    Contestant(
        "Pillow quantize, k-means",
        _peer("pillow-kmeans"),
        _always,
        ending=".png",
        most=IN_MEMORY,
        note="median cut, then k-means until it rests",
    ),
    Contestant(
        "scikit-learn KMeans",
        _peer("kmeans"),
        _always,
        ending=".tif",
        most=ALL_PIXELS,
        takes=lambda k: k <= 16,
        note="fitted to all pixels, n_init=1; more colours take too long",
    ),
    Contestant(
        "scikit-learn MiniBatchKMeans",
        _peer("minibatch"),
        _always,
        ending=".tif",
        most=ALL_PIXELS,
        note="one pass in batches of 65,536, then predict; until it rests it takes minutes",
    ),
    Contestant(
        "faiss",
        _peer("faiss"),
        lambda: find_spec("faiss") is not None,
        ending=".tif",
        most=ALL_PIXELS,
        note="fitted to 256 pixels a colour, its default, then all are searched",
    ),
    Contestant(
        "dask-ml KMeans",
        _peer("dask-ml"),
        _always,
        ending=".tif",
        most=ALL_PIXELS,
        takes=lambda k: k <= 16,
        note="stock dask_ml.cluster.KMeans, fitted to all pixels; more colours take too long",
    ),
)
