"""Kernel that compares two images window by window: structural similarity.

Windows are summed along rows first, and these sums, of `SIDE` rows, down the columns. A similarity
is rounded to a multiple of ``2**-GRAIN``: sums of such are exact, in whatever order. Divisions are
IEEE's (``error_model``): a check for zero would keep loops from being vectorised.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

SIDE = 7
"""Rows and columns of a window."""

WINDOW = SIDE * SIDE
"""Pixels of a window."""

GRAIN = 36
"""Bits after the point of a similarity."""

ROUNDING = 1.5 * 2.0 ** (52 - GRAIN)
"""Added and taken away again, it rounds a small number to so many bits."""

COLUMNS = 512
"""Columns that are worked on at once: what is kept of them stays in the cache."""

SUMS = 5
"""What is summed over windows: both images, their squares together, their product, valid pixels."""


@njit(nogil=True, cache=True)
def add_similarities(
    first: npt.NDArray[np.generic],
    second: npt.NDArray[np.generic],
    entries: npt.NDArray[np.generic],
    valid: npt.NDArray[np.uint8],
    offset: np.int32 | np.float64,
    exact: bool,  # noqa: FBT001  numba takes no keyword-only arguments
    c1: float,
    c2: float,
    totals: npt.NDArray[np.int64],
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
    offset : int32 or float64
        What variances are taken about, a value amid those of the images, lest small ones be lost
        in large values. Of the type that sums are made in.
    exact : bool
        Whether that type holds sums of squares over windows exactly. Then they are carried on from
        row to row; otherwise added up afresh, so that no error of rounding goes on.
    c1, c2 : float
        The constants of the definition, times ``WINDOW**2`` and ``WINDOW * (WINDOW - 1)``.
    totals : int64 array of shape (band,)
        Is added to, in units of ``2**-GRAIN``.

    Returns
    -------
    int
        The number of windows.
    """
    height, width, bands = first.shape
    masked = valid.size > 0
    a, b = np.full(COLUMNS, offset), np.full(COLUMNS, offset)
    seen = np.full(COLUMNS, offset)
    # Of each sum the last rows, and then what they come to.
    state = np.full((SUMS, SIDE + 1, COLUMNS), offset)
    similar = np.empty(COLUMNS)
    shift = WINDOW * np.float64(offset)
    windows = 0
    for left in range(0, width - SIDE + 1, COLUMNS - SIDE + 1):
        n = min(COLUMNS, width - left)
        for band in range(bands):
            _clear(state, similar)
            for y in range(height):
                # Views of one axis: with three, addresses are worked out for every pixel.
                values = first[y, left : left + n, band]
                for x in range(n):
                    a[x] = type(offset)(values[x]) - offset
                if entries.size:
                    colors, indices = entries[band], second[y, left : left + n, 0]
                    for x in range(n):
                        b[x] = colors[np.int64(indices[x])]
                else:
                    others = second[y, left : left + n, band]
                    for x in range(n):
                        b[x] = type(offset)(others[x]) - offset
                if masked:
                    there = valid[y, left : left + n]
                    for x in range(n):
                        # Not times 0: what is invalid may be no number.
                        seen[x] = type(offset)(there[x] != 0)
                        a[x] = a[x] if there[x] else type(offset)(0)
                        b[x] = b[x] if there[x] else type(offset)(0)
                found = _add_rows(a, b, seen, state, similar, y, n, masked, exact, shift, c1, c2)
                windows += found if band == 0 else 0
            totals[band] += _total(similar)
    return windows


@njit(nogil=True, cache=True)
def _clear(state, similar):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    flat = state.reshape(-1)
    for i in range(flat.size):
        flat[i] = 0
    for x in range(similar.size):
        similar[x] = 0


@njit(nogil=True, cache=True)
def _total(similar):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    total = np.int64(0)
    for x in range(similar.size):
        total += np.int64(similar[x] * 2.0**GRAIN)
    return total


@njit(nogil=True, cache=True)
def _add_rows(a, b, seen, state, similar, y, n, masked, exact, shift, c1, c2):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Take one row of both images more; add up the windows that end with it."""
    slot, wide = y % SIDE, n - SIDE + 1
    if masked:
        _add_row(seen, state, 4, slot, True, wide)  # noqa: FBT003
    _add_row(a, state, 0, slot, exact, wide)
    _add_row(b, state, 1, slot, exact, wide)
    for x in range(n):
        product = a[x] * b[x]
        a[x] = a[x] * a[x] + b[x] * b[x]
        b[x] = product
    _add_row(a, state, 2, slot, exact, wide)
    _add_row(b, state, 3, slot, exact, wide)
    if y < SIDE - 1:
        return 0
    if masked:
        return _add_full(state, similar, wide, shift, c1, c2)
    _add_all(state, similar, wide, shift, c1, c2)
    return wide


@njit(nogil=True, cache=True)
def _add_row(values, state, what, slot, exact, n):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    """Sum the values along a row, and with those of the rows before down the columns."""
    new, total = state[what, slot], state[what, SIDE]
    if exact:
        for x in range(n):
            row = (
                values[x] + values[x + 1] + values[x + 2] + values[x + 3]
                + values[x + 4] + values[x + 5] + values[x + 6]
            )  # fmt: skip
            total[x] += row - new[x]
            new[x] = row
        return
    for x in range(n):
        new[x] = (
            values[x] + values[x + 1] + values[x + 2] + values[x + 3]
            + values[x + 4] + values[x + 5] + values[x + 6]
        )  # fmt: skip
    # The oldest first, wherever that is: all windows are summed in the same order.
    for x in range(n):
        total[x] = 0
    for age in range(1, SIDE + 1):
        row_before = state[what, (slot + age) % SIDE]
        for x in range(n):
            total[x] += row_before[x]


@njit(nogil=True, cache=True, error_model="numpy")
def _add_all(state, similar, n, shift, c1, c2):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    sa, sb, sq, sp = state[0, -1], state[1, -1], state[2, -1], state[3, -1]
    for x in range(n):
        similar[x] += _similarity(sa[x], sb[x], sq[x], sp[x], shift, c1, c2)


@njit(nogil=True, cache=True, error_model="numpy")
def _add_full(state, similar, n, shift, c1, c2):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    sa, sb, sq, sp, seen = state[0, -1], state[1, -1], state[2, -1], state[3, -1], state[4, -1]
    windows = 0
    for x in range(n):
        full = seen[x] == WINDOW
        each = _similarity(sa[x], sb[x], sq[x], sp[x], shift, c1, c2)
        similar[x] += each if full else 0.0
        windows += full
    return windows


@njit(nogil=True, cache=True, error_model="numpy")
def _similarity(first, second, squared, mixed, shift, c1, c2):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    a, b = np.float64(first), np.float64(second)
    covariance = WINDOW * np.float64(mixed) - a * b
    variances = WINDOW * np.float64(squared) - (a * a + b * b)
    # The means are those of the values as they are.
    a, b = a + shift, b + shift
    similar = (2 * (a * b) + c1) * (2 * covariance + c2)
    similar /= (a * a + b * b + c1) * (variances + c2)
    # Beyond these by rounding alone, or no number, where values are large beside the constants.
    similar = similar if similar > -1 else -1.0
    similar = similar if similar < 1 else 1.0
    return (similar + ROUNDING) - ROUNDING
