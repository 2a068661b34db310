"""What the estimator accepts: its parameters, and rows and weights as Dask arrays."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
from dask_ml.utils import check_array

from kmdask.errors import ParameterError
from kmdask.fitting.kmeans_blocks import NOT_FINITE

if TYPE_CHECKING:
    from kmdask.fitting.kmeans import KMeans
    from kmdask.fitting.kmeans_blocks import Summary

__all__ = [
    "check_parameters",
    "require_usable",
    "rows_of",
    "weights_like",
    "with_known_chunks",
]

ROWS = 1 << 18
"""Rows in a block of what came as one array: fixed, lest sums depend on the machine's cores."""


def check_parameters(model: KMeans, rows: da.Array) -> None:
    """Raise a `ParameterError` if a parameter is out of range, or unfit for the rows."""
    _require("n_clusters", model.n_clusters, Integral, least=1)
    _require("max_iter", model.max_iter, Integral, least=1)
    _require("tol", model.tol, Real, least=0)
    _require("oversampling_factor", model.oversampling_factor, Real, least=0)
    if model.n_init != "auto":
        _require("n_init", model.n_init, Integral, least=1)
    if model.init_max_iter is not None:
        _require("init_max_iter", model.init_max_iter, Integral, least=0)
    if model.algorithm not in ("full", "lloyd"):
        msg = f"algorithm must be 'full' or 'lloyd', which are the same; got {model.algorithm!r}"
        raise ParameterError(msg)
    n, n_features = rows.shape
    if n < model.n_clusters:
        msg = f"n_clusters={model.n_clusters} needs as many rows at least; got n_samples={n}"
        raise ParameterError(msg)
    named = ("k-means||", "k-means++", "random")
    if isinstance(model.init, str) and model.init in named:
        return
    shape = (model.n_clusters, n_features)
    if isinstance(model.init, str) or np.shape(model.init) != shape:
        got = repr(model.init) if np.ndim(model.init) == 0 else f"shape {np.shape(model.init)}"
        msg = f"init must be one of {named} or an array of shape {shape}; got {got}"
        raise ParameterError(msg)
    if not np.isfinite(np.asarray(model.init, np.float64)).all():
        msg = "init contains NaN or infinity; give finite centres to start from"
        raise ParameterError(msg)


def _require(name: str, value: Any, kind: type, least: float) -> None:
    fits = isinstance(value, kind) and not isinstance(value, bool)
    if not (fits and value >= least):
        noun = "an integer" if kind is Integral else "a number"
        msg = f"{name} must be {noun} of at least {least}; got {value!r}"
        raise ParameterError(msg)


def require_usable(summary: Summary) -> None:
    """Raise a `ParameterError` unless rows and weights are such that k-means can run on them."""
    if not summary.finite_rows:
        raise ParameterError(NOT_FINITE)
    if not (summary.finite_weights and summary.least_weight >= 0 and summary.weight > 0):
        msg = "sample_weight must be finite, nowhere negative, and not zero for all rows"
        raise ParameterError(msg)


def rows_of(X: Any) -> da.Array:
    """Take `X` for a table of float32 or float64, in blocks of whole rows; lazily if it is lazy."""
    rows = check_array(
        X.to_dask_array() if isinstance(X, dd.DataFrame) else X,
        dtype=[np.float64, np.float32],
        accept_unknown_chunks=True,
        accept_multiple_blocks=True,
        remove_zero_chunks=False,
    )
    if not isinstance(rows, da.Array):
        rows = da.from_array(rows, chunks=(ROWS, -1))
    blocks = _without_empty_chunks(rows.rechunk({1: -1}))
    return blocks if blocks.dtype in (np.float32, np.float64) else blocks.astype(np.float64)


def with_known_chunks(array: da.Array) -> da.Array:
    """Find the lengths of the chunks if they are unknown; this computes the array, once."""
    if np.isnan(array.shape[0]):
        # Persisted first: otherwise the next pass would compute all of it again.
        (array,) = dask.persist(array)
        array = _without_empty_chunks(array.compute_chunk_sizes())
    return array


def _without_empty_chunks(array: da.Array) -> da.Array:
    """Drop chunks of no rows, which have no mean and no box."""
    lengths = array.chunks[0]
    return array.rechunk({0: tuple(n for n in lengths if n != 0)}) if 0 in lengths else array


def weights_like(sample_weight: Any, rows: da.Array) -> da.Array | None:
    """Weights as float64 in the chunks of the rows, or None if there are none."""
    if sample_weight is None:
        return None
    weights = sample_weight
    if isinstance(weights, dd.Series):
        weights = weights.to_dask_array()
    elif not isinstance(weights, da.Array):
        weights = np.asarray(weights)
        weights = da.from_array(
            np.broadcast_to(weights, rows.shape[:1]) if weights.ndim == 0 else weights
        )
    weights = with_known_chunks(weights) if weights.ndim == 1 else weights
    if weights.shape != rows.shape[:1]:
        msg = (
            f"sample_weight must have shape {rows.shape[:1]}, a weight per row; got {weights.shape}"
        )
        raise ParameterError(msg)
    blocks: da.Array = weights.rechunk((rows.chunks[0],)).astype(np.float64)
    return blocks
