"""Kernel that compares pixels with the palette entries they were given."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit


@njit(nogil=True, cache=True)
def add_errors(
    pixels: npt.NDArray[np.generic],
    indices: npt.NDArray[np.unsignedinteger[Any]],
    entries: npt.NDArray[np.float64],
    squared: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
) -> None:
    """Add up squared errors, band by band, and count the pixels of each entry.

    Parameters
    ----------
    pixels : array of shape (y, x, band), of any real data type
    indices : unsigned array of shape (y, x)
        Those from k on are of invalid pixels, which are left out.
    entries : float64 array of shape (k, band)
    squared : float64 array of shape (band,)
        Is added to.
    counts : int64 array of shape (k,)
        Is added to.
    """
    height, width, bands = pixels.shape
    k = entries.shape[0]
    for y in range(height):
        for band in range(bands):
            total = 0.0
            for x in range(width):
                entry = np.int64(indices[y, x])
                if entry < k:
                    gap = np.float64(pixels[y, x, band]) - entries[entry, band]
                    total += gap * gap
            squared[band] += total
        for x in range(width):
            entry = np.int64(indices[y, x])
            if entry < k:
                counts[entry] += 1
