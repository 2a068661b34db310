"""How the colours of an image are to be taken: counted or gathered in cells, in which space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import dask
import dask.array as da
import numpy as np

from kmdask.errors import EmptyImageError, ParameterError
from kmdask.fitting.cells import AXES, CellCounter, Grid, Units
from kmdask.fitting.colors import ColorCounter, Counter, WeightedColors
from kmdask.fitting.look import Look, first_look
from kmdask.fitting.space import LinearSpace, Oklab, Space, product, project
from kmdask.pixels import checked, countable

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from kmdask.fitting.look import Window

Scale: TypeAlias = "Literal['std'] | Sequence[float] | None"
SpaceName: TypeAlias = "Literal['rgb', 'oklab']"

SPACES = ("rgb", "oklab")

DIGITS = 9
"""Digits of principal axes that are kept: the last ones depend on the threads of the library."""


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
        Where distances are going to be measured: cells are long where that does no harm. Of no
        effect where colours are counted one by one.

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
           [255.,   0.,   0.]])
    >>> counted.counts.compute()
    array([1, 2])
    """
    pixels, mask = checked(pixels, mask)
    if space is not None:
        space.check(int(pixels.shape[2]), pixels.dtype)
    counter: Counter = ColorCounter(int(pixels.shape[2]))
    if not countable(pixels):
        height, width = map(int, pixels.shape[:2])
        counter = _counter(pixels, first_look(pixels, mask), space, height * width)
    (table,) = dask.persist(counter.table(pixels, mask)[0])
    return counter.colors(table)


def survey(
    pixels: da.Array,
    mask: da.Array | None = None,
    *,
    scale: Scale = None,
    pca: int | None = None,
    space: SpaceName = "rgb",
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
    space : {"rgb", "oklab"}, default "rgb"
        Whether distances are those of the bands, or of three bands of 8 bits those in `Oklab`.
    window : callable, optional
        See `kmdask.fitting.look.first_look`.

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
    return survey_images([(pixels, mask, window)], scale=scale, pca=pca, space=space)


def survey_images(
    images: Sequence[tuple[da.Array, da.Array | None, Window | None]],
    *,
    scale: Scale = None,
    pca: int | None = None,
    space: SpaceName = "rgb",
) -> Survey:
    """Do so for several images of the same bands at once; see `survey`."""
    images = [(*checked(pixels, mask), window) for pixels, mask, window in images]
    first = images[0][0]
    bands = int(first.shape[2])
    check_scale(scale, bands)
    check_pca(pca, bands)
    check_space(space, scale, pca)
    if space == "oklab":
        perceived = Oklab()
        perceived.check(bands, first.dtype)
        return Survey(ColorCounter(bands), perceived)
    if countable(first) and pca is None and (scale is None or not isinstance(scale, str)):
        return Survey(ColorCounter(bands), None if scale is None else LinearSpace(tuple(scale)))
    look = _look(images)
    linear = _space(look, scale, pca)
    pixels = sum(int(image[0].shape[0] * image[0].shape[1]) for image in images)
    return Survey(_counter(first, look, linear, pixels), linear)


def _look(images: Sequence[tuple[da.Array, da.Array | None, Window | None]]) -> Look:
    """Look at every image; those without a valid pixel show nothing, unless all are such."""
    looks = []
    for number, image in enumerate(images, start=1):
        try:
            looks.append(first_look(*image))
        except EmptyImageError:
            if number == len(images) and not looks:
                raise
    return Look(
        np.concatenate([look.values for look in looks]),
        da.concatenate([look.rows for look in looks]),
    )


def check_scale(scale: Any, bands: int | None = None) -> None:
    """Raise a `ParameterError` unless a scale is None, "std" or positive numbers, one per band."""
    if scale is None or (isinstance(scale, str) and scale == "std"):
        return
    listed = isinstance(scale, list | tuple | np.ndarray)
    numbers = listed and all(
        isinstance(factor, int | float | np.integer | np.floating) and 0 < factor < np.inf
        for factor in scale
    )
    if not numbers or (bands is not None and len(scale) != bands):
        count = "one for each band" if bands is None else f"one for each of the {bands} bands"
        msg = f"scale is 'std' or positive numbers, {count}; got {scale!r}"
        raise ParameterError(msg)


def check_pca(pca: Any, bands: int | None = None) -> None:
    """Raise a `ParameterError` unless pca is None or a number of components there can be."""
    if pca is None:
        return
    whole = isinstance(pca, int | np.integer) and not isinstance(pca, bool) and pca >= 1
    if not whole or (bands is not None and pca > bands):
        most = "the number of bands" if bands is None else f"the {bands} bands there are"
        raise ParameterError(f"pca is a number of components from 1 to {most}; got {pca!r}")


def check_space(space: Any, scale: Any = None, pca: Any = None) -> None:
    """Raise a `ParameterError` unless a space has one of the names, and is the only one given."""
    if not isinstance(space, str) or space not in SPACES:
        raise ParameterError(f"space is 'rgb', the bands as they are, or 'oklab'; got {space!r}")
    if space != "rgb" and not (scale is None and pca is None):
        given = f"pca={pca!r}" if scale is None else f"scale={scale!r}"
        raise ParameterError(
            f"space is {space!r}, in which distances are what they are, and {given} would change "
            "them; leave one of the two out"
        )


def _space(look: Look, scale: Scale, pca: int | None) -> LinearSpace | None:
    if scale is None and pca is None:
        return None
    factors = np.ones(look.values.shape[1])
    if isinstance(scale, str):
        deviation = look.values.std(axis=0)
        factors = 1 / np.where(deviation > 0, deviation, 1.0)
    elif scale is not None:
        factors = np.array(scale, np.float64)
    plain = LinearSpace(tuple(factors.tolist()))
    if pca is None:
        return plain
    components = principal_axes(look, plain, pca)
    return LinearSpace(plain.scale, tuple(map(tuple, components.tolist())))


def principal_axes(look: Look, space: Space | None, n: int) -> npt.NDArray[np.float64]:
    """Fit principal axes to the features of a sample, across workers; the longest first.

    Returns
    -------
    float64 array of shape (at most n, feature)
    """
    rows = project(look.rows, space)
    samples, features = rows.shape
    if samples <= features or not np.ptp(look.values, axis=0).any():
        return np.eye(features)[:n]
    # What dask_ml.decomposition.PCA does, without the seconds that importing it takes.
    _, _, axes = da.linalg.svd(rows - rows.mean(axis=0))
    rounded: npt.NDArray[np.float64] = np.round(axes[:n].compute(), DIGITS)
    return rounded


def _counter(first: da.Array, look: Look, space: Space | None, pixels: int) -> Counter:
    """Choose how to take the colours of images like the first, of so many pixels in all."""
    bands = int(first.shape[2])
    if countable(first):
        return ColorCounter(bands)
    matrix = space.matrix if isinstance(space, LinearSpace) else np.eye(bands)
    axes = product(matrix, principal_axes(look, space, AXES).T)
    units = Units.of(look.values, first.dtype, pixels)
    return CellCounter(Grid.of(look.values, axes, units), first.dtype)
