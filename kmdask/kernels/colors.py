"""Kernels on 8-bit colours of one to three bands, addressed by their Morton code.

The Morton code of a colour interleaves the bits of its bands, most significant first (Morton
1966). Tables addressed by it keep similar colours close in memory, which is what neighbouring
pixels have; the top ``3 * b`` bits name the cell of a grid of ``2**b`` steps a band; and colours
sorted by it are spatially coherent. Colours of fewer bands have zeros in place of the others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from kmdask.kernels.compiled import inlined, kernel
from kmdask.kernels.views import image_kernel

CODE_BITS = 24

MOST = 255
"""The largest count that a byte holds."""

FULL = MOST - 1
"""Pixels that are taken off a full count: it is 2 then, and never 0."""

PART = 1 << 12
"""Codes of a part of a table that is looked through at once."""


@inlined
def _spread(value: int) -> np.uint32:
    """The eight bits of a value, two zero bits after each."""
    bits = np.uint32(value)
    bits = (bits | (bits << np.uint32(8))) & np.uint32(0x00F00F)
    bits = (bits | (bits << np.uint32(4))) & np.uint32(0x0C30C3)
    return (bits | (bits << np.uint32(2))) & np.uint32(0x249249)


@inlined
def gather_bits(code: np.uint32) -> np.uint8:
    """The value of one band of a code that is shifted to it: undoes `_spread`."""
    bits = code & np.uint32(0x249249)
    bits = (bits | (bits >> np.uint32(2))) & np.uint32(0x0C30C3)
    bits = (bits | (bits >> np.uint32(4))) & np.uint32(0x00F00F)
    return np.uint8(bits | (bits >> np.uint32(8)))


@kernel
def row_codes(pixels: npt.NDArray[np.uint8], y: int, codes: npt.NDArray[np.uint32]) -> None:
    """Fill in the Morton codes of one row of pixels of shape (y, x, band)."""
    # Codes go through a row buffer: that loop is vectorised, a loop that also looks up is not.
    for x in range(pixels.shape[1]):
        codes[x] = _spread(pixels[y, x, 0]) << np.uint32(2)
    if pixels.shape[2] > 1:
        for x in range(pixels.shape[1]):
            codes[x] |= _spread(pixels[y, x, 1]) << np.uint32(1)
    if pixels.shape[2] > 2:
        for x in range(pixels.shape[1]):
            codes[x] |= _spread(pixels[y, x, 2])


def count(
    pixels: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8],
    table: npt.NDArray[np.uint8],
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Count the colours of a block.

    In bytes, of which four times as many fit into a cache as of counts that hold all pixels. One
    that is full begins anew, not at 0, and its code is noted.

    Parameters
    ----------
    pixels : uint8 array of shape (y, x, band)
        At most 2**32 - 1 pixels of one to three bands.
    mask : uint8 array of shape (y, x) or (0, 0)
        0 where a pixel is invalid and not counted. An empty array means that all are valid.
    table : uint8 array of shape (2**24,)
        Scratch space, all zeros; all zeros again on return. Fresh pages cost more than counting.

    Returns
    -------
    codes : uint32 array of shape (n,)
        The Morton codes that occur, ascending.
    counts : uint32 array of shape (n,)
        How often each occurs.
    """
    full = np.empty(pixels.shape[0] * pixels.shape[1] // FULL, np.uint32)
    full = full[: _count(pixels, mask, table, full)]
    codes, rest = drain(table)
    counts = rest.astype(np.uint32)
    again, times = np.unique(full, return_counts=True)
    counts[np.searchsorted(codes, again)] += times.astype(np.uint32) * np.uint32(FULL)
    return codes, counts


@image_kernel(1)
def _count(
    pixels: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8],
    table: npt.NDArray[np.uint8],
    full: npt.NDArray[np.uint32],
) -> int:
    """Count into the table, note the codes that were full, and return how many these are."""
    image = pixels[0]
    height, width = image.shape[:2]
    row = np.empty(width, np.uint32)
    m = 0
    masked = mask.size > 0
    for y in range(height):
        row_codes(image, y, row)
        for x in range(width):
            if masked and mask[y, x] == 0:
                continue
            n = np.int64(table[row[x]]) + 1
            if n > MOST:
                full[m] = row[x]
                m += 1
                n -= FULL
            table[row[x]] = n
    return m


@kernel
def drain(
    table: npt.NDArray[np.integer],
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[Any]]:
    """Take the codes and counts out of a table, and leave it all zeros."""
    # Most parts of a table have no colour in them, and are read once.
    parts = np.zeros(table.size // PART, np.int64)
    n = 0
    for part in range(parts.size):
        for code in range(part * PART, (part + 1) * PART):
            parts[part] += table[code] != 0
        n += parts[part]
    # One row more: a code without a colour is written too, where the next one will be.
    codes = np.empty(n + 1, np.uint32)
    counts = np.empty(n + 1, table.dtype)
    n = 0
    for part in range(parts.size):
        if parts[part]:
            start = part * PART
            for code in range(start, start + PART):
                codes[n] = code
                counts[n] = table[code]
                n += table[code] != 0
            table[start : start + PART] = 0
    return codes[:n], counts[:n]


@kernel
def add(
    codes: npt.NDArray[np.uint32],
    counts: npt.NDArray[np.integer],
    table: npt.NDArray[np.int64],
) -> None:
    """Add a result of `count` to a table of shape (2**24,), indexed by Morton code."""
    for i in range(codes.size):
        table[codes[i]] += counts[i]


@kernel
def encode_codes(colors: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Morton codes of colours of shape (n, band)."""
    codes = np.empty(colors.shape[0], np.uint32)
    row_codes(colors.reshape(1, colors.shape[0], colors.shape[1]), 0, codes)
    return codes


@kernel
def decode_codes(codes: npt.NDArray[np.uint32], bands: int) -> npt.NDArray[np.uint8]:
    """Colours of shape (n, bands) of Morton codes."""
    colors = np.empty((codes.size, bands), np.uint8)
    for i in range(codes.size):
        for band in range(bands):
            colors[i, band] = gather_bits(codes[i] >> np.uint32(2 - band))
    return colors
