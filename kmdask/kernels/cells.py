"""Kernels that gather pixels of many or deep bands in the cells of a grid, with exact sums.

A cell is named by a code of up to 32 bits, dealt out over the axes of the grid, the most
significant first: dropping the last bit joins the two cells next to each other along one axis. So a
grid that turns out too fine is made coarser without looking at a pixel again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kmdask.kernels.compiled import inlined, kernel
from kmdask.kernels.strips import strips
from kmdask.kernels.views import frozen

SLOTS = 4
"""Slots of the hash table for each cell there may be: with more, probes are short."""

GOLDEN = np.uint64(11400714819323198485)
"""2**64 divided by the golden ratio: its products spread neighbouring codes over the table."""


class Gathered(NamedTuple):
    """What `gather` found in a block of pixels."""

    codes: npt.NDArray[np.uint32]
    """Codes of the occupied cells, ascending, of shape (n,)."""

    counts: npt.NDArray[np.int64]
    """Pixels in each, of shape (n,)."""

    sums: npt.NDArray[np.int64]
    """Sums of their values in quanta, of shape (n, band)."""

    dropped: int
    """Last bits of the codes that were dropped, so that there are no more cells than allowed."""

    low: npt.NDArray[np.float64]
    """Least value of each band, of shape (band,); infinite without a valid pixel."""

    high: npt.NDArray[np.float64]
    """Greatest value of each band."""


@inlined
def _slot(code: np.uint32, keys: npt.NDArray[np.uint32], cells: npt.NDArray[np.int32]) -> int:
    """The slot that holds a code, or the empty one where it belongs."""
    mask = cells.size - 1
    slot = int((np.uint64(code) * GOLDEN) >> np.uint64(40)) & mask
    while cells[slot] >= 0 and keys[slot] != code:
        slot = (slot + 1) & mask
    return slot


@kernel
def _coarsen(
    n: int,
    codes: npt.NDArray[np.uint32],
    counts: npt.NDArray[np.int64],
    sums: npt.NDArray[np.int64],
    keys: npt.NDArray[np.uint32],
    cells: npt.NDArray[np.int32],
) -> int:
    """Drop the last bit of every code, join what then has the same; return how many are left."""
    cells[:] = -1
    left = 0
    for i in range(n):
        code = codes[i] >> np.uint32(1)
        slot = _slot(code, keys, cells)
        if cells[slot] < 0:
            keys[slot] = code
            cells[slot] = left
            codes[left] = code
            counts[left] = counts[i]
            for band in range(sums.shape[1]):
                sums[left, band] = sums[i, band]
            left += 1
        else:
            counts[cells[slot]] += counts[i]
            for band in range(sums.shape[1]):
                sums[cells[slot], band] += sums[i, band]
    return left


class _Table(NamedTuple):
    """The occupied cells of a block as they are found, ``most + 1`` at most, and where they are."""

    codes: npt.NDArray[np.uint32]
    counts: npt.NDArray[np.int64]
    sums: npt.NDArray[np.int64]
    keys: npt.NDArray[np.uint32]  # (slots,)
    cells: npt.NDArray[np.int32]  # (slots,), -1 where there is none
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


@kernel
def _gather(
    values: npt.NDArray[np.float64],
    mask: npt.NDArray[np.uint8],
    axes: npt.NDArray[np.float64],
    origin: npt.NDArray[np.float64],
    steps: npt.NDArray[np.int64],
    parts: npt.NDArray[np.uint32],
    units: npt.NDArray[np.float64],
    table: _Table,
    n: int,
    dropped: int,
) -> tuple[int, int]:
    """Gather values of shape (band, y, x) in the cells of a table, of which n are occupied."""
    codes, counts, sums, keys, cells, low, high = table
    bands, height, width = values.shape
    # A row of all bands by itself: in the strip they are far apart, where a cache mixes them up.
    strip, values = values, np.empty((bands, width))
    place = np.empty(width)
    row_codes = np.empty(width, np.uint32)
    whole = np.empty((bands, width), np.int64)
    for y in range(height):
        for band in range(bands):
            for x in range(width):
                values[band, x] = strip[band, y, x]
        row_codes[:] = 0
        for axis in range(axes.shape[1]):
            place[:] = -origin[axis]
            for band in range(bands):
                weight, row = axes[band, axis], values[band]
                for x in range(width):
                    place[x] += row[x] * weight
            last = np.float64(steps[axis] - 1)
            for x in range(width):
                # Not a number, in an invalid pixel, fails both comparisons.
                step = max(0.0, place[x])
                row_codes[x] |= parts[axis, np.int64(min(step, last))]
        for band in range(bands):
            offset, inverse, limit = units[0, band], units[1, band], units[2, band]
            row = values[band]
            for x in range(width):
                quanta = np.rint((row[x] - offset) * inverse)
                quanta = max(-limit, quanta)
                whole[band, x] = np.int64(min(quanta, limit))
        for x in range(width):
            if mask.size and mask[y, x] == 0:
                continue
            code = row_codes[x] >> np.uint32(dropped)
            slot = _slot(code, keys, cells)
            cell = int(cells[slot])
            if cell < 0:
                cell = n
                keys[slot] = code
                cells[slot] = n
                codes[n] = code
                counts[n] = 0
                sums[n] = 0
                n += 1
            counts[cell] += 1
            for band in range(bands):
                sums[cell, band] += whole[band, x]
                low[band] = min(low[band], values[band, x])
                high[band] = max(high[band], values[band, x])
            while n == codes.size:
                n = _coarsen(n, codes, counts, sums, keys, cells)
                dropped += 1
    return n, dropped


@kernel
def add_cells(
    own: npt.NDArray[np.uint32],
    counts: npt.NDArray[np.int64],
    sums: npt.NDArray[np.int64],
    codes: npt.NDArray[np.uint32],
    all_counts: npt.NDArray[np.int64],
    all_sums: npt.NDArray[np.int64],
) -> None:
    """Add cells to those of the same codes.

    Parameters
    ----------
    own : uint32 array of shape (n,)
        Their codes, ascending, some of them perhaps repeated.
    counts, sums : int64 arrays of shape (n,) and (n, band)
    codes : uint32 array of shape (m,)
        Different codes, ascending, with all of `own` among them.
    all_counts, all_sums : int64 arrays of shape (m,) and (m, band)
        Are added to.
    """
    at = 0
    for i in range(own.size):
        while codes[at] < own[i]:
            at += 1
        all_counts[at] += counts[i]
        for band in range(sums.shape[1]):
            all_sums[at, band] += sums[i, band]


def gather(
    pixels: npt.NDArray[np.generic],
    mask: npt.NDArray[np.uint8],
    axes: npt.NDArray[np.float64],
    origin: npt.NDArray[np.float64],
    steps: npt.NDArray[np.int64],
    parts: npt.NDArray[np.uint32],
    units: npt.NDArray[np.float64],
    most: int,
) -> Gathered:
    """Gather the pixels of a block in the cells of a grid.

    Parameters
    ----------
    pixels : array of shape (y, x, band), of any real data type
    mask : uint8 array of shape (y, x) or (0, 0)
        0 where a pixel is invalid and left out. An empty array means that all are valid.
    axes : float64 array of shape (band, axis)
        A pixel's place along an axis is ``pixel @ axes - origin``, counted in cells.
    origin : float64 array of shape (axis,)
    steps : int64 array of shape (axis,)
        Cells along each axis. What lies outside goes to the first or the last.
    parts : uint32 array of shape (axis, greatest number of steps)
        What each step along each axis adds to the code.
    units : float64 array of shape (3, band)
        Of each band the offset, the reciprocal of the quantum and the limit: sums are of
        ``rint((value - offset) / quantum)``, at most the limit, which are whole numbers.
    most : int
        Cells at most.

    Returns
    -------
    Gathered
    """
    bands, slots = pixels.shape[2], 1
    while slots < SLOTS * most:
        slots *= 2
    table = _Table(
        np.empty(most + 1, np.uint32),
        np.empty(most + 1, np.int64),
        np.empty((most + 1, bands), np.int64),
        np.empty(slots, np.uint32),
        np.full(slots, -1, np.int32),
        np.full(bands, np.inf),
        np.full(bands, -np.inf),
    )
    grid = frozen(axes), origin, steps, parts, units
    n = dropped = 0
    for y, part in strips(pixels):
        values = np.moveaxis(part, 2, 0).astype(np.float64, order="C")
        seen = frozen(mask[y : y + len(part)])
        n, dropped = _gather(values, seen, *grid, table, n, dropped)
    order = np.argsort(table.codes[:n])
    return Gathered(
        table.codes[order], table.counts[order], table.sums[order], dropped, table.low, table.high
    )
