"""Kernel that trades a little error for indices that repeat their neighbours.

Row by row, what the pixels of a row take is chosen together: a path through the few entries that
each may take, found by Viterbi's algorithm [1]_. Where a pixel may take one entry only the path is
known, so a row falls into short pieces with something to choose between them.

References
----------
.. [1] A. J. Viterbi, "Error bounds for convolutional codes and an asymptotically optimum decoding
   algorithm", IEEE Transactions on Information Theory 13 (1967) 260-269.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kmdask.kernels.compiled import kernel
from kmdask.kernels.views import image_kernel

__all__ = ["SIDEWAYS", "UPWARDS", "smooth_rows"]

Labels: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.int64]

SIDEWAYS = 0.4
"""What another entry than that on the left costs, as a share of the limit."""

UPWARDS = 0.1
"""What another entry than that above, or than that below, costs. A pixel has two neighbours on
each axis: together they cost the limit. Codecs read row by row, which is why a row weighs more; two
to eight times as much are alike in bytes."""

CHOICES = 5
"""Entries that a pixel may take at most: its own, and those of four neighbours."""

OWN, LEFT, RIGHT, UP, DOWN = range(CHOICES)


@kernel
def _load(
    values: npt.NDArray[np.generic], y: int, labels: Labels, row: int, pixels: Floats, near: Indices
) -> None:
    """Copy a row of pixels, and the entries of it and of its neighbours.

    Beyond the block there is none: the pixel's own stands for it.
    """
    height, width = labels.shape
    for j in range(values.shape[2]):
        band = values[y, :, j]
        for x in range(width):
            pixels[x, j] = np.float64(band[x])
    own, left, right = labels[row], near[LEFT], near[RIGHT]
    above, below = labels[max(row - 1, 0)], labels[min(row + 1, height - 1)]
    for x in range(width):
        near[OWN, x] = own[x]
        near[UP, x] = above[x]
        near[DOWN, x] = below[x]
    for x in range(width):
        left[x], right[x] = near[OWN, max(x - 1, 0)], near[OWN, min(x + 1, width - 1)]


@kernel
def _mixed(near: Indices, k: int, listed: Indices) -> int:
    """List the valid pixels of a row of which some neighbour has another entry."""
    n = 0
    for x in range(near.shape[1]):
        own = near[OWN, x]
        other = (near[LEFT, x] ^ own) | (near[RIGHT, x] ^ own)
        other |= (near[UP, x] ^ own) | (near[DOWN, x] ^ own)
        listed[n] = x
        n += 1 if other != 0 and own < k else 0
    return n


@kernel
def _squared(pixel: Floats, entry: Floats) -> float:
    total = 0.0
    for j in range(pixel.shape[0]):
        gap = pixel[j] - entry[j]
        total += gap * gap
    return total


@kernel
def _choices(
    pixels: Floats,
    near: Indices,
    entries: Floats,
    most: float,
    prices: Floats,
    listed: Indices,
    n: int,
    choices: Indices,
    costs: Floats,
    counts: Indices,
) -> int:
    """Find what the pixels listed may take, and what it costs but for the way it is come by.

    What costs more than the pixel's own entry by more than it can save on both sides, `most`, is
    left out: it never pays. Pixels with something to choose between stay on the list.
    """
    kept = 0
    for i in range(n):
        x = listed[i]
        own, up, down = near[OWN, x], near[UP, x], near[DOWN, x]
        least = _squared(pixels[x], entries[own])
        here, cost = choices[x], costs[x]
        here[0] = own
        cost[0] = (prices[0] if up != own else 0.0) + (prices[1] if down != own else 0.0)
        m = 1
        for side in range(1, CHOICES):
            c = near[side, x]
            if c >= entries.shape[0] or c == own:
                continue
            known = False
            for q in range(1, m):
                known |= here[q] == c
            if known:
                continue
            here[m], cost[m] = c, _squared(pixels[x], entries[c]) - least
            cost[m] += (prices[0] if up != c else 0.0) + (prices[1] if down != c else 0.0)
            m += 1 if cost[m] - cost[0] <= most else 0
        counts[x] = m
        listed[kept] = x
        kept += 1 if m > 1 else 0
    return kept


@kernel
def _path(
    first: int,
    last: int,
    change: float,
    near: Indices,
    choices: Indices,
    costs: Floats,
    counts: Indices,
    ways: Indices,
    row: Labels,
) -> None:
    """Choose for pixels side by side what costs least together, between two that are known."""
    for i in range(counts[first]):
        if first > 0 and row[first - 1] != choices[first, i]:
            costs[first, i] += change
    for x in range(first + 1, last + 1):
        n = counts[x - 1]
        least, best = np.inf, 0
        for j in range(n):
            if costs[x - 1, j] < least:
                least, best = costs[x - 1, j], j
        for i in range(counts[x]):
            total, way = least + change, best
            for j in range(n):
                if choices[x - 1, j] == choices[x, i] and costs[x - 1, j] <= total:
                    total, way = costs[x - 1, j], j
            costs[x, i] += total
            ways[x, i] = way
    if last + 1 < row.shape[0]:
        for i in range(counts[last]):
            if near[OWN, last + 1] != choices[last, i]:
                costs[last, i] += change
    way = 0
    for i in range(counts[last]):
        if costs[last, i] < costs[last, way]:
            way = i
    for x in range(last, first - 1, -1):
        row[x] = choices[x, way]
        way = ways[x, way]


@image_kernel(1)
def smooth_rows(
    values: npt.NDArray[np.generic], entries: Floats, limit: float, top: int, labels: Labels
) -> None:
    """Let the pixels of some rows of a block take other entries than the nearest.

    Parameters
    ----------
    values : array of shape (rows, x, f), of any real data type
        The pixels of these rows, where their distances are measured. Finite where valid.
    entries : float64 array of shape (k, f)
        The palette there.
    limit : float
        By how much the squared distance of a pixel may grow at most.
    top : int
        The first of the rows. Those above it have been chosen before.
    labels : unsigned array of shape (y, x)
        The nearest entries of a block, k and more where pixels are invalid. These rows are
        replaced; invalid pixels stay as they are.
    """
    rows, (height, width) = values[0], labels.shape
    pixels, near = np.empty((width, rows.shape[2])), np.empty((CHOICES, width), np.int64)
    choices, costs = np.empty((width, CHOICES), np.int64), np.empty((width, CHOICES))
    listed, counts = np.empty(width + 1, np.int64), np.empty(width, np.int64)
    ways, prices = np.zeros((width, CHOICES), np.int64), np.empty(2)
    change = SIDEWAYS * limit
    for y in range(rows.shape[0]):
        row = top + y
        prices[0] = UPWARDS * limit if row > 0 else 0.0
        prices[1] = UPWARDS * limit if row + 1 < height else 0.0
        _load(rows, y, labels, row, pixels, near)
        n = _mixed(near, entries.shape[0], listed)
        n = _choices(pixels, near, entries, 2 * change, prices, listed, n, choices, costs, counts)
        i = 0
        while i < n:
            first = listed[i]
            while i + 1 < n and listed[i + 1] == listed[i] + 1:
                i += 1
            _path(first, listed[i], change, near, choices, costs, counts, ways, labels[row])
            i += 1
