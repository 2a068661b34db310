"""Compiled kernel of k-means over rows that one thread works on: steps, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kmdask.kernels.bounds import resettle
from kmdask.kernels.compiled import kernel

if TYPE_CHECKING:
    from kmdask.kernels.lloyd import Floats, Rows
    from kmdask.kernels.memory import Memory

__all__ = ["descend"]


@kernel
def descend(
    X: Rows,
    weights: Floats,
    centers: Floats,
    past: Floats,
    memory: Memory,
    step: int,
    stop: int,
    max_shift: float,
    held: int,
) -> tuple[int, float, bool]:
    """Take steps, and move the centres to the means of their rows, until they rest.

    As `kmdask.fitting.lloyd.iterate` does, but for the rounding of how far they have moved.

    Parameters
    ----------
    X, weights, memory
        As for `kmdask.kernels.bounds.resettle`.
    centers : ndarray of shape (k, d), float64
        Are moved.
    past : ndarray of shape (steps, k, d), float64
        Where the centres were in the last steps, each at its number modulo their number; brought up
        to date.
    step : int
        Number of the first step to take, from 0.
    stop : int
        Number of the first that is not.
    max_shift, held
        As `kmdask.fitting.lloyd.iterate` takes them.

    Returns
    -------
    step : int
        Number of the next step.
    shift : float
        The squared distances that the centres moved in the last step, added up; infinite before
        the first.
    stuck : bool
        Whether a centre that may move has no rows: then this step has assigned the rows but not
        moved the centres, and is not counted.
    """
    (k, d), size = centers.shape, past.shape[0]
    ways, shift = np.empty((size, k)), np.inf
    while step < stop and shift > max_shift:
        steps = min(step + 1, size)
        for c in range(k):
            for j in range(d):
                past[step % size, c, j] = centers[c, j]
        for t in range(steps):
            then = past[(step + 1 - steps + t) % size]
            for c in range(k):
                squared = 0.0
                for j in range(d):
                    gap = centers[c, j] - then[c, j]
                    squared += gap * gap
                ways[t, c] = np.sqrt(squared)
        resettle(X, weights, centers, ways[:steps], step, memory)
        for c in range(held, k):
            if memory.sums[c, d, 0] + memory.sums[c, d, 1] == 0.0:
                return step, shift, True
        shift = 0.0
        for c in range(held, k):
            weight = memory.sums[c, d, 0] + memory.sums[c, d, 1]
            for j in range(d):
                mean = (memory.sums[c, j, 0] + memory.sums[c, j, 1]) / weight
                gap = mean - centers[c, j]
                shift += gap * gap
                centers[c, j] = mean
        step += 1
    return step, shift, False
