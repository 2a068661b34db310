"""What reading a source takes, and what is refused before any of it is spent.

Headers are cheap to forge: a file of 100 bytes can claim 2**31 x 2**31 pixels. Three rules, none of
which an honest image meets:

- No more than `MOST_PIXELS` pixels and `MOST_CHUNKS` chunks: what a scheduler can hold.
- No more than `MOST_SQUARE` bytes in the smallest chunk there is, so many bands an image may have.
- A file that has to be copied first, as it can only be decoded from the first row on, may unfold
  to at most `MOST_UNFOLDED` times its size. The coders of such files cannot do more: deflate
  reaches 1032 times, the LZW of GIF 2730 times, JPEG less than 600; one bit a pixel becomes eight.
  Up to `SMALL` bytes anything goes.

(Blocks that can be decoded one by one but are huge are refused where sources are opened.)
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kmdask import storage
from kmdask.chunks import TILE, UNKNOWN, ReadPlan, Workers, ceil_div, is_smaller, plan_reads
from kmdask.errors import UnsupportedImageError
from kmdask.reading import remote

if TYPE_CHECKING:
    from kmdask.reading.layout import Layout
    from kmdask.reading.sources import Source

logger = logging.getLogger(__name__)

MOST_PIXELS = 10**13
MOST_CHUNKS = 1 << 19
MOST_SQUARE = 1 << 30
MOST_UNFOLDED = 8 * 2731
SMALL = 1 << 30


def sample_bytes(source: Source) -> int:
    """Bytes of the samples of one pixel, the mask among them."""
    return (len(source.bands) + source.masked) * source.dtype.itemsize


def plan_source(source: Source, workers: Workers = UNKNOWN) -> ReadPlan:
    """Choose the chunks in which a source is read.

    Parameters
    ----------
    source : Source
    workers : Workers, optional
        Who is going to read it.

    Raises
    ------
    UnsupportedImageError
        If it claims more than any image has.
    """
    pixel_bytes = sample_bytes(source)
    plan = _plan(source.path, source.shape, source.block, pixel_bytes, workers)
    if plan.spool:
        height, width = source.shape
        _check_unfolding(source, height * width * pixel_bytes)
    return plan


def plan_array(name: str, layout: Layout, workers: Workers = UNKNOWN) -> ReadPlan:
    """Choose the chunks into which an array in Python is cut, as `plan_source` does."""
    pixel_bytes = (len(layout.bands) + layout.masked) * layout.dtype.itemsize
    return _plan(name, layout.shape, (1, 1), pixel_bytes, workers)


def _plan(
    name: str,
    shape: tuple[int, int],
    block: tuple[int, int],
    pixel_bytes: int,
    workers: Workers,
) -> ReadPlan:
    height, width = shape
    size = f"{width} x {height} pixels"
    if height * width > MOST_PIXELS:
        raise UnsupportedImageError.of(name, f"it claims {size}, more than {MOST_PIXELS:.0e}")
    if pixel_bytes * TILE * TILE > MOST_SQUARE:
        reason = (
            f"its bands take {pixel_bytes} bytes a pixel, more than {MOST_SQUARE // TILE**2}: "
            "choose some of them by `bands`"
        )
        raise UnsupportedImageError.of(name, reason)
    plan = plan_reads(shape, block, pixel_bytes, workers)
    usual = plan_reads(shape, block, pixel_bytes, replace(workers, room=None))
    _tell_if_smaller(plan, usual, workers.room)
    rows, columns = plan.chunk
    chunks = ceil_div(height, rows) * ceil_div(width, columns)
    if chunks > MOST_CHUNKS:
        reason = f"{size} are {chunks} chunks to read, more than {MOST_CHUNKS}"
        raise UnsupportedImageError.of(name, reason)
    return plan


def size_of(path: str | Path) -> int:
    """Size in bytes of a file, or of all files in a directory; 0 if that is not known."""
    if remote.is_remote(str(path)):
        return remote.size_of(str(path))
    # What GDAL calls files, such as /vsizip/..., is no path.
    return storage.size_of(Path(path))


def _tell_if_smaller(plan: ReadPlan, usual: ReadPlan, room: int | None) -> None:
    if is_smaller(plan, usual):
        logger.warning(
            "workers have %d MB of memory for each thread: reading %d x %d pixels at once, not "
            "%d x %d, which takes longer; fewer threads have more memory each",
            (room or 0) >> 20, *plan.chunk, *usual.chunk,
        )  # fmt: skip


def _check_unfolding(source: Source, unfolded: int) -> None:
    stored = size_of(source.location)
    if remote.is_remote(source.location) and not stored and unfolded > SMALL:
        reason = f"it has to be decoded whole, to {unfolded} bytes, and its own size is not known"
        raise UnsupportedImageError.of(source.path, f"{reason}: copy it to where workers see it")
    if stored and unfolded > max(SMALL, MOST_UNFOLDED * stored):
        reason = (
            f"it is {stored} bytes and claims to hold {unfolded}, more than {MOST_UNFOLDED} times "
            "as many, and would have to be decoded whole: its header is damaged or hostile"
        )
        raise UnsupportedImageError.of(source.path, reason)
