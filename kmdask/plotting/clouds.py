"""The cloud of pixels with the palette in it: what k-means has to work with, and what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from kmdask.plotting.looks import display
from kmdask.plotting.panels import head
from kmdask.plotting.sheets import INK, LINES, MUTED

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

    from kmdask.image import CompressedImage
    from kmdask.plotting.sheets import Sheet

MOST = 256
"""Entries that are drawn: of more, those of the largest shares."""

SMALLEST, LARGEST = 18.0, 260.0
"""Square points of an entry."""


def draw_cloud(
    sheet: Sheet,
    box: tuple[float, float, float, float],
    image: CompressedImage,
    values: npt.NDArray[np.float64],
) -> None:
    """Draw pixels in their own colours, and entries as large as their shares.

    One band is a histogram, two and three bands are drawn as they are, more by their first two
    principal components.

    Parameters
    ----------
    sheet : Sheet
    box : tuple of float
        Left, top, width and height in inches, the title not among them.
    image : CompressedImage
    values : array of shape (n, band)
        Pixels; there may be none.
    """
    shares = np.array(image.report.shares)
    shown = np.argsort(-shares, kind="stable")[:MOST]
    told = f"a sample of {len(values):,}" if len(values) else "the entries alone"
    if len(shown) < len(shares):
        told += f", the {MOST} largest entries"
    head(sheet, box[0], box[1], ("pixels and palette", told))
    entries = image.palette.colors[shown].astype(np.float64)
    sizes = SMALLEST + (LARGEST - SMALLEST) * np.sqrt(shares[shown] / max(shares.max(), 1e-9))
    sizes *= min(1.0, (40 / len(shown)) ** 0.5)
    pixel_colors = display(image, values) / 255
    entry_colors = image.colormap.rgb[shown] / 255
    bands = image.shape[2]
    axes: Any
    if bands == 1:
        axes = _histogram(sheet, box, values, entries, image)
        heights = shares[shown]
        axes.vlines(entries[:, 0], 0, heights, color=MUTED, lw=0.8)
        axes.scatter(entries[:, 0], heights, c=entry_colors, edgecolors=INK, linewidths=0.9, s=50,
                     zorder=3, clip_on=False)  # fmt: skip
        return
    flat: dict[str, Any] = {}
    if bands == 3:
        axes, inside = _room_of_three(sheet, box, values, entries, image)
        values, pixel_colors = values[inside], pixel_colors[inside]
        flat = {"depthshade": False}
    else:
        axes, values, entries = _plane(sheet, box, values, entries, image)
    line = 0.9 if len(shown) <= 64 else 0.5
    axes.scatter(*values.T, c=pixel_colors, s=5, alpha=0.5, lw=0, zorder=1, **flat)
    axes.scatter(*entries.T, c=entry_colors, s=sizes, edgecolors=INK, linewidths=line, zorder=2,
                 **flat)  # fmt: skip


def _histogram(
    sheet: Sheet,
    box: tuple[float, float, float, float],
    values: npt.NDArray[np.float64],
    entries: npt.NDArray[np.float64],
    image: CompressedImage,
) -> Axes:
    """Draw how often values occur, as tall as the shares of the entries are."""
    axes = _flat(sheet, box)
    low, high = _limits(np.concatenate([values, entries])[:, 0])
    tallest = max(image.report.shares) or 1.0
    if len(values):
        counts, edges = np.histogram(values[:, 0], bins=64, range=(low, high))
        heights = counts / max(counts.max(), 1) * tallest
        axes.bar(edges[:-1], heights, np.diff(edges), align="edge", color="#c9ced6", lw=0)
    axes.set_xlim(low, high)
    axes.set_ylim(0, tallest * 1.08)
    axes.set_xlabel(_name(image, 0), color=INK, fontsize=9)
    axes.set_ylabel("share of each entry; grey: values, to no scale", color=INK, fontsize=9)
    return axes


def _room_of_three(
    sheet: Sheet,
    box: tuple[float, float, float, float],
    values: npt.NDArray[np.float64],
    entries: npt.NDArray[np.float64],
    image: CompressedImage,
) -> tuple[Any, npt.NDArray[np.bool_]]:
    """Axes for three bands, and which pixels are inside: nothing cuts off what is not."""
    left, top, width, height = box
    # Entries are drawn over pixels, wherever they are.
    axes: Any = sheet.place(left, top, width, height, projection="3d", computed_zorder=False)
    axes.set_box_aspect((1, 1, 1), zoom=0.96)
    axes.view_init(elev=22, azim=-58)
    inside = np.ones(len(values), bool)
    for i, axis in enumerate((axes.xaxis, axes.yaxis, axes.zaxis)):
        low, high = _limits(np.concatenate([values, entries])[:, i])
        low, high = min(low, entries[:, i].min()), max(high, entries[:, i].max())
        axis.set_major_locator(MaxNLocator(4))
        if image.palette.displayable:
            low, high = 0.0, 255.0
            axis.set_ticks([0, 128, 255])
        getattr(axes, f"set_{'xyz'[i]}lim")(low, high)
        getattr(axes, f"set_{'xyz'[i]}label")(_name(image, i), color=INK, fontsize=9, labelpad=1)
        axis.set_tick_params(labelsize=8, colors=MUTED, pad=0)
        axis.set_pane_color("#f7f8fa")
        axis._axinfo["grid"].update(color=LINES, linewidth=0.6)  # noqa: SLF001  else for all threads
        axis.line.set_color(MUTED)
        inside &= (values[:, i] >= low) & (values[:, i] <= high)
    return axes, inside


def _plane(
    sheet: Sheet,
    box: tuple[float, float, float, float],
    values: npt.NDArray[np.float64],
    entries: npt.NDArray[np.float64],
    image: CompressedImage,
) -> tuple[Axes, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Axes for two bands, or for the first two principal components of more, and the points."""
    axes = _flat(sheet, box)
    names = [_name(image, 0), _name(image, 1)]
    if entries.shape[1] > 2:
        cloud = values if len(values) > 1 else entries
        middle = cloud.mean(axis=0)
        _, spread, directions = np.linalg.svd(cloud - middle, full_matrices=False)
        # Of the few entries of a small palette there may be but one.
        plane = np.zeros((2, entries.shape[1]))
        plane[: min(2, len(directions))] = directions[:2]
        values, entries = (values - middle) @ plane.T, (entries - middle) @ plane.T
        parts = np.append(spread**2, [0, 0])[:2] / max(float((spread**2).sum()), 1e-300)
        names = [
            f"{which} principal component, {part:.0%} of the variance"
            for which, part in zip(("first", "second"), parts, strict=True)
        ]
    everything = np.concatenate([values, entries])
    axes.set_xlim(*_limits(everything[:, 0]))
    axes.set_ylim(*_limits(everything[:, 1]))
    axes.set_xlabel(names[0], color=INK, fontsize=9)
    axes.set_ylabel(names[1], color=INK, fontsize=9)
    return axes, values, entries


def _flat(sheet: Sheet, box: tuple[float, float, float, float]) -> Axes:
    """Axes with two sides, and room for their numbers."""
    left, top, width, height = box
    axes = sheet.place(left + 0.62, top + 0.08, width - 0.72, height - 0.6)
    for side, spine in axes.spines.items():
        spine.set(visible=side in {"left", "bottom"}, color=MUTED)
    axes.grid(color=LINES, lw=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=8, length=3)
    axes.ticklabel_format(useOffset=False)
    axes.locator_params(nbins=6)
    return axes


def _limits(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """From which value to which an axis goes: far outliers are left out."""
    low, high = np.percentile(values, (0.2, 99.8))
    room = (high - low) * 0.06 or max(abs(float(high)) * 0.1, 0.5)
    return float(low - room), float(high + room)


def _name(image: CompressedImage, i: int) -> str:
    band = image.bands[i]
    color = "" if band.color in {"undefined", "gray"} else band.color
    return band.name or color or f"band {band.number}"
