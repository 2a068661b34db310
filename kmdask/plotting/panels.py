"""The parts of a picture of a compressed image that show pixels: overviews, crops, the palette."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle

from kmdask.metrics import psnr_of
from kmdask.palette import LUMA
from kmdask.plotting.sheets import ACCENT, INK, PAPER, bare, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from kmdask.image import CompressedImage
    from kmdask.plotting.looks import Crop
    from kmdask.plotting.sheets import Sheet

TITLE, GAP = 0.3, 0.12
"""Inches: what a title over a panel takes, and what is between crops."""

NARROWEST = 0.3
"""Inches of a side of an overview, which is stretched if it would be less."""

LARGE = 0.08
"""The share of the width from which on a box has room for its letter."""

ERRORS = "magma"
"""The colours of errors, dark where there are none."""


def fitted(shape: Sequence[int], width: float, height: float) -> tuple[float, float]:
    """Width and height in inches of an image of so many rows and columns within a box."""
    rows, columns = shape[:2]
    scale = min(width / columns, height / rows)
    wide, tall = max(columns * scale, NARROWEST), max(rows * scale, NARROWEST)
    return min(wide, width), min(tall, height)


def draw_overview(
    sheet: Sheet,
    box: tuple[float, float, float, float],
    picture: npt.NDArray[np.uint8],
    *,
    title: tuple[str, str],
    crops: Sequence[Crop],
    shape: Sequence[int],
) -> None:
    """Draw an image with its title over it, and with boxes where the crops are.

    Parameters
    ----------
    sheet : Sheet
    box : tuple of float
        Left, top, width and height in inches, the title not among them.
    picture : array of shape (y, x, 3)
    title : tuple of str
        What is in it, and a detail.
    crops : sequence of Crop
    shape : sequence of int
        Rows and columns of the full image.
    """
    left, top, width, height = box
    head(sheet, left, top, title)
    axes = sheet.place(left, top, width, height)
    # In pixels of the full image; stretched a little where it would be too thin to be seen.
    axes.imshow(
        picture, extent=(0, shape[1], shape[0], 0), aspect="auto", interpolation="antialiased"
    )
    bare(axes)
    for letter, crop in zip("ABCDE", crops, strict=False):
        corner = (crop.columns.start, crop.rows.start)
        size = (crop.columns.stop - corner[0], crop.rows.stop - corner[1])
        for color, line in ((INK, 2.6), (PAPER, 1.2)):
            axes.add_patch(Rectangle(corner, *size, fill=False, ec=color, lw=line, clip_on=False))
        _letter(axes, letter, corner, size, shape)


def draw_crops(
    sheet: Sheet, left: float, top: float, crops: Sequence[Crop], *, side: float, peak: float
) -> None:
    """Draw crops side by side: above as they were, below as they are, then the error."""
    # Of single pixels that are far off nothing else would be seen.
    worst = float(np.nanpercentile(np.concatenate([crop.error.ravel() for crop in crops]), 99.8))
    norm = Normalize(0, worst or 1)
    for i, (letter, crop) in enumerate(zip("ABCDE", crops, strict=False)):
        psnr = psnr_of(crop.mse, peak)
        quality = "exact" if math.isinf(psnr) else f"{psnr:.1f} dB"
        detail = f"{quality}, at {crop.columns.start:,}, {crop.rows.start:,}"
        x = left + i * (side + GAP)
        head(sheet, x, top, (letter, detail))
        shown: tuple[Any, ...] = (crop.original, crop.compressed, crop.error)
        wide, tall = fitted(crop.error.shape, side, side)
        for j, picture in enumerate(shown):
            axes = sheet.place(x, top + j * (side + GAP), wide, tall)
            axes.imshow(picture, aspect="auto", interpolation="nearest", cmap=ERRORS, norm=norm)
            bare(axes)
    for j, name in enumerate(("original", "compressed", "error")):
        middle = top + j * (side + GAP) + side / 2
        sheet.write(left - 0.22, middle, name, rotation=90, va="center")
    _draw_scale(sheet, left, top + 3 * (side + GAP) + 0.02, norm, worst)


def draw_palette(
    sheet: Sheet, box: tuple[float, float, float, float], image: CompressedImage
) -> None:
    """Draw the palette twice: each entry as wide as its share of the pixels, and all alike."""
    left, top, width, height = box
    colors, shares = image.colormap.rgb, np.array(image.report.shares)
    each = "1 entry" if len(colors) == 1 else f"{len(colors):,} entries"
    head(sheet, left, top, ("the palette", f"{each}, dark to light, as wide as their shares"))
    pixels = 4096
    ends = np.cumsum(shares)
    if not ends[-1]:
        return
    entries = np.searchsorted(ends / ends[-1], (np.arange(pixels) + 0.5) / pixels)
    axes = sheet.place(left, top, width, height * 0.62)
    strip = colors[np.minimum(entries, len(colors) - 1)][None]
    axes.imshow(strip, aspect="auto", extent=(0, 1, 0, 1), interpolation="nearest")
    for color, share, end in zip(colors.tolist(), shares.tolist(), ends.tolist(), strict=True):
        if share * width > 0.42:
            axes.text(end - share / 2, 0.5, f"{share:.0%}", ha="center", va="center", fontsize=8.5,
                      color=_readable(color))  # fmt: skip
    bare(axes)
    axes = sheet.place(left, top + height * 0.7, width, height * 0.3)
    axes.imshow(colors[None], aspect="auto", interpolation="nearest", extent=(0, 1, 0, 1))
    bare(axes)
    sheet.write(left, top + height + 0.07, "the same, all as wide", fontsize=8.5)


def head(sheet: Sheet, left: float, top: float, title: tuple[str, str]) -> None:
    """Write a title over a panel: what it shows, and a detail in grey after it."""
    name, detail = title
    bold = {"fontsize": 10.5, "color": INK, "fontweight": "bold", "va": "bottom"}
    sheet.write(left, top - 0.05, name, **bold)
    # About as wide as the letters are in bold.
    sheet.write(left + 0.095 * len(name) + 0.12, top - 0.055, detail, va="bottom")


def _letter(
    axes: Any,
    letter: str,
    corner: tuple[int, int],
    size: tuple[int, int],
    shape: Sequence[int],
) -> None:
    """Write the letter of a crop in the corner of its box, or beside it if that is small."""
    if size[0] > shape[1] * LARGE:
        place, ha, va, away = corner, "left", "top", (5, -5)
    else:
        right = corner[0] + size[0] <= shape[1] * 0.93
        place = corner[0] + size[0] * right, corner[1] + size[1] // 2
        ha, va, away = ("left", "center", (4, 0)) if right else ("right", "center", (-4, 0))
    axes.annotate(letter, place, xytext=away, textcoords="offset points", ha=ha, va=va, fontsize=9,
                  fontweight="bold", color=PAPER, annotation_clip=False,
                  bbox={"boxstyle": "round,pad=0.15", "fc": ACCENT, "ec": "none"})  # fmt: skip


def _draw_scale(sheet: Sheet, left: float, top: float, norm: Normalize, worst: float) -> None:
    if not worst:
        sheet.write(left, top, "next to no error in these windows", fontsize=8.5)
        return
    axes = sheet.place(left, top + 0.03, 1.6, 0.1)
    mappable = ScalarMappable(norm=norm, cmap=ERRORS)
    bar = sheet.colorbar(mappable, cax=axes, orientation="horizontal", ticks=[])
    bar.outline.set_visible(False)
    told = (
        f"from 0 to {number(worst)} and more: the root of the mean squared difference of the bands"
    )
    sheet.write(left + 1.72, top, told, fontsize=8.5)


def _readable(color: Sequence[int]) -> str:
    """Black on light colours, white on dark ones."""
    light = sum(weight * value for weight, value in zip(LUMA, color, strict=True)) / 1000
    return INK if light > 128 else PAPER
