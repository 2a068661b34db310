"""First centres for k-means on rows spread over workers.

Only centres and totals travel, never the rows. All random numbers come from one generator, and
those that belong to a row from its index, so neither the number of workers nor the chunks change
what is drawn.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kmdask.fitting.lloyd import lloyd
from kmdask.fitting.plus_plus import n_trials, plus_plus
from kmdask.kernels import plus_plus as seeding
from kmdask.kernels.views import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kmdask.fitting.kmeans_blocks import Blocks
    from kmdask.fitting.moments import Floats, Rows

__all__ = ["init_plus_plus", "init_random", "init_scalable"]

_RECLUSTER_STARTS = 4
"""Starts on the candidates of k-means||: they are few, so more starts cost nothing to speak of."""


def init_random(blocks: Blocks, k: int, rng: np.random.Generator) -> Floats:
    """Draw `k` rows without replacement, each with a probability as its weight: one pass.

    Returns
    -------
    ndarray of shape (at most k, d), float64
        Fewer than `k` if fewer rows have weight.
    """
    own = {i: (offset,) for i, offset in enumerate(blocks.offsets)}
    tasks = blocks.tasks("seed-choose", _choose, _seed(rng), k, own=own)
    merge: Callable[[list[_Lottery]], _Lottery] = partial(_Lottery.merge, n=k)
    return blocks.reduce(tasks, "seed-merge", merge).rows


def init_plus_plus(blocks: Blocks, k: int, rng: np.random.Generator) -> Floats:
    """Choose `k` rows by greedy weighted k-means++: three passes for each.

    Returns
    -------
    ndarray of shape (at most k, d), float64
        Fewer than `k` if fewer different rows have weight.

    References
    ----------
    D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007,
    1027-1035.
    """
    first = init_random(blocks, 1, rng)
    return _topped_up(_Covered(blocks, first), first, k, rng)


def init_scalable(
    blocks: Blocks, k: int, rng: np.random.Generator, *, expected: float, rounds: int
) -> Floats:
    """Choose `k` centres by k-means||: three passes a round, and one more.

    Parameters
    ----------
    blocks : Blocks
    k : int
    rng : numpy.random.Generator
    expected : float
        Candidates to expect from each round, the paper's l.
    rounds : int

    Returns
    -------
    ndarray of shape (at most k, d), float64
        Fewer than `k` if fewer different rows have weight.

    References
    ----------
    B. Bahmani, B. Moseley, A. Vattani, R. Kumar and S. Vassilvitskii, "Scalable k-means++",
    Proceedings of the VLDB Endowment 5 (2012) 622-633, algorithm 2.
    """
    (recluster_rng,) = rng.spawn(1)
    candidates = init_random(blocks, 1, rng)
    covered = _Covered(blocks, candidates)
    for _ in range(rounds):
        potential = covered.potentials().sum()
        if not potential > 0:
            break
        found = covered.sample(expected / potential, _seed(rng))
        if len(found):
            covered.add(found)
            candidates = np.concatenate([candidates, found])
    weights = blocks.step(candidates).weights
    # A row that was drawn twice stands twice among the candidates, once without weight.
    candidates, weights = candidates[weights > 0], weights[weights > 0]
    if len(candidates) < k:
        return _topped_up(covered, candidates, k, rng)
    # Sorted, they start alike whether equal rows were given repeatedly or with weights, in
    # whatever order, if only all different rows are among them.
    order = np.lexsort(candidates.T)
    candidates, weights = candidates[order], weights[order]
    starts = [
        lloyd(candidates, weights, plus_plus(candidates, weights, k, recluster_rng))
        for _ in range(_RECLUSTER_STARTS)
    ]
    centers, _, _ = min(starts, key=lambda start: start[1])
    return centers


def _topped_up(covered: _Covered, centers: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Add rows to the centres by greedy k-means++ until they are `k`."""
    potentials = covered.potentials()
    while len(centers) < k and potentials.sum() > 0:
        candidates = covered.draw(potentials, rng.random(n_trials(k)))
        trials = covered.trial(candidates)
        best = trials.sum(axis=0).argmin()
        potentials = trials[:, best]
        centers = np.concatenate([centers, candidates[best : best + 1]])
        covered.add(centers[-1:])
    return centers


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 62))


class _Covered:
    """How far the rows of `Blocks` are from the centres chosen so far, kept on the workers.

    Parameters
    ----------
    blocks : Blocks
    centers : ndarray of shape (m, d), float64
        The first centres, at least one.
    """

    def __init__(self, blocks: Blocks, centers: Floats) -> None:
        self._blocks = blocks
        self._keys: list[Any] = [None] * blocks.n
        self._graph: dict[Any, Any] = {}
        self.add(centers)

    def _own(self) -> dict[int, tuple[Any, ...]]:
        return {i: (key,) for i, key in enumerate(self._keys)}

    def add(self, centers: Floats) -> None:
        """Add centres, of shape (m, d), to the chosen ones: one pass."""
        tasks = self._blocks.tasks("seed-cover", _cover, centers, own=self._own())
        self._graph = self._blocks.persist(tasks, self._graph)
        self._keys = list(tasks)

    def potentials(self) -> Floats:
        """Weighted sum of squared distances of each block, of shape (blocks,)."""
        tasks = self._blocks.tasks("seed-potential", _potential, own=self._own())
        return self._blocks.reduce(tasks, "seed-merge", np.concatenate, self._graph)

    def trial(self, candidates: Floats) -> Floats:
        """Potential of each block with each of m candidates added, of shape (blocks, m)."""
        tasks = self._blocks.tasks("seed-trial", _trial, candidates, own=self._own())
        return self._blocks.reduce(tasks, "seed-merge", np.concatenate, self._graph)

    def draw(self, potentials: Floats, uniforms: Floats) -> Floats:
        """Draw rows, each with a probability as its weight times squared distance.

        Parameters
        ----------
        potentials : ndarray of shape (blocks,)
            Of which the sum is positive.
        uniforms : ndarray of shape (m,)
            Random numbers in [0, 1).

        Returns
        -------
        ndarray of shape (m, d), float64
        """
        ends = np.cumsum(potentials)
        targets = np.sort(uniforms) * ends[-1]
        last = np.flatnonzero(potentials)[-1]
        where = np.minimum(np.searchsorted(ends, targets, side="right"), last)
        rest = targets - (ends - potentials)[where]
        own = {int(i): (self._keys[i], rest[where == i]) for i in np.unique(where)}
        tasks = self._blocks.tasks("seed-draw", _draw, own=own)
        return self._blocks.reduce(tasks, "seed-merge", np.concatenate, self._graph)

    def sample(self, share: float, seed: int) -> Floats:
        """Draw every row by itself, with probability ``min(1, share * weight * closest)``."""
        uniforms = [partial(_uniforms, seed, offset) for offset in self._blocks.offsets]
        own = dict(enumerate(zip(self._keys, uniforms, strict=True)))
        tasks = self._blocks.tasks("seed-sample", _sample, share, own=own)
        return self._blocks.reduce(tasks, "seed-merge", np.concatenate, self._graph)


class _Lottery(NamedTuple):
    """Rows with their lots: the smallest lots win."""

    lots: Floats
    rows: Floats

    @staticmethod
    def merge(parts: Sequence[_Lottery], n: int) -> _Lottery:
        lots = np.concatenate([part.lots for part in parts])
        rows = np.concatenate([part.rows for part in parts])
        winners = np.argsort(lots, kind="stable")[:n]
        return _Lottery(lots[winners], rows[winners])


def _uniforms(seed: int, offset: int, n: int) -> Floats:
    """Random numbers of n rows, which depend on their place in the data but not on the blocks."""
    return np.random.Generator(np.random.PCG64(seed).advance(offset)).random(n)


def _choose(X: Rows, weights: Floats, offset: int, seed: int, n: int) -> _Lottery:
    # The n smallest of exponential variates of rates w are a draw without replacement by w
    # (Efraimidis and Spirakis 2006): each block can draw for itself, and the merge decides.
    with np.errstate(divide="ignore"):
        lots = -np.log1p(-_uniforms(seed, offset, len(X))) / weights
    rows = np.flatnonzero(np.isfinite(lots))
    return _Lottery.merge([_Lottery(lots[rows], X[rows].astype(np.float64))], n)


def _cover(X: Rows, weights: Floats, cover: seeding.Cover | None, centers: Floats) -> seeding.Cover:
    rows = frozen(X)
    # A task must leave its inputs alone: it may run again if a worker is lost.
    extended = (
        seeding.uncovered(rows)
        if cover is None
        else seeding.Cover(*(np.array(part) for part in cover))
    )
    seeding.extend(extended, rows, frozen(weights, np.float64), np.array(centers))
    return extended


def _writeable(cover: seeding.Cover) -> seeding.Cover:
    # What travelled may be read-only, which numba would compile once more for.
    return seeding.Cover(*(np.require(part, requirements="W") for part in cover))


def _potential(_rows: Rows, _weights: Floats, cover: seeding.Cover) -> Floats:
    return np.array([cover.potential.sum()])


def _trial(X: Rows, weights: Floats, cover: seeding.Cover, candidates: Floats) -> Floats:
    masses = frozen(weights, np.float64)
    return seeding.trial(_writeable(cover), frozen(X), masses, np.array(candidates))[np.newaxis]


def _draw(X: Rows, weights: Floats, cover: seeding.Cover, targets: Floats) -> Floats:
    masses, writeable = frozen(weights, np.float64), _writeable(cover)
    return X[[seeding.draw(writeable, masses, target) for target in targets]].astype(np.float64)


def _sample(
    X: Rows, weights: Floats, cover: seeding.Cover, uniforms: partial[Floats], share: float
) -> Floats:
    drawn = uniforms(len(X)) < share * weights * cover.closest
    return X[drawn].astype(np.float64)
