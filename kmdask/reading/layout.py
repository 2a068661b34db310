"""How arrays become pixels: which axis is which, which samples are bands, which one is alpha.

Axes that have names are told by their names. Those without are told by the shape:

- (y, x);
- (y, x, band) or (band, y, x): the bands are last if there are at most four of them, else first if
  there are at most four; else the shorter of the two axes has the bands if it has at most 32,
  the first one if both are as short.

Further axes, such as time and depth, must have length 1. A uint8 array without names whose bands
are two or four has alpha in the last of them, as images do; everything else has none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kmdask.bands import Band, choose
from kmdask.errors import UnsupportedImageError
from kmdask.reading.missing import can_miss, check_nodata, occurs, valid_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

FEW, MANY = 4, 32
"""Bands that are told from rows and columns at once, and if there are more of the latter."""

WIDENED = {"?": np.uint8, "e": np.float32}
"""What becomes of truth values and of floats of 16 bits."""

ROWS = frozenset({"y", "lat", "latitude", "northing", "row", "rows", "height", "ny", "line"})
COLUMNS = frozenset(
    {"x", "lon", "longitude", "easting", "col", "cols", "column", "columns", "width", "nx"}
)
OTHERS = frozenset({"t", "time", "z", "depth", "level", "date", "datetime"})
"""Axes that are never bands."""


@dataclass(frozen=True)
class Described:
    """What the metadata of an array say, besides its shape and data type."""

    dims: tuple[str, ...] | None = None
    names: tuple[str, ...] = ()
    nodata: float | None = None
    scale: float = 1.0
    offset: float = 0.0
    unit: str = ""


@dataclass(frozen=True)
class Layout:
    """How the pixels lie in an array."""

    axes: str
    """One letter for each stored axis: y, x, s for the bands, 1 for one of length 1."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    """Of what comes out."""

    samples: int
    """Number of stored bands, alpha among them."""

    bands: tuple[Band, ...]
    alpha: bool = False
    """Whether the last stored band is alpha and none of those chosen."""

    values_tell: bool = False
    """Whether values can make a pixel invalid: NaN, or"""

    nodata: tuple[float | None, ...] = ()
    """for each band the value that stands for a missing one, if there is one."""

    @property
    def masked(self) -> bool:
        """Whether `arrange` adds a sample, 0 where the pixel is invalid."""
        return self.alpha or self.values_tell

    def per_axis(self, sizes: Sequence[int]) -> tuple[int, int]:
        """Pick what belongs to rows and columns from one number for each stored axis."""
        return sizes[self.axes.index("y")], sizes[self.axes.index("x")]

    def selection(self, rows: slice, columns: slice) -> tuple[Any, ...]:
        """Index of a window in the stored array, with all bands between the chosen ones."""
        numbers = [band.number - 1 for band in self.bands] + [self.samples - 1] * self.alpha
        first, last = min(numbers), max(numbers)
        window = {"y": rows, "x": columns, "s": slice(first, last + 1), "1": 0}
        return tuple(window[axis] for axis in self.axes)

    def arrange(self, block: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn what was read of `selection` into samples of shape (y, x, sample)."""
        block = self.pixels(block).astype(self.dtype, copy=False)
        first = min(band.number for band in self.bands)
        picks = [band.number - first for band in self.bands]
        if not self.values_tell and picks == list(range(block.shape[2] - self.alpha)):
            return block
        out = np.empty((len(picks) + self.masked, *block.shape[:2]), self.dtype)
        for band, pick in enumerate(picks):
            out[band] = block[:, :, pick]
        samples = np.moveaxis(out, 0, 2)
        if self.masked:
            out[-1] = 1
        if self.values_tell:
            out[-1] = valid_values(samples[:, :, :-1], self.nodata)
        if self.alpha:
            out[-1][block[:, :, -1] == 0] = 0
        return samples

    def pixels(self, block: Any) -> Any:
        """Bring the axes that are left of a stored array into the order (y, x, band)."""
        letters = self.axes.replace("1", "")
        if "s" not in letters:
            block = block[..., None]
            letters += "s"
        return block.transpose([letters.index(axis) for axis in "yxs"])


def lay_out(
    what: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    told: Described,
    *,
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
) -> Layout:
    """Find out how the pixels lie in an array.

    Parameters
    ----------
    what : str
        What to call the array in messages.
    shape : tuple of int
    dtype : numpy dtype
    told : Described
        What its metadata say.
    bands : sequence of int, optional
        The bands to take, from 1; by default all but alpha.
    nodata : float, optional
        The value of missing pixels, in place of the one that the metadata name.

    Raises
    ------
    UnsupportedImageError
        If it is no image.
    ParameterError
        If a band is asked for that is not there, or `nodata` cannot occur.
    """
    if dtype.kind not in "buif" or dtype.itemsize > 8:
        raise UnsupportedImageError.of(what, f"its data type is {dtype}")
    if 0 in shape:
        raise UnsupportedImageError.of(what, f"its shape is {shape}, which has no pixels")
    axes = _by_name(what, shape, told.dims) or _by_shape(what, shape)
    native = np.dtype(WIDENED.get(dtype.char, dtype)).newbyteorder("=")
    samples = shape[axes.index("s")] if "s" in axes else 1
    alpha = told.dims is None and dtype == np.uint8 and samples in {2, 4}
    default = tuple(range(1, samples + 1 - alpha))
    numbers = choose(bands, range(1, samples + 1), default, what)
    missing = told.nodata
    if nodata is not None:
        missing = check_nodata(nodata, native)
    elif missing is not None and not occurs(missing, native):
        missing = None
    tells = missing is not None
    shown = np.nan if native.kind == "f" and not tells else missing
    names = told.names if len(told.names) == samples else ("",) * samples
    described = Band(1, "", "undefined", told.unit, told.scale, told.offset, shown)
    colors = _colors(samples, native, alpha=alpha)
    return Layout(
        axes=axes,
        shape=(shape[axes.index("y")], shape[axes.index("x")]),
        dtype=native,
        samples=samples,
        bands=tuple(
            replace(described, number=n, name=names[n - 1], color=colors[n - 1]) for n in numbers
        ),
        alpha=alpha and samples not in numbers,
        values_tell=can_miss(native, (missing,) * len(numbers)),
        nodata=(missing,) * len(numbers),
    )


def _by_name(what: str, shape: tuple[int, ...], dims: tuple[str, ...] | None) -> str | None:
    if dims is None or len(dims) != len(shape):
        return None
    names = [name.lower() for name in dims]
    rows = [i for i, name in enumerate(names) if name in ROWS]
    columns = [i for i, name in enumerate(names) if name in COLUMNS]
    if len(rows) != 1 or len(columns) != 1:
        return None
    rest = [i for i in range(len(dims)) if i not in rows + columns]
    bands = [i for i in rest if names[i] not in OTHERS]
    long = [i for i in rest if shape[i] > 1]
    if len(bands) > 1:
        bands = [i for i in bands if shape[i] > 1] or bands[:1]
    wrong = [i for i in long if i not in bands[:1]]
    if wrong:
        reason = (
            f"its axis {dims[wrong[0]]!r} has length {shape[wrong[0]]} (shape {shape}, axes "
            f"{', '.join(dims)}): choose one position of it and store that as an array"
        )
        raise UnsupportedImageError.of(what, reason)
    letters = dict.fromkeys(rest, "1") | {rows[0]: "y", columns[0]: "x"}
    letters |= dict.fromkeys(bands[:1], "s")
    return "".join(letters[i] for i in range(len(dims)))


def _by_shape(what: str, shape: tuple[int, ...]) -> str:
    extra = max(0, len(shape) - 3)
    if any(size > 1 for size in shape[:extra]):
        extra = len(shape)
    rest = shape[extra:]
    axes = None
    if len(rest) == 2:
        axes = "yx"
    elif len(rest) == 3:
        first, last = rest[0], rest[2]
        if last <= FEW or (first > FEW and last < first and last <= MANY):
            axes = "yxs"
        elif first <= MANY:
            axes = "syx"
    if axes is None:
        shapes = f"(y, x), (y, x, band) or (band, y, x) of at most {MANY} bands"
        raise UnsupportedImageError.of(
            what, f"its shape is {shape}, not {shapes}, and its axes have no names to tell more"
        )
    return "1" * extra + axes


def _colors(samples: int, dtype: np.dtype[Any], *, alpha: bool) -> tuple[str, ...]:
    count = samples - alpha
    colors = ("gray",) if count == 1 else ("undefined",) * count
    if count == 3 and dtype == np.uint8:
        colors = ("red", "green", "blue")
    return (*colors, *(("alpha",) * alpha))
