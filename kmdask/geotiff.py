"""Full-colour GeoTIFFs of compressed images."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from rasterio import Affine
from rasterio.errors import RasterioError
from rasterio.windows import Window

from kmdask.chunks import TILE
from kmdask.errors import OutputError, OutputExistsError, writing
from kmdask.palette import decode_block
from kmdask.sources import open_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from kmdask.image import CompressedImage


def write_geotiff(image: CompressedImage, path: Path, *, overwrite: bool = False) -> None:
    """Write the colours of a compressed image as a tiled GeoTIFF.

    Shard by shard in this process, so the memory needed does not grow with the image. Invalid
    pixels get an alpha band of 0. The file appears under its name when it is complete.

    Parameters
    ----------
    image : CompressedImage
    path : Path
        The file to write.
    overwrite : bool, default False
        Whether to replace a file that is there.

    Raises
    ------
    OutputExistsError
        If a file is there that may not be replaced.
    OutputError
        If the file cannot be written.
    """
    if os.path.lexists(path) and not (overwrite and path.is_file()):
        msg = f"{str(path)!r} exists already; give another file, or overwrite=True (--overwrite)"
        raise OutputExistsError(msg)
    partial = path.with_name(f".{path.name}.partial-{uuid.uuid4().hex[:8]}")
    try:
        with writing(path):
            _write(image, partial)
            _verify(partial, path)
            partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink()


def _write(image: CompressedImage, path: Path) -> None:
    height, width, bands = image.shape
    masked = image.nodata is not None
    with open_dataset(
        path,
        "w",
        driver="GTiff",
        width=width,
        height=height,
        count=bands + masked,
        dtype="uint8",
        crs=image.georef.crs_wkt,
        transform=Affine(*image.georef.transform) if image.georef.transform else None,
        photometric="rgb" if bands == 3 else "minisblack",
        alpha="yes" if masked else None,
        tiled=True,
        blockxsize=TILE,
        blockysize=TILE,
        compress="deflate",
        predictor=2,
        bigtiff="if_safer",
        num_threads="all_cpus",
    ) as dataset:
        for row, rows in enumerate(image.indices.chunks[0]):
            for column, columns in enumerate(image.indices.chunks[1]):
                indices = image.indices.blocks[row, column].compute(scheduler="synchronous")
                colors = np.moveaxis(decode_block(indices, image.palette), 2, 0)
                window = Window(
                    sum(image.indices.chunks[1][:column]),
                    sum(image.indices.chunks[0][:row]),
                    columns,
                    rows,
                )
                dataset.write(colors, indexes=list(range(1, bands + 1)), window=window)
                if masked:
                    alpha = np.where(indices == image.nodata, 0, 255).astype(np.uint8)
                    dataset.write(alpha, bands + 1, window=window)


def _verify(written: Path, path: Path) -> None:
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
        msg = f"cannot write {str(path)!r}: it came out incomplete; is there space enough?"
        raise OutputError(msg)
