"""Kernel that adds up how large the differences of 8-bit colours look: ΔEOK.

Colours repeat, and roots are dear. So each colour is turned into OKLab when it is met first, with
the other new ones of its strip, and remembered. A difference is rounded to a multiple of
``2**-GRAIN``: sums of such are exact, in whatever order.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from kmdask.kernels.colors import decode_codes, encode_codes
from kmdask.kernels.compiled import kernel
from kmdask.kernels.oklab import lab_of, light_of_values

__all__ = ["GRAIN", "UNITS", "add_seen"]

GRAIN = 32
"""Bits after the point of a difference; none is above 1 by much."""

UNITS = 2.0**GRAIN
"""What 1 is in these."""

STRIP = 1 << 13
"""Pixels that are taken together: roots of many colours at once are several times as fast."""

MOST = 1 << 16
"""Colours that are remembered, in 1.5 MB; once there may be more, all are forgotten."""


@kernel
def _remember(
    codes: npt.NDArray[np.uint32],
    places: npt.NDArray[np.uint32],
    known: npt.NDArray[np.uint32],
    n: int,
) -> int:
    """Give the colours that are not among the n known ones the next places."""
    for i in range(codes.size):
        code = codes[i]
        if places[code] == 0:
            known[n] = code
            n += 1
            places[code] = n
    return n


@kernel
def _forget(places: npt.NDArray[np.uint32], known: npt.NDArray[np.uint32], n: int) -> None:
    for i in range(n):
        places[known[i]] = 0


@kernel
def add_seen(
    first: npt.NDArray[np.uint8],
    second: npt.NDArray[np.uint8],
    valid: npt.NDArray[np.uint8],
    places: npt.NDArray[np.uint32],
) -> int:
    """Add up ΔEOK over pairs of pixels.

    Parameters
    ----------
    first, second : uint8 arrays of shape (n, 3)
        Red, green and blue of sRGB, of at most 2**30 pixels.
    valid : uint8 array of shape (n,) or (0,)
        0 where a pixel is left out. An empty array means that all are valid.
    places : uint32 array of shape (2**24,)
        Scratch space, all zeros; all zeros again on return. Fresh pages cost more than all else.

    Returns
    -------
    int
        In units of ``2**-GRAIN``.
    """
    light = light_of_values()
    known, labs = np.empty(MOST, np.uint32), np.empty((MOST, 3))
    n, total = 0, np.int64(0)
    for start in range(0, first.shape[0], STRIP):
        left = encode_codes(first[start : start + STRIP])
        right = encode_codes(second[start : start + STRIP])
        if n + left.size + right.size > MOST:
            _forget(places, known, n)
            n = 0
        before = n
        n = _remember(right, places, known, _remember(left, places, known, n))
        if n > before:
            fresh = decode_codes(known[before:n], 3).astype(np.float64)
            lab = lab_of(fresh, light)
            for i in range(n - before):
                for j in range(3):
                    labs[before + i, j] = lab[i, j]
        for i in range(left.size):
            if valid.size == 0 or valid[start + i]:
                a, b = labs[places[left[i]] - 1], labs[places[right[i]] - 1]
                x, y, z = a[0] - b[0], a[1] - b[1], a[2] - b[2]
                total += np.int64(math.sqrt(x * x + y * y + z * z) * UNITS + 0.5)
    _forget(places, known, n)
    return int(total)
