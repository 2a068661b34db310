"""Full-colour GeoTIFFs of compressed images."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from rasterio import Affine
from rasterio.errors import RasterioError
from rasterio.windows import Window

from kmdask.chunks import TILE
from kmdask.errors import OutputError, OutputExistsError, writing
from kmdask.palette import decode_block
from kmdask.progress import Silent
from kmdask.sources import open_dataset

if TYPE_CHECKING:
    from pathlib import Path

    from kmdask.image import CompressedImage
    from kmdask.progress import Progress


def write_geotiff(
    image: CompressedImage,
    path: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
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
    progress : Progress, optional
        Is told how far it is. By default nobody is.

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
        progress = progress or Silent()
        with writing(path), progress.stage("decode"):
            _write(image, partial, progress)
            _verify(partial, path)
            partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink()


def _write(image: CompressedImage, path: Path, progress: Progress) -> None:
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
        **({"alpha": "yes"} if masked else {}),
        tiled=True,
        blockxsize=TILE,
        blockysize=TILE,
        compress="deflate",
        predictor=2,
        bigtiff="if_safer",
        num_threads="all_cpus",
    ) as dataset:
        rows, columns = map(_spans, image.indices.chunks)
        shards = list(product(enumerate(rows), enumerate(columns)))
        for done, ((row, top), (column, left)) in enumerate(shards, start=1):
            indices = image.indices.blocks[row, column].compute(scheduler="synchronous")
            window = Window.from_slices(top, left)
            colors = np.moveaxis(decode_block(indices, image.palette), 2, 0)
            dataset.write(colors, indexes=list(range(1, bands + 1)), window=window)
            if masked:
                alpha = np.where(indices == image.nodata, 0, 255).astype(np.uint8)
                dataset.write(alpha, bands + 1, window=window)
            progress.advance(done, len(shards))


def _spans(sizes: tuple[int, ...]) -> list[slice]:
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]


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
