"""What kmdask sees in a source image, and what reading it takes, without reading any pixel."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kmdask.chunks import Workers, ceil_div, process_bytes, task_bytes
from kmdask.reading.plans import plan_source, size_of
from kmdask.reading.raster import everywhere
from kmdask.reading.sources import find_source
from kmdask.units import several, size_told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kmdask.bands import Band
    from kmdask.georef import Georef


@dataclass(frozen=True)
class Description:
    """An image as kmdask sees it."""

    source: str
    shape: tuple[int, int]
    """Rows and columns."""

    dtype: str
    bands: tuple[Band, ...]
    masked: bool
    """Whether there may be invalid pixels, whatever tells them: nodata, alpha, a mask or NaN."""

    georef: Georef
    block: tuple[int, int]
    """Rows and columns that the file stores together."""

    chunk: tuple[int, int]
    """Rows and columns that a task reads."""

    copied: bool
    """Whether the image is copied first, because it cannot be read at random."""

    source_bytes: int
    raw_bytes: int
    worker_bytes: int
    """Estimated memory of a worker besides its threads."""

    thread_bytes: int
    """Estimated memory of each of its threads."""

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return ceil_div(self.shape[0], self.chunk[0]) * ceil_div(self.shape[1], self.chunk[1])

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON."""
        return {
            **asdict(self),
            "bands": [band.to_dict() for band in self.bands],
            "georef": self.georef.to_dict(),
            "chunks": self.chunks,
        }

    def rows(self) -> dict[str, str]:
        """Return what to show, a line for each name."""
        (height, width), (tall, wide) = self.shape, self.chunk
        nodata = sorted({f"{band.nodata:.12g}" for band in self.bands if band.nodata is not None})
        rows = {
            "source": f"{self.source} ({size_told(self.source_bytes)})",
            "image": f"{width} x {height}, {several(len(self.bands), 'band')} of {self.dtype}, "
            f"{size_told(self.raw_bytes)} of pixels",
            "bands": "\n".join(map(_band, self.bands)),
            "nodata": ", ".join(nodata) or ("a mask or alpha tells" if self.masked else "none"),
            "CRS": _crs(self.georef),
            "place": _place(self.georef),
            "blocks": f"{self.block[1]} x {self.block[0]} in the file"
            + (", cannot be read at random: copied first" if self.copied else ""),
            "chunks": f"{self.chunks} of {wide} x {tall} at most",
            "memory": f"about {size_told(self.worker_bytes)} a worker and "
            f"{size_told(self.thread_bytes)} for each of its threads",
        }
        return {name: text for name, text in rows.items() if text}


def describe(
    path: str | os.PathLike[str],
    *,
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
) -> Description:
    """Look at a source image.

    Parameters
    ----------
    path : str or path-like
    bands, nodata
        As in `kmdask.open_raster`.

    Returns
    -------
    Description

    Raises
    ------
    KmdaskError
        What `kmdask.open_raster` would raise before it reads.

    Examples
    --------
    >>> import numpy as np
    >>> np.save("scene.npy", np.zeros((3000, 4000, 7), np.uint16))
    >>> seen = describe("scene.npy")
    >>> seen.shape, len(seen.bands), seen.chunk, seen.chunks
    ((3000, 4000), 7, (1024, 1024), 12)
    """
    source = find_source(everywhere(os.fspath(path)), bands=bands, nodata=nodata)
    # For one thread: the largest chunks, and the most memory, that there may be.
    plan = plan_source(source, Workers(threads=1))
    height, width = source.shape
    rows, columns = min(plan.chunk[0], height), min(plan.chunk[1], width)
    bands_there, itemsize = len(source.bands), source.dtype.itemsize
    raw = height * width * bands_there * itemsize
    return Description(
        source=os.fspath(path),
        shape=source.shape,
        dtype=source.dtype.name,
        bands=source.bands,
        masked=source.masked,
        georef=source.georef,
        block=source.block,
        chunk=plan.chunk,
        copied=plan.spool,
        source_bytes=size_of(source.location),
        raw_bytes=raw,
        worker_bytes=process_bytes(raw),
        thread_bytes=task_bytes(rows * columns, bands_there, itemsize, masked=source.masked),
    )


def _band(band: Band) -> str:
    scaled = band.scale != 1 or band.offset != 0
    parts = [
        f"{band.number}:",
        band.name,
        band.color if band.color != "undefined" else "",
        f"x {band.scale:g} + {band.offset:g}" if scaled else "",
        band.unit,
    ]
    return " ".join(filter(None, parts))


def _crs(georef: Georef) -> str:
    from rasterio.crs import CRS

    if georef.crs_wkt is None:
        return "none"
    crs = CRS.from_wkt(georef.crs_wkt)
    name = georef.crs_wkt.split('"')[1] if '"' in georef.crs_wkt else georef.crs_wkt
    code = crs.to_epsg()
    return f"EPSG:{code} ({name})" if code else name


def _place(georef: Georef) -> str:
    told = []
    if georef.transform is not None:
        a, b, c, d, e, f = georef.transform
        turned = f", rotated ({b:g}, {d:g})" if b or d else ""
        told.append(f"corner {c:.12g}, {f:.12g}, pixel {a:g} x {e:g}{turned}")
    if georef.gcps:
        told.append(f"{len(georef.gcps)} ground control points")
    if georef.rpcs:
        told.append("RPCs")
    return ", ".join(told)
