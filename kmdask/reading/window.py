"""One region of an image, seen as an image of its own: what is outside is never read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from kmdask.errors import ParameterError
from kmdask.reading.wrapped import WrappedSource

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from kmdask.georef import Georef
    from kmdask.reading.arrays import Given
    from kmdask.reading.layout import Layout
    from kmdask.reading.sources import Source

SIDES = ("col_off", "row_off", "width", "height")


class Window(NamedTuple):
    """A region in pixels, in the order of `rasterio.windows.Window`."""

    col_off: int
    row_off: int
    width: int
    height: int

    @property
    def rows(self) -> slice:
        """The rows, from first to last."""
        return slice(self.row_off, self.row_off + self.height)

    @property
    def columns(self) -> slice:
        """The columns, from first to last."""
        return slice(self.col_off, self.col_off + self.width)

    def check_inside(self, shape: tuple[int, int], name: str) -> None:
        """Raise a `ParameterError` if the region reaches out of an image."""
        height, width = shape
        if self.columns.stop > width or self.rows.stop > height:
            msg = (
                f"window is {tuple(self)}: columns {self.col_off} to {self.columns.stop}, rows "
                f"{self.row_off} to {self.rows.stop}; {name!r} has columns 0 to {width} and rows "
                f"0 to {height}: give a window inside"
            )
            raise ParameterError(msg)


@dataclass(frozen=True)
class WindowedSource(WrappedSource):
    """A region of a source.

    Blocks of the file that the edges of chunks cut are decoded by the chunks on both sides; there
    are none if the region begins at a multiple of them.
    """

    region: Window

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.region.height, self.region.width

    @property
    def georef(self) -> Georef:
        """Where the region is on the map."""
        return self.stored.georef.shifted(self.region.row_off, self.region.col_off)

    def read(self, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Read a window of shape (y, x, sample)."""
        top, left = self.region.row_off, self.region.col_off
        return self.stored.read(_moved(rows, top), _moved(columns, left))

    def forward(self) -> Iterator[tuple[slice, slice, npt.NDArray[Any]]]:
        """Read everything in the order it is stored in, and no further than to its end."""
        missing = self.region.height * self.region.width
        top, left = self.region.row_off, self.region.col_off
        for rows, columns, samples in self.stored.forward():
            tall, wide = _common(rows, self.region.rows), _common(columns, self.region.columns)
            if tall.start < tall.stop and wide.start < wide.stop:
                part = samples[_moved(tall, -rows.start), _moved(wide, -columns.start)]
                yield _moved(tall, -top), _moved(wide, -left), part
                missing -= part.shape[0] * part.shape[1]
            if not missing:
                return


def check_window(window: object) -> Window | None:
    """Return a region; raise a `ParameterError` unless it is None or four whole numbers.

    Examples
    --------
    >>> check_window((0, 1024, 4096, 4096))
    Window(col_off=0, row_off=1024, width=4096, height=4096)
    """
    if window is None:
        return None
    named = [getattr(window, side, None) for side in SIDES]
    given: Any = window if isinstance(window, list | tuple) else named
    whole = len(given) == len(SIDES) and all(map(_is_whole, given))
    if not whole or min(given[:2]) < 0 or min(given[2:]) < 1:
        msg = (
            "window is four whole numbers, (first column, first row, width, height), none negative "
            f"and the sizes at least 1; got {window!r}"
        )
        raise ParameterError(msg)
    return Window(*map(int, given))


def _is_whole(size: Any) -> bool:
    numeric = isinstance(size, int | float | np.number) and not isinstance(size, bool)
    return numeric and bool(np.isfinite(size)) and int(size) == size


def windowed(source: Source, window: Sequence[int] | None) -> Source:
    """Take a region of a source; without a window all of it.

    Raises
    ------
    ParameterError
        If it is not inside.
    """
    region = check_window(window)
    if region is None:
        return source
    region.check_inside(source.shape, source.path)
    return WindowedSource(source, region)


def cropped(given: Given, layout: Layout, window: Sequence[int] | None) -> tuple[Given, Layout]:
    """Take a region of an array in Python, as `windowed` does of a source."""
    region = check_window(window)
    if region is None:
        return given, layout
    region.check_inside(layout.shape, given.name)
    axes = {"y": region.rows, "x": region.columns}
    data = given.data[tuple(axes.get(axis, slice(None)) for axis in layout.axes)]
    georef = given.georef.shifted(region.row_off, region.col_off)
    shape = (region.height, region.width)
    return replace(given, data=data, georef=georef), replace(layout, shape=shape)


def _moved(piece: slice, by: int) -> slice:
    return slice(piece.start + by, piece.stop + by)


def _common(one: slice, other: slice) -> slice:
    return slice(max(one.start, other.start), min(one.stop, other.stop))
