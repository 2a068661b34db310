"""The palette as a Cloud Optimized GeoTIFF: tiles compressed by the workers, assembled once.

References
----------
.. [1] "COG - Cloud Optimized GeoTIFF generator", GDAL documentation,
   https://gdal.org/en/stable/drivers/raster/cog.html: all directories first, the full image before
   its overviews; then the tiles, those of the smallest overview first.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import pairwise, repeat
from typing import TYPE_CHECKING, Any

import deflate
import numpy as np
from rasterio.io import MemoryFile

from kmdask import storage
from kmdask.chunks import TILE, ceil_div
from kmdask.errors import OutputError, ParameterError, writing
from kmdask.graphs import write_blocks
from kmdask.reading.sources import open_dataset
from kmdask.writing.digests import digest_of
from kmdask.writing.geotiff import place

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import dask.array as da
    import numpy.typing as npt

    from kmdask.display import Colormap
    from kmdask.georef import Georef
    from kmdask.places import Place
    from kmdask.writing.receipts import Receipts

ENTRIES = 256
"""Entries of the colour table of a GeoTIFF."""

LEVEL = 6
"""Level 6 of libdeflate makes tiles a tenth smaller than zstd does at level 3, which is four times
as fast (measured); and every reader of TIFF knows deflate."""

CLASSIC_BYTES = 2**32
"""What 32-bit offsets can address. Larger files are BigTIFF."""

GEO_TAGS = frozenset({33550, 33922, 34264, 34735, 34736, 34737, 50844})
"""Pixel scale, tie points, transformation, the GeoKeys and their parameters, RPCs."""

GDAL_NODATA = 42113
TILE_OFFSETS, TILE_BYTE_COUNTS = 324, 325
ASCII, LONG, LONG8 = 2, 4, 16
REDUCED_IMAGE = 1


def check_cog(entries: int) -> None:
    """Raise a `ParameterError` if a GeoTIFF cannot hold a palette of that many entries.

    Examples
    --------
    >>> check_cog(256)
    >>> check_cog(300)
    Traceback (most recent call last):
    kmdask.errors.ParameterError: a palette GeoTIFF ("cog") holds 256 entries, ...
    """
    if entries > ENTRIES:
        raise ParameterError(
            f'a palette GeoTIFF ("cog") holds {ENTRIES} entries, the one for invalid pixels among '
            f"them, and {entries} are needed; ask for fewer colours, or leave the format out and "
            "write the colours by `kmdask decompress --cog`"
        )


def write_cog_tiles(
    levels: Sequence[da.Array],
    scratch: Place,
    *,
    padding: int,
    receipts: Receipts | None = None,
) -> list[da.Array]:
    """Compress the tiles of an image and its overviews into files of their own, lazily.

    Parameters
    ----------
    levels : sequence of dask arrays of shape (y, x), uint8
        The indices of each pyramid level, the full image first. Chunks are multiples of 512. The
        levels after the first that fits one tile are left out.
    scratch : Path or UPath
        An existing directory.
    padding : int
        The index that fills up tiles beyond the edge.
    receipts : Receipts, optional
        Where is kept which chunks are written.

    Returns
    -------
    list of dask arrays of int64
        When computed, the tiles are written; the bytes of each. Their chunks are those of the
        levels, and `assemble_cog` takes them.
    """
    last = next(i for i, indices in enumerate(levels) if max(indices.shape) <= TILE)
    return [
        write_blocks(
            _write_tiles,
            indices,
            f"write-cog:{level}",
            pieces=TILE,
            receipts=receipts,
            level=level,
            scratch=scratch,
            padding=padding,
        )
        for level, indices in enumerate(levels[: last + 1])
    ]


def _write_tiles(
    indices: npt.NDArray[np.uint8],
    level: int,
    scratch: Place,
    padding: int,
    block_info: Any = None,
) -> npt.NDArray[np.int64]:
    height, width = indices.shape
    sizes = np.empty((ceil_div(height, TILE), ceil_div(width, TILE)), np.int64)
    tile = np.empty((TILE, TILE), np.uint8)
    tiles = []
    for row, column in np.ndindex(sizes.shape):
        part = indices[row * TILE :, column * TILE :][:TILE, :TILE]
        tile.fill(padding)
        tile[: part.shape[0], : part.shape[1]] = part
        tiles.append(bytes(deflate.zlib_compress(tile, LEVEL)))
        sizes[row, column] = len(tiles[-1])
    path = _scratch_file(scratch, level, *block_info[0]["chunk-location"])
    with writing(path):
        storage.write_file(path, b"".join(tiles))
    return sizes


def _scratch_file(scratch: Place, level: int, row: int, column: int) -> Place:
    return scratch / f"cog-{level}-{row}-{column}"


def assemble_cog(
    path: Place,
    sizes: Sequence[da.Array],
    shapes: Sequence[tuple[int, int]],
    scratch: Place,
    *,
    colormap: Colormap,
    georef: Georef,
) -> str:
    """Put a palette GeoTIFF together of tiles that are compressed already.

    Parameters
    ----------
    path : Path or UPath
        The file to write.
    sizes : sequence of dask arrays of int64
        What `write_cog_tiles` returned, computed (persisted).
    shapes : sequence of tuple of int
        Rows and columns of each level; as many as there are `sizes`, or more.
    scratch : Path or UPath
        Where `write_cog_tiles` wrote.
    colormap : Colormap
        Of at most 256 entries. Its `nodata` becomes that of the GeoTIFF.
    georef : Georef

    Returns
    -------
    str
        The digest of the file.

    Raises
    ------
    OutputError
        If the file cannot be written, or tiles are not there.
    """
    check_cog(colormap.entries)
    counts = [level.compute() for level in sizes]
    tiles = sum(level.size for level in counts)
    # A tile has an offset and a size; 64 kB hold the rest of every directory.
    total = sum(int(level.sum()) for level in counts) + 16 * tiles + 2**16 * (1 + len(counts))
    big = total > CLASSIC_BYTES
    with writing(path), storage.written_locally(path) as file:
        _write_directories(file, shapes[: len(sizes)], colormap, georef, big=big)
        offsets = _append(file, [level.chunks for level in sizes], counts, scratch)
        _point_at_tiles(file, offsets, counts)
        return digest_of(file)


def _write_directories(
    path: Path,
    shapes: Sequence[tuple[int, int]],
    colormap: Colormap,
    georef: Georef,
    *,
    big: bool,
) -> None:
    """Write the directories of all levels, with tiles of no bytes."""
    from tifffile import TiffWriter

    table = np.zeros((3, ENTRIES), np.uint16)
    table[:, : colormap.entries] = colormap.rgba[:, :3].T * np.uint16(257)
    nodata = (
        [] if colormap.nodata is None else [(GDAL_NODATA, ASCII, 0, f"{colormap.nodata}", True)]
    )
    with TiffWriter(path, bigtiff=big, byteorder="<") as file:
        for level, shape in enumerate(shapes):
            file.write(
                repeat(b""),
                shape=shape,
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="palette",
                colormap=table,
                compression="deflate",
                subfiletype=REDUCED_IMAGE if level else 0,
                extratags=[*nodata, *([] if level else _geo_tags(georef))],
                metadata=None,
                software=False,
            )


def _geo_tags(georef: Georef) -> list[tuple[int, int, int, Any, bool]]:
    """Have GDAL write the tags that say where an image is."""
    from tifffile import TiffFile

    with MemoryFile() as memory:
        profile = {"driver": "GTiff", "width": 1, "height": 1, "count": 1, "dtype": "uint8"}
        with open_dataset(memory.name, "w", **profile) as dataset:
            place(dataset, georef)
        with TiffFile(memory) as file:
            tags = [tag for tag in file.pages[0].aspage().tags if tag.code in GEO_TAGS]
            return [(tag.code, int(tag.dtype), tag.count, tag.value, True) for tag in tags]


def _append(
    path: Path, chunks: Sequence[Any], counts: Sequence[npt.NDArray[np.int64]], scratch: Place
) -> list[npt.NDArray[np.int64]]:
    """Append the tiles of the smallest level, then of the next; return where they all are."""
    offsets = [np.empty_like(level) for level in counts]
    with path.open("ab") as out:
        for level in reversed(range(len(counts))):
            # Row by row, so that the file does not depend on how the image was chunked.
            sizes = counts[level].ravel()
            starts = out.tell() + np.cumsum(sizes) - sizes
            offsets[level] = starts.reshape(counts[level].shape)
            columns = _spans(chunks[level][1])
            for row, top in enumerate(_spans(chunks[level][0])):
                files = [_scratch_file(scratch, level, row, i) for i in range(len(columns))]
                with ExitStack() as stack:
                    parts = [stack.enter_context(file.open("rb")) for file in files]
                    for tiles in counts[level][top]:
                        for part, left in zip(parts, columns, strict=True):
                            out.write(part.read(int(tiles[left].sum())))
            if out.tell() != starts[-1] + sizes[-1]:
                msg = f"cannot write {str(path)!r}: tiles in {str(scratch)!r} were lost"
                raise OutputError(msg)
    return offsets


def _spans(sizes: Sequence[int]) -> list[slice]:
    return [slice(*span) for span in pairwise([0, *np.cumsum(sizes).tolist()])]


def _point_at_tiles(
    path: Path,
    offsets: Sequence[npt.NDArray[np.int64]],
    counts: Sequence[npt.NDArray[np.int64]],
) -> None:
    from tifffile import TiffFile

    with TiffFile(path, mode="r+") as file:
        for page, starts, sizes in zip(file.pages, offsets, counts, strict=True):
            kind = LONG8 if file.is_bigtiff else LONG
            tags = page.aspage().tags
            tags[TILE_OFFSETS].overwrite(starts.ravel().tolist(), dtype=kind)
            tags[TILE_BYTE_COUNTS].overwrite(sizes.ravel().tolist())
