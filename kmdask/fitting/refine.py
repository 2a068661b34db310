"""Lloyd's algorithm over all pixels of an image, from centres that were fitted to cells of them.

The mean of a cell stands for all of its pixels, which is nearly right; a step or two over the
pixels themselves takes most of what is left. Sums are whole numbers, so that neither chunks nor
workers change a bit of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import dask
import numpy as np

from kmdask.errors import ParameterError
from kmdask.fitting.cells import Units
from kmdask.fitting.look import first_look
from kmdask.fitting.search import prepared
from kmdask.fitting.space import LinearSpace
from kmdask.graphs import over_chunks
from kmdask.kernels.nearest import moments_of_pixels
from kmdask.pixels import checked, valid_or_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import dask.array as da
    import numpy.typing as npt

    from kmdask.fitting.space import Space

Refine: TypeAlias = "int | Literal['converge']"

MOST_STEPS = 100
"""Steps until convergence at most."""

TOL = 1e-4
"""Share of the mean squared error that a step has to gain, or it is the last one."""


@dataclass(frozen=True)
class Moments:
    """What a step has to know of the pixels; moments add up."""

    sums: npt.NDArray[np.int64]
    """Sum of the pixels nearest to each centre, in units, of shape (k, band)."""

    counts: npt.NDArray[np.int64]
    """Number of these pixels, of shape (k,)."""

    inertia: float
    """Sum of their squared distances, with what is added to them."""


def refine_centers(
    pixels: da.Array,
    mask: da.Array | None,
    centers: npt.NDArray[np.float64],
    *,
    space: Space | None = None,
    steps: Refine = 2,
    units: Units | None = None,
    run: Callable[..., tuple[Any, ...]] = dask.persist,
) -> npt.NDArray[np.float64]:
    """Take steps of Lloyd's algorithm over all valid pixels.

    Each is one pass: every pixel goes to its nearest centre, and every centre to the mean of its
    pixels. One without pixels stays where it is.

    Parameters
    ----------
    pixels : dask array of shape (y, x, band)
    mask : dask array of shape (y, x), optional
        0 where a pixel is invalid.
    centers : float64 array of shape (k, band)
    space : LinearSpace, optional
        Where distances are measured. (In others the mean of pixels is not that of their features;
        they are for pixels whose colours are counted, which need no further steps.)
    steps : int or "converge", default 2
        How many; "converge" goes on until a step gains less than a ten-thousandth of the error.
    units : Units, optional
        What sums are made in; by default those of a first look.
    run : callable, default `dask.persist`
        Computes lazy collections and returns them persisted.

    Returns
    -------
    float64 array of shape (k, band)

    Raises
    ------
    ParameterError
        If the arrays are not as said, or the space is no linear one of their bands.

    References
    ----------
    S. Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory
    28 (1982) 129-137.
    """
    pixels, mask = checked(pixels, mask)
    check_linear(space)
    if units is None:
        height, width = map(int, pixels.shape[:2])
        units = Units.of(first_look(pixels, mask).values, pixels.dtype, height * width)
    images = [(pixels, mask)]
    return refine_images(images, centers, space=space, steps=steps, units=units, run=run)


def refine_images(
    images: Sequence[tuple[da.Array, da.Array | None]],
    centers: npt.NDArray[np.float64],
    *,
    space: Space | None,
    steps: Refine,
    units: Units,
    run: Callable[..., tuple[Any, ...]],
    held: int = 0,
    penalties: npt.NDArray[np.float64] | None = None,
) -> npt.NDArray[np.float64]:
    """Do so over the pixels of several images, each with its mask; see `refine_centers`.

    The first `held` centres take pixels but do not move. With penalties a pixel goes to the centre
    of least squared distance with what is added to that; they stay what they are.
    """
    images = [checked(*image) for image in images]
    linear = check_linear(space)
    least = np.inf
    for _ in range(MOST_STEPS if steps == "converge" else steps):
        passes = [
            over_chunks("refine", _step, _merge, image, centers, penalties, (linear, units))
            for image in images
        ]
        parts = run(*(part for one in passes for part in one))[::2]
        moments = _merge(list(dask.compute(*parts)))
        found = moments.counts > 0
        found[:held] = False
        centers = centers.copy()
        centers[found] = units.values(moments.sums[found], moments.counts[found])
        if steps == "converge" and moments.inertia >= (1 - TOL) * least:
            break
        least = moments.inertia
    return centers


def check_refine(steps: object) -> Refine:
    """Return how many steps; raise a `ParameterError` unless they are a number or "converge"."""
    if steps == "converge":
        return "converge"
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 0:
        msg = f"refine is a number of passes, 0 or more, or 'converge'; got {steps!r}"
        raise ParameterError(msg)
    return int(steps)


def check_linear(space: Space | None) -> LinearSpace | None:
    """Return a space in which means are those of the bands; raise a `ParameterError` for others."""
    if space is None or isinstance(space, LinearSpace):
        return space
    msg = (
        f"steps over all pixels are for the bands as they are or a LinearSpace; got {space!r}, for "
        "which colours are counted and fit_palette alone finds the best centres"
    )
    raise ParameterError(msg)


def _step(
    pixels: npt.NDArray[Any],
    mask: npt.NDArray[np.uint8] | None,
    centers: npt.NDArray[np.float64],
    penalties: npt.NDArray[np.float64] | None,
    terms: tuple[LinearSpace | None, Units],
) -> Moments:
    space, units = terms
    sums, counts = np.zeros(centers.shape, np.int64), np.zeros(len(centers), np.int64)
    inertia = moments_of_pixels(
        pixels,
        valid_or_all(mask),
        *prepared(centers, space, penalties),
        units.offset,
        units.quantum,
        units.limit,
        sums,
        counts,
    )
    return Moments(sums, counts, inertia)


def _merge(parts: list[Moments]) -> Moments:
    return Moments(
        sums=np.sum([part.sums for part in parts], axis=0),
        counts=np.sum([part.counts for part in parts], axis=0),
        inertia=sum(part.inertia for part in parts),
    )
