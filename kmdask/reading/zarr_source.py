"""Zarr arrays as sources of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zarr

from kmdask.errors import SourceError, UnsupportedImageError
from kmdask.georef import Georef
from kmdask.places import place, zarr_store
from kmdask.reading.layout import Layout, lay_out
from kmdask.reading.remote import check_zarr, persistent
from kmdask.reading.zarr_groups import DECODING_ERRORS, OPENING_ERRORS, find_array
from kmdask.storage import reaching

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from kmdask.bands import Band

__all__ = ["OPENING_ERRORS", "ZarrSource"]

LARGEST_CHUNK = 1 << 30
"""Bytes of a chunk of the file that is let be decoded, which happens as a whole."""


@dataclass(frozen=True)
class ZarrSource:
    """A zarr array of version 2 or 3."""

    path: str
    location: str
    """The directory, or URL, of the array itself."""

    layout: Layout
    block: tuple[int, int]
    georef: Georef = Georef()  # noqa: RUF009  frozen
    version: Literal[2, 3] | None = None
    """The version of zarr, if it is known: else those who read look for either."""

    @classmethod
    def open(
        cls, path: str, *, bands: Sequence[int] | None = None, nodata: float | None = None
    ) -> ZarrSource:
        """Describe the array at a path, or the one that is meant in a group."""
        found = find_array(path)
        array = found.array
        try:
            shape, dtype, chunks = array.shape, np.dtype(array.dtype), array.chunks
        except (*OPENING_ERRORS, NotImplementedError) as error:
            raise SourceError(f"{path!r} is damaged: {error}; write it again") from error
        layout = lay_out(path, shape, dtype, found.told, bands=bands, nodata=nodata)
        size = int(np.prod([min(n, m) for n, m in zip(chunks, shape, strict=True)], dtype=float))
        if size * dtype.itemsize > LARGEST_CHUNK:
            reason = (
                f"its chunks of {chunks} take {size * dtype.itemsize} bytes each, more than "
                f"{LARGEST_CHUNK}, and can only be decoded whole: store it in smaller ones"
            )
            raise UnsupportedImageError.of(path, reason)
        return cls(
            path,
            found.location,
            layout,
            layout.per_axis(chunks),
            found.georef,
            array.metadata.zarr_format,
        )

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

    def read(self, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Read a window of shape (y, x, sample)."""
        there = place(self.location)

        def once() -> npt.NDArray[Any]:
            try:
                with reaching(there):
                    array = zarr.open_array(zarr_store(there), mode="r", zarr_format=self.version)
                    block = np.asarray(array[self.layout.selection(rows, columns)])
                    return self.layout.arrange(block)
            except DECODING_ERRORS as error:
                raise SourceError.within(self.path, rows, columns, error) from None

        return persistent(self.location, once, check=check_zarr)

    def forward(self) -> Iterator[tuple[slice, slice, npt.NDArray[Any]]]:
        """Read chunk by chunk as they are stored."""
        (height, width), (tall, wide) = self.shape, self.block
        for top in range(0, height, tall):
            for left in range(0, width, wide):
                rows = slice(top, min(top + tall, height))
                columns = slice(left, min(left + wide, width))
                yield rows, columns, self.read(rows, columns)
