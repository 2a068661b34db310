"""Sizes in pixels, and nothing but integers: tiles, chunks and pyramid levels.

What is in the files is a function of the image alone, never of the cluster. Only how much is read
at once depends on the memory and the threads of the workers too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TILE = 512
"""Side of a Deep Zoom tile, and of a tile of a GeoTIFF."""

CHUNK = 1024
"""Side of a chunk of the stored indices: what is decoded to read one of them. Smaller ones cost
more time in zarr than in compression."""

SHARD = 4096
"""Largest side of a square chunk read or written at once."""

PIXELS = SHARD * SHARD
"""Pixels of such a chunk. A task holds at most two of them; see `task_bytes`."""

BYTES = 128 << 20
"""Bytes of samples that a task may read at once: fewer pixels where they have many bands."""

MIN_CHUNKS = 8
"""A small image is cut finer than that so that every core gets some of it."""

EACH = 16
"""Chunks that each thread is left with at least where two squares are made one: half as many tasks
for the scheduler, each of which costs some two milliseconds of a core."""


PROCESS = 344 << 20
"""Bytes of a worker process with its libraries and a look-up table from colours to the palette."""

FLOATING = 256 << 20
"""Bytes that come and go besides, if the image has so many: GDAL's blocks, results on their way,
pages that the allocator does not give back at once."""

COPIES = 3
"""Chunks that a thread holds at once: what is decoded, what is made of it, and the codec's."""

TABLE = 64 << 20
"""Bytes of the largest table that a thread has for colours of at most three 8-bit bands."""


def ceil_div(size: int, step: int) -> int:
    """Number of steps that cover a size.

    Examples
    --------
    >>> ceil_div(1025, 512)
    3
    """
    return -(-size // step)


def fits(chunks: tuple[tuple[int, ...], ...], multiple: int) -> bool:
    """Whether the chunks of each axis, but for the last, are multiples of a size.

    Examples
    --------
    >>> fits(((1024, 512, 7), (300,)), 512)
    True
    """
    return all(size % multiple == 0 for sizes in chunks for size in sizes[:-1])


@dataclass(frozen=True)
class Workers:
    """What chunks have to suit of those who work on them."""

    threads: int = 32
    """How many there are in all; the default is for when nobody knows."""

    room: int | None = None
    """Bytes of memory that each thread has; None without a limit."""


UNKNOWN = Workers()


@dataclass(frozen=True)
class ReadPlan:
    """How an image is cut for reading."""

    chunk: tuple[int, int]
    """Rows and columns of a chunk, multiples of `TILE`; what lies outside the image is left out."""

    spool: bool
    """True if chunks cannot be decoded one by one within the budget: copy the image first."""


def plan_reads(
    shape: tuple[int, int],
    block: tuple[int, int],
    pixel_bytes: int = 4,
    workers: Workers = UNKNOWN,
) -> ReadPlan:
    """Choose the chunks in which an image is read.

    Square chunks of up to `SHARD` pixels a side, halved until their samples fit into `BYTES`, and
    further in small images so that there is work for every core. Where each thread then has `EACH`
    chunks still and the bytes allow it, they are twice as large. A chunk is never smaller than a
    block of the file, strips as wide as the image among them, so that none is decoded for several
    chunks. A square of `TILE` is the least, even if the bands are so many that it takes more bytes.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the image.
    block : tuple of int
        Rows and columns of the blocks that the file is stored in.
    pixel_bytes : int, default 4
        Bytes of the samples of one pixel, the mask among them.
    workers : Workers, optional
        Who is going to read it.

    Returns
    -------
    ReadPlan

    Examples
    --------
    >>> plan_reads((32768, 32768), (512, 512), 3)
    ReadPlan(chunk=(4096, 4096), spool=False)
    >>> plan_reads((32768, 32768), (512, 512), 3, Workers(threads=2))
    ReadPlan(chunk=(4096, 8192), spool=False)
    >>> plan_reads((32768, 32768), (512, 512), 24)
    ReadPlan(chunk=(2048, 2048), spool=False)
    >>> plan_reads((32768, 32768), (512, 512), 3, Workers(room=80 << 20))
    ReadPlan(chunk=(1024, 1024), spool=False)
    >>> plan_reads((5000, 20000), (1, 20000))
    ReadPlan(chunk=(512, 20480), spool=False)
    >>> plan_reads((20000, 20000), (20000, 20000)).spool
    True
    """
    height, width = shape
    room = workers.room
    budget = BYTES if room is None else min(BYTES, (room - TABLE) // COPIES)
    most = max(TILE * TILE, min(PIXELS, budget // pixel_bytes))
    side = SHARD
    while side > TILE and side * side > most:
        side //= 2
    while side > 2 * TILE and ceil_div(height, side) * ceil_div(width, side) < MIN_CHUNKS:
        side //= 2
    rows, columns = (max(side, ceil_div(size, TILE) * TILE) for size in block)
    if rows * columns > most:
        rows = most // columns // TILE * TILE
    if rows < max(TILE, block[0]):
        return ReadPlan((side, side), spool=True)
    twice = 2 * rows * columns
    if height * width >= twice * EACH * workers.threads and twice * pixel_bytes <= budget:
        rows, columns = (rows, 2 * columns) if columns < width else (2 * rows, columns)
    return ReadPlan((rows, columns), spool=False)


def is_smaller(plan: ReadPlan, usual: ReadPlan) -> bool:
    """Whether a plan is smaller than another for want of memory, and slower by more than a little.

    Examples
    --------
    >>> is_smaller(ReadPlan((2048, 2048), spool=False), ReadPlan((4096, 8192), spool=False))
    True
    >>> is_smaller(ReadPlan((4096, 4096), spool=False), ReadPlan((4096, 8192), spool=False))
    False
    """
    return math.prod(plan.chunk) < min(PIXELS, math.prod(usual.chunk))


def process_bytes(raw: int) -> int:
    """Estimate the memory of a worker besides its threads.

    With `task_bytes` of each thread it is an upper limit of what was measured, and at most 1.5
    times as much: 8192 x 16384 pixels of 3 uint8 bands in chunks of 4096 took 599, 723 and 1154 MiB
    with 1, 2 and 4 threads (estimated 808, 1016, 1432), 8192 x 8192 of 11 uint16 bands in chunks of
    2048 took 753, 943 and 1114 MiB (estimated 864, 1128, 1656). The cells of many bands are not in
    it: 2048 x 4096 of 100 uint16 bands took 2.0 GB with 2 threads, where 1.26 are estimated.

    Parameters
    ----------
    raw : int
        Bytes of all samples of the image.

    Examples
    --------
    >>> process_bytes(3 * 32768**2) >> 20
    600
    """
    return PROCESS + min(FLOATING, raw)


def task_bytes(pixels: int, bands: int, itemsize: int, *, masked: bool = False) -> int:
    """Estimate the memory that a thread takes for a chunk, in every stage of a run.

    Parameters
    ----------
    pixels : int
        Pixels of the chunk.
    bands : int
        Bands of a pixel.
    itemsize : int
        Bytes of a sample.
    masked : bool, default False
        Whether there is a mask, read as one more band.

    Examples
    --------
    >>> task_bytes(4096 * 4096, 3, 1) >> 20, task_bytes(2048 * 2048, 11, 2) >> 20
    (208, 264)
    """
    counted = itemsize == 1 and bands <= 3
    return COPIES * pixels * (bands + masked) * itemsize + TABLE * counted


def forward_windows(shape: tuple[int, int], pixel_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Cut an image into windows for one pass from the first row to the last.

    Strips of full rows, at most `TILE` of them, a power of two so that they fit chunks. Where one
    row alone takes more than `BYTES`, it is read piece by piece.

    Examples
    --------
    >>> list(forward_windows((600, 20), 3))
    [(slice(0, 512, None), slice(0, 20, None)), (slice(512, 600, None), slice(0, 20, None))]
    """
    height, width = shape
    most = max(1, min(PIXELS, BYTES // pixel_bytes))
    wide = min(width, most)
    tall = min(TILE, 1 << ((most // wide).bit_length() - 1))
    for top in range(0, height, tall):
        for left in range(0, width, wide):
            yield slice(top, min(top + tall, height)), slice(left, min(left + wide, width))


def level_shapes(shape: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Rows and columns of every pyramid level, halved by ceiling, the full image first.

    Examples
    --------
    >>> level_shapes((5, 3))
    ((5, 3), (3, 2), (2, 1), (1, 1))
    """
    levels = [shape]
    while levels[-1] != (1, 1):
        height, width = levels[-1]
        levels.append((ceil_div(height, 2), ceil_div(width, 2)))
    return tuple(levels)


def tiles(
    shape: tuple[int, ...], corner: tuple[int, int]
) -> Iterator[tuple[str, tuple[slice, slice]]]:
    """Yield the name, ``COLUMN_ROW``, and the slices of each tile of a block of a level.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the block, and what else there is.
    corner : tuple of int
        Where it begins in the level; whole tiles.

    Examples
    --------
    >>> [name for name, _ in tiles((600, 512), (1024, 0))]
    ['0_2', '0_3']
    """
    top, left = corner
    for y in range(0, shape[0], TILE):
        for x in range(0, shape[1], TILE):
            name = f"{(left + x) // TILE}_{(top + y) // TILE}"
            yield name, (slice(y, y + TILE), slice(x, x + TILE))


def split(size: int, step: int) -> tuple[int, ...]:
    """Lengths of the pieces that a size is cut into, the last one perhaps shorter.

    Examples
    --------
    >>> split(1025, 512)
    (512, 512, 1)
    """
    return tuple(min(step, size - start) for start in range(0, size, step))
