"""What indices take as they are stored, measured on a few of their chunks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from dask.delayed import Delayed, delayed
from numcodecs import get_codec

from kmdask.chunks import CHUNK, ceil_div
from kmdask.encoding import encode
from kmdask.graphs import block_names
from kmdask.writing.codecs import ZSTD

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dask.array as da
    import numpy.typing as npt

    from kmdask.fitting.space import Space
    from kmdask.palette import Palette

GOLDEN = (math.sqrt(5) - 1) / 2


def sample_windows(shape: tuple[int, int], n: int, side: int = CHUNK) -> list[tuple[slice, slice]]:
    """Choose some of the chunks that the indices of an image are stored in, or of other squares.

    By the size of the image alone, spread over all of it: multiples of the golden ratio are, how
    ever many are taken.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the image.
    n : int
        How many; all if there are no more.
    side : int, default 1024
        Side of a square in pixels.

    Returns
    -------
    list of tuple of slice
        Rows and columns of each, in the order of the image.

    Examples
    --------
    >>> sample_windows((3000, 20000), 1)
    [(slice(0, 1024, None), slice(18432, 19456, None))]
    """
    height, width = shape
    columns = ceil_div(width, side)
    total = ceil_div(height, side) * columns
    chosen: set[int] = set(range(total)) if n >= total else set()
    place = GOLDEN / 2
    while len(chosen) < min(n, total):
        chosen.add(int(place * total))
        place = (place + GOLDEN) % 1
    corners = [(side * (i // columns), side * (i % columns)) for i in sorted(chosen)]
    return [
        (slice(top, min(top + side, height)), slice(left, min(left + side, width)))
        for top, left in corners
    ]


def chunk_bytes(
    windows: Sequence[tuple[da.Array, da.Array | None]], palette: Palette, space: Space | None
) -> list[Delayed]:
    """Compress the indices of windows as chunks of a bundle are compressed by default, lazily.

    Parameters
    ----------
    windows : sequence of tuple
        Pixels and mask of each, in one chunk.
    palette : Palette
    space : Space, optional
        Where the nearest entry is looked for.

    Returns
    -------
    list of Delayed
        The number of bytes of each.
    """
    indices = [encode(pixels, palette, mask, space=space) for pixels, mask in windows]
    names = block_names("chunk-bytes", [each.name for each in indices], len(indices))
    return [
        delayed(_compressed, pure=True)(
            each.to_delayed(optimize_graph=False).item(),
            0 if mask is None else palette.nodata,
            dask_key_name=name,
        )
        for each, (_, mask), name in zip(indices, windows, names, strict=True)
    ]


def _compressed(indices: npt.NDArray[Any], fill: int) -> int:
    # Zarr fills up the chunks at the edges.
    chunk = np.full((CHUNK, CHUNK), fill, indices.dtype)
    chunk[: indices.shape[0], : indices.shape[1]] = indices
    return len(get_codec(ZSTD["compressors"]).encode(chunk))
