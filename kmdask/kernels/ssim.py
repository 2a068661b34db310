"""Kernel that compares two images window by window: structural similarity.

Windows are summed down the columns first, then these sums along the row. A similarity is rounded to
a multiple of ``2**-GRAIN``: sums of such are exact, in whatever order. Loops take few arrays each:
more than a few keep them from being vectorised.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kmdask.kernels.compiled import kernel
from kmdask.kernels.views import image_kernel

Floats: TypeAlias = npt.NDArray[np.float64]
Value: TypeAlias = np.number[Any]
Values: TypeAlias = npt.NDArray[Value]
"""Of float64; of 8-bit images rows of int16, and sums of int32."""
Mask: TypeAlias = npt.NDArray[np.uint8]
"""What is valid; of shape (0, 0) if all is."""

SIDE = 7
"""Rows and columns of a window."""

WINDOW = SIDE * SIDE
"""Pixels of a window."""

GRAIN = 36
"""Bits after the point of a similarity."""

ROUNDING = 1.5 * 2.0 ** (52 - GRAIN)
"""Added and taken away again, it rounds a small number to so many bits."""

COLUMNS = 2048
"""Columns that are worked on at once: what is kept of them stays in the cache."""

SUMS = 5
"""What is summed over windows: both images, their squares together, their product, valid pixels."""


@image_kernel(2)
def add_similarities(
    first: npt.NDArray[np.generic],
    second: npt.NDArray[np.generic],
    entries: npt.NDArray[np.generic],
    valid: Mask,
    offset: np.int16 | np.float64,
    zero: Value,
    c1: float,
    c2: float,
    totals: npt.NDArray[np.int64],
    *,
    exact: bool,
) -> int:
    """Add up the similarities of all windows that lie wholly within two images, band by band.

    Parameters
    ----------
    first : array of shape (y, x, band), of any real data type
        At most 2**17 rows.
    second : array of shape (y, x, band), or (y, x, 1) if there are entries
        Of any real data type; the indices of the entries if there are any.
    entries : array of shape (band, k), of the type of the offset, or (0, 0)
        The colours of the indices, those of invalid pixels among them, less the offset.
    valid : uint8 array of shape (y, x) or (0, 0)
        0 where a pixel is invalid: windows with such are left out. An empty array means that all
        are valid.
    offset : int16 or float64
        What variances are taken about, a value amid those of the images, lest small ones be lost
        in large values. Of a type that holds the values less the offset; int16 is for 8 bits.
    zero : int32 or float64
        A zero of the type that sums over windows, and these times ``WINDOW``, are made in.
    c1, c2 : float
        The constants of the definition, times ``WINDOW**2`` and ``WINDOW * (WINDOW - 1)``.
    totals : int64 array of shape (band,)
        Is added to, in units of ``2**-GRAIN``.
    exact : bool
        Whether the type of `zero` holds sums of squares exactly. Then they are carried on from
        row to row; otherwise added up afresh, so that no error of rounding goes on.

    Returns
    -------
    int
        The number of windows.
    """
    image, other = first[0], second[0]
    height, width, bands = image.shape
    masked = valid.size > 0
    # Of both images and of what is valid, and one row more, which is the next to be left.
    rows = np.full((3, SIDE + 1, COLUMNS), offset)
    columns = np.full((SUMS, COLUMNS), zero)
    similar = np.empty(COLUMNS)
    shift = WINDOW * np.float64(offset)
    windows = 0
    for left in range(0, width - SIDE + 1, COLUMNS - SIDE + 1):
        n = min(COLUMNS, width - left)
        for band in range(bands):
            rows[:], columns[:], similar[:] = 0, 0, 0
            for y in range(height):
                at = y % (SIDE + 1)
                a, b, seen = rows[0, at], rows[1, at], rows[2, at]
                # Views of one axis: with three, addresses are worked out for every pixel.
                values = image[y, left : left + n, band]
                for x in range(n):
                    a[x] = type(offset)(values[x]) - offset
                if entries.size:
                    colors, indices = entries[band], other[y, left : left + n, 0]
                    for x in range(n):
                        b[x] = colors[np.int64(indices[x])]
                else:
                    others = other[y, left : left + n, band]
                    for x in range(n):
                        b[x] = type(offset)(others[x]) - offset
                if masked:
                    there = valid[y, left : left + n]
                    for x in range(n):
                        # Not times 0: what is invalid may be no number.
                        seen[x] = type(offset)(there[x] != 0)
                        a[x] = a[x] if there[x] else 0
                        b[x] = b[x] if there[x] else 0
                if exact:
                    _carry_columns(rows, columns, y, n, valid)
                else:
                    _sum_columns(rows, columns, y, n, valid)
                if y >= SIDE - 1:
                    wide = n - SIDE + 1
                    found = _add_windows(columns, similar, wide, valid, shift, c1, c2)
                    windows += found if band == 0 else 0
            totals[band] += _total(similar)
    return windows


@kernel
def _total(similar: Floats) -> np.int64:
    total = np.int64(0)
    for x in range(similar.size):
        total += np.int64(similar[x] * 2.0**GRAIN)
    return total


@kernel
def _carry_columns(rows: Values, columns: Values, y: int, n: int, valid: Mask) -> None:
    """Bring sums down the columns to the next row: of the values, squares, products, and `seen`."""
    at, left = y % (SIDE + 1), (y + 1) % (SIDE + 1)
    a, b, seen = rows[0, at], rows[1, at], rows[2, at]
    a0, b0, seen0 = rows[0, left], rows[1, left], rows[2, left]
    total = columns[0]
    for x in range(n):
        total[x] += a[x] - a0[x]
    total = columns[1]
    for x in range(n):
        total[x] += b[x] - b0[x]
    total = columns[2]
    for x in range(n):
        total[x] += (a[x] * a[x] + b[x] * b[x]) - (a0[x] * a0[x] + b0[x] * b0[x])
    total = columns[3]
    for x in range(n):
        total[x] += a[x] * b[x] - a0[x] * b0[x]
    if valid.size:
        total = columns[4]
        for x in range(n):
            total[x] += seen[x] - seen0[x]


@kernel
def _sum_columns(rows: Values, columns: Values, y: int, n: int, valid: Mask) -> None:
    """Add up the last rows anew."""
    columns[:] = 0
    # The oldest first, wherever that is: all windows are summed in the same order.
    for age in range(2, SIDE + 2):
        _add_row(rows, (y + age) % (SIDE + 1), columns, n, valid)


@kernel
def _add_row(rows: Values, at: int, columns: Values, n: int, valid: Mask) -> None:
    a, b, seen = rows[0, at], rows[1, at], rows[2, at]
    total = columns[0]
    for x in range(n):
        total[x] += a[x]
    total = columns[1]
    for x in range(n):
        total[x] += b[x]
    total = columns[2]
    for x in range(n):
        total[x] += a[x] * a[x] + b[x] * b[x]
    total = columns[3]
    for x in range(n):
        total[x] += a[x] * b[x]
    if valid.size:
        total = columns[4]
        for x in range(n):
            total[x] += seen[x]


@kernel
def _add_windows(
    columns: Values, similar: Floats, n: int, valid: Mask, shift: float, c1: float, c2: float
) -> int:
    """Sum along the row; add up the windows that end with it, and return how many they are."""
    a, b, squares, products, seen = columns[0], columns[1], columns[2], columns[3], columns[4]
    if not valid.size:
        for x in range(n):
            sums = _along(a, x), _along(b, x), _along(squares, x), _along(products, x)
            similar[x] += _similarity(*sums, shift, c1, c2)
        return n
    windows = 0
    for x in range(n):
        full = _along(seen, x) == WINDOW
        sums = _along(a, x), _along(b, x), _along(squares, x), _along(products, x)
        each = _similarity(*sums, shift, c1, c2)
        similar[x] += each if full else 0.0
        windows += full
    return windows


@kernel
def _along(sums: Values, x: int) -> Value:
    total: Value = type(sums[0])(
        sums[x] + sums[x + 1] + sums[x + 2] + sums[x + 3]
        + sums[x + 4] + sums[x + 5] + sums[x + 6]
    )  # fmt: skip
    return total


@kernel
def _similarity(
    first: Value, second: Value, squared: Value, mixed: Value, shift: float, c1: float, c2: float
) -> float:
    # Of whole numbers these are such, of 32 bits: exact, and of many at once.
    kind = type(first)
    covariance = np.float64(kind(WINDOW * mixed - first * second))
    variances = np.float64(kind(WINDOW * squared - (first * first + second * second)))
    # The means are those of the values as they are.
    a: float = np.float64(first) + shift
    b: float = np.float64(second) + shift
    similar: float = (2 * (a * b) + c1) * (2 * covariance + c2)
    similar /= (a * a + b * b + c1) * (variances + c2)
    # Beyond these by rounding alone, or no number, where values are large beside the constants.
    similar = similar if similar > -1 else -1.0
    similar = similar if similar < 1 else 1.0
    return (similar + ROUNDING) - ROUNDING
