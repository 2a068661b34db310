"""A compressed image beside its original: where everything stands on the sheet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from kmdask.plotting.clouds import draw_cloud
from kmdask.plotting.looks import look_at
from kmdask.plotting.panels import (
    GAP,
    TITLE,
    draw_crops,
    draw_overview,
    draw_palette,
    fitted,
)
from kmdask.plotting.sheets import INK, Sheet, number
from kmdask.units import several, size_told, times_smaller

if TYPE_CHECKING:
    from kmdask.image import CompressedImage
    from kmdask.plotting.looks import Look

WIDTH, MARGIN = 13.0, 0.5
"""Inches."""

INSIDE = WIDTH - 2 * MARGIN

TOP = 1.05
"""Inches of the title."""

TALLEST, ALONE = 5.6, 6.6
"""Inches of an overview at most, of two and of one with the column beside it."""

COLUMN = 4.5
"""Inches of the column with cloud and palette."""

FLAT = 3.0
"""How many times wider than tall overviews are that stand one below the other."""


def draw_image(image: CompressedImage, original: Any = None) -> Sheet:
    """Draw an image beside its original; see `kmdask.CompressedImage.plot`."""
    look = look_at(image, original)
    shape = image.shape[:2]
    pictures = [look.compressed] if look.original is None else [look.original, look.compressed]
    flat = shape[1] > FLAT * shape[0]
    # Beside one overview there is room for the column; below two it stands beside the crops.
    beside = len(pictures) == 1 and not flat
    crops = look.crops[: 5 if beside else 3]
    boxes, below = _overview_boxes(image, len(pictures), flat=flat, beside=beside)
    side = (INSIDE - 0.22 - 4 * GAP) / 5 if beside else (INSIDE - COLUMN - 0.72 - 2 * GAP) / 3
    crop_rows = 3 * (side + GAP) + 0.35 if crops else 0.0
    column = (TOP + TITLE, ALONE) if beside else (below + TITLE, max(crop_rows - 0.3, 4.6))
    bottom = below + TITLE + (crop_rows if beside else max(crop_rows, column[1] + 0.35))
    sheet = Sheet(WIDTH, bottom + 0.25 - (0 if crops or not beside else TITLE))
    _write_head(sheet, image)
    for picture, title, box in zip(pictures, _titles(image, look), boxes, strict=True):
        draw_overview(sheet, box, picture, title=title, crops=crops, shape=shape)
    if crops:
        draw_crops(sheet, MARGIN + 0.22, below + TITLE, crops, side=side, peak=image.report.peak)
    left = MARGIN + INSIDE - COLUMN
    _draw_column(sheet, (left, *column), image, look)
    return sheet


def _overview_boxes(
    image: CompressedImage, n: int, *, flat: bool, beside: bool
) -> tuple[list[tuple[float, float, float, float]], float]:
    """Place the overviews; return left, top, width and height of each, and where they end."""
    across = 1 if flat or n == 1 else n
    width = INSIDE - COLUMN - 0.5 if beside else (INSIDE - 0.3 * (across - 1)) / across
    wide, tall = fitted(image.shape, width, ALONE if beside else TALLEST)
    boxes = []
    for i in range(n):
        row, column = (i, 0) if flat else (0, i)
        top = TOP + TITLE + row * (tall + TITLE + 0.12)
        boxes.append((MARGIN + column * (width + 0.3), top, wide, tall))
    below = boxes[-1][1] + (max(tall, ALONE + 0.2) if beside else tall) + 0.25
    return boxes, below


def _draw_column(
    sheet: Sheet, place: tuple[float, float, float], image: CompressedImage, look: Look
) -> None:
    """Draw the cloud, and the palette below it."""
    left, top, height = place
    palette = 0.85
    cloud = height - palette - TITLE - 0.35
    draw_cloud(sheet, (left, top, COLUMN, cloud), image, look.values)
    draw_palette(sheet, (left, top + height - palette - 0.1, COLUMN, palette), image)


def _write_head(sheet: Sheet, image: CompressedImage) -> None:
    height, width, bands = image.shape
    report = image.report
    sheet.write(MARGIN, 0.35, image.path.name, fontsize=17, color=INK, fontweight="bold")
    told = [
        f"{width:,} × {height:,}, {several(bands, 'band')} of {report.dtype}",
        f"{size_told(report.sizes['raw'])} raw",
        f"{size_told(report.sizes['zarr'])} compressed",
        f"{number(report.bits_per_pixel)} bits per pixel",
    ]
    missing = height * width - report.valid_pixels
    if missing:
        told.append(f"{missing / (height * width):.1%} missing")
    sheet.write(MARGIN, 0.72, "   ·   ".join(told), fontsize=10)


def _titles(image: CompressedImage, look: Look) -> list[tuple[str, str]]:
    report = image.report
    quality = "exact" if math.isinf(report.psnr) else f"PSNR {report.psnr:.2f} dB"
    detail = f"{quality}, {times_smaller(report.ratio_raw, sign='×')} than raw"
    compressed = (f"k = {report.k_used:,}", detail)
    if look.original is None:
        return [compressed]
    size = report.sizes["source"]
    return [("original", f"{size_told(size)} as stored" if size else ""), compressed]
