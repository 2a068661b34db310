"""GeoTIFFs by GDAL: full-colour ones, and what every one of them says of place and bands."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.shutil import copy
from rasterio.windows import Window

from kmdask.chunks import TILE
from kmdask.errors import OutputError, writing
from kmdask.reading.sources import open_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmdask.bands import Band
    from kmdask.georef import Georef
    from kmdask.places import Place
    from kmdask.progress import Progress
    from kmdask.writing.decompress import Decoded

ALPHA_TYPES, ALPHA_BANDS = frozenset({"uint8", "uint16"}), frozenset({1, 3})
"""Data types and numbers of bands beside which GDAL takes an alpha band for a mask. Other images
get a mask of their own."""

RGB = ("red", "green", "blue")

NOT_RESTORED = frozenset({"alpha", "palette"})
"""Colour interpretations that would make more of a band of values than it is."""


def write_geotiff(
    image: Decoded, path: Path, name: Place, progress: Progress, *, zlevel: int = 6
) -> None:
    """Write the colours of a compressed image as a tiled GeoTIFF.

    Window by window in this process, so the memory needed does not grow with the image.

    Parameters
    ----------
    image : Decoded
    path : Path
        The file to write.
    name : Path or UPath
        What to call it in messages.
    progress : Progress
    zlevel : int, default 6
        How hard to compress.
    """
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), _gdal_writing(name):
        with open_dataset(path, "w", zlevel=zlevel, **_profile(image)) as dataset:
            place(dataset, image.georef)
            describe(dataset, image.bands)
            for rows, columns in image.told_windows(progress):
                _write_window(dataset, image, rows, columns)
        _verify(path, name)


def write_cog(image: Decoded, path: Path, name: Place, progress: Progress) -> None:
    """Write the colours of a compressed image as a Cloud Optimized GeoTIFF.

    By way of a GeoTIFF beside it. The overviews are averages of the colours.

    Parameters
    ----------
    image : Decoded
    path : Path
        The file to write.
    name : Path or UPath
        What to call it in messages.
    progress : Progress
    """
    # GDAL leaves files beside the one it writes when it fails.
    with (
        writing(name),
        tempfile.TemporaryDirectory(dir=path.parent, prefix=f"{path.name}-") as folder,
    ):
        flat, cog = Path(folder) / "flat.tif", Path(folder) / "cog.tif"
        write_geotiff(image, flat, name, progress, zlevel=1)
        with _gdal_writing(name):
            copy(
                flat,
                cog,
                driver="COG",
                blocksize=TILE,
                compress="deflate",
                predictor="yes",
                overview_resampling="average",
                bigtiff="if_safer",
                num_threads="all_cpus",
            )
            _verify(cog, name)
        cog.replace(path)


def place(dataset: Any, georef: Georef) -> None:
    """Tell a dataset that is open for writing where its image is.

    GDAL's GeoTIFFs have a transform or ground control points, not both: the transform then.
    """
    crs = CRS.from_wkt(georef.crs_wkt) if georef.crs_wkt else CRS()
    if georef.point:
        dataset.update_tags(AREA_OR_POINT="Point")
    if georef.transform is None and georef.gcps:
        points = [GroundControlPoint(**vars(gcp)) for gcp in georef.gcps]
        dataset.gcps = (points, crs)
    elif crs:
        dataset.crs = crs
    if georef.transform is not None:
        dataset.transform = Affine(*georef.transform)
    if georef.rpcs:
        dataset.update_tags(ns="RPC", **dict(georef.rpcs))


def describe(dataset: Any, bands: tuple[Band, ...]) -> None:
    """Tell a dataset that is open for writing what its bands are; one more of them is alpha."""
    rest = [ColorInterp.alpha] * (dataset.count - len(bands))
    dataset.colorinterp = (*(_meaning(band) for band in bands), *rest)
    for number, band in enumerate(bands, start=1):
        if band.name:
            dataset.set_band_description(number, band.name)
        if band.unit:
            dataset.set_band_unit(number, band.unit)
    if any((band.scale, band.offset) != (1, 0) for band in bands):
        dataset.scales = (*(band.scale for band in bands), *(1.0 for _ in rest))
        dataset.offsets = (*(band.offset for band in bands), *(0.0 for _ in rest))


def _meaning(band: Band) -> ColorInterp:
    name = "undefined" if band.color in NOT_RESTORED else band.color
    meaning: ColorInterp = ColorInterp.__members__.get(name, ColorInterp.undefined)
    return meaning


def _profile(image: Decoded) -> dict[str, Any]:
    height, width = image.shape
    colors = tuple(band.color for band in image.bands[:3])
    return {
        "driver": "GTiff",
        "width": width,
        "height": height,
        "count": len(image.bands) + _has_alpha(image),
        "dtype": image.dtype.name,
        "nodata": image.tag,
        "photometric": "rgb" if colors == RGB else "minisblack",
        **({"alpha": "yes"} if _has_alpha(image) else {}),
        "tiled": True,
        "blockxsize": TILE,
        "blockysize": TILE,
        "compress": "deflate",
        "predictor": 3 if image.dtype.kind == "f" else 2,
        "bigtiff": "if_safer",
        "num_threads": "all_cpus",
    }


def _has_alpha(image: Decoded) -> bool:
    known = image.dtype.name in ALPHA_TYPES and len(image.bands) in ALPHA_BANDS
    return known and image.untagged


def _write_window(dataset: Any, image: Decoded, rows: slice, columns: slice) -> None:
    window = Window.from_slices(rows, columns)
    colors, valid = image.read(rows, columns)
    bands = len(image.bands)
    dataset.write(colors, indexes=list(range(1, bands + 1)), window=window)
    if _has_alpha(image):
        alpha = np.where(valid, np.iinfo(image.dtype).max, 0).astype(image.dtype)
        dataset.write(alpha, bands + 1, window=window)
    elif image.untagged:
        dataset.write_mask(valid, window=window)


@contextmanager
def _gdal_writing(name: Place) -> Iterator[None]:
    """Like `writing`, also for the errors of GDAL's that are none of the system's."""
    with writing(name):
        try:
            yield
        except RasterioError as error:
            raise OSError(str(error.__cause__ or error)) from error


def _verify(written: Path, name: Place) -> None:
    # GDAL writes the last blocks when it closes the file, and nobody hears it fail then.
    size = written.stat().st_size
    try:
        with open_dataset(written) as dataset:
            ends = [
                int(dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1))
                + int(dataset.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=1))
                for (row, column), _ in dataset.block_windows(1)
            ]
        complete = max(ends) <= size
    except (RasterioError, TypeError):
        complete = False
    if not complete:
        msg = f"cannot write {str(name)!r}: it came out incomplete; is there space enough?"
        raise OutputError(msg)
