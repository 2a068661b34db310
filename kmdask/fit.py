"""Weighted colours to a palette."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np

from kmdask.errors import ParameterError
from kmdask.grey import best_levels
from kmdask.palette import ENTRIES, Palette
from kmdask.seeding import best_start

if TYPE_CHECKING:
    import numpy.typing as npt
    from sklearn.base import BaseEstimator

    from kmdask.colors import WeightedColors

TOL = 1e-4
"""Relative tolerance of the fit, scikit-learn's default: what is left to gain is some 0.1 %."""


def fit_palette(
    colors: WeightedColors,
    k: int,
    *,
    seed: int = 0,
    estimator: BaseEstimator | None = None,
    pixels: da.Array | None = None,
    mask: da.Array | None = None,
) -> Palette:
    """Choose the palette whose squared error over all pixels is least, as k-means finds it.

    Parameters
    ----------
    colors : WeightedColors
        The counted colours of an image.
    k : int
        Palette entries asked for, from 1 to 256. An image of at most that many colours gets
        exactly its own, and a grey image the best there is.
    seed : int, default 0
        The same seed gives the same palette.
    estimator : scikit-learn compatible clusterer, optional
        Used in place of `kmdask.KMeans`, started by itself: anything with ``n_clusters``, ``fit``
        and ``cluster_centers_``. It is cloned; its ``n_clusters`` becomes `k`, and its
        ``random_state``, if that is None, `seed`. If its ``fit`` takes ``sample_weight`` it is
        given the colours and their counts, otherwise all pixels, which costs as many passes over
        the image as it makes.
    pixels, mask : dask arrays, optional
        The image, as for `count_colors`; needed for an estimator that takes no weights.

    Returns
    -------
    Palette
        Of `k` entries or fewer: centres that round to the same colour are one entry.

    Raises
    ------
    ParameterError
        If `k` or the estimator is not as said.

    Examples
    --------
    >>> import dask.array as da
    >>> from kmdask import count_colors
    >>> image = da.from_array(np.array([[[0], [1], [1], [250]]], np.uint8))
    >>> fit_palette(count_colors(image), 2)
    Palette(['#010101', '#fafafa'])
    """
    k = check_k(k)
    if len(colors) <= k:
        return Palette.from_centers(colors.colors.compute())
    if estimator is not None:
        model = _prepared(estimator, k, seed)
        return Palette.from_centers(_fit_other(model, colors, pixels, mask))
    if colors.colors.shape[1] == 1:
        values, counts = dask.compute(colors.colors[:, 0], colors.counts)
        levels = best_levels(values.astype(np.int64), counts, k)
        return Palette(levels[:, None].astype(np.uint8))
    from kmdask.kmeans import KMeans

    model = KMeans(k, init=best_start(colors, k, seed), tol=TOL)
    model.fit(colors.colors, sample_weight=colors.counts)
    return Palette.from_centers(model.cluster_centers_)


def check_k(k: object) -> int:
    """Return `k` as an int; raise a `ParameterError` unless it is one from 1 to 256."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= ENTRIES:
        msg = f"k is the number of colours, an integer from 1 to {ENTRIES}; got {k!r}"
        raise ParameterError(msg)
    return int(k)


def flatten(pixels: da.Array, mask: da.Array | None = None) -> da.Array:
    """The valid pixels as one long list, chunk after chunk, lazily.

    Parameters
    ----------
    pixels : dask array of shape (y, x, band)
    mask : dask array of shape (y, x), optional
        0 where a pixel is invalid. The mask is read once to learn how many are left.

    Returns
    -------
    dask array of shape (n, band), float32
    """
    # Reshaping the whole array would join chunks into full rows; the order does not matter here.
    blocks = [pixels.blocks[index] for index in np.ndindex(*pixels.numblocks)]
    flat = da.concatenate([block.reshape(-1, block.shape[2]) for block in blocks])
    if mask is not None:
        masks = [mask.blocks[index] for index in np.ndindex(*mask.numblocks)]
        flat = flat[da.concatenate([block.ravel() for block in masks]) != 0].compute_chunk_sizes()
    samples: da.Array = flat.astype(np.float32)
    return samples


def _prepared(estimator: BaseEstimator, k: int, seed: int) -> Any:
    from sklearn.base import clone

    given: dict[str, Any] = (
        {} if isinstance(estimator, type) else getattr(estimator, "get_params", dict)()
    )
    if "n_clusters" not in given or not hasattr(estimator, "fit"):
        msg = (
            "estimator is a clusterer like sklearn.cluster.KMeans(), an object with fit and a "
            f"parameter n_clusters; got {estimator!r}"
        )
        raise ParameterError(msg)
    model = clone(estimator).set_params(n_clusters=k)
    if "random_state" in given and given["random_state"] is None:
        model.set_params(random_state=seed)
    return model


def _fit_other(
    model: Any, colors: WeightedColors, pixels: da.Array | None, mask: da.Array | None
) -> npt.NDArray[np.floating[Any]]:
    import dask_ml.cluster
    from sklearn.utils.validation import has_fit_parameter

    if has_fit_parameter(model, "sample_weight"):
        rows, counts = colors.colors, colors.counts
        if not isinstance(model, dask_ml.cluster.KMeans):
            rows, counts = dask.compute(rows, counts)
        model.fit(rows, sample_weight=counts)
    elif pixels is not None:
        model.fit(flatten(pixels, mask))
    else:
        msg = f"{type(model).__name__}.fit takes no sample_weight, so it needs pixels= as well"
        raise ParameterError(msg)
    if not hasattr(model, "cluster_centers_"):
        name = type(model).__name__
        msg = f"the estimator {name} finds no cluster_centers_, which are to be the palette"
        raise ParameterError(msg)
    return np.asarray(model.cluster_centers_)
