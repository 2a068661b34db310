"""Kernels on the table of the nearest palette entry of every 8-bit colour, by its Morton code."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kmdask.kernels.colors import CODE_BITS, gather_bits, row_codes
from kmdask.kernels.compiled import inlined, kernel
from kmdask.kernels.views import image_kernel

Whole: TypeAlias = int | np.int64

FARTHEST = 3 * 255.0**2
"""The squared distance from black to white."""

SAFE = 1e-12
"""Share of a squared distance, with what is added to it, that rounding cannot reach."""

CELL_BITS = 9
"""Colours whose codes differ in these low bits only share a cell of 8 values a band."""

HALVINGS = (CODE_BITS - CELL_BITS) // 3
"""How often the cube of all colours is halved along each band to get these cells."""


@kernel
def _color(code: Whole) -> tuple[np.int64, np.int64, np.int64]:
    """Red, green and blue of a code."""
    return (
        np.int64(gather_bits(np.uint32(code) >> np.uint32(2))),
        np.int64(gather_bits(np.uint32(code) >> np.uint32(1))),
        np.int64(gather_bits(np.uint32(code))),
    )


@kernel
def _candidates(
    entries: npt.NDArray[np.int64],
    added: npt.NDArray[np.float64],
    listed: npt.NDArray[np.int64],
    start: Whole,
    bits: int,
    candidates: npt.NDArray[np.int64],
) -> int:
    """Find which of the entries listed can be nearest to a colour of a cell; return how many.

    The one nearest to the middle of the cell is a good judge of the others: one that is farther
    than it in every corner of the cell is farther in all of it, because the difference of two
    squared distances is linear (Kanungo et al. 2002), whatever is added to them.
    """
    corner = _color(start)
    side = (1 << (bits // 3)) - 1
    judge = listed[0]
    least = np.inf
    for i in listed:
        distance = 0
        for band in range(3):
            gap = 2 * (entries[i, band] - corner[band]) - side
            distance += gap * gap
        if distance + 4 * added[i] < least:
            least = distance + 4 * added[i]
            judge = i
    n = 0
    for i in listed:
        # By how much less its squared distance is than the judge's, where it is least beside that.
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


@inlined
def _descend(
    entries: npt.NDArray[np.int64],
    added: npt.NDArray[np.float64],
    near: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    start: Whole,
    last: Whole,
) -> int:
    """Find which entries can be nearest in a cell, from coarse to fine; return how many.

    What can be nearest in a cell can be so in the larger one that it is an eighth of. Row ``i`` of
    ``near`` has, ``counts[i]`` of them, those of the cell at hand that is halved ``i`` times;
    larger cells that the last one, -1 if there was none, lay in too are not looked at again.
    """
    for i in range(HALVINGS):
        bits = CODE_BITS - 3 * (i + 1)
        if last < 0 or start >> bits != last >> bits:
            listed = near[i, : counts[i]]
            corner = start >> bits << bits
            counts[i + 1] = _candidates(entries, added, listed, corner, bits, near[i + 1])
    n: int = counts[HALVINGS]
    return n


@inlined
def _nearest(
    code: Whole,
    entries: npt.NDArray[np.int64],
    added: npt.NDArray[np.float64],
    candidates: npt.NDArray[np.int64],
    n: int,
) -> int:
    """Nearest of n candidates to a colour, the first of equals."""
    red, green, blue = _color(code)
    best, nearest = np.inf, candidates[0]
    for c in range(n):
        i = candidates[c]
        from_red = red - entries[i, 0]
        from_green = green - entries[i, 1]
        from_blue = blue - entries[i, 2]
        squared = from_red * from_red + from_green * from_green + from_blue * from_blue
        distance = squared + added[i]
        if distance < best:
            best, nearest = distance, i
    found: int = nearest
    return found


@kernel
def _room(
    palette: npt.NDArray[np.uint8], penalties: npt.NDArray[np.float64]
) -> tuple[
    npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.int64]
]:
    """Entries of three bands, what is added to their distances, and `near` and `counts`."""
    k, bands = palette.shape
    entries = np.zeros((k, 3), np.int64)
    near, counts = np.empty((HALVINGS + 1, k), np.int64), np.full(HALVINGS + 1, k)
    added = np.sqrt(penalties)
    for i in range(k):
        added[i] *= added[i]
        near[0, i] = i
        for band in range(bands):
            entries[i, band] = palette[i, band]
    return entries, added, near, counts


@kernel
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
    bands = palette.shape[1]
    entries, added, near, counts = _room(palette, penalties)
    candidates, last = near[HALVINGS], -1
    for start in range(0, 1 << CODE_BITS, 1 << CELL_BITS):
        _, green, blue = _color(start)
        if (bands < 3 and blue > 0) or (bands < 2 and green > 0):
            continue
        n = _descend(entries, added, near, counts, start, last)
        last = start
        if n == 1:
            # As in most cells, if entries are few.
            table[start : start + (1 << CELL_BITS)] = candidates[0]
            continue
        for code in range(start, start + (1 << CELL_BITS)):
            table[code] = _nearest(code, entries, added, candidates, n)


@kernel
def nearest_of_codes(
    codes: npt.NDArray[np.uint32],
    palette: npt.NDArray[np.uint8],
    penalties: npt.NDArray[np.float64],
    indices: npt.NDArray[np.uint16],
) -> None:
    """Find the nearest palette entry of some colours alone, as `nearest_table` does.

    Parameters
    ----------
    codes : uint32 array of shape (n,)
        Their Morton codes. Ascending, or cells are looked at again.
    palette, penalties
        As for `nearest_table`.
    indices : uint16 array of shape (n,)
        Is filled.
    """
    entries, added, near, counts = _room(palette, penalties)
    candidates, n = near[HALVINGS], 0
    last: Whole = -1
    for i in range(codes.size):
        code = np.int64(codes[i])
        start = code >> CELL_BITS << CELL_BITS
        if start != last:
            n = _descend(entries, added, near, counts, start, last)
            last = start
        indices[i] = _nearest(code, entries, added, candidates, n)


@image_kernel(1)
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
    image = pixels[0]
    codes = np.empty(image.shape[1], np.uint32)
    masked = mask.size > 0
    for y in range(image.shape[0]):
        row_codes(image, y, codes)
        for x in range(image.shape[1]):
            indices[y, x] = table[codes[x]]
        if masked:
            for x in range(image.shape[1]):
                if mask[y, x] == 0:
                    indices[y, x] = nodata
