"""Kernels that compare pixels: with the palette entries they were given, with other pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kmdask.kernels.views import image_kernel


@image_kernel(2)
def add_errors(
    pixels: npt.NDArray[np.generic],
    indices: npt.NDArray[np.unsignedinteger[Any]],
    entries: npt.NDArray[np.float64],
    squared: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    largest: npt.NDArray[np.float64],
) -> None:
    """Add up squared errors, band by band, keep the largest, count the pixels of each entry.

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
    largest : float64 array of shape (band,)
        The largest absolute errors; are raised.
    """
    image, labels = pixels[0], indices[0]
    height, width, bands = image.shape
    k = entries.shape[0]
    for y in range(height):
        for band in range(bands):
            total = 0.0
            most = 0.0
            for x in range(width):
                entry = np.int64(labels[y, x])
                if entry < k:
                    gap = np.float64(image[y, x, band]) - entries[entry, band]
                    square = gap * gap
                    total += square
                    most = square if square > most else most
            squared[band] += total
            most = np.sqrt(most)
            largest[band] = most if most > largest[band] else largest[band]
        for x in range(width):
            entry = np.int64(labels[y, x])
            if entry < k:
                counts[entry] += 1


@image_kernel(2)
def add_differences(
    first: npt.NDArray[np.generic],
    second: npt.NDArray[np.generic],
    valid: npt.NDArray[np.uint8],
    squared: npt.NDArray[np.float64],
    largest: npt.NDArray[np.float64],
) -> None:
    """Add up the squared differences of two images, band by band, and keep the largest.

    Parameters
    ----------
    first, second : array of shape (y, x, band), of any real data type
    valid : uint8 array of shape (y, x) or (0, 0)
        0 where a pixel is left out. An empty array means that all are valid.
    squared : float64 array of shape (band,)
        Is added to.
    largest : float64 array of shape (band,)
        The largest absolute differences; are raised.
    """
    a, b = first[0], second[0]
    height, width, bands = a.shape
    for y in range(height):
        for band in range(bands):
            total = 0.0
            most = 0.0
            for x in range(width):
                if valid.size == 0 or valid[y, x]:
                    gap = np.float64(a[y, x, band]) - np.float64(b[y, x, band])
                    square = gap * gap
                    total += square
                    most = square if square > most else most
            squared[band] += total
            most = np.sqrt(most)
            largest[band] = most if most > largest[band] else largest[band]
