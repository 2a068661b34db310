"""How the colours of an image are to be taken: counted or gathered in cells, in which space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import dask
import dask.array as da
import numpy as np

from kmdask.cells import AXES, CellCounter, Grid, Units
from kmdask.colors import ColorCounter, Counter, WeightedColors
from kmdask.errors import ParameterError
from kmdask.look import first_look
from kmdask.pixels import checked, countable
from kmdask.space import Space, product

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from kmdask.look import Window

Scale: TypeAlias = "Literal['std'] | Sequence[float] | None"

DIGITS = 9
"""Digits of principal axes that are kept: the last ones depend on the threads of the library."""

SAMPLE_ROWS = 1 << 15
"""Pixels of the first look in a block, when axes are fitted to them across workers."""


@dataclass(frozen=True)
class Survey:
    """What a first look at an image decides."""

    counter: Counter
    """Turns pixels into weighted colours."""

    space: Space | None
    """Where distances are measured; None for the bands as they are."""

    @property
    def units(self) -> Units | None:
        """What sums of pixels are made in, where their colours are too many to be counted."""
        return self.counter.grid.units if isinstance(self.counter, CellCounter) else None


def count_colors(
    pixels: da.Array, mask: da.Array | None = None, *, space: Space | None = None
) -> WeightedColors:
    """Count the colours of an image.

    Of up to three bands of 8 bits every different colour, in one pass over the pixels. Of more or
    deeper bands the occupied cells of a grid, with exact counts and sums, after a first look at a
    sample. On return they are counted, and the result stays where Dask's scheduler keeps it.

    Parameters
    ----------
    pixels : dask array of shape (y, x, band), of integers or floating-point numbers
    mask : dask array of shape (y, x), optional
        0 where a pixel is invalid and not counted. By default every pixel is valid, but for those
        that are not finite.
    space : Space, optional
        Where distances are going to be measured: cells are long where that does no harm.

    Returns
    -------
    WeightedColors

    Raises
    ------
    ParameterError
        If the arrays are not as said.
    EmptyImageError
        If no pixel is valid.

    Examples
    --------
    >>> import dask.array as da, numpy as np
    >>> pixels = da.from_array(np.array([[[255, 0, 0], [0, 0, 9], [255, 0, 0]]], np.uint8))
    >>> counted = count_colors(pixels)
    >>> counted.colors.compute()
    array([[  0.,   0.,   9.],
           [255.,   0.,   0.]], dtype=float32)
    >>> counted.counts.compute()
    array([1, 2])
    """
    pixels, mask = checked(pixels, mask)
    counter = _counter(pixels, mask, space, None)
    (table,) = dask.persist(counter.table(pixels, mask)[0])
    return counter.colors(table)


def survey(
    pixels: da.Array,
    mask: da.Array | None = None,
    *,
    scale: Scale = None,
    pca: int | None = None,
    window: Window | None = None,
) -> Survey:
    """Decide how the colours of an image are taken, and where distances are measured.

    Parameters
    ----------
    pixels : dask array of shape (y, x, band)
    mask : dask array of shape (y, x), optional
        0 where a pixel is invalid.
    scale : "std" or sequence of float, optional
        What bands are weighted by: a factor each, or the reciprocal of each one's standard
        deviation.
    pca : int, optional
        Number of principal components, of the weighted bands, to measure distances between.
    window : callable, optional
        See `kmdask.look.first_look`.

    Returns
    -------
    Survey

    Raises
    ------
    ParameterError
        If a parameter does not fit the bands.
    EmptyImageError
        If no pixel is valid.
    """
    pixels, mask = checked(pixels, mask)
    bands = int(pixels.shape[2])
    check_scale(scale, bands)
    check_pca(pca, bands)
    if countable(pixels) and pca is None and (scale is None or not isinstance(scale, str)):
        return Survey(ColorCounter(bands), None if scale is None else Space(tuple(scale)))
    sample = first_look(pixels, mask, window)
    space = _space(sample, scale, pca)
    return Survey(_counter(pixels, mask, space, sample), space)


def check_scale(scale: object, bands: int | None = None) -> None:
    """Raise a `ParameterError` unless a scale is None, "std" or positive numbers, one per band."""
    if scale is None or (isinstance(scale, str) and scale == "std"):
        return
    listed = isinstance(scale, list | tuple | np.ndarray)
    numbers = listed and all(
        isinstance(factor, int | float | np.integer | np.floating) and 0 < factor < np.inf
        for factor in scale  # type: ignore[attr-defined]
    )
    if not numbers or (bands is not None and len(scale) != bands):  # type: ignore[arg-type]
        count = "one for each band" if bands is None else f"one for each of the {bands} bands"
        msg = f"scale is 'std' or positive numbers, {count}; got {scale!r}"
        raise ParameterError(msg)


def check_pca(pca: object, bands: int | None = None) -> None:
    """Raise a `ParameterError` unless pca is None or a number of components there can be."""
    if pca is None:
        return
    whole = isinstance(pca, int | np.integer) and not isinstance(pca, bool) and pca >= 1
    if not whole or (bands is not None and pca > bands):  # type: ignore[operator]
        most = "the number of bands" if bands is None else f"the {bands} bands there are"
        raise ParameterError(f"pca is a number of components from 1 to {most}; got {pca!r}")


def _space(sample: npt.NDArray[np.float64], scale: Scale, pca: int | None) -> Space | None:
    if scale is None and pca is None:
        return None
    factors = np.ones(sample.shape[1])
    if isinstance(scale, str):
        deviation = sample.std(axis=0)
        factors = 1 / np.where(deviation > 0, deviation, 1.0)
    elif scale is not None:
        factors = np.array(scale, np.float64)
    plain = Space(tuple(factors.tolist()))
    if pca is None:
        return plain
    components = principal_axes(plain.project(sample), pca)
    return Space(plain.scale, tuple(map(tuple, components.tolist())))


def principal_axes(sample: npt.NDArray[np.float64], n: int) -> npt.NDArray[np.float64]:
    """Fit principal axes to a sample of shape (n, feature), across workers; the longest first."""
    from dask_ml.decomposition import PCA

    if len(sample) <= sample.shape[1] or not np.ptp(sample, axis=0).any():
        return np.eye(sample.shape[1])[:n]
    n = min(n, sample.shape[1])
    rows = da.from_array(sample, chunks=(max(SAMPLE_ROWS, sample.shape[1]), -1))
    model = PCA(n_components=n, svd_solver="full").fit(rows)
    axes: npt.NDArray[np.float64] = np.round(model.components_, DIGITS)
    return axes


def _counter(
    pixels: da.Array,
    mask: da.Array | None,
    space: Space | None,
    sample: npt.NDArray[np.float64] | None,
) -> Counter:
    if countable(pixels):
        return ColorCounter(int(pixels.shape[2]))
    if sample is None:
        sample = first_look(pixels, mask)
    height, width, bands = map(int, pixels.shape)
    matrix = np.eye(bands) if space is None else space.matrix
    features = sample if space is None else space.project(sample)
    axes = product(matrix, principal_axes(features, AXES).T)
    units = Units.of(sample, pixels.dtype, height * width)
    return CellCounter(Grid.of(sample, axes, units), pixels.dtype)
