"""The estimator: k-means with sample weights on Dask arrays of any size."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Self

import dask
import dask.array as da
import dask_ml.cluster
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from kmdask.errors import ParameterError
from kmdask.fitting.kmeans_blocks import NOT_FINITE, Blocks, distances_to, labels_of
from kmdask.fitting.kmeans_init import init_plus_plus, init_random, init_scalable
from kmdask.fitting.kmeans_input import (
    check_parameters,
    require_usable,
    rows_of,
    weights_like,
    with_known_chunks,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmdask.fitting.moments import Floats, Moments

__all__ = ["KMeans"]

_ROUNDS = 5
"""Rounds of k-means||: in the experiments of its paper more gained nothing."""


class KMeans(dask_ml.cluster.KMeans):
    """K-means with sample weights, on arrays that need not fit into memory.

    A drop-in for `dask_ml.cluster.KMeans`. From the same start, with the same data and weights,
    it ends where `sklearn.cluster.KMeans` does, after as many iterations, but for rounding.

    Parameters
    ----------
    n_clusters : int, default 8
        Number of clusters.
    init : {"k-means||", "k-means++", "random"} or array of shape (n_clusters, n_features)
        Where to start; default "k-means||".

        - "k-means||" draws candidates in a few rounds and clusters these: some 15 passes over
          the data. The choice for many rows.
        - "k-means++" chooses one row after another: three passes for each cluster, which become
          cheaper as clusters become more.
        - "random" draws different rows: one pass.
    oversampling_factor : float, default 2
        "k-means||" expects this many times `n_clusters` candidates from each round; this is
        the paper's l / k, for which it recommends 2.
    max_iter : int, default 300
        Iterations at most. Each is one pass over the data.
    tol : float, default 1e-4
        Stop once the squared distances that the centres moved in an iteration add up to no more
        than this times the mean variance of the features.
    precompute_distances, copy_x, n_jobs
        Without effect, kept for compatibility. The data passed in are never changed.
    random_state : int, numpy.random.RandomState or None, default None
        Source of all randomness. An int gives the same result each time.
    algorithm : {"full", "lloyd"}, default "full"
        Two names of Lloyd's algorithm.
    init_max_iter : int, optional
        Rounds of "k-means||"; by default 5.
    n_init : int or "auto", default "auto"
        Starts, of which the one with the least inertia is taken. "auto" is 10 for "random", and
        otherwise 1.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features)
        float32 if the data were, otherwise float64.
    labels_ : dask array of shape (n_samples,), int32
        Index of the cluster of each row. Lazy: computing it is one pass over the data.
    inertia_ : float
        Weighted sum of the squared distances of the rows to their nearest `cluster_centers_`.
    n_iter_ : int
        Iterations taken.
    n_features_in_ : int
        Number of features.

    Notes
    -----
    ``X`` may be a Dask array or DataFrame, or anything NumPy takes for an array. `fit` persists it
    while it runs. All sums are float64 and are merged in a fixed order: neither the number of
    workers or threads nor their speed changes a bit of the result. Chunks do, in the last bits of
    the sums, unless these are exact, as sums of integers below 2**53 are.

    References
    ----------
    S. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory
    28 (1982) 129-137.

    D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007,
    1027-1035.

    B. Bahmani, B. Moseley, A. Vattani, R. Kumar and S. Vassilvitskii, "Scalable k-means++",
    Proceedings of the VLDB Endowment 5 (2012) 622-633.

    Examples
    --------
    >>> import dask.array as da
    >>> X = da.from_array([[0.0], [1.0], [10.0], [11.0]], chunks=(2, 1))
    >>> model = KMeans(2, init=[[0.0], [10.0]]).fit(X, sample_weight=[1, 3, 1, 1])
    >>> model.cluster_centers_
    array([[ 0.75],
           [10.5 ]])
    >>> model.labels_.compute()
    array([0, 0, 1, 1], dtype=int32)
    >>> model.inertia_
    1.25
    """

    def fit(self, X: Any, y: object = None, sample_weight: Any = None) -> Self:  # noqa: ARG002  scikit-learn's
        """Cluster the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Integers are taken as float64.
        y : object, optional
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            Non-negative weights of the rows, not all zero; by default 1 each.

        Returns
        -------
        KMeans
            The estimator itself.

        Raises
        ------
        ParameterError
            If a parameter, the data or the weights are not as said, or if there are fewer rows
            than clusters.
        """
        rows = with_known_chunks(self._validated(X, reset=True))
        check_parameters(self, rows)
        weights = weights_like(sample_weight, rows)
        kept, kept_weights = dask.persist(rows, weights)
        blocks = Blocks(kept, kept_weights)
        summary = blocks.summary()
        require_usable(summary)
        # The best start is chosen by inertia at the centres as they will be stored.
        runs = [
            self._run(blocks, start, self.tol * summary.variance, rows.dtype)
            for start in self._starts(blocks, rows.shape[1])
        ]
        centers, moments, n_iter = min(runs, key=lambda run: run[1].inertia)
        found = np.count_nonzero(moments.weights)
        if found < self.n_clusters:
            msg = (
                f"found {found} different clusters, not the n_clusters={self.n_clusters} asked "
                "for; perhaps there are fewer different rows than that"
            )
            warnings.warn(msg, ConvergenceWarning, stacklevel=2)
        self.cluster_centers_ = centers
        self.labels_ = self._labels(rows)
        self.inertia_ = moments.inertia
        self.n_iter_ = n_iter
        return self

    def fit_predict(self, X: Any, y: object = None, sample_weight: Any = None) -> da.Array:
        """Cluster the rows and return `labels_`, lazily; see `fit`."""
        return self.fit(X, y, sample_weight=sample_weight).labels_

    def fit_transform(self, X: Any, y: object = None, sample_weight: Any = None) -> da.Array:
        """Cluster the rows and return their distances to the centres; see `fit`, `transform`."""
        return self.fit(X, y, sample_weight=sample_weight).transform(X)

    def predict(self, X: Any) -> da.Array:
        """Find the cluster nearest to each row.

        Nothing is computed for a Dask array or DataFrame; chunk sizes may be unknown.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows with NaN or infinity raise a `ParameterError`, if `X` is lazy then on computing.

        Returns
        -------
        dask array of shape (n_samples,), int32
            Of clusters equally near, the one with the lowest index.
        """
        check_is_fitted(self, "cluster_centers_")
        return self._labels(self._validated(X, reset=False))

    def transform(self, X: Any) -> da.Array:
        """Find the distance of each row to each centre.

        Takes what `predict` takes, as lazily.

        Returns
        -------
        dask array of shape (n_samples, n_clusters)
            float32 if both the rows and the centres are, otherwise float64.
        """
        check_is_fitted(self, "cluster_centers_")
        rows = self._validated(X, reset=False)
        centers = self.cluster_centers_
        dtype = np.result_type(rows.dtype, centers.dtype)
        distances: da.Array = da.map_blocks(
            distances_to,
            rows,
            centers=centers,
            dtype=dtype,
            chunks=(rows.chunks[0], (len(centers),)),
            meta=np.empty((0, 0), dtype),
            token="transform",
        )
        return distances

    def score(self, X: Any, y: object = None, sample_weight: Any = None) -> float:  # noqa: ARG002  scikit-learn's
        """Negative weighted sum of the squared distances of the rows to the nearest centres.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
        y : object, optional
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional

        Returns
        -------
        float
            For the data and weights of `fit`, ``-inertia_``.
        """
        check_is_fitted(self, "cluster_centers_")
        rows = with_known_chunks(self._validated(X, reset=False))
        weights = weights_like(sample_weight, rows)
        inertia = Blocks(rows, weights).step(self.cluster_centers_.astype(np.float64)).inertia
        if not np.isfinite(inertia):
            raise ParameterError(NOT_FINITE)
        return -inertia

    def _validated(self, X: Any, *, reset: bool) -> da.Array:
        """Blocks of rows, after noting the features, or comparing them with those noted."""
        rows = rows_of(X)
        validate_data(
            self, X if hasattr(X, "columns") else rows, reset=reset, skip_check_array=True
        )
        return rows

    def _labels(self, rows: da.Array) -> da.Array:
        labels: da.Array = da.map_blocks(
            labels_of,
            rows,
            centers=self.cluster_centers_.astype(np.float64),
            dtype=np.int32,
            drop_axis=1,
            meta=np.empty(0, np.int32),
            token="predict",
        )
        return labels

    def _run(
        self, blocks: Blocks, start: Floats, max_shift: float, dtype: np.dtype[Any]
    ) -> tuple[np.ndarray[Any, Any], Moments, int]:
        """Iterate from one start: centres as they are stored, moments at these, iterations."""
        centers, n_iter = blocks.iterate(start, max_iter=self.max_iter, max_shift=max_shift)
        stored = centers.astype(dtype)
        return stored, blocks.step(stored.astype(np.float64)), n_iter

    def _starts(self, blocks: Blocks, n_features: int) -> Iterator[Floats]:
        """Yield the centres of every start."""
        if not isinstance(self.init, str):
            yield np.array(self.init, np.float64)
            return
        rng = np.random.default_rng(check_random_state(self.random_state).randint(1 << 31, size=4))
        n_init = self.n_init
        if n_init == "auto":
            n_init = 10 if self.init == "random" else 1
        for _ in range(n_init):
            if self.init == "random":
                centers = init_random(blocks, self.n_clusters, rng)
            elif self.init == "k-means++":
                centers = init_plus_plus(blocks, self.n_clusters, rng)
            else:
                expected = self.oversampling_factor * self.n_clusters
                rounds = _ROUNDS if self.init_max_iter is None else self.init_max_iter
                centers = init_scalable(
                    blocks, self.n_clusters, rng, expected=expected, rounds=rounds
                )
            # Where there are fewer different rows than clusters, centres repeat; ties go to the
            # first of equals, so that the others stay without rows.
            yield np.resize(centers, (self.n_clusters, n_features))
