"""Pixels to colours with weights: exact counts of the different colours of an image.

A gigapixel holds some 10**6 different colours, and k-means over all pixels is k-means over the
different colours, each weighted by how often it occurs. Each chunk is counted where it is read;
only its list of colours (12 bytes each, never more than there are pixels) travels, and lists are
added up in a tree.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import dask
import dask.array as da
import numpy as np
from dask.core import flatten
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph

from kmdask.chunks import split
from kmdask.errors import EmptyImageError, ParameterError
from kmdask.graphs import block_names, merge_tasks
from kmdask.kernels import colors as kernels

if TYPE_CHECKING:
    import numpy.typing as npt

ROWS = 1 << 19
"""Colours in a block: fixed, so that sums over blocks do not depend on the cluster."""

BANDS = (1, 3)
"""Numbers of bands that pixels can have: grey, or red, green and blue."""

ALL_VALID = np.empty((0, 0), np.uint8)
"""What kernels take for a mask where every pixel is valid."""


class ColorTable(NamedTuple):
    """Different colours and how often each occurs, as it travels between workers."""

    codes: npt.NDArray[np.uint32]
    """Morton codes, ascending, of shape (n,)."""

    counts: npt.NDArray[np.int64]
    """Pixels of each colour, of shape (n,)."""


@dataclass(frozen=True)
class WeightedColors:
    """The different colours of an image, each with the number of its pixels, kept on the workers.

    Rows are sorted along a Morton curve, so that near rows are near colours.
    """

    colors: da.Array
    """float32 array of shape (n, band), in the units of the image."""

    counts: da.Array
    """int64 array of shape (n,), in the same blocks of rows."""

    pixels: int
    """Number of valid pixels: the sum of the counts."""

    def __len__(self) -> int:
        return int(self.colors.shape[0])


def count_colors(pixels: da.Array, mask: da.Array | None = None) -> WeightedColors:
    """Count the different colours of an image.

    One pass over the pixels. On return they are counted, and the result stays where Dask's current
    scheduler keeps it.

    Parameters
    ----------
    pixels : dask array of shape (y, x, band), uint8
        One or three bands.
    mask : dask array of shape (y, x), optional
        0 where a pixel is invalid and not counted. By default every pixel is valid.

    Returns
    -------
    WeightedColors

    Raises
    ------
    ParameterError
        If the arrays are not as said.
    EmptyImageError
        If no pixel is valid.

    Examples
    --------
    >>> import dask.array as da, numpy as np
    >>> pixels = da.from_array(np.array([[[255, 0, 0], [0, 0, 9], [255, 0, 0]]], np.uint8))
    >>> counted = count_colors(pixels)
    >>> counted.colors.compute()
    array([[  0.,   0.,   9.],
           [255.,   0.,   0.]], dtype=float32)
    >>> counted.counts.compute()
    array([1, 2])
    """
    (table,) = dask.persist(color_table(pixels, mask)[0])
    return weighted_colors(table, bands=pixels.shape[2])


def checked(pixels: da.Array, mask: da.Array | None = None) -> tuple[da.Array, da.Array | None]:
    """Check that arrays are pixels and mask as kernels take them; chunk them alike.

    Raises
    ------
    ParameterError
        If they are not uint8 pixels of shape (y, x, band) and a mask of shape (y, x).
    """
    if pixels.ndim != 3 or pixels.shape[2] not in BANDS or pixels.dtype != np.uint8:
        msg = (
            "pixels are a uint8 array of shape (y, x, band) with 1 or 3 bands; got "
            f"{pixels.dtype} of shape {pixels.shape}"
        )
        raise ParameterError(msg)
    pixels = pixels.rechunk({2: -1})
    if mask is None:
        return pixels, None
    if mask.shape != pixels.shape[:2]:
        msg = f"the mask has shape {mask.shape}, the pixels {pixels.shape}: they must agree"
        raise ParameterError(msg)
    if mask.dtype != np.uint8:
        mask = (mask != 0).astype(np.uint8)
    return pixels, mask.rechunk(pixels.chunks[:2])


def color_table(pixels: da.Array, mask: da.Array | None = None) -> tuple[Delayed, da.Array]:
    """Count the colours of an image, lazily.

    Returns
    -------
    table : Delayed
        The `ColorTable` of the image.
    counted : dask array of shape (chunks,), int64
        The valid pixels of each chunk, known when it has been counted.
    """
    pixels, mask = checked(pixels, mask)
    arrays: list[Any] = [pixels] if mask is None else [pixels, mask]
    blocks = list(flatten(pixels.__dask_keys__()))
    masks = [ALL_VALID] * len(blocks) if mask is None else list(flatten(mask.__dask_keys__()))
    token = [array.name for array in arrays]
    names = block_names("count", token, len(blocks))
    graph: dict[Any, Any] = {
        name: (_count, block, valid)
        for name, block, valid in zip(names, blocks, masks, strict=True)
    }
    root, merging = merge_tasks(_merge, names, "merge")
    done = block_names("counted", token, len(blocks))
    graph |= merging | {key: (_pixels, name) for key, name in zip(done, names, strict=True)}
    whole = HighLevelGraph.from_collections(done[0][0], graph, dependencies=arrays)
    counted = da.Array(whole, done[0][0], chunks=((1,) * len(done),), dtype=np.int64)
    return Delayed(root, whole, layer=done[0][0]), counted


def weighted_colors(table: Delayed, bands: int) -> WeightedColors:
    """Spread a persisted `ColorTable` over blocks of rows.

    Raises
    ------
    EmptyImageError
        If the table has no colours.
    """
    n, pixels = dask.compute(delayed(_totals)(table))[0]
    if n == 0:
        msg = (
            "every pixel of the image is invalid (transparent, masked or nodata), so there are "
            "no colours to choose from; check the alpha band or the nodata value of the source"
        )
        raise EmptyImageError(msg)
    rows = split(n, ROWS)
    names = block_names("colors", table.key, len(rows))
    colors, counts = [], []
    for i, name in enumerate(names):
        part = delayed(_rows, pure=True, nout=2)(table, i * ROWS, bands, dask_key_name=name)
        colors.append(da.from_delayed(part[0], (rows[i], bands), np.float32))
        counts.append(da.from_delayed(part[1], (rows[i],), np.int64))
    spread = dask.persist(da.concatenate(colors), da.concatenate(counts))
    return WeightedColors(colors=spread[0], counts=spread[1], pixels=pixels)


def valid_or_all(mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The mask as kernels take it: `ALL_VALID` where nothing is invalid, which is much faster."""
    return ALL_VALID if mask.all() else mask


_scratch = threading.local()


def _count(pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> ColorTable:
    # The table is kept per thread: paging in 64 MiB afresh costs more than counting a chunk.
    # It is set aside while in use, so that what a failure leaves in it is not counted again.
    table = _scratch.__dict__.pop("table", None)
    if table is None:
        table = np.zeros(1 << kernels.CODE_BITS, np.uint32)
    counted = ColorTable(*kernels.count(pixels, valid_or_all(mask), table))
    _scratch.table = table
    return counted


def _pixels(table: ColorTable) -> npt.NDArray[np.int64]:
    return np.array([table.counts.sum()])


def _merge(tables: list[ColorTable]) -> ColorTable:
    # Lists of millions of colours add up several times faster in a table than pair by pair.
    table = np.zeros(1 << kernels.CODE_BITS, np.int64)
    for codes, counts in tables:
        kernels.add(codes, counts, table)
    return ColorTable(*kernels.drain(table))


def _totals(table: ColorTable) -> tuple[int, int]:
    return table.codes.size, int(table.counts.sum())


def _rows(
    table: ColorTable, start: int, bands: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    rows = slice(start, start + ROWS)
    colors = kernels.decode_codes(table.codes[rows], bands)
    return colors.astype(np.float32), table.counts[rows]
