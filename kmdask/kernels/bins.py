"""Compiled kernels that join neighbouring colours, which are sorted by their codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kmdask.kernels.compiled import kernel

if TYPE_CHECKING:
    import numpy.typing as npt

    from .lloyd import Floats, Indices, Rows

__all__ = ["differences", "join"]

BITS = 32
"""Bits of a code."""


@kernel
def differences(codes: npt.NDArray[np.uint32]) -> Indices:
    """Count the neighbours by how many bits are left from the first that differs on.

    Parameters
    ----------
    codes : ndarray of shape (n,), uint32
        Ascending.

    Returns
    -------
    ndarray of shape (33,), int64
        Codes without their last ``b`` bits take ``1 + counts[b + 1 :].sum()`` different values.
    """
    counts = np.zeros(BITS + 1, np.int64)
    for i in range(1, codes.shape[0]):
        rest, bits = codes[i] ^ codes[i - 1], 0
        while rest > 0:
            rest >>= np.uint32(1)
            bits += 1
        counts[bits] += 1
    return counts


@kernel
def join(
    codes: npt.NDArray[np.uint32],
    values: Rows,
    weights: Floats,
    bits: int,
    joined: npt.NDArray[np.uint32],
    sums: Floats,
    totals: Floats,
) -> None:
    """Join the colours whose codes differ in the last bits only.

    Parameters
    ----------
    codes : ndarray of shape (n,), uint32
        Ascending.
    values : ndarray of shape (n, d), float32 or float64
    weights : ndarray of shape (n,), float64
    bits : int
        How many bits codes may differ in.
    joined : ndarray of shape (m,), uint32
        Filled with the different values of the other bits.
    sums : ndarray of shape (m, d), float64
        Zeros; filled with the weighted sums of the values.
    totals : ndarray of shape (m,), float64
        Zeros; filled with the sums of the weights.
    """
    at = -1
    for i in range(codes.shape[0]):
        code = np.int64(codes[i]) >> bits
        if at < 0 or code != joined[at]:
            at += 1
            joined[at] = code
        totals[at] += weights[i]
        for j in range(values.shape[1]):
            sums[at, j] += weights[i] * values[i, j]
