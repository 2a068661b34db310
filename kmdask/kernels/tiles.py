"""Kernels on blocks of pixels: halving for the pyramid, packing for PNG."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kmdask.kernels.views import image_kernel


@image_kernel(1)
def halve(
    pixels: npt.NDArray[np.integer[Any]],
    mask: npt.NDArray[np.uint8],
    zero: np.signedinteger[Any],
    out: npt.NDArray[np.integer[Any]],
    corner: tuple[int, int],
) -> None:
    """Average each 2 x 2 square of whole numbers, leaving out invalid ones.

    Halves are rounded to even, so that many levels on top of each other do not drift brighter. At
    an odd last row or column the mean is over the pixels there are.

    Parameters
    ----------
    pixels : integer array of shape (y, x, band)
    mask : uint8 array of shape (y, x) or (0, 0)
        0 where a pixel is invalid. An empty array means that all are valid.
    zero : int16, int32 or int64
        A zero of the type that sums of eight pixels fit into.
    out : array of shape (band, row, column), of the type of the pixels
        Of it ceil(y / 2) rows and ceil(x / 2) columns are filled, band by band. Squares without a
        valid pixel are 0.
    corner : tuple of int
        The first row and the first column that are filled.
    """
    image = pixels[0]
    height, width, bands = image.shape
    columns = (width + 1) // 2
    one, two = type(zero)(1), type(zero)(2)
    sums = np.full(2 * columns, zero)
    for band in range(bands):
        for y in range((height + 1) // 2):
            half_row = out[band, corner[0] + y, corner[1] : corner[1] + columns]
            top = 2 * y
            bottom = min(top + 1, height - 1)
            if mask.size:
                for x in range(columns):
                    right = min(2 * x + 1, width - 1)
                    total = zero
                    n = zero
                    for row in (top, bottom):
                        for column in (2 * x, right):
                            if mask[row, column]:
                                total += type(zero)(image[row, column, band])
                                n += one
                    half = total // max(n, one)
                    rest = 2 * (total - half * n)
                    half_row[x] = half + (rest > n or (rest == n and half & 1))
            else:
                # Downwards, then across: two loops that the compiler vectorises.
                for x in range(width):
                    sums[x] = type(zero)(image[top, x, band]) + type(zero)(image[bottom, x, band])
                sums[width:] = sums[width - 1]
                for x in range(columns):
                    four = type(zero)(sums[2 * x] + sums[2 * x + 1])
                    up = type(zero)(one + ((four >> two) & one))
                    half_row[x] = type(zero)(four + up) >> two


@image_kernel(1)
def halve_reals(
    pixels: npt.NDArray[np.floating[Any]],
    mask: npt.NDArray[np.uint8],
    out: npt.NDArray[np.floating[Any]],
    corner: tuple[int, int],
) -> None:
    """Do what `halve` does for pixels of floating point, which are averaged without rounding."""
    image = pixels[0]
    height, width, bands = image.shape
    for band in range(bands):
        for y in range((height + 1) // 2):
            top = 2 * y
            bottom = min(top + 1, height - 1)
            for x in range((width + 1) // 2):
                right = min(2 * x + 1, width - 1)
                total = 0.0
                n = 0
                for row in (top, bottom):
                    for column in (2 * x, right):
                        if mask.size == 0 or mask[row, column]:
                            total += np.float64(image[row, column, band])
                            n += 1
                out[band, corner[0] + y, corner[1] + x] = total / n if n else 0.0


@image_kernel(1)
def halve_mask(
    mask: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8], corner: tuple[int, int]
) -> None:
    """Fill in the mask of what `halve` fills in: 255 where any pixel of the square is valid."""
    valid = mask[0]
    height, width = valid.shape
    for y in range((height + 1) // 2):
        top = 2 * y
        bottom = min(top + 1, height - 1)
        for x in range((width + 1) // 2):
            right = min(2 * x + 1, width - 1)
            any_valid = (
                valid[top, 2 * x] | valid[top, right] | valid[bottom, 2 * x] | valid[bottom, right]
            )
            out[corner[0] + y, corner[1] + x] = 255 if any_valid else 0


@image_kernel(1)
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
    image = indices[0]
    height, width = image.shape
    size = (width * bits + 7) // 8
    out = np.empty((height, 1 + size), np.uint8)
    out[:, 0] = 0
    # What is beyond the last pixel is 0, and stays so.
    row = np.zeros(size * (8 // bits), np.uint8)
    for y in range(height):
        for x in range(width):
            row[x] = image[y, x]
        if bits == 8:
            for x in range(size):
                out[y, 1 + x] = row[x]
            continue
        filled = bits
        while filled < 4:
            for x in range(size * (4 // filled)):
                row[x] = (row[2 * x] << filled) | row[2 * x + 1]
            filled *= 2
        # By a constant: most palettes have four bits, and the compiler vectorises this.
        for x in range(size):
            out[y, 1 + x] = (row[2 * x] << 4) | row[2 * x + 1]
    return out
