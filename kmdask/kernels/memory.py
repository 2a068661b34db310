"""What k-means remembers of its rows from step to step, and how rows change their centre.

Sums change by the rows that change their centre. They are kept to twice the digits of a float64,
in two parts [1]_, so that a heavy row that leaves takes nothing of the others with it. Of whole
numbers they are exact.

References
----------
.. [1] D. E. Knuth, "The Art of Computer Programming", volume 2, section 4.2.2: the exact sum of
   two numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kmdask.kernels.compiled import kernel

from .lloyd import Floats, Indices, Rows, boxes

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["CANDIDATES", "Memory", "forgetful", "relabel"]

CANDIDATES = 16
"""Candidates that a run remembers: with more it is looked through at every step."""


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
    sums : ndarray of shape (k, d + 1, 2), float64
        Weighted sum of the rows of each centre, and last the sum of their weights; the second part
        of each is what the first is too coarse for.
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
    members: Indices


def forgetful(X: Rows, k: int) -> Memory:
    """Memory of rows that no centre is known for."""
    low, high = boxes(X)
    (n, d), runs = X.shape, low.shape[0]
    return Memory(
        np.full(n, -1, np.int32),
        np.zeros(n, np.float32),
        np.zeros(runs),
        np.full(runs, -1, np.int64),
        np.zeros((runs, CANDIDATES), np.int64),
        np.zeros(runs, np.int64),
        low,
        high,
        np.zeros((k, d + 1, 2)),
        np.zeros(k, np.int64),
    )


@kernel
def _add(total: Floats, value: float) -> None:
    """Add a number to one in two parts."""
    old = total[0]
    new = old + value
    part = new - old
    total[0] = new
    total[1] += (old - (new - part)) + (value - part)


@kernel
def relabel(
    memory: Memory, X: Rows, weights: Floats, start: int, length: int, labels: Indices
) -> None:
    """Take rows of a run from their centres, if they have any, and give them to others."""
    old_labels, members, sums, d = memory.labels, memory.members, memory.sums, X.shape[1]
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
        for j in range(d):
            _add(sums[new, j], weight * X[row, j])
        _add(sums[new, d], weight)
        if old < 0:
            continue
        members[old] -= 1
        for j in range(d):
            _add(sums[old, j], -weight * X[row, j])
        _add(sums[old, d], -weight)
        if members[old] == 0:
            sums[old] = 0.0
