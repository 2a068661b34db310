"""The middle of a scene, in memory, and the options that say of which one."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import rasterio
from rasterio.windows import Window
from scene import build
from sizes import SIZES

if TYPE_CHECKING:
    import numpy.typing as npt


def parser_of(doc: str) -> argparse.ArgumentParser:
    """Options of a benchmark with that docstring, from which `read` takes the pixels."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="16mp", help="scene to build")
    parser.add_argument("--scene", type=Path, help="use this image in place of a built one")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "kmdask-bench")
    parser.add_argument("--side", type=int, default=4096, help="of the part of it that is used")
    parser.add_argument("--json", type=Path, help="write the result here as well")
    return parser


def read(args: argparse.Namespace) -> npt.NDArray[np.uint8]:
    """The middle of the scene that is asked for, as GDAL lays it out; it is built if need be."""
    args.work.mkdir(parents=True, exist_ok=True)
    path = args.scene or build(args.work / f"scene-{args.size}.tif", args.size)
    with rasterio.open(path) as src:
        wide, tall = min(args.side, src.width), min(args.side, src.height)
        window = Window((src.width - wide) // 2, (src.height - tall) // 2, wide, tall)
        planes = src.read([1, 2, 3], window=window)
    pixels: npt.NDArray[np.uint8] = np.moveaxis(planes, 0, 2)
    return pixels
