"""Entropy-constrained palettes against plain k-means on the same rate-distortion curve.

Of each image plain palettes are swept, then one is fitted for each rate (``target_bpp``) and the
image is compressed with it. Printed is by how much its PSNR is above that of plain palettes of the
same entropy, and its stored bytes to those of plain palettes of the same PSNR, both interpolated
between neighbours.

Run ``python benchmarks/entropy.py scene.tif other.tif --json entropy.json``; ``scene.py`` makes a
scene.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from timing import save

import kmdask

if TYPE_CHECKING:
    from collections.abc import Sequence

KS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 255)
SAMPLE = 64
"""Chunks that stored bytes of plain palettes are measured on: all of a small image."""


def measure(
    image: Path, rates: Sequence[float], bands: Sequence[int] | None
) -> list[dict[str, Any]]:
    """Compare at each rate that plain palettes exceed."""
    table = kmdask.sweep(image, ks=KS, bands=bands, sample=SAMPLE)
    bits = [point.bits_per_pixel for point in table.points]
    psnr = [point.psnr for point in table.points]
    stored = [point.stored_bytes or 0 for point in table.points]
    rows = []
    for rate in (rate for rate in rates if bits[0] < rate < bits[-1]):
        with tempfile.TemporaryDirectory() as folder:
            report = kmdask.compress(
                image,
                out=Path(folder) / "a.kmdask",
                target_bpp=rate,
                bands=bands,
                formats=("zarr",),
                ssim=False,
            ).report
        size = report.sizes["zarr"]
        row = {
            "image": image.name,
            "target_bpp": rate,
            "entropy": report.entropy,
            "entries": report.k_used,
            "psnr": report.psnr,
            "gain": report.psnr - float(np.interp(report.entropy or 0, bits, psnr)),
            "bytes": size,
            "bytes_to_plain": size / float(np.interp(report.psnr, psnr, stored)),
        }
        rows.append(row)
    return rows


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--rates", type=float, nargs="+", default=[1.0, 2.0, 3.0, 4.5])
    parser.add_argument("--bands", type=lambda text: [*map(int, text.split(","))])
    parser.add_argument("--json", type=Path, help="write the result here as well")
    args = parser.parse_args()
    rows = []
    print(f"{'':<24}{'bpp':>6}{'entries':>9}{'PSNR':>8}{'gain':>7}{'bytes':>12}{'to plain':>10}")
    for image in args.images:
        for row in measure(image, args.rates, args.bands):
            rows.append(row)
            print(
                f"{image.stem[:23]:<24}{row['entropy']:>6.2f}{row['entries']:>9}{row['psnr']:>8.2f}"
                f"{row['gain']:>+7.2f}{row['bytes']:>12,}{row['bytes_to_plain']:>10.3f}",
                flush=True,
            )
    save(args.json, {"rows": rows})


if __name__ == "__main__":
    main()
