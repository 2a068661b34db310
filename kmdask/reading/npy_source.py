"""Arrays in .npy files, read through the memory map."""

from __future__ import annotations

from dataclasses import dataclass
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import numpy as np

from kmdask import npy
from kmdask.chunks import TILE
from kmdask.errors import SourceError, UnsupportedImageError
from kmdask.georef import Georef
from kmdask.reading.layout import Described, Layout, lay_out

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from kmdask.bands import Band

ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    SyntaxError,
    TokenError,
    ArithmeticError,
    MemoryError,
    RecursionError,
)
"""What NumPy raises on damaged files: their header is a piece of Python."""


@dataclass(frozen=True)
class NpySource:
    """An array in a .npy file."""

    path: str
    location: str
    layout: Layout
    georef: Georef = Georef()  # noqa: RUF009  frozen

    @classmethod
    def open(
        cls,
        path: str,
        *,
        bands: Sequence[int] | None = None,
        nodata: float | None = None,
        name: str | None = None,
        told: Described | None = None,
        georef: Georef | None = None,
    ) -> NpySource:
        """Describe the array at a path; `name` is what to call it in messages."""
        name = name or path
        try:
            array = npy.load(path, mmap_mode="r")
        except ERRORS as error:
            if "object" in str(error).lower():
                reason = "it holds Python objects, which are code to run and no pixels"
                raise UnsupportedImageError.of(name, reason) from error
            msg = f"{name!r} cannot be opened as a .npy file: {error}; save it again by numpy.save"
            raise SourceError(msg) from error
        layout = lay_out(
            name, array.shape, array.dtype, told or Described(), bands=bands, nodata=nodata
        )
        return cls(name, path, layout, georef or Georef())

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.layout.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the samples."""
        return self.layout.dtype

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands that are read."""
        return self.layout.bands

    @property
    def masked(self) -> bool:
        """Whether `read` returns a further sample, 0 where the pixel is invalid."""
        return self.layout.masked

    @property
    def block(self) -> tuple[int, int]:
        """One pixel: any window can be read by itself."""
        return (1, 1)

    def read(self, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Read a window of shape (y, x, sample)."""
        try:
            stored = npy.load(self.location, mmap_mode="r")
            return self.layout.arrange(np.array(stored[self.layout.selection(rows, columns)]))
        except ERRORS as error:
            raise SourceError.within(self.path, rows, columns, error) from None

    def forward(self) -> Iterator[tuple[slice, slice, npt.NDArray[Any]]]:
        """Read strips of full rows."""
        height, width = self.shape
        for top in range(0, height, TILE):
            rows, columns = slice(top, min(top + TILE, height)), slice(0, width)
            yield rows, columns, self.read(rows, columns)
