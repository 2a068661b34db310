"""How chunks of indices are compressed: fast and for every reader, or small.

Zarr's format 2 has filters, which run one after the other, and then a compressor. The small way is
bzip2, which predicts from what stands before, behind a filter that puts what is above beside it. It
has checksums of its own, but not for all of its bits; a last one covers every byte.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numcodecs import BZ2, CRC32, get_codec, register_codec
from numcodecs.abc import Codec
from numcodecs.compat import ensure_contiguous_ndarray, ndarray_copy

from kmdask.chunks import CHUNK
from kmdask.writing.png import ENTRIES, bit_depth

ZSTD_LEVEL = 3

BZ2_LEVEL = 9
"""Blocks of 900 kB: a chunk has one or two."""

ZSTD: dict[str, Any] = {
    # The checksum of what was compressed: four bytes a chunk, and damage is noticed.
    "compressors": {"id": "zstd", "level": ZSTD_LEVEL, "checksum": True},
}
"""What zarr is told for the codec "zstd", and for everything that is no index."""


class Strips(Codec):  # type: ignore[misc]  # numcodecs is untyped
    """A filter that reads a chunk in strips of a few rows, column by column.

    Indices of fewer than eight bits are packed, a byte for each column of a strip.

    Parameters
    ----------
    width : int
        Columns of a chunk.
    bits : int
        1, 2, 4, 8 or 16: what an index takes. Strips have 8, 4, 2, 2 and 2 rows, of which the
        number of rows of a chunk is a multiple.

    Examples
    --------
    >>> strips = Strips(width=3, bits=8)
    >>> rows = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    >>> strips.encode(rows).ravel()
    array([1, 4, 2, 5, 3, 6], dtype=uint8)
    >>> strips.decode(_)
    array([1, 2, 3, 4, 5, 6], dtype=uint8)
    """

    codec_id = "kmdask_strips"

    def __init__(self, width: int, bits: int) -> None:
        if bits not in {1, 2, 4, 8, 16} or width < 1:
            raise ValueError(f"there are no strips of {bits} bits and {width} columns")
        self.width, self.bits = width, bits

    @property
    def rows(self) -> int:
        """Rows of a strip."""
        return max(2, 8 // self.bits)

    def encode(self, buf: Any) -> npt.NDArray[Any]:
        """Put the indices of a chunk, row by row, into the order of strips."""
        strips = ensure_contiguous_ndarray(buf).reshape(-1, self.rows, self.width)
        if int(strips.max()) >> self.bits:
            raise ValueError(f"the index {strips.max()} takes more than {self.bits} bits")
        if self.bits >= 8:
            return np.ascontiguousarray(strips.transpose(0, 2, 1))
        packed: npt.NDArray[Any] = strips[:, 0]
        for row in range(1, self.rows):
            packed = packed << self.bits | strips[:, row]
        return packed

    def decode(self, buf: Any, out: Any = None) -> Any:
        """Put them back."""
        stored = ensure_contiguous_ndarray(buf).view("<u2" if self.bits == 16 else np.uint8)
        if self.bits >= 8:
            strips = stored.reshape(-1, self.width, self.rows).transpose(0, 2, 1)
        else:
            shifts = np.arange(8 - self.bits, -1, -self.bits, dtype=np.uint8)
            strips = stored.reshape(-1, 1, self.width) >> shifts[:, None]
            strips &= np.uint8((1 << self.bits) - 1)
        return ndarray_copy(strips.ravel(), out)


# Others find it by the entry point in pyproject.toml, where kmdask is installed.
register_codec(Strips)


def told_zarr(codec: str, entries: int) -> dict[str, Any]:
    """Return what zarr's `create_array` is told, to compress indices.

    Parameters
    ----------
    codec : str
        One of `kmdask.options.CODECS`.
    entries : int
        How many indices there are, the one of invalid pixels among them.

    Returns
    -------
    dict
    """
    if codec == "zstd":
        return ZSTD
    bits = bit_depth(entries) if entries <= ENTRIES else 16
    return {"filters": [Strips(CHUNK, bits), BZ2(BZ2_LEVEL)], "compressors": CRC32()}


def encoded_bytes(chunk: npt.NDArray[Any], codec: str, entries: int) -> int:
    """Bytes of a whole chunk of indices as zarr stores it.

    Parameters
    ----------
    chunk : uint8 or uint16 array of shape (1024, 1024)
    codec, entries
        As for `told_zarr`.

    Examples
    --------
    >>> encoded_bytes(np.zeros((1024, 1024), np.uint8), "zstd", 4) < 100
    True
    """
    told = told_zarr(codec, entries)
    content: Any = chunk
    for step in (*told.get("filters", ()), told["compressors"]):
        content = (get_codec(step) if isinstance(step, dict) else step).encode(content)
    return memoryview(content).nbytes
