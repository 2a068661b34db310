"""Colours that have to be in a palette, whatever else is fitted."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from kmdask.bands import fill_values
from kmdask.color_files import hex_color, split_hex
from kmdask.errors import ParameterError
from kmdask.pixels import rounded
from kmdask.units import several

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from kmdask.bands import Band

Fixed: TypeAlias = "str | Sequence[str | Sequence[float]] | None"

KINDS = (
    "fixed is colours that have to be in the palette: hexadecimal ones such as '#1b9e77', of red, "
    "green and blue of 8 bits, or sequences of a value for each band"
)


def check_fixed(fixed: object) -> tuple[str | tuple[float, ...], ...] | None:
    """Check the parameter `fixed` as far as that goes without an image; each colour once.

    Parameters
    ----------
    fixed : str or sequence of str or of sequence of float, optional

    Returns
    -------
    tuple of str or of tuple of float, or None
        Hexadecimal colours as '#1b9e77', others as tuples; None if there are none.

    Raises
    ------
    ParameterError
        If they are anything else.

    Examples
    --------
    >>> check_fixed("#FFF,1b9e77")
    ('#ffffff', '#1b9e77')
    >>> check_fixed([(0, 0.5), (0, 0.5)])
    ((0, 0.5),)
    """
    if fixed is None:
        return None
    if isinstance(fixed, str):
        fixed = split_hex(fixed)
    if not isinstance(fixed, Iterable):
        raise ParameterError(f"{KINDS}; got {fixed!r}")
    colors = tuple(dict.fromkeys(_color(each) for each in fixed))
    return colors or None


def fixed_values(
    fixed: Sequence[str | Sequence[float]] | None, bands: tuple[Band, ...], dtype: np.dtype[Any]
) -> npt.NDArray[np.float64]:
    """Return the values that fixed colours have in the bands of an image.

    Parameters
    ----------
    fixed : sequence of str or of tuple of float, optional
        From `check_fixed`.
    bands : tuple of Band
        Those of the image.
    dtype : numpy.dtype
        Data type of its pixels.

    Returns
    -------
    float64 array of shape (m, band)
        Each once, in the order given.

    Raises
    ------
    ParameterError
        If there is no such colour in such bands, or it means that a pixel is missing.

    Examples
    --------
    >>> from kmdask import Band
    >>> fixed_values(["#101010"], (Band(1),), np.dtype(np.uint8))
    array([[16.]])
    """
    rows = dict.fromkeys(_values(color, bands, dtype) for color in fixed or ())
    return np.array(list(rows), np.float64).reshape(len(rows), len(bands))


def _color(color: object) -> str | tuple[float, ...]:
    if isinstance(color, str):
        red, green, blue = hex_color(color)
        return f"#{red:02x}{green:02x}{blue:02x}"
    values = tuple(color) if isinstance(color, Iterable) else ()
    numbers = all(isinstance(v, Real) and not isinstance(v, bool) for v in values)
    if not values or not numbers or not np.isfinite(np.array(values, np.float64)).all():
        raise ParameterError(f"{KINDS}; got {color!r} among them")
    return tuple(v.item() if isinstance(v, np.generic) else v for v in values)


def _values(
    color: str | Sequence[float], bands: tuple[Band, ...], dtype: np.dtype[Any]
) -> tuple[float, ...]:
    values: tuple[float, ...] = hex_color(color) if isinstance(color, str) else tuple(color)
    if isinstance(color, str):
        if len(bands) == 1 and len(set(values)) == 1:
            values = values[:1]
        if dtype != np.uint8 or len(values) != len(bands):
            msg = (
                f"fixed has {color}, and hexadecimal colours are those of three bands of 8 bits, "
                f"or grey ones of one; the image has {len(bands)} of {dtype}: give a value for "
                "each of them, or choose bands (bands=, --bands)"
            )
            raise ParameterError(msg)
    if len(values) != len(bands):
        has = several(len(bands), "band")
        msg = f"fixed has {color}, and the image has {has}: give a value for each"
        raise ParameterError(msg)
    missing = fill_values(bands)
    with np.errstate(over="ignore"):
        stored = rounded(np.array(values, np.float64), dtype).tolist()
        # As they are in the image: 0.1 is another number in float32.
        kind = dtype if dtype.kind == "f" else np.dtype(np.float64)
        fill = None if missing is None else np.array(missing).astype(kind).tolist()
    near = np.isfinite(stored).all() if dtype.kind == "f" else tuple(stored) == values
    if not near:
        msg = f"fixed has {color}, which no pixel of {dtype} can be; the nearest is {tuple(stored)}"
        raise ParameterError(msg)
    if stored == fill:
        msg = (
            f"fixed has {color}, which means in this image that a pixel is missing; leave it out, "
            "or say by nodata= (--nodata) what else means that"
        )
        raise ParameterError(msg)
    return tuple(map(float, stored))
