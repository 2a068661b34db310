"""The levels of an image, each half the size of the one before, down to one pixel.

A level is averaged as colour from the colours of the level before and encoded afresh; averaged
indices would be colours that are nowhere in the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np

from kmdask.chunks import SHARD, TILE, ceil_div, fits
from kmdask.kernels import tiles as kernels
from kmdask.pixels import checked, rounded, valid_or_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from kmdask.writing.receipts import Receipts


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

    Each chunk of a level is a task on the chunks under it. Chunks too small to be halved into
    whole tiles are joined into large ones first. Halving has a lower priority than what is done
    with the image itself.

    Parameters
    ----------
    pixels : dask array of shape (y, x, band)
        In any chunks.
    mask : dask array of shape (y, x), optional
        0 where a pixel is invalid.
    receipts : Receipts, optional
        Where chunks that have become too small to be halved further are kept, so that a run that
        goes on need not read again what is under them.

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
    level = Level(*checked(pixels, mask))
    side = _side(level)
    level = _joined(level, TILE, side)
    halvings = 0
    while True:
        yield level
        if level.shape == (1, 1):
            return
        # After the work on the full image: that takes long enough for the scheduler to keep up, and
        # halves that are there early take memory.
        with dask.annotate(priority=-1):
            level = _halved(_joined(level, 2 * TILE, side))
        halvings += 1
        # Joined now, before it is encoded and written: that is less work for the scheduler.
        if not fits(level.pixels.chunks[:2], 2 * TILE):
            kept = level if receipts is None else _kept(level, halvings, receipts)
            level = _joined(kept, 2 * TILE, side)


def _side(level: Level) -> int:
    """Choose the side of joined chunks: no more pixels than a chunk that is read, which fits."""
    pixels = max(level.pixels.chunks[0]) * max(level.pixels.chunks[1])
    side = SHARD
    while side > 2 * TILE and side * side > pixels:
        side //= 2
    return side


def _joined(level: Level, multiple: int, side: int) -> Level:
    """Join chunks into large ones, unless each but the last is a multiple of a size already."""
    if fits(level.pixels.chunks[:2], multiple):
        return level
    chunks = (side, side)
    mask = None if level.mask is None else level.mask.rechunk(chunks)
    return Level(level.pixels.rechunk((*chunks, -1)), mask)


def _kept(level: Level, halvings: int, receipts: Receipts) -> Level:
    def kept(array: da.Array, stage: str) -> da.Array:
        # Of a given type: it would be found out by a call that keeps something.
        return receipts.map_blocks(
            _as_it_is,
            array,
            f"{stage}:{halvings}",
            dtype=array.dtype,
            meta=array._meta,  # noqa: SLF001
        )

    mask = None if level.mask is None else kept(level.mask, "keep-mask")
    return Level(kept(level.pixels, "keep"), mask)


def _as_it_is(block: npt.NDArray[Any], block_info: Any = None) -> npt.NDArray[Any]:  # noqa: ARG001
    return block


def _halved(level: Level) -> Level:
    rows, columns, _ = level.pixels.chunks
    chunks = (
        tuple(ceil_div(size, 2) for size in rows),
        tuple(ceil_div(size, 2) for size in columns),
    )
    # Not map_blocks: it would take a mask of three axes, and cutting one a task for each block.
    pixels: da.Array = da.blockwise(
        _halve,
        "yxb",
        level.pixels,
        "yxb",
        *(() if level.mask is None else (level.mask, "yx")),
        adjust_chunks=dict(zip("yx", chunks, strict=True)),
        dtype=level.pixels.dtype,
        meta=np.empty((0, 0, 0), level.pixels.dtype),
        token="halve",
    )
    mask = None
    if level.mask is not None:
        mask = da.map_blocks(
            kernels.halve_mask,
            level.mask,
            chunks=chunks,
            dtype=np.uint8,
            meta=np.empty((0, 0), np.uint8),
            token="halve-mask",
        )
    return Level(pixels, mask)


def _halve(pixels: npt.NDArray[Any], mask: npt.NDArray[np.uint8] | None = None) -> npt.NDArray[Any]:
    valid = valid_or_all(mask)
    height, width, bands = pixels.shape
    out = np.empty((bands, ceil_div(height, 2), ceil_div(width, 2)), pixels.dtype)
    if pixels.dtype.kind == "f":
        kernels.halve_reals(pixels, valid, out)
    elif pixels.dtype.itemsize < 8:
        zero = SUMS[pixels.dtype.itemsize](0)
        kernels.halve(pixels, valid, zero, out)
    else:
        # Sums of 64-bit integers fit into no integer.
        reals = np.empty(out.shape)
        kernels.halve_reals(pixels.astype(np.float64), valid, reals)
        out = rounded(reals, pixels.dtype)
    return np.moveaxis(out, 0, 2)
