"""How far a palette image is from its source, strip by strip, whatever wrote it.

Read by rasterio, zarr and Pillow, not by kmdask. Prints ``{"psnr": ..., "palettes": ...}``; the
peak of the PSNR is 255.

Run ``python benchmarks/quality.py SOURCE OUTPUT``.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import rasterio
import zarr
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from rasterio.windows import Window

if TYPE_CHECKING:
    import numpy.typing as npt

COLUMNS = 4096
"""What is compared at once, so that it stays in the processor's cache, or nearly."""


class Colors(Protocol):
    """An image whose rows can be had from the first to the last."""

    @property
    def rows(self) -> int:
        """Rows that are cheap to have at once."""
        ...

    @property
    def palettes(self) -> int | None:
        """How many palettes there are."""
        ...

    def strip(self, first: int, last: int) -> npt.NDArray[np.uint8]:
        """Colours of shape (y, x, 3)."""
        ...


class Raster:
    """An image that GDAL reads."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._dataset = stack.enter_context(rasterio.open(path))
        self.rows = 512
        self._table: npt.NDArray[np.uint8] | None = None
        self.palettes: int | None = None
        if self._dataset.count == 1:
            colors = self._dataset.colormap(1)
            self._table = np.zeros((256, 3), np.uint8)
            self._table[list(colors)] = [color[:3] for color in colors.values()]
            self.palettes = 1

    @property
    def height(self) -> int:
        """Rows of the image."""
        return int(self._dataset.height)

    def strip(self, first: int, last: int) -> npt.NDArray[np.uint8]:
        """Colours of some rows."""
        window = Window(0, first, self._dataset.width, last - first)
        if self._table is not None:
            colors: npt.NDArray[np.uint8] = self._table[self._dataset.read(1, window=window)]
            return colors
        pixels: npt.NDArray[np.uint8] = self._dataset.read([1, 2, 3], window=window)
        return np.moveaxis(pixels, 0, 2)


class Bundle:
    """The zarr group of a bundle of kmdask's."""

    rows, palettes = 1024, 1

    def __init__(self, path: Path) -> None:
        group = zarr.open_group(path / "image.zarr", mode="r")
        self._indices: Any = group["indices"]
        self._table = np.zeros((256, 3), np.uint8)
        stored: Any = group["palette"]
        palette = stored[:]
        self._table[: len(palette)] = palette

    def strip(self, first: int, last: int) -> npt.NDArray[np.uint8]:
        """Colours of some rows."""
        colors: npt.NDArray[np.uint8] = self._table[self._indices[first:last]]
        return colors


class Tiles:
    """The full size of a Deep Zoom pyramid of tiles without overlap, 512 pixels each."""

    rows = 512

    def __init__(self, path: Path) -> None:
        folder = path.with_name(path.stem + "_files")
        levels = [each for each in folder.iterdir() if each.is_dir()]
        self._level = max(levels, key=lambda each: int(each.name))
        self.palettes = sum(1 for _ in folder.rglob("*.png"))

    def strip(self, first: int, last: int) -> npt.NDArray[np.uint8]:
        """Colours of some rows: those of one row of tiles."""
        row = first // self.rows
        columns: list[npt.NDArray[np.uint8]] = []
        while (path := self._level / f"{len(columns)}_{row}.png").exists():
            with Image.open(path) as tile:
                columns.append(np.asarray(tile.convert("RGB")))
        return np.concatenate(columns, axis=1)[: last - first]


def open_colors(path: Path, stack: ExitStack) -> Colors:
    """Open an output by its ending."""
    if path.suffix == ".kmdask":
        return Bundle(path)
    return Tiles(path) if path.suffix == ".dzi" else Raster(path, stack)


def squared(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> int:
    """Sum of the squared differences."""
    if a.shape != b.shape:
        raise ValueError(f"images of different size: {a.shape}, {b.shape}")
    total = 0
    for x in range(0, a.shape[1], COLUMNS):
        part = np.s_[:, x : x + COLUMNS]
        gap = np.subtract(a[part], b[part], dtype=np.int32)
        total += int(np.square(gap, out=gap).sum(dtype=np.int64))
    return total


def quality(source: Path, output: Path) -> dict[str, Any]:
    """PSNR and number of palettes."""
    error, samples = 0, 0
    with ExitStack() as stack, rasterio.Env(GDAL_NUM_THREADS="ALL_CPUS", GDAL_CACHEMAX=1 << 28):
        original, colors = Raster(source, stack), open_colors(output, stack)
        for first in range(0, original.height, colors.rows):
            last = min(first + colors.rows, original.height)
            pixels = original.strip(first, last)
            error += squared(pixels, colors.strip(first, last))
            samples += pixels.size
    psnr = 10 * math.log10(255**2 * samples / error) if error else None
    return {"psnr": psnr, "palettes": colors.palettes}


def main() -> None:
    """Compare from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    print(json.dumps(quality(args.source, args.output)))


if __name__ == "__main__":
    main()
