"""Compiled kernel of many steps of Lloyd's algorithm: only rows that may change are looked at.

Most rows keep their centre from one step to the next, and bounds tell which (Hamerly 2010; here,
as in `kmdask.kernels.lloyd`, for runs of rows that lie near one another). When a run is looked
through, it keeps the few centres that can be nearest somewhere in its box, its *candidates*, and

* of each row its *gap*, by how much its centre is nearer than the second of the candidates. While
  no candidate has moved by half of it, the row keeps its centre;
* its *reach*, by how much any other centre is farther from the box than the farthest row is from
  its own. While that exceeds the way of the fastest candidate and of the fastest centre nearby
  together, no other centre can come in.

Ways are measured from where the centres were then, as the crow flies. Rows whose gap is used up
are compared with the candidates again; a run with many of them is looked through again. Every row
gets the centre that comparing it with all of them would give it, bit for bit: gaps and ways are
bounded by margins that rounding cannot reach.

References
----------
.. [1] G. Hamerly, "Making k-means even faster", SIAM International Conference on Data Mining 2010,
   130-140.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kmdask.kernels.compiled import kernel

from .lloyd import RUN, Floats, Indices, Rows, assign, load, squared_distances
from .memory import CANDIDATES, Memory, relabel

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["resettle"]

SPAN = 32
"""Runs of which those centres are left out at once that matter in none."""

STALE = RUN // 8
"""Rows that are compared again by themselves; with more, their run is looked through."""

CAUTION = 1e-9
"""Share of a distance that rounding, some 1e-15 of it, cannot reach."""

NARROW = 2e-7
"""Share of a number that rounding it to float32 cannot reach."""

LEAST, MOST = 1e-30, 1e38
"""What less or more than these may be in float32, or its square in float64, is not relied on."""


@kernel
def _fastest(ways: Floats, listed: Indices) -> float:
    """Longest way of the centres listed."""
    way = 0.0
    for c in listed:
        way = max(way, ways[c])
    return way


@kernel
def _stale(gaps: npt.NDArray[np.float32], way: float) -> tuple[int, np.float32]:
    """Count the rows whose gap candidates may have used up, and return what gap that takes."""
    bound = np.float32(min(2.0 * way * (1.0 + CAUTION) * (1.0 + NARROW), MOST))
    count = 0
    for r in range(gaps.shape[0]):
        count += 1 if gaps[r] <= bound else 0
    return count, bound


@kernel
def _compare(
    X: Rows,
    start: int,
    gaps: npt.NDArray[np.float32],
    bound: np.float32,
    centers: Floats,
    candidates: Indices,
    labels: Indices,
) -> None:
    """Label the rows of a run whose gap is used up with the nearest candidate, or the first.

    A row that changes has no gap any more: what it had was that of the centre it leaves.
    """
    for r in range(gaps.shape[0]):
        if gaps[r] > bound:
            continue
        least, old = np.inf, labels[r]
        labels[r] = candidates[0]
        for c in candidates:
            squared = 0.0
            for j in range(X.shape[1]):
                gap = X[start + r, j] - centers[c, j]
                squared += gap * gap
            if squared < least:
                least, labels[r] = squared, c
        if labels[r] != old:
            gaps[r] = 0.0


@kernel
def _candidates(
    columns: Floats, listed: Indices, count: int, low: Floats, high: Floats, near: Floats
) -> tuple[int, float]:
    """Leave on a list only the centres that can be nearest somewhere in a box, in their order.

    Returns how many these are, and the least squared distance of the others from the box.
    """
    bound = np.inf
    for q in range(count):
        nearest, farthest = 0.0, 0.0
        for j in range(columns.shape[0]):
            below, above = low[j] - columns[j, listed[q]], columns[j, listed[q]] - high[j]
            gap, span = max(below, above, 0.0), max(-below, -above)
            nearest += gap * gap
            farthest += span * span
        near[q] = nearest
        bound = min(bound, farthest)
    kept, others = 0, np.inf
    for q in range(count):
        if near[q] <= bound:
            listed[kept] = listed[q]
            kept += 1
        else:
            others = min(others, near[q])
    return kept, others


@kernel
def _two_nearest(
    run: Floats, centers: Floats, listed: Indices, count: int, room: Floats, labels: Indices
) -> None:
    """Label the rows of a run with the nearest centre listed.

    The squared distances to it and to the second are left in ``room[0]`` and ``room[1]``.
    """
    first, second, squared = room[0], room[1], room[2]
    first[:] = second[:] = np.inf
    labels[:] = listed[0]
    for q in range(count):
        c = listed[q]
        squared_distances(run, RUN, centers[c], squared)
        for r in range(RUN):
            closer = squared[r] < first[r]
            second[r] = min(second[r], first[r] if closer else squared[r])
            first[r] = squared[r] if closer else first[r]
            labels[r] = c if closer else labels[r]


@kernel
def _bounds(room: Floats, others: float, gaps: npt.NDArray[np.float32]) -> float:
    """Write the gaps of the rows of a run, and return its reach. Roots replace the squares."""
    first, second = room[0], room[1]
    for r in range(RUN):
        first[r] = np.sqrt(first[r])
        second[r] = np.sqrt(second[r])
    farthest = 0.0
    for r in range(gaps.shape[0]):
        gap = (second[r] * (1.0 - CAUTION) - first[r]) * (1.0 - NARROW)
        # What is not a number, of distances that are infinite, is no gap either.
        gap = gap if gap > LEAST else 0.0
        gaps[r] = gap if gap < MOST else MOST
        farthest = max(farthest, first[r])
    reach = np.sqrt(others) * (1.0 - CAUTION) - farthest
    return reach if reach > LEAST else 0.0


@kernel
def resettle(
    X: Rows, weights: Floats, centers: Floats, ways: Floats, step: int, memory: Memory
) -> None:
    """Assign every row to its nearest centre: take one more step.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
        The same at every step, as are the weights.
    weights : ndarray of shape (n,) or (1,), float64
        One per row, or a single one for all rows.
    centers : ndarray of shape (k, d), float64
    ways : ndarray of shape (steps, k), float64
        How far each centre is from where it was in each of some steps, the last of which is this.
    step : int
        Number of this step, from 0.
    memory : Memory
        Of the steps before; brought up to date.
    """
    (n, d), k, runs = X.shape, centers.shape[0], memory.reach.shape[0]
    columns = centers.T.copy()
    run, room, labels = np.zeros((d, RUN)), np.empty((3, RUN)), np.empty(RUN, np.int64)
    near, nearby, listed = np.empty(k), np.empty(k, np.int64), np.empty(k, np.int64)
    low, high = np.empty(d), np.empty(d)
    first = step + 1 - ways.shape[0]
    for span in range(0, runs, SPAN):
        last = min(span + SPAN, runs)
        for j in range(d):
            low[j], high[j] = memory.low[span, j], memory.high[span, j]
            for i in range(span + 1, last):
                low[j] = min(low[j], memory.low[i, j])
                high[j] = max(high[j], memory.high[i, j])
        for c in range(k):
            nearby[c] = c
        spanned, beyond = _candidates(columns, nearby, k, low, high, near)
        for i in range(span, last):
            start, stop = i * RUN, min((i + 1) * RUN, n)
            gaps, candidates, t = memory.gaps[start:stop], memory.candidates[i], memory.since[i]
            if t >= first:
                way = _fastest(ways[t - first], candidates[: memory.counts[i]])
                others_way = _fastest(ways[t - first], nearby[:spanned])
                if memory.reach[i] > (way + others_way) * (1.0 + CAUTION):
                    stale, bound = _stale(gaps, way)
                    if stale == 0:
                        continue
                    if stale <= STALE:
                        for row in range(start, stop):
                            labels[row - start] = memory.labels[row]
                        own = candidates[: memory.counts[i]]
                        _compare(X, start, gaps, bound, centers, own, labels)
                        relabel(memory, X, weights, start, stop - start, labels)
                        continue
            for q in range(spanned):
                listed[q] = nearby[q]
            count, others = _candidates(
                columns, listed, spanned, memory.low[i], memory.high[i], near
            )
            length = load(X, start, run)
            if count > CANDIDATES:
                # Nothing is remembered, and the second nearest need not be known.
                assign(run, length, centers, listed, count, room[0], labels, room[1])
                memory.since[i] = -1
            else:
                _two_nearest(run, centers, listed, count, room, labels)
                memory.reach[i] = _bounds(room, min(others, beyond), gaps)
                memory.since[i], memory.counts[i] = step, count
                for q in range(count):
                    candidates[q] = listed[q]
            relabel(memory, X, weights, start, length, labels)
