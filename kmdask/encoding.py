"""From pixels to the indices of their palette entries, and back."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

from kmdask.errors import ParameterError
from kmdask.fitting.search import prepared
from kmdask.graphs import shared
from kmdask.kernels import colors as kernels
from kmdask.kernels.nearest import nearest_pixels
from kmdask.palette import Palette, check_room, index_dtype
from kmdask.pixels import checked, countable, valid_or_all

if TYPE_CHECKING:
    import numpy.typing as npt

    from kmdask.fitting.space import Space


def encode(
    pixels: da.Array,
    palette: Palette,
    mask: da.Array | None = None,
    *,
    space: Space | None = None,
) -> da.Array:
    """Swap each pixel for the index of its nearest palette entry, lazily.

    Exact: the entry of smallest squared distance, with what the palette adds to it if it has
    penalties, the lowest index where several are as near. Up to
    three bands of 8 bits are looked up in a table of all colours (16 MiB, built once in each
    process), at a cost that does not depend on k; other pixels are compared with the entries that
    can be nearest in their neighbourhood.

    Parameters
    ----------
    pixels : dask array of shape (y, x, band)
    palette : Palette
        Of the same number of bands.
    mask : dask array of shape (y, x), optional
        0 where a pixel is invalid; it gets the index `Palette.nodata`.
    space : Space, optional
        Where distances are measured. By default between the bands as they are.

    Returns
    -------
    dask array of shape (y, x), uint8 up to 256 entries with that of invalid pixels, else uint16

    Raises
    ------
    ParameterError
        If the bands do not agree, or there is no index left for invalid pixels.

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
        msg = f"the pixels have {pixels.shape[2]} band(s), the palette has {palette.bands}"
        raise ParameterError(msg)
    check_room(len(palette), masked=mask is not None)
    dtype = index_dtype(len(palette) + (mask is not None))
    table = countable(pixels) and palette.colors.dtype == np.uint8 and space is None
    # Not map_blocks: to drop the axis of bands it would copy every block.
    indices: da.Array = da.blockwise(
        _look_up if table else _search,
        "yx",
        pixels,
        "yxb",
        *(() if mask is None else (mask, "yx")),
        palette=shared(palette),
        index_dtype=dtype,
        **({} if table else {"space": space}),
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


def _search(
    pixels: list[npt.NDArray[Any]],
    mask: npt.NDArray[np.uint8] | None = None,
    *,
    palette: Palette,
    index_dtype: np.dtype[Any],
    space: Space | None,
) -> npt.NDArray[np.unsignedinteger[Any]]:
    (block,) = pixels  # the one chunk over all bands
    indices = np.empty(block.shape[:2], index_dtype)
    ready = prepared(palette.colors.astype(np.float64), space, palette.penalties)
    nearest_pixels(block, valid_or_all(mask), *ready, palette.nodata, indices)
    return indices


def _look_up(
    pixels: list[npt.NDArray[np.uint8]],
    mask: npt.NDArray[np.uint8] | None = None,
    *,
    palette: Palette,
    index_dtype: np.dtype[Any],
) -> npt.NDArray[np.unsignedinteger[Any]]:
    (block,) = pixels
    indices = np.empty(block.shape[:2], index_dtype)
    kernels.look_up(block, valid_or_all(mask), _table(palette), palette.nodata, indices)
    return indices


_building = threading.Lock()


def _table(palette: Palette) -> npt.NDArray[np.unsignedinteger[Any]]:
    # Rebuilt from the palette in every process, which is faster than sending it there; one thread
    # builds, the others wait for it.
    with _building:
        return _cached_table(palette)


@lru_cache(maxsize=2)
def _cached_table(palette: Palette) -> npt.NDArray[np.unsignedinteger[Any]]:
    table = np.zeros(1 << kernels.CODE_BITS, index_dtype(len(palette)))
    added = np.zeros(len(palette)) if palette.penalties is None else palette.penalties
    kernels.nearest_table(palette.colors, added, table)
    return table
