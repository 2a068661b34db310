"""Bytes against PSNR of indices that are smoothed, on scenes smooth and textured.

Of each image some chunks of 1024 x 1024 are taken, spread over all of it, and a palette is fitted
to them. They are encoded with several values of ``smooth``, and compressed as bundles are, by zstd
and by bz2. Beside these values the one is searched that costs a given loss of PSNR, 0.1 dB.

Printed is the share of the bytes that is saved; megapixels per second are of one core's processor
time for encoding alone.

Run ``python benchmarks/smooth.py scene.tif other.tif --json smooth.json``; ``benchmarks/scene.py``
makes a scene.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import numpy.typing as npt
from numcodecs import get_codec
from timing import save

import kmdask
from kmdask.chunks import CHUNK
from kmdask.encoding import encode
from kmdask.metrics import metrics_of, pixel_errors
from kmdask.writing.codecs import ZSTD, told_zarr
from kmdask.writing.sampled import sample_windows

if TYPE_CHECKING:
    from collections.abc import Sequence

SMOOTH = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
MOST = 64.0
"""Where the search for a loss ends, on images that nothing costs as much."""

HALVINGS = 8
"""Steps of the search, after the power of two above has been found."""

Part = tuple[da.Array, da.Array | None]


def parts_of(path: Path, chunks: int, bands: Sequence[int] | None) -> list[Part]:
    """Pixels and mask of some chunks of an image, in memory."""
    raster = kmdask.open_raster(path, bands=bands)
    parts = []
    for window in sample_windows(raster.shape, chunks):
        mask = None if raster.mask is None else raster.mask[window].compute()
        pixels = raster.pixels[window].compute()
        parts.append((whole(pixels), None if mask is None else whole(mask)))
    return parts


def whole(array: npt.NDArray[Any]) -> da.Array:
    """A Dask array of one chunk."""
    lazy: da.Array = da.from_array(array, chunks=array.shape)
    return lazy


def fitted(parts: Sequence[Part], k: int) -> kmdask.Palette:
    """A palette for all of the parts."""
    rows = da.concatenate([pixels.reshape(-1, 1, pixels.shape[2]) for pixels, _ in parts])
    masks = [mask.reshape(-1, 1) for _, mask in parts if mask is not None]
    mask = da.concatenate(masks) if masks else None
    colors = kmdask.count_colors(rows, mask)
    return kmdask.fit_palette(colors, k, pixels=rows, mask=mask)


def stored(indices: npt.NDArray[Any], codec: str, entries: int, fill: int) -> int:
    """Bytes of a chunk as it is stored."""
    chunk: Any = np.full((CHUNK, CHUNK), fill, indices.dtype)
    chunk[: indices.shape[0], : indices.shape[1]] = indices
    if codec == "zstd":
        return len(get_codec(ZSTD["compressors"]).encode(chunk))
    told = told_zarr(codec, entries)
    for each in (*told["filters"], told["compressors"]):
        chunk = each.encode(chunk)
    return len(chunk)


def measured(parts: Sequence[Part], palette: kmdask.Palette, smooth: float) -> dict[str, Any]:
    """Encode the parts; what they take, and how far they are from the original."""
    masked = parts[0][1] is not None
    errors, pixels, seconds = 0.0, 0, 0.0
    sizes = {"zstd": 0, "bz2": 0}
    for values, mask in parts:
        start = time.process_time()
        indices = encode(values, palette, mask, smooth=smooth).compute(scheduler="synchronous")
        seconds += time.process_time() - start
        found, _ = pixel_errors(values, whole(indices), palette)
        errors += found.compute(scheduler="synchronous")
        pixels += indices.size
        for codec in sizes:
            fill = palette.nodata if masked else 0
            sizes[codec] += stored(indices, codec, len(palette) + masked, fill)
    metrics = metrics_of(np.asarray(errors), palette.bands, 255.0)
    rate = pixels / seconds / 1e6
    return {"smooth": smooth, "psnr": metrics.psnr, "megapixels_per_second": rate, **sizes}


def measure(
    parts: Sequence[Part], k: int, values: Sequence[float], loss: float
) -> list[dict[str, Any]]:
    """Measure each value, and the one that costs a loss; all against none."""
    palette = fitted(parts, k)
    measured(parts, palette, 0.4)  # compiles
    base = measured(parts, palette, 0.0)
    rows = [base, *(measured(parts, palette, value) for value in values if value)]
    low, high, row = 0.0, 0.5, base
    while high < MOST and base["psnr"] - measured(parts, palette, high)["psnr"] <= loss:
        high *= 2
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        tried = measured(parts, palette, middle)
        if base["psnr"] - tried["psnr"] > loss:
            high = middle
        else:
            low, row = middle, tried
    rows.append(row | {"at_loss": loss})
    for row in rows:
        row |= {f"saved_{codec}": 1 - row[codec] / base[codec] for codec in ("zstd", "bz2")}
        row |= {"k": k, "loss": base["psnr"] - row["psnr"]}
    return rows


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("-k", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--smooth", type=float, nargs="+", default=SMOOTH)
    parser.add_argument("--loss", type=float, default=0.1, help="in dB")
    parser.add_argument("--chunks", type=int, default=16, help="of each image")
    parser.add_argument("--bands", type=lambda text: [*map(int, text.split(","))])
    parser.add_argument("--json", type=Path, help="write the result here as well")
    args = parser.parse_args()
    rows = []
    print(f"{'':<24}{'k':>4}{'smooth':>8}{'PSNR':>8}{'loss':>7}{'zstd':>7}{'bz2':>7}{'MP/s':>7}")
    for path in args.images:
        parts = parts_of(path, args.chunks, args.bands)
        for k in args.k:
            for row in measure(parts, k, args.smooth, args.loss):
                rows.append({"image": path.name, **row})
                print(
                    f"{path.stem[:23]:<24}{k:>4}{row['smooth']:>8.3f}{row['psnr']:>8.2f}"
                    f"{row['loss']:>7.3f}{row['saved_zstd']:>7.1%}{row['saved_bz2']:>7.1%}"
                    f"{row['megapixels_per_second']:>7.1f}"
                    + (f"  at {args.loss} dB" if "at_loss" in row else ""),
                    flush=True,
                )
    save(args.json, {"chunks": args.chunks, "rows": rows})


if __name__ == "__main__":
    main()
