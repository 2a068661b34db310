"""Weighted colours to a palette."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np

from kmdask.errors import ParameterError
from kmdask.fitting.grey import best_levels, best_levels_with
from kmdask.fitting.kmeans_blocks import Blocks
from kmdask.fitting.refine import Refine, check_refine, refine_centers
from kmdask.fitting.seeding import best_start, grown_start
from kmdask.fitting.space import project
from kmdask.palette import ENTRIES, Palette

if TYPE_CHECKING:
    import numpy.typing as npt
    from sklearn.base import BaseEstimator

    from kmdask.fitting.colors import WeightedColors
    from kmdask.fitting.space import Space

TOL = 1e-4
"""Relative tolerance of the fit, scikit-learn's default: what is left to gain is some 0.1 %."""

MAX_ITER = 300
"""Steps of the fit at most, scikit-learn's default."""


def fit_palette(
    colors: WeightedColors,
    k: int,
    *,
    seed: int = 0,
    estimator: BaseEstimator | None = None,
    pixels: da.Array | None = None,
    mask: da.Array | None = None,
    space: Space | None = None,
    refine: Refine = 2,
) -> Palette:
    """Choose the palette whose squared error over all pixels is least, as k-means finds it.

    Parameters
    ----------
    colors : WeightedColors
        The counted colours of an image.
    k : int
        Palette entries asked for, from 1 to 65,536. An image of at most that many colours gets
        exactly its own, and a grey one of 8 bits the best there is.
    seed : int, default 0
        The same seed gives the same palette.
    estimator : scikit-learn compatible clusterer, optional
        Used in place of `kmdask.KMeans`, started by itself: anything with ``n_clusters``, ``fit``
        and ``cluster_centers_``. It is cloned; its ``n_clusters`` becomes `k`, and its
        ``random_state``, if that is None, `seed`. If its ``fit`` takes ``sample_weight`` it is
        given the colours and their counts, otherwise all pixels, which costs as many passes over
        the image as it makes.
    pixels, mask : dask arrays, optional
        The image, as for `count_colors`; needed for an estimator that takes no weights, for
        `refine`, and for the data type of the palette.
    space : Space, optional
        Where distances are measured. By default between the bands as they are.
    refine : int or "converge", default 2
        Steps of Lloyd's algorithm over all pixels, where `colors` are cells; each is one pass. See
        `kmdask.fitting.refine.refine_centers`.

    Returns
    -------
    Palette
        Of `k` entries or fewer: centres that round to the same colour are one entry. Of the data
        type of the pixels if these are given, otherwise uint8 for counted colours and float64
        for cells.

    Raises
    ------
    ParameterError
        If a parameter is not as said.

    Examples
    --------
    >>> import dask.array as da
    >>> from kmdask import count_colors
    >>> image = da.from_array(np.array([[[0], [1], [1], [250]]], np.uint8))
    >>> fit_palette(count_colors(image), 2)
    Palette(['#010101', '#fafafa'])
    """
    k, steps = check_k(k), check_refine(refine)
    if space is not None:
        space.check(colors.bands, colors.dtype)
    centers = fit_centers(
        colors, k, seed=seed, estimator=estimator, pixels=pixels, mask=mask, space=space
    )
    if pixels is not None and not colors.exact and steps:
        centers = refine_centers(pixels, mask, centers, space=space, steps=refine)
    return Palette.from_centers(centers, colors.dtype if pixels is None else pixels.dtype)


def fit_centers(
    colors: WeightedColors,
    k: int,
    *,
    seed: int = 0,
    estimator: BaseEstimator | None = None,
    pixels: da.Array | None = None,
    mask: da.Array | None = None,
    space: Space | None = None,
    start: npt.NDArray[np.float64] | None = None,
    fixed: npt.NDArray[np.float64] | None = None,
) -> npt.NDArray[np.float64]:
    """Fit to the colours alone; see `fit_palette`.

    Parameters
    ----------
    colors, k, seed, estimator, pixels, mask, space
        As for `fit_palette`.
    start : float64 array of shape (at most k, band), optional
        Centres to start from in place of the best of many starts; those that are missing are
        added by k-means++, where the error is large. With the `fixed` ones first.
    fixed : float64 array of shape (at most k, band), optional
        Different centres that are to be among them as they are: they take colours and do not move.

    Returns
    -------
    float64 array of shape (at most k, band)
        In the units of the bands, whatever the space; the fixed ones first.
    """
    fixed = np.empty((0, colors.colors.shape[1])) if fixed is None else fixed
    if len(colors) <= k:
        own = np.asarray(colors.colors.compute(), np.float64)
        joined = np.concatenate([fixed, own[~_among(own, fixed)]])
        if len(joined) <= k:
            return joined
    if len(fixed) >= k:
        return fixed
    features = project(colors.colors, space)
    if estimator is not None:
        model = _prepared(estimator, k, seed)
        flat = None if pixels is None else project(flatten(pixels, mask), space)
        return _in_bands(_fit_other(model, features, colors.counts, flat), colors, space)
    if colors.exact and colors.colors.shape[1] == 1:
        values, counts = dask.compute(colors.colors[:, 0], colors.counts)
        return _grey_levels(values.astype(np.int64), counts, k, fixed)
    # What KMeans(k, init=start, tol=TOL) does, without the seconds that importing dask_ml takes.
    features, weights = dask.persist(features, colors.counts.astype(np.float64))
    blocks = Blocks(features, weights)
    summary = blocks.summarised()
    held = fixed if space is None else space.project(fixed)
    if start is None:
        start = best_start(features, weights, colors.codes, k, seed, exact=colors.exact, held=held)
    else:
        start = start if space is None else space.project(start)
        start = grown_start(features, weights, colors.codes, start, k=k, seed=seed)
    shift = TOL * summary.compute().variance
    centers, _ = blocks.iterate(start, max_iter=MAX_ITER, max_shift=shift, held=len(held))
    free = _in_bands(centers, colors, space, len(held))
    return np.concatenate([fixed, free])


def _among(rows: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether each row is one of some others."""
    there = set(map(tuple, others.tolist()))
    return np.array([tuple(row) in there for row in rows.tolist()], np.bool_)


def _grey_levels(
    values: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    k: int,
    fixed: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    levels = (
        best_levels_with(values, counts, k, fixed[:, 0].astype(np.int64))
        if len(fixed)
        else best_levels(values, counts, k)
    )
    return levels[:, None].astype(np.float64)


def _in_bands(
    centers: npt.NDArray[np.floating[Any]],
    colors: WeightedColors,
    space: Space | None,
    held: int = 0,
) -> npt.NDArray[np.float64]:
    found = np.asarray(centers, np.float64)
    return found[held:] if space is None else space.in_bands(found, colors, held)


def check_k(k: object) -> int:
    """Return `k` as an int; raise a `ParameterError` unless it is one from 1 to 65,536."""
    if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= ENTRIES:
        msg = f"k is the number of colours, an integer from 1 to {ENTRIES:,}; got {k!r}"
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
    dask array of shape (n, band), float32; float64 of pixels that do not fit into that
    """
    # Reshaping the whole array would join chunks into full rows; the order does not matter here.
    blocks = [pixels.blocks[index] for index in np.ndindex(*pixels.numblocks)]
    flat = da.concatenate([block.reshape(-1, block.shape[2]) for block in blocks])
    if mask is not None:
        masks = [mask.blocks[index] for index in np.ndindex(*mask.numblocks)]
        flat = flat[da.concatenate([block.ravel() for block in masks]) != 0].compute_chunk_sizes()
    samples: da.Array = flat.astype(np.result_type(flat.dtype, np.float32))
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
    model: Any, features: da.Array, counts: da.Array, flat: da.Array | None
) -> npt.NDArray[np.floating[Any]]:
    import dask_ml.cluster
    from sklearn.utils.validation import has_fit_parameter

    if has_fit_parameter(model, "sample_weight"):
        if not isinstance(model, dask_ml.cluster.KMeans):
            features, counts = dask.compute(features, counts)
        model.fit(features, sample_weight=counts)
    elif flat is not None:
        model.fit(flat)
    else:
        msg = f"{type(model).__name__}.fit takes no sample_weight, so it needs pixels= as well"
        raise ParameterError(msg)
    if not hasattr(model, "cluster_centers_"):
        name = type(model).__name__
        msg = f"the estimator {name} finds no cluster_centers_, which are to be the palette"
        raise ParameterError(msg)
    return np.asarray(model.cluster_centers_)
