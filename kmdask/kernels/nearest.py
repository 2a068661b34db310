"""Nearest centre of every pixel, for any real dtype and any number of bands.

A strip of a few rows is read once and turned into features, band by band, which is how GDAL lays it
out. It is then searched patch by patch, square where the image allows, by `kmdask.kernels.search`.
Only what is here is compiled once for each dtype of pixels: for common ones, and for float64, as
which the others come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from kmdask.kernels.compiled import kernel
from kmdask.kernels.search import PATCH, Floats, Indices, Room, Search, make_room, search, search_of
from kmdask.kernels.strips import COMMON, strips
from kmdask.kernels.views import frozen, image_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Search", "moments_of_pixels", "nearest_pixels", "search_of"]

Pixels: TypeAlias = npt.NDArray[np.number[Any]]
Mask: TypeAlias = npt.NDArray[np.uint8]
Labels: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]

SIDE = 8
"""Rows of a patch, where the image has as many."""
STRIP = 256
"""Columns that are turned into features together: long loops vectorise, and a cache holds these."""


@kernel
def _features(
    pixels: Pixels, y: int, x: int, tall: int, project: Floats, scale: Floats, strip: Floats
) -> None:
    """Turn the pixels from a corner on into features, as many as the strip has columns."""
    wide = min(STRIP, pixels.shape[1] - x)
    if project.size > 0:
        strip[:] = 0.0
    for band in range(pixels.shape[2]):
        for v in range(tall):
            # A slice begins at 0, so that no index has to be tested for being negative.
            row = pixels[y + v, x : x + wide, band]
            if project.size == 0:
                factor = scale[band]
                for u in range(wide):
                    strip[band, v, u] = factor * np.float64(row[u])
            else:
                for j in range(strip.shape[0]):
                    factor = project[band, j]
                    for u in range(wide):
                        strip[j, v, u] += factor * np.float64(row[u])


@kernel
def _load(strip: Floats, x: int, tall: int, wide: int, mask: Mask, room: Room) -> int:
    """Copy the valid pixels of a patch into the room; return how many they are."""
    run, where = room.run, room.where
    whole = tall == SIDE and wide == SIDE
    for j in range(run.shape[0]):
        if whole:
            # Of a length known to the compiler: nearly all patches are of this kind.
            for v in range(SIDE):
                for u in range(SIDE):
                    run[j, v * SIDE + u] = strip[j, v, x + u]
        else:
            for v in range(tall):
                for u in range(wide):
                    run[j, v * wide + u] = strip[j, v, x + u]
    n = tall * wide
    if mask.size == 0:
        for i in range(n):
            where[i] = i
        return n
    valid = 0
    for v in range(tall):
        for u in range(wide):
            where[valid] = v * wide + u
            valid += 1 if mask[v, x + u] else 0
    if valid < n:
        for j in range(run.shape[0]):
            for i in range(valid):
                run[j, i] = run[j, where[i]]
    return valid


@kernel
def _strips(rows: int, columns: int) -> Indices:
    """First row and column, and number of rows, of every strip of an image."""
    # An array, not a generator: numba cannot take callers of generators out of its cache.
    down, across = -(-rows // SIDE), -(-columns // STRIP)
    strips = np.empty((down * across, 3), np.int64)
    for i in range(down * across):
        y = i // across * SIDE
        strips[i, 0], strips[i, 1], strips[i, 2] = y, i % across * STRIP, min(SIDE, rows - y)
    return strips


@image_kernel(1)
def _nearest_pixels(
    pixels: Pixels,
    mask: Mask,
    project: Floats,
    scale: Floats,
    prepared: Search,
    nodata: int,
    indices: Labels,
) -> None:
    image, room = pixels[0], make_room(prepared)
    features = np.empty((prepared.centers.shape[1], SIDE, STRIP))
    found = np.empty(PATCH, np.int64)
    for strip in _strips(image.shape[0], image.shape[1]):
        y, x, tall = strip[0], strip[1], strip[2]
        _features(image, y, x, tall, project, scale, features)
        shown = mask[y : y + tall, x:] if mask.size else mask
        out = indices[y : y + tall, x : x + STRIP]
        wide = PATCH // tall
        for left in range(0, out.shape[1], wide):
            width = min(wide, out.shape[1] - left)
            n = _load(features, left, tall, width, shown, room)
            if n:
                search(prepared, room, n)
            labels = room.labels
            if n < tall * width:
                found[:] = nodata
                for i in range(n):
                    found[room.where[i]] = labels[i]
                labels = found
            for v in range(tall):
                row = out[v, left : left + width]
                for u in range(width):
                    row[u] = labels[v * width + u]


@image_kernel(1)
def _moments_of_pixels(
    pixels: Pixels,
    mask: Mask,
    project: Floats,
    scale: Floats,
    prepared: Search,
    offset: Floats,
    quantum: Floats,
    limit: float,
    sums: Indices,
    counts: Indices,
    total: float,
) -> float:
    image, room = pixels[0], make_room(prepared)
    features = np.empty((prepared.centers.shape[1], SIDE, STRIP))
    for strip in _strips(image.shape[0], image.shape[1]):
        y, x, tall = strip[0], strip[1], strip[2]
        _features(image, y, x, tall, project, scale, features)
        shown = mask[y : y + tall, x:] if mask.size else mask
        part = image[y : y + tall, x : x + STRIP]
        wide = PATCH // tall
        for left in range(0, part.shape[1], wide):
            width = min(wide, part.shape[1] - left)
            n = _load(features, left, tall, width, shown, room)
            if n:
                search(prepared, room, n)
            for i in range(n):
                label, at = room.labels[i], room.where[i]
                v, u = at // width, left + at % width
                total += room.squared[i]
                counts[label] += 1
                for band in range(part.shape[2]):
                    value = np.rint((part[v, u, band] - offset[band]) / quantum[band])
                    sums[label, band] += np.int64(min(max(value, -limit), limit))
    return total


def _parts(pixels: Pixels) -> Iterator[tuple[slice, Pixels]]:
    """Pixels of common types as they are, of others in strips of float64; with their rows."""
    if pixels.dtype in COMMON:
        yield slice(len(pixels)), pixels
        return
    for y, part in strips(pixels):
        yield slice(y, y + len(part)), part.astype(np.float64)


def nearest_pixels(
    pixels: Pixels,
    mask: Mask,
    project: Floats,
    scale: Floats,
    search: Search,
    nodata: int,
    indices: Labels,
) -> None:
    """Find the nearest centre of every pixel.

    Parameters
    ----------
    pixels : ndarray of shape (y, x, band)
        Of any real dtype in native byte order, and of any strides. Finite where valid.
    mask : uint8 array of shape (y, x) or (0, 0)
        0 where a pixel is invalid. An empty array means that all are valid.
    project : float64 array of shape (band, f) or (0, 0)
        The features of a pixel are ``value @ project``, added up band by band.
    scale : float64 array of shape (band,)
        Where ``project`` is empty, the features are ``scale * value``.
    search : Search
        Of centres of f features.
    nodata : int
        The index that invalid pixels get.
    indices : uint8 or uint16 array of shape (y, x)
        Is filled.

    Examples
    --------
    >>> pixels = np.array([[[1, 2], [9, 9]]], np.uint16)
    >>> search, none = search_of(np.array([[0.0, 0.0], [10.0, 5.0]])), np.empty((0, 0))
    >>> indices = np.empty((1, 2), np.uint8)
    >>> nearest_pixels(pixels, none.astype(np.uint8), none, np.ones(2), search, 2, indices)
    >>> indices
    array([[0, 1]], dtype=uint8)
    """
    given = frozen(project), frozen(scale), Search(*map(frozen, search))
    for rows, part in _parts(pixels):
        shown = frozen(mask[rows])
        _nearest_pixels(part, shown, *given, nodata, indices[rows])


def moments_of_pixels(
    pixels: Pixels,
    mask: Mask,
    project: Floats,
    scale: Floats,
    search: Search,
    offset: Floats,
    quantum: Floats,
    limit: float,
    sums: Indices,
    counts: Indices,
) -> float:
    """Assign every valid pixel to its nearest centre and add up what each centre gets.

    Parameters
    ----------
    pixels, mask, project, scale, search
        As for `nearest_pixels`.
    offset, quantum : float64 arrays of shape (band,)
        Values are added up as integers, ``rint((value - offset) / quantum)``, so that their order
        does not matter.
    limit : float
        Those integers are clipped to plus or minus this, at most 2**62 divided by the number of
        pixels for the sums to hold them.
    sums : int64 array of shape (k, band)
        Is added to.
    counts : int64 array of shape (k,)
        Is added to.

    Returns
    -------
    float
        The sum of the squared distances to the nearest centres, among features.
    """
    given = frozen(project), frozen(scale), Search(*map(frozen, search))
    units = frozen(offset), frozen(quantum), float(limit)
    total = 0.0
    for rows, part in _parts(pixels):
        shown = frozen(mask[rows])
        total = _moments_of_pixels(part, shown, *given, *units, sums, counts, total)
    return float(total)
