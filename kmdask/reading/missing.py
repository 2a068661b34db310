"""Which pixels are missing, as far as their values tell."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from kmdask.bands import Band, fill_values
from kmdask.errors import ParameterError

if TYPE_CHECKING:
    import numpy.typing as npt

    Nodata = tuple[float | None, ...]


def occurs(value: float, dtype: np.dtype[Any]) -> bool:
    """Whether a value can be a sample of a data type, when rounded to it if that is a float.

    Examples
    --------
    >>> occurs(-9999.0, np.dtype("uint8")), occurs(0.0, np.dtype("uint8"))
    (False, True)
    >>> occurs(math.nan, np.dtype("float32")), occurs(1e300, np.dtype("float32"))
    (True, False)
    """
    if dtype.kind == "f":
        return not math.isfinite(value) or abs(value) <= float(np.finfo(dtype).max) * (1 + 1e-6)
    limits = np.iinfo(dtype)
    return math.isfinite(value) and value == int(value) and limits.min <= value <= limits.max


def check_nodata(nodata: object, dtype: np.dtype[Any]) -> float:
    """Check the parameter `nodata` against the data type of an image.

    Raises
    ------
    ParameterError
        If it is no number, or one that no pixel can have.
    """
    value = nodata.item() if isinstance(nodata, np.generic) else nodata
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ParameterError(f"nodata is a number; got {nodata!r}")
    if not occurs(value, dtype):
        limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        kind = "numbers" if dtype.kind == "f" else "whole numbers"
        msg = (
            f"nodata is {value}, but the pixels are {dtype}: {kind} from {limits.min} to "
            f"{limits.max}; give one of these, or none"
        )
        raise ParameterError(msg)
    return value


def fill_of(bands: tuple[Band, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The value of missing pixels in each band: its nodata value if all bands have one, or 0.

    Also 0 if the data type has no such value.

    Examples
    --------
    >>> fill_of((Band(1, nodata=-1.0), Band(2, nodata=-2.0)), np.dtype("int16"))
    array([-1, -2], dtype=int16)
    """
    values = fill_values(bands)
    if values is None or not all(occurs(value, dtype) for value in values):
        return np.zeros(len(bands), dtype)
    return np.array([rounded(value, dtype) for value in values], dtype)


def can_miss(dtype: np.dtype[Any], nodata: Nodata) -> bool:
    """Whether values alone can make a pixel of these bands invalid."""
    return dtype.kind == "f" or None not in nodata


def valid_values(pixels: npt.NDArray[Any], nodata: Nodata) -> npt.NDArray[np.bool_]:
    """Tell the pixels that are there from those that are missing.

    Parameters
    ----------
    pixels : array of shape (y, x, band)
    nodata : tuple of float or None
        For each band the value that stands for a missing one, if there is one.

    Returns
    -------
    bool array of shape (y, x)
        False where every band has its nodata value, or any band is NaN or infinite.

    Examples
    --------
    >>> pixels = np.array([[[0.0, 0.0], [0.0, 1.0], [1.0, np.nan]]])
    >>> valid_values(pixels, (0.0, 0.0)).tolist()
    [[False, True, False]]
    """
    valid = np.full(pixels.shape[:2], None in nodata)
    for band, value in enumerate(nodata):
        if value is not None and None not in nodata:
            valid |= _differs(pixels[:, :, band], value)
    if pixels.dtype.kind == "f":
        for band in range(pixels.shape[2]):
            valid &= np.isfinite(pixels[:, :, band])
    return valid


def _differs(values: npt.NDArray[Any], nodata: float) -> npt.NDArray[np.bool_]:
    dtype = values.dtype
    if dtype.kind != "f" or not math.isfinite(nodata):
        return np.asarray(values != rounded(nodata, dtype))
    # As in GDAL, for nodata values are kept as text, which may be off in the last digits.
    near = 4 * float(np.finfo(dtype).eps) * abs(nodata)
    low, high = rounded(nodata - near, dtype), rounded(nodata + near, dtype)
    return np.asarray((values < low) | (values > high))


def rounded(value: float, dtype: np.dtype[Any]) -> Any:
    """Round a value that `occurs` to a data type."""
    if dtype.kind != "f" or not math.isfinite(value):
        return dtype.type(value)
    most = float(np.finfo(dtype).max)
    # Text files round the largest float upwards, and that is infinite then.
    return dtype.type(min(max(value, -most), most))
