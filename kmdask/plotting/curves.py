"""The curve of a sweep: what bits buy."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from kmdask.chunks import ceil_div
from kmdask.plotting.sheets import ACCENT, INK, LINES, MUTED, RIVALS, Sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kmdask.point import Point
    from kmdask.rates import Sweep

APART = 22
"""Pixels between points of which both are labelled."""

ROW = 0.048
"""Height of a row of the legend, as a part of the axes'."""

COLUMNS = 6
"""Names in a row of the legend at most."""

NAMES = {"jpeg": "JPEG", "webp": "WebP", "jxl": "JPEG XL", "avif": "AVIF", "png": "PNG"}


def draw_sweep(table: Sweep) -> Sheet:
    """Draw the points of a sweep, and its rivals; see `kmdask.Sweep.plot`."""
    sheet = Sheet(8.0, 5.8)
    axes = sheet.place(0.75, 1.3, 7.0, 3.85)
    plain, rated = (
        [(_bits(table, point), _quality(table, point)) for point in points]
        for points in (table.points, table.entropy_constrained)
    )
    rivals = [(each.codec, each.k, _per_pixel(table, each.sample_bytes), each.psnr)
              for each in table.rivals]  # fmt: skip
    everything = [*plain, *rated, *((x, psnr) for _, _, x, psnr in rivals)]
    finite = [psnr for _, psnr in everything if math.isfinite(psnr)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    room = max(high - low, 1.0) * 0.1
    top = high + room
    for codec in dict.fromkeys(codec for codec, *_ in rivals):
        for of_indices in (False, True):
            own = sorted(
                (x, y)
                for name, k, x, y in rivals
                if name == codec and (k is not None) == of_indices
            )
            _line(axes, codec, own, top, of_indices=of_indices)
    most = max(x for x, _ in (*plain, *rated))
    for codec, sign in _bounds(rivals, most).items():
        axes.plot(*zip(*sign, strict=True), color=RIVALS[codec][0], lw=1.3, ls=":", zorder=3,
                  label="_nolegend_")  # fmt: skip
    stored = ", as stored" if table.sample_pixels else ""
    names = f"palette{stored}", f"entropy-constrained{stored}"
    places = _palettes(axes, plain, top, names[0], color=ACCENT, lw=2, mec="white", mew=0.8)
    _palettes(axes, rated, top, names[1], color=INK, lw=1.2, ls="--", mfc="white")
    _scale(axes, [x for x, _ in everything])
    lossless = len(finite) < len(everything)
    axes.set_ylim(low - room, top + (0 if lossless else room / 2))
    if not finite:
        axes.set_yticks([])
    _label(axes, table, places)
    if lossless:
        axes.axhline(top, color=MUTED, lw=0.8, ls=(0, (4, 3)), zorder=1)
        axes.annotate("without loss", (0, top), xycoords=("axes fraction", "data"), color=MUTED,
                      xytext=(4, 3), textcoords="offset points", fontsize=8)  # fmt: skip
    _dress(axes, table)
    _head(sheet, table)
    return sheet


def _palettes(
    axes: Axes, points: list[tuple[float, float]], top: float, name: str, **style: Any
) -> list[tuple[float, float]]:
    """Draw a curve of palettes, if there are any; return where its points are."""
    places = [(x, min(psnr, top)) for x, psnr in points]
    if places:
        axes.plot(*zip(*places, strict=True), marker="o", ms=5.5, zorder=5,
                  label=name, clip_on=False, **style)  # fmt: skip
    return places


def _per_pixel(table: Sweep, size: int) -> float:
    return 8 * size / table.sample_pixels


def _bits(table: Sweep, point: Point) -> float:
    return (
        point.bits_per_pixel
        if point.sample_bytes is None
        else _per_pixel(table, point.sample_bytes)
    )


def _quality(table: Sweep, point: Point) -> float:
    sampled = table.sample_psnr(point)
    return point.psnr if sampled is None else sampled


def _line(
    axes: Axes, codec: str, points: list[tuple[float, float]], top: float, *, of_indices: bool
) -> None:
    """Draw what one codec does: a line where it loses something, a marker on top where not."""
    color, marker = RIVALS[codec]
    style: dict[str, Any] = {
        "color": color,
        "marker": marker,
        "ms": 5,
        "mew": 1.2,
        "zorder": 4,
        "clip_on": False,
    }
    lossy = [(x, y) for x, y in points if math.isfinite(y)]
    name = f"{NAMES[codec]}{' of the indices' if of_indices else ''}"
    if lossy:
        axes.plot(*zip(*lossy, strict=True), lw=1.3, label=name, **style)
    for x, y in points:
        if math.isinf(y):
            axes.plot(x, top, ls="none", label=None if lossy else name, **style)
            name = "_nolegend_"


def _bounds(
    rivals: list[tuple[str, int | None, float, float]], most: float
) -> dict[str, list[tuple[float, float]]]:
    """Where a codec's best quality is a lower bound: up to its bytes without loss, or `most`."""
    found = {}
    for codec in dict.fromkeys(codec for codec, *_ in rivals):
        own = [(x, y) for name, k, x, y in rivals if name == codec and k is None]
        lossy = [place for place in own if math.isfinite(place[1])]
        ends = min([most, *(x for x, y in own if math.isinf(y))])
        if lossy and max(lossy)[0] < ends:
            found[codec] = [max(lossy), (ends, max(lossy)[1])]
    return found


def _label(axes: Axes, table: Sweep, places: list[tuple[float, float]]) -> None:
    """Mark the knee, and write k at it and at the other points, where there is room."""
    knee = next(i for i, point in enumerate(table.points) if point.k == table.knee.k)
    last, bends = len(places) - 1, table.bends
    if bends:
        axes.plot(*places[knee], color=ACCENT, marker="o", ms=13, mfc="none", mew=1.6, ls="none",
                  zorder=5, clip_on=False, label="the knee")  # fmt: skip
    taken: list[Any] = []
    for i in (knee, last, *range(last)):
        spot = axes.transData.transform(places[i])
        if any(math.dist(spot, other) < APART for other in taken):
            continue
        taken.append(spot)
        axes.annotate(f"{table.points[i].k}", places[i], xytext=(8, -13),
                      textcoords="offset points", ha="left", fontsize=9, color=INK,
                      fontweight="bold" if bends and i == knee else "normal", zorder=6,
                      annotation_clip=False,
                      bbox={"boxstyle": "round,pad=0.12", "fc": "white", "ec": "none",
                            "alpha": 0.75})  # fmt: skip


def _scale(axes: Axes, bits: list[float]) -> None:
    """Bits by their logarithm, unless there are none somewhere."""
    if min(bits) > 0 and max(bits) > min(bits):
        axes.set_xscale("log", base=2)
        axes.set_xlim(min(bits) / 1.5, max(bits) * 1.25)
        axes.xaxis.set_major_locator(LogLocator(base=2, numticks=12))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def _dress(axes: Axes, table: Sweep) -> None:
    axes.set_facecolor("white")
    axes.grid(color=LINES, lw=0.7)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set(visible=side in {"left", "bottom"}, color=MUTED)
    axes.tick_params(colors=MUTED, labelsize=9, length=3, which="both")
    measured = "as stored" if table.sample_pixels else "by the entropy of the indices"
    axes.set_xlabel(f"bits per pixel, {measured}", color=INK, fontsize=10)
    axes.set_ylabel("PSNR in dB", color=INK, fontsize=10)
    _explain(axes)


def _explain(axes: Axes) -> None:
    """Name palettes in one row, and other codecs below: a legend goes down its columns."""
    lines: list[Any] = axes.get_legend_handles_labels()[0]
    codecs = tuple(NAMES.values())
    groups = [
        [line for line in lines if line.get_label().startswith(codecs) == others]
        for others in (True, False)
    ]
    rows = 0
    for group in filter(None, groups):
        below = axes.get_legend()
        if below is not None:
            axes.add_artist(below)
        axes.legend(handles=group, ncols=min(len(group), COLUMNS), loc="lower left", fontsize=9,
                    bbox_to_anchor=(-0.01, 1.035 + ROW * rows), labelcolor=INK, handlelength=2,
                    columnspacing=1.6, borderaxespad=0, frameon=False)  # fmt: skip
        rows += ceil_div(len(group), COLUMNS)


def _head(sheet: Sheet, table: Sweep) -> None:
    height, width, bands = table.shape
    sheet.write(0.25, 0.2, PurePath(table.source).name, fontsize=13, color=INK, fontweight="bold")
    kind = "colours" if table.exact else "groups of colours"
    told = f"{width:,} × {height:,}, {bands} × {table.dtype}, {table.colors:,} {kind}"
    if table.sample_pixels:
        what = "bits and PSNR" if table.rivals else "bits"
        part = "" if table.sample_pixels == height * width else "a sample of "
        told += f"; {what} of {part}{table.sample_pixels:,} pixels"
    sheet.write(0.25, 0.5, told)
