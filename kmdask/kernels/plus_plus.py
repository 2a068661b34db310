"""Compiled kernels of k-means++ seeding (Arthur and Vassilvitskii 2007), weighted and greedy.

Like the kernels of Lloyd's step these walk the rows in runs with a bounding box each: a new
centre that is no nearer to the box than the farthest row of the run is to its own centre changes
nothing in that run. As centres become many, most runs are skipped; the result is that of
looking at every row, bit for bit.

The same functions seed rows in memory (`plus_plus`) and, block by block, rows spread over
workers (`uncovered`, `extend`, `trial`, `draw`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kmdask.kernels.compiled import kernel

from .lloyd import RUN, Floats, Indices, Rows, boxes, load, load_weights, squared_distances

__all__ = ["Cover", "draw", "extend", "plus_plus", "trial", "uncovered"]


class Cover(NamedTuple):
    """How far the rows are from the centres chosen so far.

    Attributes
    ----------
    closest : ndarray of shape (n,), float64
        Squared distance of each row to the nearest chosen centre, infinite before the first.
    potential : ndarray of shape (runs,), float64
        Sum of ``weight * closest`` over each run.
    reach : ndarray of shape (runs,), float64
        Largest ``closest`` of each run.
    low, high : ndarray of shape (runs, d), float64
        Bounding box of each run.
    """

    closest: Floats
    potential: Floats
    reach: Floats
    low: Floats
    high: Floats


@kernel
def _gap(low: Floats, high: Floats, center: Floats) -> float:
    """Least squared distance of a centre from a box."""
    total = 0.0
    for j in range(center.shape[0]):
        gap = max(low[j] - center[j], center[j] - high[j], 0.0)
        total += gap * gap
    return total


@kernel
def _total(values: Floats, length: int) -> float:
    """Sum of the first values, by halves: it vectorises, and the order is fixed. Overwrites."""
    values[length:] = 0.0
    half = RUN // 2
    while half > 0:
        for r in range(half):
            values[r] += values[r + half]
        half //= 2
    total: float = values[0]
    return total


def uncovered(X: Rows) -> Cover:
    """Cover of rows for which no centre has been chosen yet."""
    low, high = boxes(X)
    runs = len(low)
    return Cover(np.full(len(X), np.inf), np.full(runs, np.inf), np.full(runs, np.inf), low, high)


@kernel
def extend(cover: Cover, X: Rows, weights: Floats, centers: Floats) -> None:
    """Add centers, an array of shape (m, d), to those that cover the rows; in place."""
    run, scratch, masses = np.empty((X.shape[1], RUN)), np.empty(RUN), np.empty(RUN)
    for index in range(cover.reach.shape[0]):
        start, length = index * RUN, 0
        for c in range(centers.shape[0]):
            if _gap(cover.low[index], cover.high[index], centers[c]) >= cover.reach[index]:
                continue
            if length == 0:
                length = load(X, start, run)
            squared_distances(run, length, centers[c], scratch)
            for r in range(length):
                cover.closest[start + r] = min(cover.closest[start + r], scratch[r])
            cover.reach[index] = 0.0
            for r in range(length):
                cover.reach[index] = max(cover.reach[index], cover.closest[start + r])
        if length > 0:
            load_weights(weights, start, length, masses)
            for r in range(length):
                masses[r] *= cover.closest[start + r]
            cover.potential[index] = _total(masses, length)


@kernel
def trial(cover: Cover, X: Rows, weights: Floats, candidates: Floats) -> Floats:
    """Potential of the rows after adding each one of the candidates by itself.

    Parameters
    ----------
    cover : Cover
        Of these rows; not changed.
    X : ndarray of shape (n, d), float32 or float64
    weights : ndarray of shape (n,) or (1,), float64
    candidates : ndarray of shape (m, d), float64

    Returns
    -------
    potentials : ndarray of shape (m,), float64
    """
    run, scratch, masses = np.empty((X.shape[1], RUN)), np.empty(RUN), np.empty(RUN)
    potentials = np.zeros(candidates.shape[0])
    for index in range(cover.reach.shape[0]):
        start, length = index * RUN, 0
        for c in range(candidates.shape[0]):
            if _gap(cover.low[index], cover.high[index], candidates[c]) >= cover.reach[index]:
                potentials[c] += cover.potential[index]
                continue
            if length == 0:
                length = load(X, start, run)
                load_weights(weights, start, length, masses)
            squared_distances(run, length, candidates[c], scratch)
            for r in range(length):
                scratch[r] = masses[r] * min(cover.closest[start + r], scratch[r])
            potentials[c] += _total(scratch, length)
    return potentials


@kernel
def _walk(masses: Floats, length: int, target: float) -> tuple[int, float]:
    """First index at which the running sum of the masses exceeds the target, and what is left.

    Indices without mass are never returned: when rounding lets the target run past the end, the
    last index with mass is.
    """
    found = -1
    for index in range(length):
        if masses[index] > 0.0:
            found = index
            if target < masses[index]:
                break
            target -= masses[index]
    return found, target


@kernel
def draw(cover: Cover, weights: Floats, target: float) -> int:
    """Row at which the running sum of ``weight * closest`` exceeds the target."""
    index, target = _walk(cover.potential, cover.potential.shape[0], target)
    start = index * RUN
    length = min(RUN, cover.closest.shape[0] - start)
    masses = np.empty(RUN)
    load_weights(weights, start, length, masses)
    for r in range(length):
        masses[r] *= cover.closest[start + r]
    row, _ = _walk(masses, length, target)
    return start + row


def plus_plus(X: Rows, weights: Floats, uniforms: Floats) -> Indices:
    """Choose rows as first centres by greedy weighted k-means++.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
    weights : ndarray of shape (n,), float64
        Their sum must be positive.
    uniforms : ndarray of shape (k, trials), float64
        Random numbers in [0, 1): the randomness comes from outside, so that the choice is the
        same on every machine. The first row needs only its first number.

    Returns
    -------
    chosen : ndarray of shape (at most k,), int64
        Rows in the order of their choice; fewer than k when fewer different rows have weight.
    """
    chosen = np.empty(len(uniforms), np.int64)
    return chosen[: _choose(uncovered(X), X, weights, uniforms, chosen)]


@kernel
def _choose(cover: Cover, X: Rows, weights: Floats, uniforms: Floats, chosen: Indices) -> int:
    """Fill in the rows chosen, and return how many they are."""
    k: int = uniforms.shape[0]
    trials, d = uniforms.shape[1], X.shape[1]
    rows, candidates = np.empty(trials, np.int64), np.empty((trials, d))
    rows[0], _ = _walk(weights, X.shape[0], uniforms[0, 0] * weights.sum())
    for j in range(d):
        candidates[0, j] = X[rows[0], j]
    best = 0
    for c in range(k):
        if c > 0:
            potential = cover.potential.sum()
            if potential <= 0.0:
                return c
            for t in range(trials):
                rows[t] = draw(cover, weights, uniforms[c, t] * potential)
                for j in range(d):
                    candidates[t, j] = X[rows[t], j]
            best = _least(trial(cover, X, weights, candidates))
        chosen[c] = rows[best]
        extend(cover, X, weights, candidates[best : best + 1])
    return k


@kernel
def _least(values: Floats) -> int:
    """Index of the least value, the first of equals."""
    least = 0
    for i in range(1, values.shape[0]):
        least = i if values[i] < values[least] else least
    return least
