"""Rate-aware encoding: where entries are almost as near, the one that neighbours have.

Noise makes pixels between two entries take now the one, now the other, and each change costs bits.
A little error buys many of them back.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from kmdask.chunks import TILE
from kmdask.errors import ParameterError
from kmdask.kernels.smooth import smooth_rows

if TYPE_CHECKING:
    import numpy.typing as npt

    from kmdask.fitting.space import Space
    from kmdask.palette import Palette

STRIP = 64
"""Rows of a block whose features are there at once."""


def check_smooth(smooth: object) -> float:
    """Return how much smoothing is asked for.

    Raises
    ------
    ParameterError
        If it is no finite number, or negative.
    """
    if isinstance(smooth, bool) or not isinstance(smooth, int | float | np.number):
        value = math.nan
    else:
        value = float(smooth)
    if not 0 <= value < math.inf:
        msg = (
            "smooth is how much the squared distance of a pixel may grow, in units of that between "
            "neighbouring entries: a number from 0 (every pixel takes its nearest entry), mostly "
            f"below 1; got {smooth!r}"
        )
        raise ParameterError(msg)
    return value


def features_of(values: npt.NDArray[Any], space: Space | None) -> npt.NDArray[Any]:
    """Return values of shape (..., band) where distances are measured."""
    if space is None:
        return values
    bands = values.shape[-1]
    features: npt.NDArray[Any] = space.project(np.ascontiguousarray(values).reshape(-1, bands))
    return features.reshape(*values.shape[:-1], -1)


def spacing(palette: Palette, space: Space | None = None) -> float:
    """Mean squared distance between an entry of a palette and the nearest of the others.

    Parameters
    ----------
    palette : Palette
    space : Space, optional
        Where distances are measured. By default between the bands as they are.

    Returns
    -------
    float
        0 of a single entry.

    Examples
    --------
    >>> from kmdask import Palette
    >>> spacing(Palette(np.array([[0], [10], [16]], np.uint8)))
    57.333...
    """
    from scipy.spatial import cKDTree

    entries = features_of(palette.colors.astype(np.float64), space)
    if len(entries) == 1:
        return 0.0
    _, nearest = cKDTree(entries).query(entries, k=2)
    # Where two have the same place, either may be called the nearest of all; the other is nearest.
    other = np.where(nearest[:, 0] == np.arange(len(entries)), nearest[:, 1], nearest[:, 0])
    return float(np.square(entries - entries[other]).sum(axis=1).mean())


def smooth_block(
    block: npt.NDArray[Any],
    indices: npt.NDArray[np.unsignedinteger[Any]],
    palette: Palette,
    space: Space | None,
    limit: float,
) -> None:
    """Smooth the indices of a block in memory, in squares of 512 pixels from its corner.

    Parameters
    ----------
    block : array of shape (y, x, band)
    indices : unsigned array of shape (y, x)
        Of the nearest entries. They are replaced.
    palette : Palette
    space : Space, optional
        Where distances are measured.
    limit : float
        By how much the squared distance of a pixel may grow at most.
    """
    entries = features_of(palette.colors.astype(np.float64), space)
    added = palette.penalties
    if added is not None:
        # As the search has it: their roots are a feature more, of which pixels have 0.
        entries = np.column_stack([entries, np.sqrt(added)])
    height, width = indices.shape
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            square = slice(top, top + TILE), slice(left, left + TILE)
            # A copy, of the same layout in blocks of any width; see `kmdask.kernels.views`.
            labels = indices[square].copy()
            for first in range(0, labels.shape[0], STRIP):
                values = features_of(block[square][first : first + STRIP], space)
                if added is not None:
                    values = np.pad(values, ((0, 0), (0, 0), (0, 1)))
                smooth_rows(values, entries, limit, first, labels)
            indices[square] = labels
