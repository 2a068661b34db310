"""The levels of an image, each half the size of the one before, down to one pixel.

A level is averaged as colour from the colours of the level before and encoded afresh; averaged
indices would be colours that are nowhere in the image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain, product, repeat
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
from dask.highlevelgraph import HighLevelGraph

from kmdask.chunks import SHARD, TILE, ceil_div, fits
from kmdask.graphs import block_names
from kmdask.kernels import tiles as kernels
from kmdask.pixels import checked, rounded, valid_or_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from kmdask.writing.receipts import Receipts


KEPT = 3
"""Halvings after which chunks are kept for a run that goes on: before, they are many more bytes,
after, one stands for much that was read."""

FEW = 8
"""Chunks of which none is kept when they are halved: what is under them is soon read again."""

SUMS: dict[int, type[np.signedinteger[Any]]] = {1: np.int16, 2: np.int32, 4: np.int64}
"""What sums of eight integers of so many bytes fit into."""


@dataclass(frozen=True)
class Level:
    """One level of a pyramid, lazy."""

    pixels: da.Array
    """Array of shape (y, x, band), of the data type of the image."""

    mask: da.Array | None
    """uint8 array of shape (y, x), 0 where no pixel of the full image is valid; None if all are."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        height, width = self.pixels.shape[:2]
        return int(height), int(width)


def pyramid(
    pixels: da.Array, mask: da.Array | None = None, receipts: Receipts | None = None
) -> Iterator[Level]:
    """Go through the levels of an image, the full image first, the single pixel last.

    Each chunk of a level is a task on the chunks under it: on as many neighbours as have together
    half the pixels of a chunk of the full image, so that tasks become few. Halving has a lower
    priority than what is done with the image itself.

    Parameters
    ----------
    pixels : dask array of shape (y, x, band)
        In any chunks.
    mask : dask array of shape (y, x), optional
        0 where a pixel is invalid.
    receipts : Receipts, optional
        Where the chunks after three halvings are kept, a 64th of the pixels, unless they are few:
        a run that goes on need not read again what is under them.

    Yields
    ------
    Level
        Of the size of the one before, halved by ceiling. Its chunks are multiples of 512 pixels.

    Examples
    --------
    >>> import dask.array as da
    >>> image = da.from_array(np.array([[[10], [20], [60]], [[30], [40], [80]]], np.uint8))
    >>> [level.pixels.compute()[:, :, 0].tolist() for level in pyramid(image)]
    [[[10, 20, 60], [30, 40, 80]], [[25, 70]], [[48]]]
    """
    level = _regular(Level(*checked(pixels, mask)))
    enough = level.pixels.chunks[0][0] * level.pixels.chunks[1][0] // 2
    halvings = 0
    while True:
        yield level
        if level.shape == (1, 1):
            return
        halvings += 1
        kept = halvings == KEPT and level.pixels.npartitions > FEW
        # After the work on the full image: that takes long enough for the scheduler to keep up, and
        # halves that are there early take memory.
        with dask.annotate(priority=-1):
            level = _halved(level, enough, receipts if kept else None)


def _regular(level: Level) -> Level:
    """Cut a level anew unless its chunks but the last are alike, and whole tiles."""
    axes = level.pixels.chunks[:2]
    if fits(axes, TILE) and all(
        size == sizes[0] >= sizes[-1] for sizes in axes for size in sizes[:-1]
    ):
        return level
    # No more pixels than a chunk that is read, which fits.
    pixels = math.prod(level.pixels.chunksize[:2])
    side = SHARD
    while side > 2 * TILE and side * side > pixels:
        side //= 2
    mask = None if level.mask is None else level.mask.rechunk((side, side))
    return Level(level.pixels.rechunk((side, side, -1)), mask)


def _halved(level: Level, pixels: int, receipts: Receipts | None) -> Level:
    """Halve a level, in tasks on chunks that have about so many pixels together."""
    cuts = _cuts(level, pixels)
    if level.mask is None:
        return Level(_over_cuts("halve", _halve, cuts, receipts, level.pixels), None)
    return Level(
        _over_cuts("halve", _halve, cuts, receipts, level.pixels, level.mask),
        _over_cuts("halve-mask", _halve_mask, cuts, receipts, level.mask),
    )


def _cuts(level: Level, pixels: int) -> tuple[list[range], list[range]]:
    """Put neighbouring chunks into groups, rows and columns of chunks."""
    rows, columns, _ = level.pixels.chunks
    # Side by side first: chunks come row by row, and a whole row of them would wait for the next.
    down = _cut(rows, 1)
    across = _cut(columns, ceil_div(pixels, sum(rows[i] for i in down[0])))
    if len(across) == 1:
        down = _cut(rows, ceil_div(pixels, sum(columns)))
    return down, across


def _cut(sizes: tuple[int, ...], least: int) -> list[range]:
    """Put the chunks of an axis into groups, each of a size at least, the last one perhaps less.

    Half of a group begins where a tile does.
    """
    n = ceil_div(least, sizes[0])
    n += n * sizes[0] % (2 * TILE) != 0
    return [range(i, min(i + n, len(sizes))) for i in range(0, len(sizes), n)]


def _over_cuts(
    stage: str,
    work: Callable[..., npt.NDArray[Any]],
    cuts: tuple[list[range], list[range]],
    receipts: Receipts | None,
    *arrays: da.Array,
) -> da.Array:
    """Halve the first of some arrays: a task for each group of chunks, on these of all arrays."""
    array = arrays[0]
    dependencies: list[Any] = list(arrays)
    ((name, _),) = block_names(stage, [array.name for array in arrays], 1)
    graph: dict[Any, Any] = {}
    for (y, rows), (x, columns) in product(*map(enumerate, cuts)):
        blocks = [_block_names(array, rows, columns) for array in arrays]
        task = (work, *blocks)
        key = (name, y, x, *(0,) * (array.ndim - 2))
        graph[key] = task if receipts is None else receipts.task(f"{stage}-{KEPT}-{y}-{x}", task)
    chunks = [
        tuple(ceil_div(sum(sizes[i] for i in group), 2) for group in cut)
        for sizes, cut in zip(array.chunks, cuts, strict=False)
    ]
    return da.Array(
        HighLevelGraph.from_collections(name, graph, dependencies=dependencies),
        name,
        chunks=(*chunks, *array.chunks[2:]),
        dtype=array.dtype,
    )


def _block_names(array: da.Array, rows: range, columns: range) -> list[list[Any]]:
    """Keys of neighbouring chunks, row by row."""
    rest = (0,) * (array.ndim - 2)
    return [[(array.name, y, x, *rest) for x in columns] for y in rows]


def _halve(
    pixels: list[list[npt.NDArray[Any]]], masks: list[list[npt.NDArray[np.uint8]]] | None = None
) -> npt.NDArray[Any]:
    """Halve neighbouring chunks of shape (y, x, band) into one."""
    first = pixels[0][0]
    whole = first.dtype.kind != "f" and first.dtype.itemsize < 8
    # Sums of 64-bit integers fit into no integer.
    dtype = first.dtype if whole or first.dtype.kind == "f" else np.dtype(np.float64)
    out = np.empty((first.shape[2], *_half_shape(pixels)), dtype)
    valid = repeat(None) if masks is None else chain.from_iterable(masks)
    for (corner, block), mask in zip(_placed(pixels), valid, strict=False):
        if whole:
            zero = SUMS[dtype.itemsize](0)
            kernels.halve(block, valid_or_all(mask), zero, out, corner)
        else:
            kernels.halve_reals(block.astype(dtype, copy=False), valid_or_all(mask), out, corner)
    return np.moveaxis(out if dtype == first.dtype else rounded(out, first.dtype), 0, 2)


def _halve_mask(masks: list[list[npt.NDArray[np.uint8]]]) -> npt.NDArray[np.uint8]:
    """Halve neighbouring chunks of shape (y, x) into one."""
    out = np.empty(_half_shape(masks), np.uint8)
    for corner, block in _placed(masks):
        kernels.halve_mask(block, out, corner)
    return out


def _half_shape(blocks: list[list[npt.NDArray[Any]]]) -> tuple[int, int]:
    height = sum(row[0].shape[0] for row in blocks)
    return ceil_div(height, 2), ceil_div(sum(block.shape[1] for block in blocks[0]), 2)


def _placed(
    blocks: list[list[npt.NDArray[Any]]],
) -> Iterator[tuple[tuple[int, int], npt.NDArray[Any]]]:
    """Neighbouring chunks, each with where its half begins."""
    top = 0
    for row in blocks:
        left = 0
        for block in row:
            yield (top, left), block
            left += block.shape[1] // 2
        top += row[0].shape[0] // 2
