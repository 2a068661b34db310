"""Rows spread over workers, in blocks: every pass that k-means makes over them.

A pass is one task per block and a merge in a tree of fixed shape, so that results do not depend
on how many workers there are or which of them was faster. The functions that run on workers are
here and in `kmdask.fitting.lloyd`, away from the estimator: importing dask_ml costs a worker
seconds.
"""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from uuid import uuid4

import dask
import numpy as np
from dask.core import flatten
from dask.delayed import Delayed

from kmdask.errors import ParameterError
from kmdask.fitting.lloyd import Steps, farthest_rows, iterate, step
from kmdask.fitting.moments import Farthest, Moments
from kmdask.fitting.threads import PART, threads_here
from kmdask.graphs import block_names, merge_tasks
from kmdask.kernels import lloyd as kernels
from kmdask.kernels.views import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import dask.array as da
    import numpy.typing as npt

    from kmdask.fitting.moments import Floats, Rows

__all__ = ["NOT_FINITE", "Blocks", "Summary", "distances_to", "labels_of"]

NOT_FINITE = (
    "X contains NaN or infinity, which is at no distance from anything; leave these rows out, or "
    "fill them in, before clustering"
)

_T = TypeVar("_T")
_ONE = np.ones(1)
"""The weights of a block without weights: one that stands for all rows."""


class Summary(NamedTuple):
    """What has to be known of rows and weights before k-means can start.

    Attributes
    ----------
    n : int
        Number of rows.
    mean, squares : ndarray of shape (d,), float64
        Mean of each column, and the sum of squared differences from it; without weights.
    weight : float
        Sum of the weights.
    least_weight : float
    finite_rows, finite_weights : bool
    """

    n: int
    mean: Floats
    squares: Floats
    weight: float
    least_weight: float
    finite_rows: bool
    finite_weights: bool

    @property
    def variance(self) -> float:
        """Mean of the variances of the columns, without weights."""
        return float(self.squares.mean()) / self.n

    @staticmethod
    def of(X: Rows, weights: Floats) -> Summary:
        """Summarise one block, part by part: each stays in the cache."""
        masses = np.broadcast_to(np.asarray(weights, np.float64), len(X))
        parts = [slice(start, start + PART) for start in range(0, len(X), PART)]
        return Summary.merge([Summary._of_part(X[rows], masses[rows]) for rows in parts])

    @staticmethod
    def _of_part(X: Rows, masses: Floats) -> Summary:
        finite = bool(np.isfinite(X).all())
        mean, squares = np.zeros((2, X.shape[1]))
        if finite:
            # Column by column: together they take four times as long.
            for j, column in enumerate(X.T):
                mean[j] = column.mean(dtype=np.float64)
                squares[j] = len(X) * np.var(column, dtype=np.float64, mean=mean[j])
        return Summary(
            n=len(X),
            mean=mean,
            squares=squares,
            weight=float(masses.sum()),
            least_weight=float(masses.min()),
            finite_rows=finite,
            finite_weights=bool(np.isfinite(masses).all()),
        )

    @staticmethod
    def merge(parts: Sequence[Summary]) -> Summary:
        """Summarise several groups of rows together."""
        n = sum(part.n for part in parts)
        mean = np.sum([part.mean * (part.n / n) for part in parts], axis=0)
        between = [part.n * (part.mean - mean) ** 2 for part in parts]
        return Summary(
            n=n,
            mean=mean,
            squares=np.sum([part.squares for part in parts] + between, axis=0),
            weight=sum(part.weight for part in parts),
            least_weight=min(part.least_weight for part in parts),
            finite_rows=all(part.finite_rows for part in parts),
            finite_weights=all(part.finite_weights for part in parts),
        )


class Blocks:
    """Rows and their weights, block by block, wherever Dask keeps them.

    Parameters
    ----------
    X : dask array of shape (n, d), float32 or float64
        Known chunks over the rows, none of them empty, and one chunk over the columns. Persist
        it before if more than one pass is to come.
    weights : dask array of shape (n,), optional
        In the same chunks. By default every row weighs 1.

    Attributes
    ----------
    n : int
        Number of blocks.
    offsets : list of int
        Index of the first row of each block.
    """

    def __init__(self, X: da.Array, weights: da.Array | None = None) -> None:
        lengths = X.chunks[0]
        self.n = len(lengths)
        self._keys: list[Any] = list(flatten(X.__dask_keys__()))
        self._weights: list[Any] = [_ONE] * self.n
        self._graph = dict(X.__dask_graph__())
        if weights is not None:
            self._weights = list(flatten(weights.__dask_keys__()))
            self._graph.update(weights.__dask_graph__())
        self.offsets = [int(offset) for offset in np.cumsum((0, *lengths[:-1]))]
        self._token = uuid4().hex
        self._passes = count()

    def tasks(
        self,
        stage: str,
        function: Callable[..., Any],
        *shared: object,
        own: Mapping[int, tuple[Any, ...]] | None = None,
    ) -> dict[Any, Any]:
        """Graph of one task per block, ``function(rows, weights, *own, *shared)``.

        Parameters
        ----------
        stage : str
            Name of the tasks in the dashboard.
        function : callable
        *shared : object
            What is the same for all blocks.
        own : mapping from block index to tuple, optional
            What differs from block to block. Blocks that it lacks are left out.
        """
        own = dict.fromkeys(range(self.n), ()) if own is None else own
        # A graph of plain tuples, for Dask needs twice as long per pass to put `delayed` calls
        # together, and a pass over a million colours takes no more than 20 ms.
        return {
            name: (function, self._keys[i], self._weights[i], *own[i], *shared)
            for i, name in zip(own, self._names(stage, len(own)), strict=True)
        }

    def reduce(
        self,
        tasks: Mapping[Any, Any],
        stage: str,
        merge: Callable[[list[_T]], _T],
        inputs: Mapping[Any, Any] | None = None,
    ) -> _T:
        """Compute the tasks and merge their results, in order, in a tree.

        Parameters
        ----------
        tasks : mapping
            From `tasks`.
        stage : str
            Name of the merging tasks in the dashboard.
        merge : callable
        inputs : mapping, optional
            Graph of what the tasks refer to besides rows and weights.
        """
        graph = {**(inputs or {}), **tasks}
        result: tuple[_T] = dask.compute(self._merged(graph, tasks, stage, merge))
        return result[0]

    def _merged(
        self,
        graph: Mapping[Any, Any],
        parts: Iterable[Any],
        stage: str,
        merge: Callable[[list[Any]], Any],
    ) -> Delayed:
        root, merging = merge_tasks(merge, list(parts), stage)
        return Delayed(root, {**self._graph, **graph, **merging})

    def _names(self, stage: str, n: int) -> list[tuple[str, int]]:
        return block_names(stage, (self._token, next(self._passes)), n)

    def persist(self, tasks: Mapping[Any, Any], inputs: Mapping[Any, Any]) -> dict[Any, Any]:
        """Graph in which the results of the tasks stand in place of the tasks."""
        graph = {**self._graph, **inputs, **tasks}
        results: dict[Any, Any] = {}
        for result in dask.persist(*(Delayed(key, graph) for key in tasks)):
            results.update(result.__dask_graph__())
        return results

    def summary(self) -> Summary:
        """Summarise all rows: one pass."""
        result: Summary = self.summarised().compute()
        return result

    def summarised(self) -> Delayed:
        """Begin to summarise all rows; what comes is a `Summary`."""
        tasks = self.tasks("summarise", Summary.of)
        lazy = self._merged(tasks, tasks, "summarise-merge", Summary.merge)
        result: Delayed = dask.persist(lazy)[0]
        return result

    def step(self, centers: Floats) -> Moments:
        """Take one step of Lloyd's algorithm: one pass."""
        return self.reduce(self.tasks("lloyd-step", step, centers), "lloyd-merge", Moments.merge)

    def iterate(
        self, start: Floats, *, max_iter: int, max_shift: float, held: int = 0
    ) -> tuple[Floats, int]:
        """Repeat Lloyd's step until the centres rest; see `kmdask.fitting.lloyd.iterate`.

        All steps over a single block are one task, and the later ones are cheaper than the first;
        over more, each step is a pass.
        """
        limits: dict[str, Any] = {"max_iter": max_iter, "max_shift": max_shift, "held": held}
        if self.n > 1:
            return iterate(self.step, self.farthest, start, **limits)
        tasks = self.tasks("lloyd", partial(_iterate_block, **limits), start)
        result: tuple[tuple[Floats, int]] = dask.compute(
            *(Delayed(key, {**self._graph, **tasks}) for key in tasks)
        )
        return result[0]

    def farthest(self, centers: Floats, n: int) -> Farthest:
        """Find the `n` rows farthest from the centres: one pass."""
        tasks = self.tasks("lloyd-farthest", farthest_rows, centers, n)
        merge: Callable[[list[Farthest]], Farthest] = partial(Farthest.merge, count=n)
        return self.reduce(tasks, "lloyd-merge", merge)


def _iterate_block(X: Rows, weights: Floats, start: Floats, **limits: Any) -> tuple[Floats, int]:
    steps = Steps(X, weights, len(start), threads_here())
    return steps.iterate(partial(farthest_rows, X, weights), start, **limits)


def labels_of(X: Rows, centers: Floats) -> npt.NDArray[np.int32]:
    """Index of the centre nearest to each row of a block."""
    _require_finite(X)
    labels: npt.NDArray[np.int32] = kernels.nearest(frozen(X), np.array(centers))[0]
    return labels


def distances_to(X: Rows, centers: Rows) -> Rows:
    """Distance of each row of a block to each centre, in the wider of their types."""
    from scipy.spatial.distance import cdist

    _require_finite(X)
    distances: Rows = cdist(X, centers)
    return distances.astype(np.result_type(X, centers), copy=False)


def _require_finite(X: Rows) -> None:
    if not np.isfinite(X).all():
        raise ParameterError(NOT_FINITE)
