"""The palette: a few ordered colours, and the way from pixels to their indices and back."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

from kmdask.errors import ParameterError
from kmdask.fitting.search import prepared
from kmdask.graphs import shared
from kmdask.kernels import colors as kernels
from kmdask.kernels.nearest import nearest_pixels
from kmdask.pixels import checked, countable, rounded, valid_or_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from kmdask.fitting.space import Space

ENTRIES = 1 << 16
"""Entries that 16-bit indices can tell apart, the one for invalid pixels among them."""

SMALL = 1 << 8
"""Entries that 8-bit indices can tell apart, and palette PNG and TIFF can hold."""

LUMA = (299, 587, 114)
"""Weights of red, green and blue in lightness (ITU-R BT.601): integers, lest rounding decide the
order of equals."""


@dataclass(frozen=True, eq=False)
class Palette:
    """Colours in order of lightness, so that near indices are near colours.

    Three bands of 8 bits are taken for red, green and blue; of others lightness is the mean.

    Examples
    --------
    >>> Palette.from_centers(np.array([[200.2, 10.0, 10.0], [0.4, 0.0, 0.0]]))
    Palette(['#000000', '#c80a0a'])
    """

    colors: npt.NDArray[Any]
    """Array of shape (k, band), no colour twice, of the data type of the pixels."""

    def __post_init__(self) -> None:
        k, bands = self.colors.shape if self.colors.ndim == 2 else (0, 0)
        if not 1 <= k <= ENTRIES or bands < 1 or self.colors.dtype.kind not in "uif":
            msg = (
                "a palette is an array of numbers of shape (k, band) with k from 1 to "
                f"{ENTRIES:,}; got {self.colors.dtype} of shape {self.colors.shape}"
            )
            raise ParameterError(msg)
        colors = self.colors.copy()
        colors.setflags(write=False)
        object.__setattr__(self, "colors", colors)

    def __reduce__(self) -> tuple[type[Palette], tuple[npt.NDArray[Any]]]:
        # An array comes out of a pickle writeable; built anew, it is not.
        return Palette, (self.colors,)

    @classmethod
    def from_centers(
        cls,
        centers: npt.NDArray[np.floating[Any]],
        dtype: np.dtype[Any] = np.dtype(np.uint8),  # noqa: B008  immutable
        avoid: Sequence[float] | None = None,
    ) -> Palette:
        """Round cluster centres to colours, drop repeated ones and put them in order.

        Parameters
        ----------
        centers : float array of shape (k, band)
        dtype : numpy.dtype, default uint8
            Data type of the pixels: integers are rounded to the nearest.
        avoid : sequence of float, optional
            A value for each band that together mean that a pixel is missing. A colour that rounds
            to these becomes the next one.

        Raises
        ------
        ParameterError
            If they are not finite or of other shape.
        """
        if centers.ndim != 2 or not np.isfinite(centers).all():
            raise ParameterError(f"centres are finite, of shape (k, band); got {centers!r}")
        colors = np.unique(_kept_apart(rounded(centers, dtype), avoid), axis=0)
        order = np.argsort(_lightness(colors), kind="stable")
        return cls(np.ascontiguousarray(colors[order]))

    def __len__(self) -> int:
        return len(self.colors)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Palette) or other.colors.dtype != self.colors.dtype:
            return False
        return np.array_equal(self.colors, other.colors)

    def __hash__(self) -> int:
        return hash(self.colors.tobytes())

    def __repr__(self) -> str:
        if not self.displayable:
            return f"Palette({len(self)} colours, {self.bands} band(s) of {self.colors.dtype})"
        shown = self.hex if len(self) <= 16 else [*self.hex[:8], "...", *self.hex[-8:]]
        return f"Palette({shown})"

    @property
    def bands(self) -> int:
        """Number of bands of a colour."""
        return int(self.colors.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of the colours."""
        return int(self.colors.nbytes)

    @property
    def displayable(self) -> bool:
        """Whether the colours are grey or red, green and blue of 8 bits as they are."""
        return self.colors.dtype == np.uint8 and self.bands in {1, 3}

    @property
    def hex(self) -> list[str]:
        """The colours as hexadecimal RGB strings, if they are `displayable`."""
        return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in self.rgb.tolist()]

    @property
    def rgb(self) -> npt.NDArray[np.uint8]:
        """The colours as an array of shape (k, 3), grey ones with three equal bands."""
        if not self.displayable:
            msg = (
                f"a palette of {self.bands} band(s) of {self.colors.dtype} has no colours to show "
                "by itself; see CompressedImage.colormap, or kmdask.Display"
            )
            raise ParameterError(msg)
        return np.broadcast_to(self.colors, (len(self), 3))

    @property
    def nodata(self) -> int:
        """The index of invalid pixels, where there are any: the first after the palette."""
        return len(self)


def _kept_apart(colors: npt.NDArray[Any], avoid: Sequence[float] | None) -> npt.NDArray[Any]:
    """Move colours that would be taken for missing pixels to the next value in the first band."""
    if avoid is None or np.isnan(avoid).any():
        return colors
    values = np.array(avoid)
    if colors.dtype.kind == "f":
        # As they are written to decoded images: 0.1 is another number in float32.
        with np.errstate(over="ignore"):
            values = values.astype(colors.dtype)
    missing = (colors == values).all(axis=1)
    first = colors[missing, 0]
    if colors.dtype.kind == "f":
        colors[missing, 0] = np.nextafter(first, np.where(first < 0, 0, np.inf), dtype=first.dtype)
    else:
        step = np.where(first == np.iinfo(colors.dtype).max, -1, 1)
        colors[missing, 0] = (first.astype(np.int64) + step).astype(colors.dtype)
    return colors


def _lightness(colors: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    weights = np.array(LUMA if colors.dtype == np.uint8 and colors.shape[1] == 3 else 1, np.float64)
    lightness: npt.NDArray[np.float64] = (colors.astype(np.float64) * weights).sum(axis=1)
    return lightness


def index_dtype(entries: int) -> np.dtype[Any]:
    """Data type of indices of that many entries, the one of invalid pixels among them."""
    return np.dtype(np.uint8 if entries <= SMALL else np.uint16)


def encode(
    pixels: da.Array,
    palette: Palette,
    mask: da.Array | None = None,
    *,
    space: Space | None = None,
) -> da.Array:
    """Swap each pixel for the index of its nearest palette entry, lazily.

    Exact: the entry of smallest squared distance, the lowest index where several are as near. Up to
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


def check_room(k: int, *, masked: bool, colors: int = ENTRIES) -> None:
    """Raise a `ParameterError` if a palette leaves no index for the invalid pixels there are."""
    if masked and min(k, colors) >= ENTRIES:
        msg = (
            f"the image has invalid pixels, which need one of the {ENTRIES:,} indices, and the "
            f"palette has {k:,} colours; ask for k={ENTRIES - 1} at most"
        )
        raise ParameterError(msg)


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
    ready = prepared(palette.colors.astype(np.float64), space)
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
    kernels.nearest_table(palette.colors, table)
    return table
