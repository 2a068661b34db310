"""The best palette of a grey image: one dimension has an exact answer.

In one dimension clusters are intervals, so k-means is a shortest path that dynamic programming
finds; with 256 grey values at most it takes milliseconds.

References
----------
.. [1] H. Wang and M. Song, "Ckmeans.1d.dp: optimal k-means clustering in one dimension by dynamic
   programming", The R Journal 3/2 (2011) 29-33.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def best_levels(
    values: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], k: int
) -> npt.NDArray[np.int64]:
    """Choose the integer levels of least squared error.

    Parameters
    ----------
    values : int64 array of shape (n,)
        Different values, ascending.
    counts : int64 array of shape (n,)
        How often each occurs.
    k : int
        Number of levels, at most n.

    Returns
    -------
    int64 array of shape (k,)
        Ascending.

    Examples
    --------
    >>> best_levels(np.array([0, 1, 9, 30]), np.array([5, 3, 1, 1]), 3)
    array([ 0,  9, 30])
    """
    cost, level = _intervals(values, counts)
    n = values.size
    least = cost[0].copy()
    starts = np.zeros((k, n), np.int64)
    for clusters in range(1, k):
        # Entry (i, j): the best of fewer clusters up to i - 1, then one cluster from i to j.
        joined = np.concatenate([[np.inf], least[:-1]])[:, None] + cost
        starts[clusters] = joined.argmin(axis=0)
        least = joined.min(axis=0)
    chosen = []
    end = n - 1
    for clusters in range(k - 1, -1, -1):
        start = starts[clusters, end]
        chosen.append(level[start, end])
        end = start - 1
    return np.array(chosen[::-1])


def _intervals(
    values: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Squared error, and best level, of values i to j as one cluster; infinite where j < i."""
    weight, total, square = (
        np.concatenate([[0], np.cumsum(counts * values**power)]) for power in (0, 1, 2)
    )
    weights = np.maximum(weight[None, 1:] - weight[:-1, None], 1)
    totals = total[None, 1:] - total[:-1, None]
    level = (2 * totals + weights) // (2 * weights)
    error = square[None, 1:] - square[:-1, None] - level * (2 * totals - level * weights)
    ordered = np.tri(values.size, dtype=bool).T
    return np.where(ordered, error, np.inf), level
