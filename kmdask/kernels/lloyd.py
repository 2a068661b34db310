"""Compiled kernels of k-means: one step of Lloyd's algorithm, and the nearest centre.

All of them walk the rows in runs of ``RUN`` and skip, for a whole run at once, the centres that
cannot matter to any of its rows. The results are nevertheless those of trying every centre on
every row, bit for bit:

* Let ``[low, high]`` be the bounding box of a run. Rounding is monotone, so for every row ``x``
  of the run the rounded ``x - c`` lies between the rounded ``low - c`` and ``high - c``. Squares
  and sums keep that order as long as the features are added in the same sequence, which all
  functions here do. The computed distance of a row hence never leaves the computed least and
  greatest distance of the box.
* A centre whose least distance exceeds the smallest of the greatest distances is therefore
  beaten, strictly, in every row of the run. It can be neither nearest nor tied.

Rows that lie near one another in memory, as colours sorted along a Morton curve do, leave one to
eight centres per run, whatever their number. Rows in random order leave all of them, and the
test then costs about one part in a hundred.

Distances and sums are float64. Ties go to the lowest index.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kmdask.kernels.compiled import kernel

__all__ = ["lloyd_step", "nearest"]

Floats: TypeAlias = npt.NDArray[np.float64]
Rows: TypeAlias = npt.NDArray[np.floating[Any]]
Indices: TypeAlias = npt.NDArray[np.int64]

RUN = 128
"""Rows that share one bounding box: longer runs cost fewer tests, shorter ones prune harder."""


@kernel
def load(X: Rows, start: int, run: Floats) -> int:
    """Copy one run, transposed so that the loops over rows vectorise, and return its length."""
    length: int = min(RUN, X.shape[0] - start)
    for r in range(length):
        for j in range(X.shape[1]):
            run[j, r] = X[start + r, j]
    return length


@kernel
def load_weights(weights: Floats, start: int, length: int, out: Floats) -> None:
    """Copy the weights of one run; a single weight stands for all rows."""
    step = 1 if weights.shape[0] > 1 else 0
    for r in range(length):
        out[r] = weights[(start + r) * step]


@kernel
def box(run: Floats, length: int, low: Floats, high: Floats) -> None:
    for j in range(run.shape[0]):
        least = greatest = run[j, 0]
        for r in range(1, length):
            least = min(least, run[j, r])
            greatest = max(greatest, run[j, r])
        low[j] = least
        high[j] = greatest


@kernel
def boxes(X: Rows) -> tuple[Floats, Floats]:
    """Bounding box of each run: the least and the greatest values."""
    n, d = X.shape
    runs = (n + RUN - 1) // RUN
    run, low, high = np.empty((d, RUN)), np.empty((runs, d)), np.empty((runs, d))
    for index in range(runs):
        length = load(X, index * RUN, run)
        box(run, length, low[index], high[index])
    return low, high


@kernel
def squared_distances(run: Floats, length: int, center: Floats, out: Floats) -> None:
    """Squared distances of one run's rows from a centre."""
    if run.shape[0] == 3:
        # Colours have three bands nearly always; keeping the sum in a register halves the time.
        x, y, z = center[0], center[1], center[2]
        for r in range(length):
            a, b, c = run[0, r] - x, run[1, r] - y, run[2, r] - z
            out[r] = a * a + b * b + c * c
        return
    for r in range(length):
        out[r] = 0.0
    for j in range(run.shape[0]):
        x = center[j]
        for r in range(length):
            gap = run[j, r] - x
            out[r] += gap * gap


@kernel
def _prune(
    transposed: Floats, low: Floats, high: Floats, near: Floats, far: Floats, kept: Indices
) -> int:
    """List in ``kept``, ascending, the centres that can be nearest somewhere in the box."""
    near[:] = 0.0
    far[:] = 0.0
    for j in range(transposed.shape[0]):
        for c in range(transposed.shape[1]):
            below = low[j] - transposed[j, c]
            above = transposed[j, c] - high[j]
            gap = max(below, above, 0.0)
            near[c] += gap * gap
            span = max(-below, -above)
            far[c] += span * span
    bound, count = np.inf, 0
    for c in range(far.shape[0]):
        bound = min(bound, far[c])
    for c in range(near.shape[0]):
        # Writing always and counting sometimes spares a branch that is hard to predict.
        kept[count] = c
        count += 1 if near[c] <= bound else 0
    return count


@kernel
def assign(
    run: Floats,
    length: int,
    centers: Floats,
    kept: Indices,
    count: int,
    scratch: Floats,
    labels: Indices,
    squared: Floats,
) -> None:
    """Label one run's rows with the nearest of the kept centres."""
    labels[:length] = kept[0]
    squared_distances(run, length, centers[kept[0]], squared)
    for position in range(1, count):
        c = kept[position]
        squared_distances(run, length, centers[c], scratch)
        for r in range(length):
            closer = scratch[r] < squared[r]
            squared[r] = scratch[r] if closer else squared[r]
            labels[r] = c if closer else labels[r]


@kernel
def lloyd_step(X: Rows, weights: Floats, centers: Floats) -> tuple[Floats, Floats, float]:
    """Assign every row to its nearest centre and sum up what each centre gets.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
    weights : ndarray of shape (n,) or (1,), float64
        One per row, or a single one for all rows.
    centers : ndarray of shape (k, d), float64

    Returns
    -------
    sums : ndarray of shape (k, d), float64
        Weighted sum of the rows nearest to each centre.
    totals : ndarray of shape (k,), float64
        Sum of their weights.
    inertia : float
        Weighted sum of the squared distances to the nearest centre.
    """
    (n, d), k = X.shape, centers.shape[0]
    transposed = centers.T.copy()
    run, low, high = np.empty((d, RUN)), np.empty(d), np.empty(d)
    near, far, kept = np.empty(k), np.empty(k), np.empty(k + 1, np.int64)
    scratch, squared, labels = np.empty(RUN), np.empty(RUN), np.empty(RUN, np.int64)
    masses = np.empty(RUN)
    sums, totals, inertia = np.zeros((k, d)), np.zeros(k), 0.0
    for start in range(0, n, RUN):
        length = load(X, start, run)
        load_weights(weights, start, length, masses)
        box(run, length, low, high)
        count = _prune(transposed, low, high, near, far, kept)
        assign(run, length, centers, kept, count, scratch, labels, squared)
        for r in range(length):
            label = labels[r]
            totals[label] += masses[r]
            inertia += masses[r] * squared[r]
            for j in range(d):
                sums[label, j] += masses[r] * run[j, r]
    return sums, totals, inertia


@kernel
def nearest(X: Rows, centers: Floats) -> tuple[npt.NDArray[np.int32], Floats]:
    """Index of, and squared distance to, the centre nearest to every row.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
    centers : ndarray of shape (k, d), float64

    Returns
    -------
    labels : ndarray of shape (n,), int32
    squared : ndarray of shape (n,), float64
    """
    (n, d), k = X.shape, centers.shape[0]
    transposed = centers.T.copy()
    run, low, high = np.empty((d, RUN)), np.empty(d), np.empty(d)
    near, far, kept = np.empty(k), np.empty(k), np.empty(k + 1, np.int64)
    scratch, run_squared, run_labels = np.empty(RUN), np.empty(RUN), np.empty(RUN, np.int64)
    labels, squared = np.empty(n, np.int32), np.empty(n)
    for start in range(0, n, RUN):
        length = load(X, start, run)
        box(run, length, low, high)
        count = _prune(transposed, low, high, near, far, kept)
        assign(run, length, centers, kept, count, scratch, run_labels, run_squared)
        for r in range(length):
            labels[start + r] = run_labels[r]
            squared[start + r] = run_squared[r]
    return labels, squared
