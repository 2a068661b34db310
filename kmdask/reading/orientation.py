"""Photographs that are to be shown turned or mirrored, as their EXIF orientation says.

GDAL gives their pixels as they are stored; every viewer turns them. Only pictures that are not
georeferenced are turned: of those that are, the map says where up is.
"""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kmdask.georef import Georef
from kmdask.places import place
from kmdask.reading.remote import is_file
from kmdask.reading.wrapped import WrappedSource
from kmdask.storage import reaching

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from kmdask.reading.gdal_source import RasterioSource

TAG = 0x0112

TURNED_DRIVERS = frozenset({"JPEG", "PNG", "WEBP"})

NOT_PARSED = (OSError, SyntaxError, ValueError, LookupError, TypeError, EOFError, struct.error)
"""What Pillow raises on files, or EXIF data, that it cannot make out."""


@dataclass(frozen=True)
class OrientedSource(WrappedSource):
    """A raster seen by its EXIF orientation."""

    transposed: bool
    """Whether rows and columns are swapped, which comes first, ..."""

    flip_rows: bool
    """and whether the rows are then reversed, ..."""

    flip_columns: bool
    """and the columns."""

    @classmethod
    def of(cls, source: RasterioSource, orientation: int) -> OrientedSource:
        """Turn a source: `orientation` is EXIF's number, 2 to 8."""
        return cls(
            source,
            transposed=orientation >= 5,
            flip_rows=orientation in {3, 4, 7, 8},
            flip_columns=orientation in {2, 3, 6, 7},
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._swapped(self.stored.shape)

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns that are decoded together."""
        return self._swapped(self.stored.block)

    @property
    def georef(self) -> Georef:
        """Nothing: an image that has one is not turned."""
        return Georef()

    def read(self, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Read a window of shape (y, x, sample)."""
        return self._turned(self.stored.read(*self._mapped(rows, columns, self.shape)))

    def forward(self) -> Iterator[tuple[slice, slice, npt.NDArray[Any]]]:
        """Read everything in the order it is stored in."""
        for rows, columns, samples in self.stored.forward():
            seen = (columns, rows) if self.transposed else (rows, columns)
            top, left = (
                _reversed(piece, size) if flip else piece
                for piece, size, flip in zip(
                    seen, self.shape, (self.flip_rows, self.flip_columns), strict=True
                )
            )
            yield top, left, self._turned(samples)

    def _swapped(self, shape: tuple[int, int]) -> tuple[int, int]:
        return (shape[1], shape[0]) if self.transposed else shape

    def _mapped(self, rows: slice, columns: slice, shape: tuple[int, int]) -> tuple[slice, slice]:
        """Where a window that is asked for is stored."""
        if self.flip_rows:
            rows = _reversed(rows, shape[0])
        if self.flip_columns:
            columns = _reversed(columns, shape[1])
        return (columns, rows) if self.transposed else (rows, columns)

    def _turned(self, samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.transposed:
            samples = samples.swapaxes(0, 1)
        step = {False: 1, True: -1}
        turned = samples[:: step[self.flip_rows], :: step[self.flip_columns]]
        # Band by band in memory, as every other source gives its pixels.
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(turned, 2, 0)), 0, 2)


def oriented(source: RasterioSource) -> RasterioSource | OrientedSource:
    """Turn a source if it is a photograph, not georeferenced, that says so."""
    placed = source.georef != Georef(point=source.georef.point)
    if source.driver not in TURNED_DRIVERS or placed or not is_file(source.path):
        return source
    try:
        orientation = _orientation(source)
    except NOT_PARSED:
        # GDAL reads the pixels; a tag that nobody can read turns nothing.
        return source
    turned = isinstance(orientation, int) and 2 <= orientation <= 8
    return OrientedSource.of(source, orientation) if turned else source


def _orientation(source: RasterioSource) -> Any:
    # The classes themselves: `PIL.Image.open` warns of large images, and refuses very large ones.
    from PIL.Image import Image
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    readers: dict[str, Any] = {"JPEG": JpegImageFile, "PNG": PngImageFile, "WEBP": WebPImageFile}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = place(source.path)
        with reaching(path), path.open("rb") as file, readers[source.driver](file) as image:
            # Not a PNG's own `getexif`, which decodes all of it to look behind the pixels.
            return Image.getexif(image).get(TAG)


def _reversed(piece: slice, size: int) -> slice:
    return slice(size - piece.stop, size - piece.start)
