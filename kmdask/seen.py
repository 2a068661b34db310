"""How large differences of colours look: sums of ΔEOK over pixels, of three bands of 8 bits.

What is summed are whole numbers, so neither chunks nor colours that are counted change a bit of it.
There may be more of them than a float64 holds: they are kept as two, of which both are exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kmdask.encoding import decode_block
from kmdask.fitting.colors import zeros
from kmdask.fitting.space import Oklab, is_rgb
from kmdask.kernels.seen import GRAIN, UNITS, add_seen
from kmdask.kernels.views import frozen

if TYPE_CHECKING:
    import numpy.typing as npt

    from kmdask.palette import Palette

    Floats = npt.NDArray[np.float64]

HALF = 1 << GRAIN // 2
"""Products of less than this with counts do not overflow."""

UNSEEN = np.full(2, np.nan)
"""The sum of images of other bands, or that nobody has looked at."""


def seen_in_colors(
    colors: npt.NDArray[np.floating[Any]],
    entries: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    counts: npt.NDArray[np.int64],
) -> Floats:
    """Add up how large the differences of counted colours from their entries look.

    Parameters
    ----------
    colors : array of shape (n, band)
    entries : array of shape (k, band)
        Of the pixels' type.
    labels : int array of shape (n,)
        The entry of each colour.
    counts : int64 array of shape (n,)

    Returns
    -------
    float64 array of shape (2,)
        Adds up; `seen_mean` takes it.

    Examples
    --------
    >>> black, white = np.zeros((1, 3)), np.full((1, 3), 255, np.uint8)
    >>> sums = seen_in_colors(black, white, np.array([0]), np.array([4]))
    >>> round(seen_mean(sums, 8), 6)
    0.5
    """
    if not is_rgb(entries.shape[1], entries.dtype):
        return UNSEEN
    x, y, z = (Oklab().project(colors) - Oklab().project(entries)[labels]).T
    # As the kernel has it, to the last bit.
    units = (np.sqrt(x * x + y * y + z * z) * UNITS + 0.5).astype(np.int64)
    high, low = np.divmod(units, HALF)
    return _split(int(high @ counts) * HALF + int(low @ counts))


def seen_in_indices(
    pixels: npt.NDArray[Any], indices: npt.NDArray[np.unsignedinteger[Any]], palette: Palette
) -> Floats:
    """Add up how large the differences of pixels from their entries look; see `seen_in_colors`.

    Parameters
    ----------
    pixels : array of shape (y, x, band)
    indices : unsigned array of shape (y, x)
        Those from k on are of invalid pixels.
    palette : Palette
    """
    if not is_rgb(palette.bands, palette.colors.dtype):
        return UNSEEN
    return seen_in_pixels(pixels, decode_block(indices, palette), indices < len(palette))


def seen_in_pixels(
    first: npt.NDArray[Any], second: npt.NDArray[Any], valid: npt.NDArray[Any] | None
) -> Floats:
    """Add up how large the differences of two images look; see `seen_in_colors`.

    Parameters
    ----------
    first, second : array of shape (y, x, band)
    valid : array of shape (y, x), optional
        False where a pixel is left out.
    """
    if not all(is_rgb(each.shape[2], each.dtype) for each in (first, second)):
        return UNSEEN
    mask = np.empty(0, np.uint8) if valid is None or valid.all() else valid.ravel()
    a, b = (frozen(each.reshape(-1, 3)) for each in (first, second))
    with zeros("uint32") as table:
        return _split(int(add_seen(a, b, frozen((mask != 0).view(np.uint8)), table)))


def seen_mean(sums: Floats, pixels: int) -> float | None:
    """Return the mean ΔEOK over pixels, of none 0; None of other images than 8-bit RGB.

    Parameters
    ----------
    sums : float64 array of shape (2,)
        What the functions of this module return, added up.
    pixels : int
        How many there are.
    """
    if np.isnan(sums).any():
        return None
    whole, rest = map(int, sums)
    return ((whole << GRAIN) + rest) / (max(pixels, 1) << GRAIN)


def _split(units: int) -> Floats:
    """Keep a sum as whole differences and what is left."""
    return np.array(divmod(units, 1 << GRAIN), np.float64)
