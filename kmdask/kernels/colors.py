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
from numba import njit

CODE_BITS = 24
FARTHEST = 3 * 255.0**2
"""The squared distance from black to white."""

SAFE = 1e-12
"""Share of a squared distance, with what is added to it, that rounding cannot reach."""

MOST = 255
"""The largest count that a byte holds."""

FULL = MOST - 1
"""Pixels that are taken off a full count: it is 2 then, and never 0."""

PART = 1 << 12
"""Codes of a part of a table that is looked through at once."""

CELL_BITS = 9
"""Colours whose codes differ in these low bits only share a cell of 8 values a band."""


@njit(nogil=True, cache=True, inline="always")
def _spread(value: int) -> np.uint32:
    """The eight bits of a value, two zero bits after each."""
    bits = np.uint32(value)
    bits = (bits | (bits << np.uint32(8))) & np.uint32(0x00F00F)
    bits = (bits | (bits << np.uint32(4))) & np.uint32(0x0C30C3)
    return (bits | (bits << np.uint32(2))) & np.uint32(0x249249)


@njit(nogil=True, cache=True, inline="always")
def _gather(code: np.uint32) -> np.uint8:
    """Undo `_spread`, ignoring the bits of other bands."""
    bits = code & np.uint32(0x249249)
    bits = (bits | (bits >> np.uint32(2))) & np.uint32(0x0C30C3)
    bits = (bits | (bits >> np.uint32(4))) & np.uint32(0x00F00F)
    return np.uint8(bits | (bits >> np.uint32(8)))


@njit(nogil=True, cache=True)
def _row_codes(pixels: npt.NDArray[np.uint8], y: int, codes: npt.NDArray[np.uint32]) -> None:
    # Codes go through a row buffer: that loop is vectorised, a loop that also looks up is not.
    for x in range(pixels.shape[1]):
        codes[x] = _spread(pixels[y, x, 0]) << np.uint32(2)
    if pixels.shape[2] > 1:
        for x in range(pixels.shape[1]):
            codes[x] |= _spread(pixels[y, x, 1]) << np.uint32(1)
    if pixels.shape[2] > 2:
        for x in range(pixels.shape[1]):
            codes[x] |= _spread(pixels[y, x, 2])


@njit(nogil=True, cache=True)
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
    height, width = pixels.shape[:2]
    row = np.empty(width, np.uint32)
    full = np.empty(height * width // FULL + 1, np.uint32)
    m = 0
    masked = mask.size > 0
    for y in range(height):
        _row_codes(pixels, y, row)
        for x in range(width):
            if masked and mask[y, x] == 0:
                continue
            n = np.int64(table[row[x]]) + 1
            if n > MOST:
                full[m] = row[x]
                m += 1
                n -= FULL
            table[row[x]] = n
    codes, rest = drain(table)
    counts = rest.astype(np.uint32)
    i = 0
    for code in np.sort(full[:m]):
        while codes[i] < code:
            i += 1
        counts[i] += np.uint32(FULL)
    return codes, counts


@njit(nogil=True, cache=True)
def drain(
    table: npt.NDArray[np.integer],
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[Any]]:
    """Take the codes and counts out of a table, and leave it all zeros."""
    # Most parts of a table have no colour in them, and are read once.
    parts = np.zeros(table.size // PART, np.int64)
    for part in range(parts.size):
        n = 0
        for code in range(part * PART, (part + 1) * PART):
            n += table[code] != 0
        parts[part] = n
    n = parts.sum()
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


@njit(nogil=True, cache=True)
def add(
    codes: npt.NDArray[np.uint32],
    counts: npt.NDArray[np.integer],
    table: npt.NDArray[np.int64],
) -> None:
    """Add a result of `count` to a table of shape (2**24,), indexed by Morton code."""
    for i in range(codes.size):
        table[codes[i]] += counts[i]


@njit(nogil=True, cache=True)
def encode_codes(colors: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Morton codes of colours of shape (n, band)."""
    codes = np.empty(colors.shape[0], np.uint32)
    _row_codes(colors.reshape(1, colors.shape[0], colors.shape[1]), 0, codes)
    return codes


@njit(nogil=True, cache=True)
def decode_codes(codes: npt.NDArray[np.uint32], bands: int) -> npt.NDArray[np.uint8]:
    """Colours of shape (n, bands) of Morton codes."""
    colors = np.empty((codes.size, bands), np.uint8)
    for i in range(codes.size):
        for band in range(bands):
            colors[i, band] = _gather(codes[i] >> np.uint32(2 - band))
    return colors


@njit(nogil=True, cache=True)
def _candidates(
    entries: npt.NDArray[np.int64],
    added: npt.NDArray[np.float64],
    corner: npt.NDArray[np.int64],
    side: int,
    candidates: npt.NDArray[np.int64],
) -> int:
    """Find the entries that can be nearest to a colour of a cell; return how many there are.

    Of all entries the one nearest to the middle of the cell is a good judge of the others: one
    that is farther than it in every corner of the cell is farther in all of it, because the
    difference of two squared distances is linear (Kanungo et al. 2002), whatever is added to them.
    """
    judge = 0
    least = np.inf
    for i in range(entries.shape[0]):
        distance = 0
        for band in range(3):
            gap = 2 * (entries[i, band] - corner[band]) - side
            distance += gap * gap
        if distance + 4 * added[i] < least:
            least = distance + 4 * added[i]
            judge = i
    n = 0
    for i in range(entries.shape[0]):
        # How much nearer than the judge the entry is, doubled, where it is nearest by most.
        gain = 0
        for band in range(3):
            step = entries[i, band] - entries[judge, band]
            far = corner[band] + (side if step > 0 else 0)
            gain += step * (2 * far - entries[i, band] - entries[judge, band])
        # Without penalties these are whole numbers, and exact.
        if gain + (added[judge] - added[i]) >= -SAFE * (FARTHEST + added[judge] + added[i]):
            candidates[n] = i
            n += 1
    return n


@njit(nogil=True, cache=True)
def nearest_table(
    palette: npt.NDArray[np.uint8],
    penalties: npt.NDArray[np.float64],
    table: npt.NDArray[np.unsignedinteger[Any]],
) -> None:
    """Find the nearest palette entry of every colour there is.

    Works cell by cell of 8 values a band: the colours of a cell are compared with those few
    entries alone that can be nearest to one of them. Squared distances are integers, and what is
    added is rounded as `kmdask.kernels.search` does it, so the table is exact. Ties go to the
    lowest index.

    Parameters
    ----------
    palette : uint8 array of shape (k, band)
        Colours of one to three bands.
    penalties : float64 array of shape (k,)
        What is added to the squared distance from each, as the square of its rounded root.
    table : uint8 or uint16 array of shape (2**24,)
        Is filled, indexed by Morton code. Cells in which no colour has as few bands are left.

    References
    ----------
    .. [1] T. Kanungo et al., "An efficient k-means clustering algorithm: analysis and
       implementation", IEEE Transactions on Pattern Analysis and Machine Intelligence 24 (2002)
       881-892.
    """
    k, bands = palette.shape
    entries = np.zeros((k, 3), np.int64)
    entries[:, :bands] = palette
    added = np.sqrt(penalties)
    added *= added
    candidates = np.empty(k, np.int64)
    corner = np.empty(3, np.int64)
    for start in range(0, 1 << CODE_BITS, 1 << CELL_BITS):
        for band in range(3):
            corner[band] = _gather(np.uint32(start) >> np.uint32(2 - band))
        if corner[bands:].any():
            continue
        n = _candidates(entries, added, corner, (1 << (CELL_BITS // 3)) - 1, candidates)
        if n == 1:
            # As in most cells, if entries are few.
            table[start : start + (1 << CELL_BITS)] = candidates[0]
            continue
        for code in range(start, start + (1 << CELL_BITS)):
            red = np.int64(_gather(np.uint32(code) >> np.uint32(2)))
            green = np.int64(_gather(np.uint32(code) >> np.uint32(1)))
            blue = np.int64(_gather(np.uint32(code)))
            best = np.inf
            for c in range(n):
                i = candidates[c]
                from_red = red - entries[i, 0]
                from_green = green - entries[i, 1]
                from_blue = blue - entries[i, 2]
                squared = from_red * from_red + from_green * from_green + from_blue * from_blue
                distance = squared + added[i]
                if distance < best:
                    best = distance
                    table[code] = i


@njit(nogil=True, cache=True)
def look_up(
    pixels: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8],
    table: npt.NDArray[np.unsignedinteger[Any]],
    nodata: int,
    indices: npt.NDArray[np.unsignedinteger[Any]],
) -> None:
    """Swap each pixel for its entry in a table of `nearest_table`.

    Parameters
    ----------
    pixels : uint8 array of shape (y, x, band)
    mask : uint8 array of shape (y, x) or (0, 0)
        0 where a pixel is invalid. An empty array means that all are valid.
    table : uint8 or uint16 array of shape (2**24,)
    nodata : int
        The index that invalid pixels get.
    indices : uint8 or uint16 array of shape (y, x)
        Is filled.
    """
    codes = np.empty(pixels.shape[1], np.uint32)
    masked = mask.size > 0
    for y in range(pixels.shape[0]):
        _row_codes(pixels, y, codes)
        for x in range(pixels.shape[1]):
            indices[y, x] = table[codes[x]]
        if masked:
            for x in range(pixels.shape[1]):
                if mask[y, x] == 0:
                    indices[y, x] = nodata
