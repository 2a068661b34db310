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


def best_levels_with(
    values: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    k: int,
    fixed: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Choose the integer levels of least squared error, with some that are given among them.

    The error is a sum over the gaps between neighbouring levels, in which each value belongs to the
    nearer one; so the best levels up to one of them need not know what comes after it. The levels
    themselves are the nodes of the shortest path here: some 10 ms for 16 of them, 50 for 200.

    Parameters
    ----------
    values, counts, k
        As for `best_levels`; values from 0 to 255.
    fixed : int64 array of shape (at most k,)
        Different levels that are to be among them, from 0 to 255.

    Returns
    -------
    int64 array of shape (k,)
        The given ones, and then the others, ascending.

    Examples
    --------
    >>> best_levels_with(np.array([0, 1, 9, 30]), np.array([5, 3, 1, 1]), 3, np.array([10]))
    array([10,  0, 30])
    """
    first, gaps, last = _gaps(values, counts)
    below = np.searchsorted(np.sort(fixed), np.arange(256))
    up_to = np.searchsorted(np.sort(fixed), np.arange(256), side="right")
    # No gap spans a level that is given.
    gaps[below[None, :] > up_to[:, None]] = np.inf
    least = np.where(below > 0, np.inf, first)
    before = np.zeros((k, 256), np.int64)
    for levels in range(1, k):
        # Entry (u, v): the best of fewer levels of which u is the last, then v.
        joined = least[:, None] + gaps
        before[levels] = joined.argmin(axis=0)
        least = joined.min(axis=0)
    chosen = [int(np.where(up_to < len(fixed), np.inf, least + last).argmin())]
    for levels in range(k - 1, 0, -1):
        chosen.append(int(before[levels, chosen[-1]]))
    return np.concatenate([fixed, np.setdiff1d(chosen, fixed)])


def _gaps(
    values: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Squared error of the values below a first level, between two, and above a last one.

    Between two that do not ascend it is infinite.
    """
    histogram, levels = np.zeros(256, np.int64), np.arange(256)
    histogram[values] = counts
    weight, total, square = (
        np.concatenate([[0], np.cumsum(histogram * levels**power)]) for power in (0, 1, 2)
    )

    def error(
        level: npt.NDArray[np.int64],
        start: npt.NDArray[np.int64] | int,
        stop: npt.NDArray[np.int64] | int,
    ) -> npt.NDArray[np.float64]:
        sums = (each[stop] - each[start] for each in (square, total, weight))
        squares, totals, weights = sums
        wrong: npt.NDArray[np.float64] = squares - level * (2 * totals - level * weights)
        return wrong

    low, high = levels[:, None], levels[None, :]
    middle = (low + high) // 2 + 1
    between = error(low, low, middle) + error(high, middle, high)
    ascending = np.where(low < high, between, np.inf)
    return error(levels, 0, levels), ascending, error(levels, levels, 256)
