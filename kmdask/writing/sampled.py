"""What indices take as they are stored, measured on some of their chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed

from kmdask.chunks import CHUNK, ceil_div
from kmdask.encoding import encode
from kmdask.graphs import block_names, shared
from kmdask.palette import index_dtype
from kmdask.writing.codecs import encoded_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from kmdask.fitting.space import Space
    from kmdask.palette import Palette

Window: TypeAlias = "tuple[da.Array, da.Array | None]"
"""Pixels and mask of a chunk, each in one piece."""

SAMPLE = 64
"""Chunks of a sample: what they come to is off by some 5 % of scenes of a gigapixel (measured)."""

BYTES = 256 << 20
"""Pixels of a sample at most, in bytes: fewer chunks where they have many bands."""

PLASTIC = 1.32471795724474602596
"""The real root of x³ = x + 1."""


class Piece(NamedTuple):
    """What is found out about a chunk."""

    bytes: int
    """What its indices take as they are stored."""

    bits: float
    """What they would take in a code of given lengths."""


def sample_windows(shape: tuple[int, int], n: int, side: int = CHUNK) -> list[tuple[slice, slice]]:
    """Choose some of the chunks that the indices of an image are stored in, or of other squares.

    By the size of the image alone, spread over all of it, how ever many are taken, by the
    low-discrepancy sequence of the plastic number [1]_.

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

    References
    ----------
    .. [1] M. Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018: the
       sequence R2.

    Examples
    --------
    >>> sample_windows((3000, 20000), 1)
    [(slice(1024, 2048, None), slice(10240, 11264, None))]
    """
    height, width = shape
    down, across = ceil_div(height, side), ceil_div(width, side)
    chosen: set[tuple[int, int]] = set()
    if n >= down * across:
        chosen.update(np.ndindex(down, across))
    y = x = 0.5
    while len(chosen) < min(n, down * across):
        chosen.add((int(y * down), int(x * across)))
        y, x = (y + 1 / PLASTIC) % 1, (x + 1 / PLASTIC**2) % 1
    corners = [(side * row, side * column) for row, column in sorted(chosen)]
    return [
        (slice(top, min(top + side, height)), slice(left, min(left + side, width)))
        for top, left in corners
    ]


def affordable(pixels: da.Array, n: int = SAMPLE) -> int:
    """Number of chunks, at most n and at least one, whose pixels may be kept."""
    each = min(CHUNK, pixels.shape[0]) * min(CHUNK, pixels.shape[1]) * pixels.shape[2]
    return min(n, max(1, BYTES // int(each * pixels.dtype.itemsize)))


def cut(pixels: da.Array, mask: da.Array | None, n: int) -> list[Window]:
    """Cut the sampled chunks out of an image, lazily: out of what is read for other ends too.

    Parameters
    ----------
    pixels : dask array of shape (y, x, band)
    mask : dask array of shape (y, x), optional
    n : int
        How many.
    """
    return [
        (_piece(pixels, where), None if mask is None else _piece(mask, where))
        for where in sample_windows((int(pixels.shape[0]), int(pixels.shape[1])), n)
    ]


def _piece(array: da.Array, where: tuple[slice, slice]) -> da.Array:
    part = array[where].rechunk(-1)
    meta = np.empty((0,) * part.ndim, part.dtype)
    # A view would keep all of what it is cut out of.
    piece: da.Array = da.map_blocks(np.copy, part, dtype=part.dtype, meta=meta, token="cut")
    return piece


def measured(
    windows: Sequence[Window],
    palette: Palette,
    space: Space | None,
    lengths: npt.NDArray[np.float64],
    *,
    codec: str,
    smooth: float = 0.0,
) -> list[Delayed]:
    """Compress the indices of sampled chunks as a bundle stores them, lazily.

    Parameters
    ----------
    windows : sequence of tuple
        Pixels and mask of each; without masks no pixel of the image is missing.
    palette : Palette
    space : Space, optional
        Where the nearest entry is looked for.
    lengths : float64 array of shape (entries,)
        What each index takes in a code, in bits, last the one of missing pixels.
    codec : str
        One of `kmdask.options.CODECS`.
    smooth : float, default 0
        As for `kmdask.encode`.

    Returns
    -------
    list of Delayed
        A `Piece` of each.
    """
    indices = [
        encode(pixels, palette, mask, space=space, smooth=smooth).rechunk(-1)
        for pixels, mask in windows
    ]
    token = ([each.name for each in indices], lengths, codec)
    names = block_names("sample", token, len(indices))
    code = shared(lengths)
    return [
        delayed(_measured, pure=True)(
            each.to_delayed(optimize_graph=False).item(),
            None if mask is None else palette.nodata,
            len(palette) + (mask is not None),
            code,
            codec,
            dask_key_name=name,
        )
        for each, (_, mask), name in zip(indices, windows, names, strict=True)
    ]


def _measured(
    indices: npt.NDArray[Any],
    fill: int | None,
    entries: int,
    lengths: npt.NDArray[np.float64],
    codec: str,
) -> Piece:
    # Zarr fills up the chunks at the edges.
    chunk = np.full((CHUNK, CHUNK), 0 if fill is None else fill, index_dtype(entries))
    chunk[: indices.shape[0], : indices.shape[1]] = indices
    counts = np.bincount(indices.ravel(), minlength=len(lengths))
    return Piece(encoded_bytes(chunk, codec, entries), float(counts @ lengths))
