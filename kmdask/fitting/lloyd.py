"""K-means on arrays in memory, in pieces that the estimator also runs block by block on workers.

It therefore imports neither dask_ml nor scikit-learn, which would cost a worker seconds.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from kmdask.fitting.moments import Farthest, Floats, Moments, Rows, Sums
from kmdask.fitting.threads import PART
from kmdask.kernels import bounds
from kmdask.kernels import lloyd as kernels
from kmdask.kernels.descent import descend
from kmdask.kernels.memory import Memory, forgetful
from kmdask.kernels.views import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Steps",
    "farthest_rows",
    "iterate",
    "lloyd",
    "step",
    "updated_centers",
]

_NOISE = 1e-12
"""A cluster left with no more than this share of its weight is empty but for rounding."""

_REMEMBERED = 32
"""Steps that are remembered: rows that none of them has looked at are looked at again."""

_REMEMBERED_VALUES = 1 << 23
"""Features of the centres of all of them: 64 MiB."""


def step(X: Rows, weights: Floats, centers: Floats) -> Moments:
    """Assign rows to their nearest centres and sum up.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
    weights : ndarray of shape (n,) or (1,)
        One per row, or a single one for all rows.
    centers : ndarray of shape (k, d), float64
    """
    masses = frozen(weights, np.float64)
    return Moments(*kernels.lloyd_step(frozen(X), masses, np.array(centers, np.float64, order="C")))


class Steps:
    """Steps of Lloyd's algorithm over the same rows, which remember what the last ones found.

    A step then costs what the rows cost that may change. Rows near one another should be near in
    memory; see `kmdask.kernels.bounds`.

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
    weights : ndarray of shape (n,) or (1,)
        One per row, or a single one for all rows.
    k : int
        Number of centres.
    threads : int, default 1
        How many work side by side. It changes nothing but the time.
    """

    def __init__(self, X: Rows, weights: npt.ArrayLike, k: int, threads: int = 1) -> None:
        masses = frozen(weights, np.float64)
        rows = [frozen(X[start : start + PART]) for start in range(0, len(X), PART)]
        shares = [masses[start : start + PART] for start in range(0, len(masses), PART)]
        self._parts = list(zip(rows, shares * (len(rows) // len(shares)), strict=True))
        self._memories = [forgetful(part, k) for part in rows]
        fits = _REMEMBERED_VALUES // (k * X.shape[1])
        # Where the centres were in the last steps, each at its number modulo how many there are.
        self._past = np.empty((max(2, min(_REMEMBERED, fits)), k, X.shape[1]))
        self._taken = 0
        self._threads = min(threads, len(rows))

    def __call__(self, centers: Floats) -> Sums:
        """Assign rows to their nearest centres and sum up, as `step` does."""
        centers = np.array(centers, np.float64, order="C")
        size = len(self._past)
        self._past[self._taken % size] = centers
        known = np.arange(max(0, self._taken + 1 - size), self._taken + 1) % size
        ways = np.linalg.norm(centers - self._past[known], axis=2)

        def resettle(part: tuple[Rows, Floats], memory: Memory) -> None:
            bounds.resettle(*part, centers, ways, self._taken, memory)

        if self._threads > 1:
            with ThreadPoolExecutor(self._threads) as pool:
                list(pool.map(resettle, self._parts, self._memories))
        else:
            list(map(resettle, self._parts, self._memories))
        self._taken += 1
        return self._sums()

    def _sums(self) -> Sums:
        sums = np.sum([memory.sums.sum(axis=2) for memory in self._memories], axis=0)
        return Sums(sums=sums[:, :-1], weights=sums[:, -1])

    def iterate(
        self,
        farthest: Callable[[Floats, int], Farthest],
        centers: Floats,
        *,
        max_iter: int,
        max_shift: float,
        held: int = 0,
    ) -> tuple[Floats, int]:
        """Repeat steps until the centres rest; see `iterate`.

        Of one part only what is done about empty clusters is Python's: of few rows everything
        between the kernels would take as long as they do.
        """
        if len(self._parts) > 1:
            return iterate(
                self, farthest, centers, max_iter=max_iter, max_shift=max_shift, held=held
            )
        ((X, masses),), (memory,) = self._parts, self._memories
        centers = np.array(centers, np.float64, order="C")
        first, shift = self._taken, np.inf
        stop = first + max_iter
        while self._taken < stop and shift > max_shift:
            self._taken, shift, stuck = descend(
                X, masses, centers, self._past, memory, self._taken, stop, max_shift, held
            )
            if stuck:
                moved = updated_centers(self._sums(), centers, farthest, held)
                shift = float(((moved - centers) ** 2).sum())
                centers, self._taken = moved, self._taken + 1
        return centers, self._taken - first


def farthest_rows(X: Rows, weights: Floats, centers: Floats, count: int) -> Farthest:
    """Find the ``count`` rows of positive weight farthest from their nearest centres.

    Of rows equally far, the one with the lower index comes first. Rows that coincide with a
    centre do not count as far, so there may be fewer.
    """
    labels, squared = kernels.nearest(frozen(X), np.array(centers, np.float64, order="C"))
    masses = np.broadcast_to(np.asarray(weights, np.float64), squared.shape)
    reach = np.where(masses > 0, squared, 0.0)
    bound = np.partition(reach, -count)[-count] if count < reach.size else 0.0
    rows = np.flatnonzero((reach >= bound) & (reach > 0))
    found = Farthest(reach[rows], X[rows].astype(np.float64), masses[rows], labels[rows])
    return Farthest.merge([found], count)


def updated_centers(
    moments: Sums,
    centers: Floats,
    farthest: Callable[[Floats, int], Farthest],
    held: int = 0,
) -> Floats:
    """Move every centre to the mean of its rows, but for the first `held`, which stay.

    An empty cluster takes over a row that is far from its own centre, as in scikit-learn: the
    farthest row goes to the first empty cluster, and so on. Where there is no such row, because
    all lie on a centre, an empty cluster joins the heaviest one. ``farthest(centers, count)`` is
    called only if a cluster is empty.
    """
    sums, weights = moments.sums.copy(), moments.weights.copy()
    empty = held + np.flatnonzero(weights[held:] == 0)
    if empty.size:
        far = farthest(centers, empty.size)
        taken = zip(empty, far.rows, far.weights, far.labels, strict=False)
        for cluster, row, weight, donor in taken:
            sums[donor] -= weight * row
            weights[donor] -= weight
            sums[cluster] = weight * row
            weights[cluster] = weight
        weights[weights <= _NOISE * moments.weights] = 0
    filled = weights > 0
    means: Floats = sums / np.where(filled, weights, 1)[:, np.newaxis]
    filled[:held], means[:held] = True, centers[:held]
    means[~filled] = means[weights.argmax()]
    return means


def iterate(
    take_step: Callable[[Floats], Sums],
    farthest: Callable[[Floats, int], Farthest],
    centers: Floats,
    *,
    max_iter: int,
    max_shift: float,
    held: int = 0,
) -> tuple[Floats, int]:
    """Repeat Lloyd's step until the centres rest.

    Parameters
    ----------
    take_step : callable
        Returns the `Sums` of all rows at given centres.
    farthest : callable
        See `updated_centers`.
    centers : ndarray of shape (k, d), float64
        Where to start; not changed.
    max_iter : int
        Steps at most, at least 1.
    max_shift : float
        Stop once the squared distances that the centres moved add up to no more than this.
    held : int, default 0
        How many of the centres, the first, take rows but do not move.

    Returns
    -------
    centers : ndarray of shape (k, d), float64
    n_iter : int
        Steps taken, counted as scikit-learn counts them.
    """
    n_iter = 0
    shift = np.inf
    while n_iter < max_iter and shift > max_shift:
        moved = updated_centers(take_step(centers), centers, farthest, held)
        shift = float(((moved - centers) ** 2).sum())
        centers = moved
        n_iter += 1
    return centers, n_iter


def lloyd(
    X: Rows,
    weights: Floats,
    centers: Floats,
    *,
    max_iter: int = 300,
    tol: float = 1e-4,
    held: int = 0,
) -> tuple[Floats, float, int]:
    """Run Lloyd's algorithm on rows in memory.

    A step costs some 20 ns a row at first and then less and less when near rows are near in memory.
    When they are not, it costs some 1 ns for each pair of row and centre with three features, and 4
    with forty (measured).

    Parameters
    ----------
    X : ndarray of shape (n, d), float32 or float64
    weights : ndarray of shape (n,)
        Non-negative, with a positive sum.
    centers : ndarray of shape (k, d)
        Where to start; not changed.
    max_iter : int, default 300
        Steps at most.
    tol : float, default 1e-4
        Stop once the squared distances that the centres moved add up to no more than ``tol``
        times the mean variance of the columns. 0 stops at an exact fixed point.
    held : int, default 0
        How many of the centres, the first, take rows but do not move.

    Returns
    -------
    centers : ndarray of shape (k, d), float64
    inertia : float
        Weighted sum of the squared distances of the rows to these very centres.
    n_iter : int
        Steps taken.

    References
    ----------
    S. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory
    28 (1982) 129-137.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [10.0]])
    >>> lloyd(X, np.array([1.0, 3.0, 1.0]), np.array([[0.0], [1.0]]))
    (array([[ 0.75],
           [10.  ]]), 0.75, 3)
    """
    centers, n_iter = Steps(X, weights, len(centers)).iterate(
        partial(farthest_rows, X, weights),
        np.array(centers, np.float64),
        max_iter=max_iter,
        max_shift=tol * float(np.mean([np.var(column, dtype=np.float64) for column in X.T])),
        held=held,
    )
    return centers, step(X, weights, centers).inertia, n_iter
