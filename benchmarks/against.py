"""What palettes give against JPEG, WebP and JPEG XL in the same bytes.

Each scene is swept: palettes are fitted to all of it, and on some chunks of 1024 x 1024 pixels
their indices are stored as bundles store them. What another codec gives in these bytes is
interpolated between its qualities, each chunk a file by itself, in PSNR, which no codec but JPEG
is made for; see `kmdask.rivals`. With more bytes than the best quality tried takes it is a lower
bound, marked by ≥.

Scenes are those that ``drawings.py`` draws, and any images that are named.

Run ``python benchmarks/against.py scene.tif other.tif --json against.json``; a drawn scene takes a
minute or two, nearly all of it for JPEG XL.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drawings import DRAWN, SIDE
from table import against as written
from timing import save

import kmdask
from kmdask.rivals import check_codec

if TYPE_CHECKING:
    from collections.abc import Sequence

CODECS = ("jpeg", "webp", "jxl")


def measure(
    name: str, image: Any, ks: Sequence[int], codecs: Sequence[str], **options: Any
) -> list[dict[str, Any]]:
    """Sweep an image; a row for each number of colours."""
    table = kmdask.sweep(image, ks, against=codecs, progress=False, **options)
    rows = []
    for point in table.points:
        size, quality = point.sample_bytes or 0, table.sample_psnr(point)
        row = {"scene": name, "colors": table.colors, "k": point.k, "entries": point.entries}
        row |= {"bits_per_pixel": 8 * size / table.sample_pixels, "psnr": told(quality)}
        for codec in codecs:
            reached = table.rival_psnr(point, codec)
            row[codec] = {"psnr": told(reached), "at_least": table.rival_is_bound(point, codec)}
        rows.append(row | {"pixels": table.sample_pixels})
    return rows


def told(psnr: float | None) -> float | str | None:
    """A PSNR for JSON, which knows no infinity."""
    return "exact" if psnr is not None and math.isinf(psnr) else psnr


def installed() -> tuple[list[str], list[str]]:
    """Codecs that are there, and those that are not."""
    missing = []
    for codec in CODECS:
        try:
            check_codec(codec)
        except kmdask.KmdaskError:
            missing.append(codec)
    return [codec for codec in CODECS if codec not in missing], missing


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, nargs="*", help="besides the drawn scenes")
    parser.add_argument("-k", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--chunks", type=int, default=4, help="of each scene")
    parser.add_argument("--side", type=int, default=SIDE, help="of the drawn scenes, in pixels")
    parser.add_argument("--bands", type=lambda text: [*map(int, text.split(","))], help="of images")
    parser.add_argument("--json", type=Path, help="write the result here as well")
    args = parser.parse_args()
    codecs, missing = installed()
    rows = []
    with kmdask.connect() as client:
        at = {"sample": args.chunks, "client": client}
        for name, draw in DRAWN.items():
            rows += measure(f"{name}, drawn", draw(args.side), args.k, codecs, **at)
        for path in args.images:
            rows += measure(path.name, path, args.k, codecs, bands=args.bands, **at)
    result = {"codecs": codecs, "missing": missing, "chunks": args.chunks, "rows": rows}
    print(written(result))
    save(args.json, result)


if __name__ == "__main__":
    main()
