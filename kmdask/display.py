"""What a palette looks like on a screen: which bands, stretched how, in 8-bit colours.

Every pixel is a palette entry, so only the palette is stretched; indices stay as they are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

from kmdask.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from kmdask.bands import Band
    from kmdask.fitting.colors import WeightedColors
    from kmdask.palette import Palette

STRETCH = (2.0, 98.0)
"""Percentiles that become black and white, where the values are no 8-bit colours."""

RGB = ("red", "green", "blue")

NUMBERS = (int, float, np.integer, np.floating)


@dataclass(frozen=True, eq=False)
class Colormap:
    """The 8-bit colours that tiles, preview and palette GeoTIFF paint indices with."""

    rgb: npt.NDArray[np.uint8]
    """Array of shape (k, 3): the colour of each palette entry."""

    nodata: int | None = None
    """The index of invalid pixels, the first after the palette; None if every pixel is valid."""

    def __post_init__(self) -> None:
        if self.nodata not in (None, len(self.rgb)):
            raise ParameterError(f"nodata is {self.nodata} for {len(self.rgb)} colours")

    @property
    def entries(self) -> int:
        """Indices that may occur."""
        return len(self.rgb) + (self.nodata is not None)

    @property
    def nbytes(self) -> int:
        """Bytes of the colours."""
        return int(self.rgb.nbytes)

    @property
    def rgba(self) -> npt.NDArray[np.uint8]:
        """Array of shape (entries, 4), the entry of invalid pixels transparent."""
        colors = np.zeros((self.entries, 4), np.uint8)
        colors[: len(self.rgb), :3] = self.rgb
        colors[: len(self.rgb), 3] = 255
        return colors

    @property
    def hex(self) -> list[str]:
        """The colours as hexadecimal RGB strings."""
        return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in self.rgb.tolist()]


@dataclass(frozen=True)
class Display:
    """How the values of bands become colours: linearly between two values of each.

    Examples
    --------
    >>> from kmdask import Palette
    >>> palette = Palette(np.array([[0, 500], [100, 1000]], np.uint16))
    >>> Display(bands=(2,), low=(500.0,), high=(1000.0,)).rgb(palette, numbers=(1, 2))
    array([[  0,   0,   0],
           [255, 255, 255]], dtype=uint8)
    """

    bands: tuple[int, ...]
    """The number in the source of the band shown as grey, or of those shown as red, green, blue."""

    low: tuple[float, ...]
    """The value of each of these that is black."""

    high: tuple[float, ...]
    """The value of each of these that is white."""

    stretch: tuple[float, float] | None = None
    """The percentiles of the valid pixels that `low` and `high` are; None if they are fixed."""

    def rgb(self, palette: Palette, numbers: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Colours of shape (k, 3) of a palette whose bands have these numbers in the source."""
        shown = palette.colors[:, [list(numbers).index(band) for band in self.bands]]
        return np.broadcast_to(self.paint(shown), (len(palette), 3))

    def paint(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Colours of values of the bands shown, which are along the last axis; of the same shape.

        Values that are not finite are black.
        """
        low, high = np.array(self.low), np.array(self.high)
        if values.dtype == np.uint8 and not low.any() and (high == 255).all():
            return values
        span = np.where(high > low, high - low, 1.0)
        # Where nothing is between black and white, what is not below is white.
        light = np.where(high > low, (values.astype(np.float64) - low) / span, values >= high)
        light = np.nan_to_num(np.clip(light, 0, 1))
        colors: npt.NDArray[np.uint8] = np.rint(light * 255).astype(np.uint8)
        return colors

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Display:
        """Rebuild from the result of `to_dict`."""
        stretch = fields["stretch"]
        return cls(
            bands=tuple(fields["bands"]),
            low=tuple(fields["low"]),
            high=tuple(fields["high"]),
            stretch=None if stretch is None else (float(stretch[0]), float(stretch[1])),
        )


def choose_display(
    bands: tuple[Band, ...],
    colors: WeightedColors,
    dtype: np.dtype[Any],
    *,
    display: Sequence[int] | None = None,
    stretch: Sequence[float] | None = None,
) -> Display:
    """Choose what is shown of an image.

    Parameters
    ----------
    bands : tuple of Band
        Those of the palette.
    colors : WeightedColors
        Its colours, of which the percentiles are taken.
    dtype : numpy.dtype
        Data type of its pixels.
    display : sequence of int, optional
        The numbers of one band, or of three for red, green and blue. By default those with these
        colour interpretations, else the first three, or the first one of fewer.
    stretch : sequence of float, optional
        Two percentiles. By default 2 and 98; 8-bit pixels are shown as they are.

    Returns
    -------
    Display

    Raises
    ------
    ParameterError
        If there are no such bands, or no such percentiles.
    """
    check_stretch(stretch)
    numbers = [band.number for band in bands]
    check_display(display, bands)
    shown = _usual_bands(bands) if display is None else tuple(map(int, display))
    if stretch is None and dtype == np.uint8:
        return Display(shown, (0.0,) * len(shown), (255.0,) * len(shown))
    ends = STRETCH if stretch is None else (float(stretch[0]), float(stretch[1]))
    columns = [numbers.index(band) for band in shown]
    values, counts = dask.compute(colors.colors[:, columns], colors.counts)
    low, high = zip(*[_percentiles(band, counts, ends) for band in values.T], strict=True)
    return Display(shown, low, high, ends)


def check_stretch(stretch: Any) -> None:
    """Raise a `ParameterError` unless a stretch is None or two ascending percentiles."""
    if stretch is None:
        return
    pair = isinstance(stretch, list | tuple | np.ndarray) and len(stretch) == 2
    numbers = pair and all(isinstance(end, NUMBERS) for end in stretch)
    if not (numbers and 0 <= stretch[0] < stretch[1] <= 100):
        msg = f"stretch is two percentiles from 0 to 100, the lower one first; got {stretch!r}"
        raise ParameterError(msg)


def check_display(display: Any, bands: tuple[Band, ...]) -> None:
    """Raise a `ParameterError` unless a display is None or one or three of the bands."""
    if display is None:
        return
    numbers = [band.number for band in bands]
    listed = isinstance(display, list | tuple | np.ndarray) and len(display) in {1, 3}
    if not listed or not all(
        isinstance(number, int | np.integer) and number in numbers for number in display
    ):
        there = ", ".join(map(str, numbers))
        msg = f"display is one or three of the bands of this image, {there}; got {display!r}"
        raise ParameterError(msg)


def _usual_bands(bands: tuple[Band, ...]) -> tuple[int, ...]:
    by_color = {band.color: band.number for band in reversed(bands)}
    if all(color in by_color for color in RGB):
        return tuple(by_color[color] for color in RGB)
    return tuple(band.number for band in bands[: 3 if len(bands) >= 3 else 1])


def _percentiles(
    values: npt.NDArray[np.floating[Any]],
    counts: npt.NDArray[np.int64],
    ends: tuple[float, float],
) -> tuple[float, float]:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[order])
    low, high = (np.searchsorted(reached, end / 100 * reached[-1]) for end in ends)
    last = len(values) - 1
    return float(values[order[min(low, last)]]), float(values[order[min(high, last)]])
