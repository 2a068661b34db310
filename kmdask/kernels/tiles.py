"""Kernels on blocks of pixels: halving for the pyramid, packing for PNG."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit


@njit(nogil=True, cache=True)
def halve(
    pixels: npt.NDArray[np.integer[Any]],
    mask: npt.NDArray[np.uint8],
    zero: np.signedinteger[Any],
    out: npt.NDArray[np.integer[Any]],
) -> None:
    """Average each 2 x 2 square of whole numbers, leaving out invalid ones.

    Halves are rounded to even, so that many levels on top of each other do not drift brighter. At
    an odd last row or column the mean is over the pixels there are.

    Parameters
    ----------
    pixels : integer array of shape (y, x, band)
    mask : uint8 array of shape (y, x) or (0, 0)
        0 where a pixel is invalid. An empty array means that all are valid.
    zero : int32 or int64
        A zero of the type that sums of eight pixels fit into.
    out : array of shape (band, ceil(y / 2), ceil(x / 2)), of the type of the pixels
        Is filled, band by band. Squares without a valid pixel are 0.
    """
    height, width, bands = pixels.shape
    one = zero + type(zero)(1)
    for band in range(bands):
        for y in range(out.shape[1]):
            top = 2 * y
            bottom = min(top + 1, height - 1)
            if mask.size:
                for x in range(out.shape[2]):
                    right = min(2 * x + 1, width - 1)
                    total = zero
                    n = zero
                    for row in (top, bottom):
                        for column in (2 * x, right):
                            if mask[row, column]:
                                total += type(zero)(pixels[row, column, band])
                                n += one
                    half = total // max(n, one)
                    rest = 2 * (total - half * n)
                    out[band, y, x] = half + (rest > n or (rest == n and half & 1))
            else:
                for x in range(width // 2):
                    total = (
                        type(zero)(pixels[top, 2 * x, band])
                        + type(zero)(pixels[top, 2 * x + 1, band])
                        + type(zero)(pixels[bottom, 2 * x, band])
                        + type(zero)(pixels[bottom, 2 * x + 1, band])
                    )
                    out[band, y, x] = (total + 1 + ((total >> 2) & 1)) >> 2
                if width % 2:
                    total = 2 * (
                        type(zero)(pixels[top, width - 1, band])
                        + type(zero)(pixels[bottom, width - 1, band])
                    )
                    out[band, y, width // 2] = (total + 1 + ((total >> 2) & 1)) >> 2


@njit(nogil=True, cache=True)
def halve_reals(
    pixels: npt.NDArray[np.floating[Any]],
    mask: npt.NDArray[np.uint8],
    out: npt.NDArray[np.floating[Any]],
) -> None:
    """Do what `halve` does for pixels of floating point, which are averaged without rounding."""
    height, width, bands = pixels.shape
    for band in range(bands):
        for y in range(out.shape[1]):
            top = 2 * y
            bottom = min(top + 1, height - 1)
            for x in range(out.shape[2]):
                right = min(2 * x + 1, width - 1)
                total = 0.0
                n = 0
                for row in (top, bottom):
                    for column in (2 * x, right):
                        if mask.size == 0 or mask[row, column]:
                            total += np.float64(pixels[row, column, band])
                            n += 1
                out[band, y, x] = total / n if n else 0.0


@njit(nogil=True, cache=True)
def halve_mask(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The mask of what `halve` returns: 255 where any pixel of the square is valid, else 0."""
    height, width = mask.shape
    out = np.zeros(((height + 1) // 2, (width + 1) // 2), np.uint8)
    for y in range(height):
        for x in range(width):
            if mask[y, x]:
                out[y // 2, x // 2] = 255
    return out


@njit(nogil=True, cache=True)
def pack_rows(indices: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """Pack indices into PNG scanlines of filter type 0, the first pixel in the highest bits.

    Parameters
    ----------
    indices : uint8 array of shape (y, x)
        Each below ``2**bits``.
    bits : int
        1, 2, 4 or 8.

    Returns
    -------
    uint8 array of shape (y, 1 + ceil(x * bits / 8))
        The first byte of a row is its filter type.
    """
    height, width = indices.shape
    per_byte = 8 // bits
    out = np.zeros((height, 1 + (width + per_byte - 1) // per_byte), np.uint8)
    whole = width // per_byte
    for y in range(height):
        # Pixel by pixel of each byte, over all of a row: loops that the compiler vectorises.
        packed = out[y, 1 : 1 + whole]
        for place in range(per_byte):
            shift = np.uint8(8 - bits - place * bits)
            row = indices[y, place : whole * per_byte : per_byte]
            for byte in range(whole):
                packed[byte] |= row[byte] << shift
        for x in range(whole * per_byte, width):
            shift = np.uint8(8 - bits - (x % per_byte) * bits)
            out[y, 1 + x // per_byte] |= indices[y, x] << shift
    return out
