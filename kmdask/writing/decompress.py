"""Full-colour images of compressed ones: GeoTIFF, Cloud Optimized GeoTIFF or zarr."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from kmdask import places, storage
from kmdask.bands import fill_values
from kmdask.chunks import CHUNK, SHARD, TILE
from kmdask.errors import ParameterError, writing
from kmdask.progress import Silent
from kmdask.reading.missing import fill_of, occurs
from kmdask.reading.zarr_source import OPENING_ERRORS
from kmdask.writing import geozarr
from kmdask.writing.geotiff import write_cog, write_geotiff
from kmdask.writing.publish import Kind, publishing
from kmdask.writing.store import check_finished, read_arrays

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt

    from kmdask.bands import Band
    from kmdask.georef import Georef
    from kmdask.places import Place
    from kmdask.progress import Progress

TIFF_ENDINGS = (".tif", ".tiff")
ZARR_ENDING = ".zarr"

WINDOW_BYTES = 2**26
"""Bytes that colours and indices decoded at once may take."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """A compressed image, decoded where it is read."""

    indices: Any
    """Of shape (y, x); slices of it are arrays, such as those of a zarr array."""

    colors: npt.NDArray[Any]
    """Array of shape (k, band): the palette."""

    bands: tuple[Band, ...]
    """What the columns of the palette are."""

    georef: Georef
    """Where the image is on the map."""

    nodata: int | None
    """The index of invalid pixels, the first after the palette; None if every pixel is valid."""

    @classmethod
    def open(cls, bundle: Place) -> Decoded:
        """Open a bundle.

        Raises
        ------
        BundleError
            If there is none at the path, or it is damaged.
        """
        check_finished(bundle)
        indices, palette, header = read_arrays(bundle)
        nodata = palette.nodata if header.masked else None
        return cls(indices, palette.colors, header.bands, header.georef, nodata)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        height, width = self.indices.shape
        return int(height), int(width)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The data type of the colours."""
        return self.colors.dtype

    @property
    def fill(self) -> npt.NDArray[Any]:
        """The value of invalid pixels in each band; see `kmdask.reading.missing.fill_of`."""
        return fill_of(self.bands, self.dtype)

    @property
    def tag(self) -> float | None:
        """The value that tells invalid pixels in all bands; None if a mask has to.

        A value that is a colour of valid pixels too tells nothing.
        """
        values = fill_values(self.bands)
        if values is None or not all(occurs(value, self.dtype) for value in values):
            return None
        fill = self.fill
        same = np.array_equal(fill, np.full_like(fill, fill[0]), equal_nan=True)
        taken = (self.colors == fill).all(axis=1).any()
        return float(fill[0]) if same and not taken else None

    @property
    def untagged(self) -> bool:
        """Whether there are invalid pixels that only a mask can tell."""
        return self.nodata is not None and self.tag is None

    def read(self, rows: slice, columns: slice) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Decode a window: its colours, of shape (band, y, x), and which pixels are valid."""
        # What `np.take` would make of them for each band anew.
        indices = np.asarray(self.indices[rows, columns]).astype(np.intp)
        table = np.concatenate([self.colors, self.fill[None]])
        colors = np.empty((len(self.bands), *indices.shape), self.dtype)
        for band, values in enumerate(np.ascontiguousarray(table.T)):
            # Any other mode is five times slower: it fills a buffer first.
            np.take(values, indices, out=colors[band], mode="clip")
        return colors, indices < len(self.colors)

    def windows(self) -> list[tuple[slice, slice]]:
        """Rows and columns of the windows to read it in, one after the other."""
        pixel = np.dtype(np.intp).itemsize + len(self.bands) * self.dtype.itemsize
        side = SHARD
        while side > TILE and side * side * pixel > WINDOW_BYTES:
            side //= 2
        height, width = self.shape
        rows = [slice(top, min(top + side, height)) for top in range(0, height, side)]
        columns = [slice(left, min(left + side, width)) for left in range(0, width, side)]
        return list(product(rows, columns))

    def told_windows(self, progress: Progress) -> Iterator[tuple[slice, slice]]:
        """Give the windows one after the other, and tell of each when the next is asked for."""
        done = 0
        for rows, columns in self.windows():
            yield rows, columns
            done += (rows.stop - rows.start) * (columns.stop - columns.start)
            progress.advance(done, math.prod(self.shape))


def decompress(
    image: Decoded,
    path: Place,
    *,
    cog: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write the colours of a compressed image, in the form that the ending of the path says.

    Window by window in this process, so the memory needed does not grow with the image. What is
    written appears under its name when it is complete. Invalid pixels have the nodata value of the
    image if it has one for all bands, else an alpha band of 0 or a mask.

    Parameters
    ----------
    image : Decoded
    path : Path or UPath
        The file (.tif, .tiff) or directory (.zarr) to write. That of a URL is written to a
        temporary one first.
    cog : bool, default False
        Whether a GeoTIFF is to be a Cloud Optimized one.
    overwrite : bool, default False
        Whether to replace a file, or a zarr group, that is there.
    progress : Progress, optional
        Is told how far it is. By default nobody is.

    Raises
    ------
    ParameterError
        If the ending is none of these, or `cog` does not go with it.
    OutputExistsError
        If something is there that may not be replaced.
    OutputError
        If the output cannot be written.
    """
    ending = path.suffix.lower()
    if ending not in (*TIFF_ENDINGS, ZARR_ENDING):
        raise ParameterError(
            f"the ending of the output says what to write: .tif, .tiff or .zarr; got {str(path)!r}"
        )
    if cog and ending == ZARR_ENDING:
        raise ParameterError(f"a COG is a GeoTIFF, .tif or .tiff; got {str(path)!r}")
    write, kind = _write_zarr, Kind("zarr group", _is_zarr)
    if ending in TIFF_ENDINGS:
        write, kind = write_cog if cog else write_geotiff, Kind("file", storage.is_file)
    progress = progress or Silent()
    with publishing(path, kind, overwrite=overwrite) as partial, progress.stage("decode"):
        write(image, partial, path, progress)


def _write_zarr(image: Decoded, path: Path, name: Place, progress: Progress) -> None:
    with writing(name):
        path.mkdir()
        group = geozarr.create_group(path)
        array = geozarr.create_image(
            group,
            "image",
            image.shape,
            image.georef,
            bands=len(image.bands),
            dtype=image.dtype,
            fill_value=image.tag,
        )
        array.attrs.update(geozarr.band_attributes(image.bands))
        geozarr.write_bands(group, image.bands)
        mask = _create_mask(group, image) if image.untagged else None
        for rows, columns in image.told_windows(progress):
            colors, valid = image.read(rows, columns)
            array[:, rows, columns] = colors
            if mask is not None:
                mask[rows, columns] = np.where(valid, np.uint8(255), np.uint8(0))
        geozarr.finish_group(path)


def _create_mask(group: Any, image: Decoded) -> Any:
    """Create the mask of an image that has no nodata value, as GDAL has it: 0 is invalid."""
    return geozarr.create_array(
        group, "mask", ("y", "x"), shape=image.shape, chunks=(CHUNK, CHUNK), dtype=np.uint8
    )


def _is_zarr(path: Place) -> bool:
    try:
        zarr.open(places.zarr_store(path), mode="r")
    except OPENING_ERRORS:
        return False
    return True
