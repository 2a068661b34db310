"""The palette: a few ordered colours, and how their indices are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kmdask.errors import ParameterError
from kmdask.pixels import rounded
from kmdask.units import several

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


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

    NumPy takes it for its colours, without penalties:

    >>> np.asarray(Palette(np.array([[7], [9]])))
    array([[7],
           [9]])
    """

    colors: npt.NDArray[Any]
    """Array of shape (k, band), no colour twice, of the data type of the pixels."""

    penalties: npt.NDArray[np.float64] | None = None
    """What is added to the squared distance from each entry where the nearest is looked for, an
    array of shape (k,), not negative; None for nothing. See `kmdask.fitting.ecvq`."""

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
        if self.penalties is not None:
            object.__setattr__(self, "penalties", _checked_penalties(self.penalties, k))

    def __reduce__(self) -> tuple[type[Palette], tuple[Any, ...]]:
        # An array comes out of a pickle writeable; built anew, it is not.
        return Palette, (self.colors, self.penalties)

    @classmethod
    def from_centers(
        cls,
        centers: npt.NDArray[np.floating[Any]],
        dtype: npt.DTypeLike = np.uint8,
        avoid: Sequence[float] | None = None,
        penalties: npt.NDArray[np.float64] | None = None,
    ) -> Palette:
        """Round cluster centres to colours, drop repeated ones and put them in order.

        Parameters
        ----------
        centers : float array of shape (k, band)
        dtype : data type, default uint8
            Data type of the pixels: integers are rounded to the nearest.
        avoid : sequence of float, optional
            A value for each band that together mean that a pixel is missing. A colour that rounds
            to these becomes the next one.
        penalties : float64 array of shape (k,), optional
            Those of the centres; of repeated colours the least is taken.

        Raises
        ------
        ParameterError
            If they are not finite or of other shape.
        """
        if centers.ndim != 2 or not np.isfinite(centers).all():
            raise ParameterError(f"centres are finite, of shape (k, band); got {centers!r}")
        colors, which = np.unique(
            _kept_apart(rounded(centers, np.dtype(dtype)), avoid), axis=0, return_inverse=True
        )
        order = np.argsort(_lightness(colors), kind="stable")
        least = None
        if penalties is not None:
            least = np.full(len(colors), np.inf)
            np.minimum.at(least, which.ravel(), penalties)
            least = least[order]
        return cls(np.ascontiguousarray(colors[order]), least)

    def __len__(self) -> int:
        return len(self.colors)

    def __array__(
        self, dtype: npt.DTypeLike | None = None, *, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        return np.array(self.colors, dtype, copy=copy)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Palette) or other.colors.dtype != self.colors.dtype:
            return False
        return np.array_equal(self.colors, other.colors) and self._added == other._added

    def __hash__(self) -> int:
        return hash((self.colors.tobytes(), self._added))

    @property
    def _added(self) -> bytes:
        return b"" if self.penalties is None else self.penalties.tobytes()

    def __repr__(self) -> str:
        if not self.displayable:
            size = f"{several(len(self), 'colour')}, {several(self.bands, 'band')}"
            return f"Palette({size} of {self.colors.dtype})"
        shown = self.hex if len(self) <= 16 else [*self.hex[:8], "...", *self.hex[-8:]]
        return f"Palette({shown})"

    @property
    def bands(self) -> int:
        """Number of bands of a colour."""
        return int(self.colors.shape[1])

    @property
    def nbytes(self) -> int:
        """Bytes of the colours, and of the penalties."""
        return int(self.colors.nbytes) + (0 if self.penalties is None else self.penalties.nbytes)

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
                f"a palette of {several(self.bands, 'band')} of {self.colors.dtype} has no "
                "colours to show by itself; see CompressedImage.colormap, or kmdask.Display"
            )
            raise ParameterError(msg)
        return np.broadcast_to(self.colors, (len(self), 3))

    @property
    def nodata(self) -> int:
        """The index of invalid pixels, where there are any: the first after the palette."""
        return len(self)


def _checked_penalties(penalties: object, k: int) -> npt.NDArray[np.float64]:
    """Return a copy that nobody can write to, or raise a `ParameterError`."""
    found = np.array(penalties, np.float64)
    if found.shape != (k,) or not np.isfinite(found).all() or (found < 0).any():
        msg = (
            f"penalties are finite and not negative, one for each of the {k:,} entries; got "
            f"{penalties!r}"
        )
        raise ParameterError(msg)
    found.setflags(write=False)
    return found


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


def check_room(k: int, *, masked: bool, colors: int = ENTRIES) -> None:
    """Raise a `ParameterError` if a palette leaves no index for the invalid pixels there are."""
    if masked and min(k, colors) >= ENTRIES:
        msg = (
            f"the image has invalid pixels, which need one of the {ENTRIES:,} indices, and the "
            f"palette has {k:,} colours; ask for k={ENTRIES - 1} at most"
        )
        raise ParameterError(msg)
