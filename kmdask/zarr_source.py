"""Zarr arrays as sources of pixels."""

from __future__ import annotations

import lzma
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import zarr

from kmdask.errors import SourceError, UnsupportedImageError
from kmdask.georef import Georef

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

MOST_SAMPLES = 4
"""Red, green, blue and alpha."""

OPENING_ERRORS = (AttributeError, LookupError, OSError, TypeError, ValueError)
"""What zarr raises on metadata that are not there, or are not what they should be."""

DECODING_ERRORS = (OSError, ValueError, RuntimeError, EOFError, zlib.error, lzma.LZMAError)
"""What zarr's codecs raise on damaged chunks."""


@dataclass(frozen=True)
class ZarrSource:
    """A zarr array of version 2 or 3, of shape (y, x), (y, x, sample) or (sample, y, x)."""

    path: str
    shape: tuple[int, int]
    bands: int
    masked: bool
    block: tuple[int, int]
    axes: str
    """The order of the stored axes, one letter each: "yx", "yxs" or "syx"."""

    georef: Georef = Georef()  # noqa: RUF009  frozen

    @classmethod
    def open(cls, path: str) -> ZarrSource:
        """Describe the array at a path."""
        try:
            array = zarr.open_array(path, mode="r")
        except OPENING_ERRORS as error:
            msg = (
                f"{path!r} is a directory but no zarr array: {error}; give the path of the array "
                "itself, such as group.zarr/array"
            )
            raise SourceError(msg) from error
        axes = _axes(array.shape)
        if array.dtype != np.uint8:
            raise UnsupportedImageError.of(path, f"its data type is {array.dtype}")
        if axes is None or 0 in array.shape:
            shapes = "(y, x), (y, x, band) or (band, y, x)"
            reason = f"its shape is {array.shape}, not {shapes} with pixels"
            raise UnsupportedImageError.of(path, reason)
        samples = array.shape[axes.index("s")] if "s" in axes else 1
        y, x = axes.index("y"), axes.index("x")
        chunk = array.chunks
        return cls(
            path=path,
            shape=(array.shape[y], array.shape[x]),
            bands=samples - (samples in {2, 4}),
            masked=samples in {2, 4},
            block=(chunk[y], chunk[x]),
            axes=axes,
        )

    def read(self, rows: slice, columns: slice) -> npt.NDArray[np.uint8]:
        """Read a window of shape (y, x, sample)."""
        window = {"y": rows, "x": columns, "s": slice(None)}
        try:
            array = zarr.open_array(self.path, mode="r")
            block = np.asarray(array[tuple(window[axis] for axis in self.axes)])
        except DECODING_ERRORS as error:
            raise SourceError.within(self.path, rows, columns, error) from None
        if self.axes == "syx":
            return np.moveaxis(block, 0, 2)
        return block.reshape(*block.shape[:2], -1)

    def forward(self) -> Iterator[tuple[slice, slice, npt.NDArray[np.uint8]]]:
        """Read chunk by chunk as they are stored."""
        (height, width), (tall, wide) = self.shape, self.block
        for top in range(0, height, tall):
            for left in range(0, width, wide):
                rows = slice(top, min(top + tall, height))
                columns = slice(left, min(left + wide, width))
                yield rows, columns, self.read(rows, columns)


def _axes(shape: tuple[int, ...]) -> str | None:
    if len(shape) == 2:
        return "yx"
    if len(shape) == 3 and shape[2] <= MOST_SAMPLES:
        return "yxs"
    if len(shape) == 3 and shape[0] <= MOST_SAMPLES:
        return "syx"
    return None
