"""What pixels and masks have to be before kernels take them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

from kmdask.errors import ParameterError
from kmdask.kernels.views import frozen

if TYPE_CHECKING:
    import numpy.typing as npt

ALL_VALID = frozen(np.empty((0, 0), np.uint8))
"""What kernels take for a mask where every pixel is valid."""

FEW_BANDS = 3
"""Bands of 8 bits whose colours are few enough to be counted one by one."""


def checked(pixels: da.Array, mask: da.Array | None = None) -> tuple[da.Array, da.Array | None]:
    """Check that arrays are pixels and mask as kernels take them; chunk them alike.

    Pixels of floating point without a mask get one: not finite is not valid.

    Raises
    ------
    ParameterError
        If they are not real numbers of shape (y, x, band) and a mask of shape (y, x).
    """
    if pixels.ndim != 3 or 0 in pixels.shape or pixels.dtype.kind not in "uif":
        msg = (
            "pixels are an array of integers or floating-point numbers of shape (y, x, band); got "
            f"{pixels.dtype} of shape {pixels.shape}"
        )
        raise ParameterError(msg)
    if any(np.isnan(size) for sizes in pixels.chunks for size in sizes):
        raise ParameterError(
            "the sizes of the chunks are unknown; call compute_chunk_sizes() first"
        )
    pixels = pixels.rechunk({2: -1})
    if mask is None:
        return pixels, finite(pixels) if pixels.dtype.kind == "f" else None
    if mask.shape != pixels.shape[:2]:
        msg = f"the mask has shape {mask.shape}, the pixels {pixels.shape}: they must agree"
        raise ParameterError(msg)
    if mask.dtype != np.uint8:
        mask = (mask != 0).astype(np.uint8)
    return pixels, mask.rechunk(pixels.chunks[:2])


def finite(pixels: da.Array) -> da.Array:
    """Return a mask that is 0 where any band of a pixel is infinite or not a number."""
    mask: da.Array = da.map_blocks(
        _finite,
        pixels,
        dtype=np.uint8,
        drop_axis=2,
        meta=np.empty((0, 0), np.uint8),
        token="finite",
    )
    return mask


def _finite(pixels: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
    mask: npt.NDArray[np.uint8] = np.isfinite(pixels).all(axis=2).astype(np.uint8)
    return mask


def countable(pixels: da.Array) -> bool:
    """Whether the different colours are few enough to be counted one by one."""
    return pixels.dtype == np.uint8 and int(pixels.shape[2]) <= FEW_BANDS


def valid_or_all(mask: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8]:
    """The mask as kernels take it: `ALL_VALID` where nothing is invalid, which is much faster."""
    return ALL_VALID if mask is None or mask.all() else frozen(mask)


def rounded(values: npt.NDArray[np.floating[Any]], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Turn values into those of a data type: clipped and rounded to the nearest of integers."""
    if dtype.kind == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    # The greatest 64-bit integers are no float64: the next float64 would wrap around.
    top = np.nextafter(float(limits.max), 0) if dtype.itemsize == 8 else float(limits.max)
    whole: npt.NDArray[Any] = np.rint(np.clip(values, float(limits.min), top)).astype(dtype)
    return whole
