"""Nearest centre of every pixel, for any real dtype and any number of bands.

The work goes patch by patch, square where the image allows. A patch is read once and turned into
features, band by band, which is how GDAL lays it out; `kmdask.kernels.search` does the rest. Only
what is here is compiled once for each dtype and layout of pixels.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from kmdask.kernels.search import PATCH, Floats, Indices, Room, Search, make_room, search, search_of

__all__ = ["Search", "moments_of_pixels", "nearest_pixels", "search_of"]

Pixels: TypeAlias = npt.NDArray[np.number[Any]]
Mask: TypeAlias = npt.NDArray[np.uint8]
Labels: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
kernel = njit(nogil=True, cache=True)

SIDE = 8
"""Rows of a patch, where the image has as many."""


@kernel
def _load(
    pixels: Pixels,
    mask: Mask,
    project: Floats,
    scale: Floats,
    patch: Indices,
    room: Room,
) -> int:
    """Turn the valid pixels of a patch into features; return how many they are."""
    run, where = room.run, room.where
    y, x, tall, wide = patch[0], patch[1], patch[2], patch[3]
    n = tall * wide
    for band in range(pixels.shape[2]):
        for v in range(tall):
            for u in range(wide):
                value = np.float64(pixels[y + v, x + u, band])
                if project.size == 0:
                    run[band, v * wide + u] = scale[band] * value
                else:
                    for j in range(project.shape[1]):
                        sofar = run[j, v * wide + u] if band else 0.0
                        run[j, v * wide + u] = sofar + value * project[band, j]
    valid = 0
    for i in range(n):
        where[valid] = i
        valid += 1 if mask.size == 0 or mask[y + i // wide, x + i % wide] else 0
    if valid < n:
        for j in range(run.shape[0]):
            for i in range(valid):
                run[j, i] = run[j, where[i]]
    return valid


@kernel
def _patches(rows: int, columns: int) -> Indices:
    """Corner and size of every patch of an image: y, x, rows, columns."""
    # An array, not a generator: numba cannot take callers of generators out of its cache.
    tall = max(1, min(SIDE, rows))
    wide = PATCH // tall
    down, across = -(-rows // tall), -(-columns // wide)
    patches = np.empty((down * across, 4), np.int64)
    for i in range(down * across):
        y, x = i // across * tall, i % across * wide
        patches[i] = y, x, min(tall, rows - y), min(wide, columns - x)
    return patches


@kernel
def _nearest_pixels(
    pixels: Pixels,
    mask: Mask,
    project: Floats,
    scale: Floats,
    prepared: Search,
    nodata: int,
    indices: Labels,
) -> None:
    room = make_room(prepared)
    for patch in _patches(pixels.shape[0], pixels.shape[1]):
        y, x, tall, wide = patch[0], patch[1], patch[2], patch[3]
        n = _load(pixels, mask, project, scale, patch, room)
        if n < tall * wide:
            indices[y : y + tall, x : x + wide] = nodata
        if n:
            search(prepared, room, n)
        for i in range(n):
            at = room.where[i]
            indices[y + at // wide, x + at % wide] = room.labels[i]


@kernel
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
) -> float:
    room = make_room(prepared)
    total = 0.0
    for patch in _patches(pixels.shape[0], pixels.shape[1]):
        y, x, wide = patch[0], patch[1], patch[3]
        n = _load(pixels, mask, project, scale, patch, room)
        if n:
            search(prepared, room, n)
        for i in range(n):
            label, at = room.labels[i], room.where[i]
            v, u = y + at // wide, x + at % wide
            total += room.squared[i]
            counts[label] += 1
            for band in range(pixels.shape[2]):
                value = np.rint((pixels[v, u, band] - offset[band]) / quantum[band])
                sums[label, band] += np.int64(min(max(value, -limit), limit))
    return total


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A view that cannot be written to, which is a type of its own to numba: one is enough."""
    view = array.view()
    view.flags.writeable = False
    return view


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
    _nearest_pixels(
        _frozen(pixels),
        _frozen(np.ascontiguousarray(mask)),
        _frozen(project),
        _frozen(scale),
        Search(*map(_frozen, search)),
        nodata,
        indices,
    )


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
    return float(
        _moments_of_pixels(
            _frozen(pixels),
            _frozen(np.ascontiguousarray(mask)),
            _frozen(project),
            _frozen(scale),
            Search(*map(_frozen, search)),
            _frozen(offset),
            _frozen(quantum),
            float(limit),
            sums,
            counts,
        )
    )
