"""Where k-means starts from: the best of many quick runs, taken from coarse to fine.

One start of k-means can end a quarter worse than the best of many. A run on all the different
colours of a large image takes seconds, a run on some ten thousand cells of similar colours
milliseconds, and the cells keep the shape of the distribution. So many starts run on coarse cells
until it is plain which are best, side by side on the workers, and these go on from there on finer
cells. On all colours the last one then has few steps left, or some tens at k=256.
"""

from __future__ import annotations

from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import dask
import numpy as np
from dask.core import flatten
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph

from kmdask.fitting.lloyd import lloyd
from kmdask.fitting.plus_plus import plus_plus, plus_plus_after
from kmdask.graphs import block_names
from kmdask.kernels import bins as kernels
from kmdask.kernels.views import frozen

if TYPE_CHECKING:
    import dask.array as da
    import numpy.typing as npt

FIRST = 1 << 12
"""Cells at most for the first look at starts of few clusters: a run takes 1 to 3 ms (measured)."""

COARSE = 1 << 15
"""Cells at most for the many starts: a run takes 10 ms for 16 clusters, 60 for 256 (measured)."""

FINE = 1 << 18
"""Cells at most for the run that goes on from the best start."""

STARTS = 32
"""Runs of which the best is taken; twice as many where there is a first look."""

FINALISTS = 12
"""Runs at most that go on from the first look: with half as many the best is lost now and then."""

SAME = 1e-4
"""Share of the inertia by which two runs differ at least: else both have found the same."""

TASKS = 8
"""Into how many the runs go at most: handing one out takes longer than a run on few colours."""

CELL_STARTS = 4
"""Runs where the colours are cells already: joining these, which have many features, loses more
than further starts gain (measured)."""

VERY_FEW = 24
"""Clusters up to which the first look is worth it: of more it misjudges the starts."""

FEW = 256
"""Clusters up to which all of that is cheap. For more, cells are more and starts are fewer."""

MAX_ITER = 300
ROUGH = 1e-3
"""Tolerance of the many starts: what they will come to is plain long before they rest."""
TOL = 1e-5
LOOSE = 1e-4
"""Tolerance for more than `FEW` clusters, or where the colours are cells already."""


class Round(NamedTuple):
    """Runs side by side, of which the best go on to the next round."""

    cells: int
    runs: int
    tol: float


def rounds_of(k: int, *, exact: bool) -> tuple[Round, ...]:
    """Choose the rounds, the last of one run: each cluster has a few cells to choose from.

    Examples
    --------
    >>> [round.runs for round in rounds_of(16, exact=True)]
    [64, 12, 1]
    """
    if k <= FEW and not exact:
        return Round(FINE, CELL_STARTS, LOOSE), Round(FINE, 1, LOOSE)
    if k <= VERY_FEW:
        first = Round(FIRST, 2 * STARTS, ROUGH)
        return first, Round(COARSE, FINALISTS, ROUGH), Round(FINE, 1, TOL)
    if k <= FEW:
        return Round(COARSE, STARTS, ROUGH), Round(FINE, 1, TOL)
    coarse = max(COARSE, 8 * k)
    runs = max(1, STARTS * FEW // k)
    return Round(coarse, runs, LOOSE), Round(max(FINE, coarse), 1, LOOSE)


class Cells(NamedTuple):
    """Joined colours, sorted by code."""

    codes: npt.NDArray[np.uint32]
    """What is left of the codes, of shape (cells,)."""

    means: npt.NDArray[np.float64]
    """The mean of the pixels of each cell, of shape (cells, feature)."""

    weights: npt.NDArray[np.float64]
    """The pixels of each, of shape (cells,)."""


class Run(NamedTuple):
    """What came of one start."""

    inertia: float
    centers: npt.NDArray[np.float64]


_inertia = attrgetter("inertia")


def best_start(
    features: da.Array,
    counts: da.Array,
    codes: da.Array,
    k: int,
    seed: int,
    *,
    exact: bool = True,
    held: npt.NDArray[np.float64] | None = None,
) -> npt.NDArray[np.float64]:
    """Find good initial centres for k-means over the colours of an image.

    Parameters
    ----------
    features : dask array of shape (n, feature)
        In the space where distances are measured; more than `k` colours if none is held.
    counts : dask array of shape (n,)
        The pixels of each, whole numbers in any data type.
    codes : dask array of shape (n,), uint32
        Ascending; see `WeightedColors`.
    k : int
        Number of centres.
    seed : int
        The same seed gives the same centres.
    exact : bool, default True
        Whether these are the different colours of an image, else cells of them.
    held : float64 array of shape (fewer than k, feature), optional
        Centres that take colours but do not move.

    Returns
    -------
    float64 array of shape (k, feature)
        The held ones first; fewer than `k` if these are on nearly all colours.
    """
    held = np.empty((0, features.shape[1])) if held is None else held
    columns: list[Any] = [codes, features, counts]
    token = (*(column.name for column in columns), k, seed, held)
    rounds = rounds_of(k, exact=exact)
    # A graph of plain tuples: of few colours, `delayed` calls would take longer than the runs.
    cells = block_names("bin", token, len(rounds))
    blocks = [list(flatten(column.__dask_keys__())) for column in columns]
    graph: dict[Any, Any] = {cells[-1]: (bin_blocks, *blocks, rounds[-1].cells)}
    for i in reversed(range(len(rounds) - 1)):
        graph[cells[i]] = (bin_cells, cells[i + 1], rounds[i].cells)
    runs: list[Any] = []
    for i, (_, number, tol) in enumerate(rounds):
        taken, runs = runs, block_names("seed", (token, i), min(number, TASKS))
        for j, name in enumerate(runs):
            own = list(range(j, number, len(runs)))
            before = (_go_on, taken, own) if taken else (_begin, k, [[seed, n] for n in own])
            graph[name] = (*before, cells[i], tol, held)
    (last,) = runs
    layers = HighLevelGraph.from_collections(last[0], graph, dependencies=columns)
    ((best,),) = dask.compute(Delayed(last, layers, layer=last[0]))
    centers: npt.NDArray[np.float64] = best.centers
    return centers


def grown_start(
    features: da.Array,
    counts: da.Array,
    codes: da.Array,
    centers: npt.NDArray[np.float64],
    *,
    k: int,
    seed: int,
) -> npt.NDArray[np.float64]:
    """Add centres to those of fewer clusters, where the error is large.

    Parameters
    ----------
    features, counts, codes, k, seed
        As for `best_start`.
    centers : float64 array of shape (at most k, feature)

    Returns
    -------
    float64 array of shape (at most k, feature)
        These centres, and cells after them.
    """
    blocks = [column.to_delayed().ravel().tolist() for column in (codes, features, counts)]
    names = block_names("grow", (features.name, counts.name, centers, k, seed), 2)
    fine = delayed(bin_blocks, pure=True)(*blocks, FINE, dask_key_name=names[0])
    added = delayed(_grow, pure=True)(fine, centers, k, seed, dask_key_name=names[1])
    grown: npt.NDArray[np.float64] = dask.compute(added)[0]
    return grown


def bin_cells(cells: Cells, limit: int) -> Cells:
    """Join neighbouring cells, by halves, until there are at most `limit` of them.

    Examples
    --------
    >>> fine = Cells(np.uint32([2, 3]), np.array([[1.0], [3.0]]), np.array([3.0, 1.0]))
    >>> bin_cells(fine, limit=1)
    Cells(codes=array([1], dtype=uint32), means=array([[1.5]]), weights=array([4.]))
    """
    # How many cells there are once codes are cut by no bit, one, and so on.
    sizes = 1 + np.append(kernels.differences(frozen(cells.codes))[:0:-1].cumsum()[::-1], 0)
    bits = int(np.argmax(sizes <= limit))
    codes = np.empty(sizes[bits], np.uint32)
    sums, weights = np.zeros((len(codes), cells.means.shape[1])), np.zeros(len(codes))
    rows, masses = frozen(cells.means), frozen(cells.weights)
    kernels.join(frozen(cells.codes), rows, masses, bits, codes, sums, weights)
    return Cells(codes, sums / weights[:, None], weights)


def bin_blocks(
    codes: list[npt.NDArray[np.uint32]],
    features: list[npt.NDArray[np.floating[Any]]],
    counts: list[npt.NDArray[np.float64 | np.int64]],
    limit: int,
) -> Cells:
    """Join neighbouring colours, in blocks, until there are at most `limit` of them."""
    weights = _whole(counts).astype(np.float64, copy=False)
    return bin_cells(Cells(_whole(codes), _whole(features), weights), limit)


def _whole(blocks: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _begin(
    k: int, seeds: list[list[int]], cells: Cells, tol: float, held: npt.NDArray[np.float64]
) -> list[Run]:
    """Begin a run of each seed."""
    _, means, weights = cells
    runs = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        if len(held):
            start = plus_plus_after(means, weights, held, k, rng)
        else:
            start = plus_plus(means, weights, k, rng)
        runs.append(_run(cells, start, tol, held))
    return runs


def _go_on(
    runs: list[list[Run]], ranks: list[int], cells: Cells, tol: float, held: npt.NDArray[np.float64]
) -> list[Run]:
    """Go on with those of a round that come at some ranks, on the cells of the next.

    Of a few clusters most runs find the same; it is taken once.
    """
    different: list[Run] = []
    for run in sorted(chain(*runs), key=_inertia):
        if not different or run.inertia > different[-1].inertia * (1 + SAME):
            different.append(run)
    going = (different[rank] for rank in ranks if rank < len(different))
    return [_run(cells, run.centers, tol, held) for run in going]


def _run(
    cells: Cells, start: npt.NDArray[np.float64], tol: float, held: npt.NDArray[np.float64]
) -> Run:
    _, means, weights = cells
    centers, inertia, _ = lloyd(means, weights, start, max_iter=MAX_ITER, tol=tol, held=len(held))
    return Run(inertia, centers)


def _grow(
    cells: Cells, centers: npt.NDArray[np.float64], k: int, seed: int
) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return plus_plus_after(cells.means, cells.weights, centers, k, rng)
