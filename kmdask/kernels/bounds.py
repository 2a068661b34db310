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
are compared with the candidates again; a run with many of them is looked through again. Sums change
by the rows that change. The centres found are those of comparing every row with every centre, bit
for bit: gaps and ways are bounded by margins that rounding cannot reach.

References
----------
.. [1] G. Hamerly, "Making k-means even faster", SIAM International Conference on Data Mining 2010,
   130-140.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .lloyd import RUN, Floats, Indices, Rows, box, kernel, load

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Memory", "forgetful", "resettle"]

CANDIDATES = 16
"""Candidates that a run remembers: with more it is looked through at every step."""

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


class Memory(NamedTuple):
    """What is known of rows between two steps; changed in place.

    Attributes
    ----------
    labels : ndarray of shape (n,), int32
        The centre that each row is nearest to, -1 before the first step.
    gaps : ndarray of shape (n,), float32
    reach : ndarray of shape (runs,), float64
    since : ndarray of shape (runs,), int64
        When each run was looked through, -1 if it has to be.
    candidates : ndarray of shape (runs, CANDIDATES), int64
        Ascending.
    counts : ndarray of shape (runs,), int64
        How many candidates there are.
    low, high : ndarray of shape (runs, d), float64
        Bounding box of each run.
    sums : ndarray of shape (k, d), float64
        Weighted sum of the rows of each centre.
    weights : ndarray of shape (k,), float64
        Sum of their weights.
    members : ndarray of shape (k,), int64
        Number of its rows that have weight.
    """

    labels: npt.NDArray[np.int32]
    gaps: npt.NDArray[np.float32]
    reach: Floats
    since: Indices
    candidates: Indices
    counts: Indices
    low: Floats
    high: Floats
    sums: Floats
    weights: Floats
    members: Indices


@kernel
def forgetful(X: Rows, k: int) -> Memory:
    """Memory of rows that no centre is known for."""
    n, d = X.shape
    runs = (n + RUN - 1) // RUN
    run, low, high = np.empty((d, RUN)), np.empty((runs, d)), np.empty((runs, d))
    for i in range(runs):
        length = load(X, i * RUN, run)
        box(run, length, low[i], high[i])
    return Memory(
        np.full(n, -1, np.int32),
        np.zeros(n, np.float32),
        np.zeros(runs),
        np.full(runs, -1, np.int64),
        np.zeros((runs, CANDIDATES), np.int64),
        np.zeros(runs, np.int64),
        low,
        high,
        np.zeros((k, d)),
        np.zeros(k),
        np.zeros(k, np.int64),
    )


@kernel
def _relabel(
    memory: Memory, X: Rows, weights: Floats, start: int, length: int, labels: Indices
) -> None:
    """Take rows of a run from their centres, if they have any, and give them to others."""
    old_labels, members, totals, sums = memory.labels, memory.members, memory.weights, memory.sums
    each = 1 if weights.shape[0] > 1 else 0
    for r in range(length):
        row, new = start + r, labels[r]
        old, weight = old_labels[row], weights[row * each]
        if old == new:
            continue
        old_labels[row] = new
        if weight == 0.0:
            continue
        members[new] += 1
        totals[new] += weight
        for j in range(X.shape[1]):
            sums[new, j] += weight * X[row, j]
        if old < 0:
            continue
        members[old] -= 1
        totals[old] -= weight
        for j in range(X.shape[1]):
            sums[old, j] -= weight * X[row, j]
        if members[old] == 0:
            # What rounding has left there is the weight of no row.
            totals[old] = 0.0
            sums[old] = 0.0


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
    """Label the rows of a run whose gap is used up with the nearest candidate, or the first."""
    for r in range(gaps.shape[0]):
        if gaps[r] > bound:
            continue
        least = np.inf
        labels[r] = candidates[0]
        for c in candidates:
            squared = 0.0
            for j in range(X.shape[1]):
                gap = X[start + r, j] - centers[c, j]
                squared += gap * gap
            if squared < least:
                least, labels[r] = squared, c


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
    run: Floats, columns: Floats, listed: Indices, count: int, room: Floats, labels: Indices
) -> None:
    """Label the rows of a run with the nearest centre listed.

    The squared distances to it and to the second are left in ``room[0]`` and ``room[1]``.
    """
    first, second, squared = room[0], room[1], room[2]
    first[:] = second[:] = np.inf
    labels[:] = listed[0]
    for q in range(count):
        c = listed[q]
        squared[:] = 0.0
        for j in range(run.shape[0]):
            x = columns[j, c]
            for r in range(RUN):
                gap = run[j, r] - x
                squared[r] += gap * gap
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
            low[j], high[j] = memory.low[span:last, j].min(), memory.high[span:last, j].max()
        nearby[:] = np.arange(k)
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
                        labels[: stop - start] = memory.labels[start:stop]
                        own = candidates[: memory.counts[i]]
                        _compare(X, start, gaps, bound, centers, own, labels)
                        _relabel(memory, X, weights, start, stop - start, labels)
                        continue
            listed[:spanned] = nearby[:spanned]
            count, others = _candidates(
                columns, listed, spanned, memory.low[i], memory.high[i], near
            )
            load(X, start, run)
            _two_nearest(run, columns, listed, count, room, labels)
            memory.reach[i] = _bounds(room, min(others, beyond), gaps)
            _relabel(memory, X, weights, start, stop - start, labels)
            memory.since[i], memory.counts[i] = step, min(count, CANDIDATES)
            candidates[: memory.counts[i]] = listed[: memory.counts[i]]
            if count > CANDIDATES:
                memory.since[i] = -1
