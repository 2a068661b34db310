"""The palette: a few ordered colours, and the way from pixels to their indices and back."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import dask.array as da
import numpy as np

from kmdask.colors import ALL_VALID, checked, valid_or_all
from kmdask.errors import ParameterError
from kmdask.kernels import colors as kernels

if TYPE_CHECKING:
    import numpy.typing as npt

ENTRIES = 256
"""Entries that 8-bit indices can tell apart, the one for invalid pixels among them."""

LUMA = {1: (1,), 3: (299, 587, 114)}
"""Weights of the bands in lightness (ITU-R BT.601), by number of bands: integers, lest rounding
decide the order of equals."""


@dataclass(frozen=True, eq=False)
class Palette:
    """Colours in order of lightness, so that near indices are near colours.

    Examples
    --------
    >>> Palette.from_centers(np.array([[200.2, 10.0, 10.0], [0.4, 0.0, 0.0]]))
    Palette(['#000000', '#c80a0a'])
    """

    colors: npt.NDArray[np.uint8]
    """Array of shape (k, band), no colour twice."""

    def __post_init__(self) -> None:
        k, bands = self.colors.shape if self.colors.ndim == 2 else (0, 0)
        if not 1 <= k <= ENTRIES or bands not in LUMA or self.colors.dtype != np.uint8:
            msg = (
                f"a palette is a uint8 array of shape (k, band) with k from 1 to {ENTRIES} and 1 "
                f"or 3 bands; got {self.colors.dtype} of shape {self.colors.shape}"
            )
            raise ParameterError(msg)
        colors = self.colors.copy()
        colors.setflags(write=False)
        object.__setattr__(self, "colors", colors)

    def __reduce__(self) -> tuple[type[Palette], tuple[npt.NDArray[np.uint8]]]:
        # An array comes out of a pickle writeable; built anew, it is not.
        return Palette, (self.colors,)

    @classmethod
    def from_centers(cls, centers: npt.NDArray[np.floating]) -> Palette:
        """Round cluster centres to colours, drop repeated ones and put them in order.

        Parameters
        ----------
        centers : float array of shape (k, band)
            From 0 to 255, of one or three bands.

        Raises
        ------
        ParameterError
            If they are not finite or of other shape.
        """
        if centers.ndim != 2 or centers.shape[1] not in LUMA or not np.isfinite(centers).all():
            msg = f"centres are finite, of shape (k, band) with 1 or 3 bands; got {centers!r}"
            raise ParameterError(msg)
        colors = np.unique(np.rint(np.clip(centers, 0, 255)).astype(np.uint8), axis=0)
        order = np.argsort(colors.astype(np.int64) @ LUMA[colors.shape[1]], kind="stable")
        return cls(np.ascontiguousarray(colors[order]))

    def __len__(self) -> int:
        return len(self.colors)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Palette) and np.array_equal(self.colors, other.colors)

    def __hash__(self) -> int:
        return hash(self.colors.tobytes())

    def __repr__(self) -> str:
        shown = self.hex if len(self) <= 16 else [*self.hex[:8], "...", *self.hex[-8:]]
        return f"Palette({shown})"

    @property
    def bands(self) -> int:
        """Number of bands of a colour: 1 or 3."""
        return int(self.colors.shape[1])

    @property
    def hex(self) -> list[str]:
        """The colours as hexadecimal RGB strings."""
        return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in self.rgb.tolist()]

    @property
    def rgb(self) -> npt.NDArray[np.uint8]:
        """The colours as an array of shape (k, 3), grey ones with three equal bands."""
        return np.broadcast_to(self.colors, (len(self), 3))

    @property
    def nodata(self) -> int:
        """The index of invalid pixels, where there are any: the first after the palette."""
        return len(self)


def encode(pixels: da.Array, palette: Palette, mask: da.Array | None = None) -> da.Array:
    """Swap each pixel for the index of its nearest palette entry, lazily.

    Exact: the entry of smallest squared distance, the lowest index where several are as near. Each
    process builds a table of 16 MiB once for a palette and then looks every pixel up in it, so the
    cost does not depend on k.

    Parameters
    ----------
    pixels : dask array of shape (y, x, band), uint8
    palette : Palette
        Of the same number of bands.
    mask : dask array of shape (y, x), optional
        0 where a pixel is invalid; it gets the index `Palette.nodata`.

    Returns
    -------
    dask array of shape (y, x), uint8

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
    # Not map_blocks: to drop the axis of bands it would copy every block.
    indices: da.Array = da.blockwise(
        _encode_block,
        "yx",
        pixels,
        "yxb",
        *(() if mask is None else (mask, "yx")),
        palette=palette,
        concatenate=False,
        dtype=np.uint8,
        meta=np.empty((0, 0), np.uint8),
        token="encode",
    )
    return indices


def check_room(k: int, *, masked: bool, colors: int = ENTRIES) -> None:
    """Raise a `ParameterError` if a palette leaves no index for the invalid pixels there are."""
    if masked and min(k, colors) >= ENTRIES:
        msg = (
            f"the image has invalid pixels, which need one of the {ENTRIES} indices, and the "
            f"palette has {k} colours; ask for k={ENTRIES - 1} at most"
        )
        raise ParameterError(msg)


def decode(indices: da.Array, palette: Palette) -> da.Array:
    """Swap indices for their colours, lazily.

    Parameters
    ----------
    indices : dask array of shape (y, x), uint8
    palette : Palette

    Returns
    -------
    dask array of shape (y, x, band), uint8
        Invalid pixels are 0 in every band.
    """
    colors: da.Array = da.map_blocks(
        decode_block,
        indices,
        palette=palette,
        dtype=np.uint8,
        meta=np.empty((0, 0, 0), np.uint8),
        chunks=(*indices.chunks, (palette.bands,)),
        new_axis=2,
        token="decode",
    )
    return colors


def decode_block(indices: npt.NDArray[np.uint8], palette: Palette) -> npt.NDArray[np.uint8]:
    """`decode` for one block in memory."""
    table = np.zeros((ENTRIES, palette.bands), np.uint8)
    table[: len(palette)] = palette.colors
    return np.take(table, indices, axis=0)


def _encode_block(
    pixels: list[npt.NDArray[np.uint8]],
    mask: npt.NDArray[np.uint8] | None = None,
    *,
    palette: Palette,
) -> npt.NDArray[np.uint8]:
    (block,) = pixels  # the one chunk over all bands
    valid = ALL_VALID if mask is None else valid_or_all(mask)
    indices = np.empty(block.shape[:2], np.uint8)
    kernels.look_up(block, valid, _table(palette), palette.nodata, indices)
    return indices


_building = threading.Lock()


def _table(palette: Palette) -> npt.NDArray[np.uint8]:
    # Rebuilt from the palette in every process, which is faster than sending it there; one thread
    # builds, the others wait for it.
    with _building:
        return _cached_table(palette)


@lru_cache(maxsize=2)
def _cached_table(palette: Palette) -> npt.NDArray[np.uint8]:
    return kernels.nearest_table(palette.colors)
