"""What the search for nearest centres works on: the centres prepared, and scratch space."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from kmdask.kernels.compiled import kernel

__all__ = ["PATCH", "Floats", "Indices", "Room", "Search", "make_room"]

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.int64]

PATCH = 64
"""Pixels that share one bounding box: more cost fewer tests, fewer prune harder."""


class Search(NamedTuple):
    """What is computed once of the centres, in memory of about three times theirs.

    Attributes
    ----------
    centers : ndarray of shape (k, f), float64
        The centres, in their own order.
    columns : ndarray of shape (g, f, m), float64
        The centres in g groups of m, transposed; infinite where the last group has fewer.
    order : ndarray of shape (g, m), int64
        The index of each of them; k where the last group has fewer.
    lows, highs : ndarrays of shape (f, g), float64
        The bounding boxes of the groups.
    judges : ndarray of shape (f, g), float64
        One centre of each group.
    """

    centers: Floats
    columns: Floats
    order: Indices
    lows: Floats
    highs: Floats
    judges: Floats


class Room(NamedTuple):
    """Scratch space of one call: f features, n = PATCH pixels, c centres or groups of them."""

    run: Floats  # (f, n)
    where: Indices  # (n,), position in the patch of each valid pixel
    low: Floats  # (f,)
    high: Floats  # (f,)
    near: Floats  # (c,)
    far: Floats  # (c,)
    kept: Indices  # (c + 1,)
    lows: Floats  # (f, g), boxes of the groups kept
    highs: Floats  # (f, g)
    point: Floats  # (f,)
    distances: Floats  # (max(n, m),)
    squared: Floats  # (n,)
    labels: Indices  # (n,)


@kernel
def make_room(prepared: Search) -> Room:
    """Make scratch space for a search."""
    groups, f, size = prepared.columns.shape
    c = max(groups, size)
    return Room(
        np.empty((f, PATCH)),
        np.empty(PATCH, np.int64),
        np.empty(f),
        np.empty(f),
        np.empty(c),
        np.empty(c),
        np.empty(c + 1, np.int64),
        np.empty((f, groups)),
        np.empty((f, groups)),
        np.empty(f),
        np.empty(max(PATCH, size)),
        np.empty(PATCH),
        np.empty(PATCH, np.int64),
    )
