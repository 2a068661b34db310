"""First centres of k-means, chosen among rows in memory by greedy k-means++."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kmdask.errors import ParameterError
from kmdask.kernels import plus_plus as seeding
from kmdask.kernels.views import frozen

if TYPE_CHECKING:
    from kmdask.fitting.moments import Floats, Rows

__all__ = ["n_trials", "plus_plus", "plus_plus_after"]


def n_trials(k: int) -> int:
    """Candidates that greedy k-means++ tries for each centre, as many as in scikit-learn."""
    return 2 + int(np.log(k))


def plus_plus(X: Rows, weights: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Choose first centres among the rows by greedy weighted k-means++.

    Every centre but the first is the best of ``2 + int(log(k))`` rows drawn with a probability
    proportional to weight times squared distance to the nearest centre so far.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
    weights : ndarray of shape (n,)
        Non-negative, with a positive sum.
    k : int
        How many centres to choose.
    rng : numpy.random.Generator
        Source of all randomness: the same state gives the same centres on every machine.

    Returns
    -------
    ndarray of shape (at most k, d), float64
        Fewer than `k` if fewer different rows have weight: then these are all of them.

    Raises
    ------
    ParameterError
        If no row has weight.

    References
    ----------
    D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007,
    1027-1035.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [1.0]])
    >>> np.sort(plus_plus(X, np.ones(3), 3, np.random.default_rng(0)), axis=0)
    array([[0.],
           [1.]])
    """
    masses = frozen(weights, np.float64)
    if not masses.sum() > 0:
        msg = "the weights add up to 0, so that no row can become a centre; give one a weight"
        raise ParameterError(msg)
    # Always float64: the rows are few here, and the kernel is compiled once instead of twice.
    rows = frozen(X, np.float64)
    chosen = seeding.plus_plus(rows, masses, rng.random((k, n_trials(k))))
    return np.array(rows[chosen])


def plus_plus_after(
    X: Rows, weights: Floats, centers: Floats, k: int, rng: np.random.Generator
) -> Floats:
    """Add rows to centres by greedy weighted k-means++, as `plus_plus` does after its first.

    Parameters
    ----------
    X, weights, rng
        As for `plus_plus`.
    centers : ndarray of shape (m, d), float64
        At least one.
    k : int
        How many there are to be.

    Returns
    -------
    ndarray of shape (at most k, d), float64
        The centres, and the rows after them; fewer than `k` if these are on all rows.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [9.0]])
    >>> plus_plus_after(
    ...     X, np.array([1.0, 1.0, 0.0]), np.array([[1.0]]), 3, np.random.default_rng(0)
    ... )
    array([[1.],
           [0.]])
    """
    rows, masses = frozen(X, np.float64), frozen(weights, np.float64)
    found = np.array(centers, np.float64, order="C")
    cover = seeding.uncovered(rows)
    seeding.extend(cover, rows, masses, found)
    while len(found) < k and (potential := cover.potential.sum()) > 0:
        targets = potential * rng.random(n_trials(k))
        candidates = rows[[seeding.draw(cover, masses, target) for target in targets]]
        best = int(seeding.trial(cover, rows, masses, candidates).argmin())
        seeding.extend(cover, rows, masses, candidates[best : best + 1])
        found = np.concatenate([found, candidates[best : best + 1]])
    return found
