"""The first look at an image: a sample of its pixels, the same however the image is chunked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import dask
import dask.array as da
import numpy as np

from kmdask.chunks import split
from kmdask.errors import EmptyImageError
from kmdask.graphs import over_chunks

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from dask.delayed import Delayed

    Window: TypeAlias = Callable[[slice, slice], tuple[da.Array, da.Array | None]]

SIDE = 64
"""Side of a window: of no use to be much smaller than the blocks that files decode."""

WINDOWS = 8
"""Windows along each axis: with theirs a quarter of a million pixels at most."""

ENOUGH = 1 << 12
"""Valid pixels that a look has to find; with fewer the whole image is looked at."""

SPARSER = 1 << 8
"""How many times as dense each further look is."""

ROWS = 1 << 15
"""Rows of a sample in a block on the workers."""

NOTHING_VALID = (
    "every pixel of the image is invalid (transparent, masked, nodata or not a number), so there "
    "are no colours to choose from; check the alpha band or the nodata value of the source"
)


@dataclass(frozen=True, eq=False)
class Look:
    """A sample of the valid pixels of an image."""

    values: npt.NDArray[np.float64]
    """Array of shape (n, band)."""

    rows: da.Array
    """The same, lazy, in blocks on the workers."""


def first_look(pixels: da.Array, mask: da.Array | None, window: Window | None = None) -> Look:
    """Sample the valid pixels of an image.

    Sixty-four windows of 64 x 64 pixels, evenly spaced. If nearly all of that is invalid, pixels
    are drawn from the whole image instead, one pass for each time that these are too few.

    Parameters
    ----------
    pixels : dask array of shape (y, x, band)
    mask : dask array of shape (y, x), optional
        0 where a pixel is invalid.
    window : callable, optional
        Takes a slice of rows and one of columns, returns the pixels and the mask there. By default
        they are cut out of the arrays, which computes whole chunks of them.

    Returns
    -------
    Look

    Raises
    ------
    EmptyImageError
        If no pixel is valid.
    """
    cut = window or _cutting(pixels, mask)
    height, width = map(int, pixels.shape[:2])
    windows = [cut(rows, columns) for rows in _spans(height) for columns in _spans(width)]
    parts = [_window_values(*window) for window in windows]
    sample, values = _taken(dask.delayed(np.concatenate, pure=True)(parts))
    share = min(1.0, (WINDOWS * SIDE) ** 2 / (height * width))
    complete = len(windows) == 1
    while len(values) < ENOUGH and not complete:
        sample, values = _taken(_drawn(pixels, mask, share))
        complete = share == 1.0
        share = min(1.0, share * SPARSER)
    if len(values) == 0:
        raise EmptyImageError(NOTHING_VALID)
    return Look(values, _spread(sample, *values.shape))


def _taken(sample: Delayed) -> tuple[Delayed, npt.NDArray[np.float64]]:
    """Compute a sample, and keep it on a worker: sent back, it would be a large graph."""
    (kept,) = dask.persist(sample)
    return kept, dask.compute(kept)[0]


def _spread(sample: Delayed, n: int, bands: int) -> da.Array:
    sizes = split(n, ROWS)
    starts = np.cumsum((0, *sizes[:-1])).tolist()
    part = dask.delayed(_rows, pure=True)
    blocks = [
        da.from_delayed(part(sample, start, size), (size, bands), np.float64)
        for start, size in zip(starts, sizes, strict=True)
    ]
    rows: da.Array = da.concatenate(blocks)
    return rows


def _rows(sample: npt.NDArray[np.float64], start: int, size: int) -> npt.NDArray[np.float64]:
    return sample[start : start + size]


def _cutting(pixels: da.Array, mask: da.Array | None) -> Window:
    def cut(rows: slice, columns: slice) -> tuple[da.Array, da.Array | None]:
        return pixels[rows, columns], None if mask is None else mask[rows, columns]

    return cut


def _spans(size: int) -> list[slice]:
    if size <= WINDOWS * SIDE:
        return [slice(0, size)]
    starts = np.linspace(0, size - SIDE, WINDOWS).astype(int).tolist()
    return [slice(start, start + SIDE) for start in starts]


def _window_values(pixels: da.Array, mask: da.Array | None) -> Any:
    pixels, mask = pixels.rechunk(-1), None if mask is None else mask.rechunk(-1)
    # Optimized, pixels and mask would go apart and read the window for each of them.
    there = [array for array in (pixels, mask) if array is not None]
    parts = [array.to_delayed(optimize_graph=False).item() for array in there]
    return dask.delayed(_look, pure=True)(*parts)


def _look(
    pixels: npt.NDArray[Any], mask: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.float64]:
    valid = slice(None) if mask is None else mask.ravel() != 0
    return pixels.reshape(-1, pixels.shape[2])[valid].astype(np.float64)


def _drawn(pixels: da.Array, mask: da.Array | None, share: float) -> Delayed:
    """Draw each valid pixel with the probability `share`; in the order of rows and columns."""
    width = int(pixels.shape[1])
    drawn, _ = over_chunks("look", _draw, _gathered, [pixels, mask], share, width, places=True)
    sample: Delayed = dask.delayed(_in_order, pure=True)(drawn)
    return sample


def _draw(
    pixels: npt.NDArray[Any],
    mask: npt.NDArray[np.uint8] | None,
    share: float,
    width: int,
    place: tuple[int, int],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64]]:
    valid = np.flatnonzero(np.ones(pixels.shape[:2], np.uint8) if mask is None else mask)
    rows, columns = np.divmod(valid, pixels.shape[1])
    top, left = place
    places = ((rows + top) * width + columns + left).astype(np.uint64)
    # The number of a pixel, mixed (Steele et al. 2014), is as good as a random one.
    mixed = (places + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    drawn = (mixed >> np.uint64(11)) < np.uint64(share * (1 << 53))
    values = pixels[rows[drawn], columns[drawn]].astype(np.float64)
    return places[drawn], values


def _in_order(drawn: tuple[Any, Any]) -> npt.NDArray[np.float64]:
    places, values = drawn
    in_order: npt.NDArray[np.float64] = values[np.argsort(places)]
    return in_order


def _gathered(parts: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    places, values = zip(*parts, strict=True)
    return np.concatenate(places), np.concatenate(values)
