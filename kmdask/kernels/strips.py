"""Blocks of pixels a few rows at a time, to be converted to one data type.

A kernel is compiled for each data type that it is given, which takes seconds.
Where most of its work is not with the values as they are, or a type is rare, it is given strips
that are converted instead, small enough for a cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = ["COMMON", "strips"]

COMMON = tuple(map(np.dtype, ("uint8", "uint16", "float32")))
"""Types of nearly all images: kernels that have much to do with values are compiled for these."""

VALUES = 1 << 17
"""Values of a strip, which are 1 MB of float64."""

ROWS = 8
"""Rows of a strip are a multiple of this."""


def strips(pixels: npt.NDArray[Any], *, overlap: int = 0) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Go through pixels of shape (y, x, band): views of a few rows, with the number of the first.

    Each is followed by one that begins `overlap` rows before its end.
    """
    rows = max(VALUES // max(pixels[:1].size, 1) // ROWS, 1) * ROWS
    for y in range(0, max(pixels.shape[0] - overlap, 0), rows):
        yield y, pixels[y : y + rows + overlap]
