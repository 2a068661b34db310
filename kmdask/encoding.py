"""From pixels to the indices of their palette entries, and back."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

from kmdask.chunks import SHARD, TILE, ceil_div, fits
from kmdask.errors import ParameterError
from kmdask.fitting.search import nearest_rows, prepared
from kmdask.fitting.space import LinearSpace
from kmdask.graphs import shared
from kmdask.kernels import table as kernels
from kmdask.kernels.colors import CODE_BITS, decode_codes
from kmdask.kernels.nearest import nearest_pixels
from kmdask.kernels.views import frozen
from kmdask.palette import Palette, check_room, index_dtype
from kmdask.pixels import checked, countable, valid_or_all
from kmdask.smoothing import check_smooth, smooth_block, spacing
from kmdask.units import several

if TYPE_CHECKING:
    import numpy.typing as npt

    from kmdask.fitting.space import Space


PART = 1 << 16
"""Colours of a table that are turned into features at a time, in 1.5 MB."""


def encode(
    pixels: da.Array,
    palette: Palette,
    mask: da.Array | None = None,
    *,
    space: Space | None = None,
    smooth: float = 0.0,
) -> da.Array:
    """Swap each pixel for the index of its nearest palette entry, lazily.

    Exact: the entry of smallest squared distance, with what the palette adds to it if it has
    penalties, the lowest index where several are as near. Up to
    three bands of 8 bits are looked up in a table of all colours (16 MiB, built once in each
    process), at a cost that does not depend on k; other pixels, and those of a `LinearSpace`, are
    compared with the entries that can be nearest in their neighbourhood.

    Parameters
    ----------
    pixels : dask array of shape (y, x, band)
    palette : Palette
        Of the same number of bands.
    mask : dask array of shape (y, x), optional
        0 where a pixel is invalid; it gets the index `Palette.nodata`.
    space : Space, optional
        Where distances are measured. By default between the bands as they are.
    smooth : float, default 0
        How much error a pixel may take for indices that cost fewer bits, see Notes: its squared
        distance grows by at most this times the palette's spacing, which is the mean squared
        distance between an entry and the nearest of the others. With 0 it does not. Depending on
        the image, 0.1 to 0.5 cost 0.1 dB.

    Returns
    -------
    dask array of shape (y, x), uint8 up to 256 entries with that of invalid pixels, else uint16
        In the chunks of the pixels; if `smooth` is not 0, they are joined to multiples of 512.

    Raises
    ------
    ParameterError
        If the bands do not agree, the space is not theirs, there is no index left for invalid
        pixels, or `smooth` is negative or not finite.

    Notes
    -----
    With ``smooth=λ`` squares of 512 x 512 pixels from the image's origin are encoded each by
    itself, row by row from the top. A valid pixel may take the entry nearest to itself, to the
    pixel on its left, on its right or below, or that which the pixel above has taken. Those of a
    row are chosen together [1]_, to make least the sum over its pixels of

    * the squared distance to the entry taken,
    * 0.4 λs if the pixel on the left takes another,
    * 0.1 λs if the pixel above has taken another, and 0.1 λs if another is nearest to that below,

    where s is the palette's spacing. Neighbours outside the square, or invalid, are left out. For a
    pixel to take its nearest entry after all would cost λs at most in these terms, which is why its
    squared distance is not larger by more.

    References
    ----------
    .. [1] A. J. Viterbi, "Error bounds for convolutional codes and an asymptotically optimum
       decoding algorithm", IEEE Transactions on Information Theory 13 (1967) 260-269.

    Examples
    --------
    >>> import dask.array as da
    >>> palette = Palette(np.array([[0, 0, 0], [255, 255, 255]], np.uint8))
    >>> pixels = da.from_array(np.array([[[9, 9, 9], [200, 255, 255]]], np.uint8))
    >>> encode(pixels, palette).compute()
    array([[0, 1]], dtype=uint8)
    """
    pixels, mask = checked(pixels, mask)
    if pixels.shape[2] != palette.bands:
        have = several(pixels.shape[2], "band")
        msg = f"the pixels have {have}, the palette has {palette.bands}"
        raise ParameterError(msg)
    if space is not None:
        space.check(palette.bands, pixels.dtype)
        space.check(palette.bands, palette.colors.dtype)
    check_room(len(palette), masked=mask is not None)
    limit = check_smooth(smooth)
    if limit:
        limit *= spacing(palette, space)
        pixels, mask = _joined(pixels, mask)
    dtype = index_dtype(len(palette) + (mask is not None))
    table = countable(pixels) and palette.colors.dtype == np.uint8
    table = table and not isinstance(space, LinearSpace)
    # Not map_blocks: to drop the axis of bands it would copy every block.
    indices: da.Array = da.blockwise(
        _look_up if table else _search,
        "yx",
        pixels,
        "yxb",
        *(() if mask is None else (mask, "yx")),
        palette=shared(palette),
        index_dtype=dtype,
        space=space,
        limit=limit,
        concatenate=False,
        dtype=dtype,
        meta=np.empty((0, 0), dtype),
        token="encode",
    )
    return indices


def decode(indices: da.Array, palette: Palette, fill: npt.ArrayLike | None = None) -> da.Array:
    """Swap indices for their colours, lazily.

    Parameters
    ----------
    indices : dask array of shape (y, x), uint8 or uint16
    palette : Palette
    fill : array of shape (band,), optional
        The value of each band of an invalid pixel; by default 0.

    Returns
    -------
    dask array of shape (y, x, band), of the data type of the palette
    """
    dtype = palette.colors.dtype
    colors: da.Array = da.map_blocks(
        decode_block,
        indices,
        palette=shared(palette),
        fill=fill,
        dtype=dtype,
        meta=np.empty((0, 0, 0), dtype),
        chunks=(*indices.chunks, (palette.bands,)),
        new_axis=2,
        token="decode",
    )
    return colors


def decode_block(
    indices: npt.NDArray[np.unsignedinteger[Any]],
    palette: Palette,
    fill: npt.ArrayLike | None = None,
) -> npt.NDArray[Any]:
    """`decode` for one block in memory."""
    last = np.zeros((1, palette.bands), palette.colors.dtype)
    if fill is not None:
        last[0] = fill
    # Damaged indices must not raise here: whatever lies beyond the palette is invalid.
    colors: npt.NDArray[Any] = np.take(
        np.concatenate([palette.colors, last]), indices, axis=0, mode="clip"
    )
    return colors


def _joined(pixels: da.Array, mask: da.Array | None) -> tuple[da.Array, da.Array | None]:
    """Join chunks to multiples of the squares that are smoothed, if they are none."""
    if fits(pixels.chunks[:2], TILE):
        return pixels, mask
    rows, columns = (min(SHARD, ceil_div(max(sizes), TILE) * TILE) for sizes in pixels.chunks[:2])
    return (
        pixels.rechunk((rows, columns, -1)),
        None if mask is None else mask.rechunk((rows, columns)),
    )


def _search(
    pixels: list[npt.NDArray[Any]],
    mask: npt.NDArray[np.uint8] | None = None,
    *,
    palette: Palette,
    index_dtype: np.dtype[Any],
    space: LinearSpace | None,
    limit: float,
) -> npt.NDArray[np.unsignedinteger[Any]]:
    (block,) = pixels  # the one chunk over all bands
    indices = np.empty(block.shape[:2], index_dtype)
    ready = prepared(palette.colors.astype(np.float64), space, palette.penalties)
    nearest_pixels(block, valid_or_all(mask), *ready, palette.nodata, indices)
    if limit:
        smooth_block(block, indices, palette, space, limit)
    return indices


def _look_up(
    pixels: list[npt.NDArray[np.uint8]],
    mask: npt.NDArray[np.uint8] | None = None,
    *,
    palette: Palette,
    index_dtype: np.dtype[Any],
    space: Space | None,
    limit: float,
) -> npt.NDArray[np.unsignedinteger[Any]]:
    (block,) = pixels
    indices = np.empty(block.shape[:2], index_dtype)
    kernels.look_up(block, valid_or_all(mask), _table(palette, space), palette.nodata, indices)
    if limit:
        smooth_block(block, indices, palette, space, limit)
    return indices


def entries_of_codes(codes: npt.NDArray[np.uint32], palette: Palette) -> npt.NDArray[np.uint16]:
    """Find the entries of colours by their Morton codes, as `encode` does without a space.

    The colours are few beside those of the table, and most palettes that are tried encode nothing.
    """
    indices = np.empty(len(codes), np.uint16)
    kernels.nearest_of_codes(frozen(codes), *_as_tables_take_it(palette), indices)
    return indices


_building = threading.Lock()


def _table(palette: Palette, space: Space | None) -> npt.NDArray[np.unsignedinteger[Any]]:
    # Rebuilt from the palette in every process, which is faster than sending it there; one thread
    # builds, the others wait for it.
    with _building:
        return _cached_table(palette, space)


@lru_cache(maxsize=2)
def _cached_table(palette: Palette, space: Space | None) -> npt.NDArray[np.unsignedinteger[Any]]:
    table = np.zeros(1 << CODE_BITS, index_dtype(len(palette)))
    added = palette.penalties
    if space is None:
        kernels.nearest_table(*_as_tables_take_it(palette), table)
        return table
    entries = palette.colors.astype(np.float64)
    for part in range(0, len(table), PART):
        codes = np.arange(part, part + PART, dtype=np.uint32)
        colors = decode_codes(codes, palette.bands)
        table[part : part + PART] = nearest_rows(colors, entries, space, added)
    return table


def _as_tables_take_it(palette: Palette) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    added = np.zeros(len(palette)) if palette.penalties is None else palette.penalties
    return frozen(palette.colors), frozen(added)
