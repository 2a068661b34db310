"""Tiles of the image that was compressed, as it is shown beside what became of it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kmdask import storage
from kmdask.bands import fill_values
from kmdask.chunks import tiles
from kmdask.errors import ParameterError, writing
from kmdask.graphs import over_chunks
from kmdask.opening import opened
from kmdask.options import Options
from kmdask.reading.raster import found_at, size_of
from kmdask.reading.window import check_window
from kmdask.viewing.page import GROUND
from kmdask.writing.levels import pyramid

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from kmdask.connecting.client import Connection
    from kmdask.display import Display
    from kmdask.image import CompressedImage
    from kmdask.progress import Progress
    from kmdask.reading.raster import Raster

QUALITY = 90


@dataclass(frozen=True)
class Original:
    """A source, and what of it a compressed image shows."""

    source: str | os.PathLike[str] | Any
    """A path or URL, or an array."""

    image: CompressedImage

    @classmethod
    def of(cls, image: CompressedImage, source: Any = None) -> Original:
        """Find a source, by default the one that was compressed.

        Raises
        ------
        KmdaskError
            If it cannot be opened, or is not as large as the image; if the one that was compressed
            has other bytes by now.
        """
        original = cls(image.report.source if source is None else source, image)
        asked = original.options
        found = found_at(
            original.source, bands=asked.bands, nodata=asked.nodata, window=asked.window
        )
        if found is not None:
            original.check_shape(found.shape)
            before, now = image.report.sizes["source"], size_of(found.location)
            if source is None and before and before != now:
                raise ParameterError(
                    f"{original.source!r} has {now} bytes and had {before} when it was compressed: "
                    "it is another image; give it as the original (--original) if you mean it"
                )
        return original

    @property
    def options(self) -> Options:
        """How it is to be read: the bands that are shown, in the window that was compressed."""
        image = self.image
        shown = [band for band in image.bands if band.number in image.display.bands]
        missing = set(fill_values(tuple(shown)) or ())
        return Options(
            k=1,
            bands=image.display.bands,
            nodata=missing.pop() if len(missing) == 1 else None,
            window=check_window(image.report.window),
        )

    def check_shape(self, shape: tuple[int, int]) -> None:
        """Raise a `ParameterError` if that many rows and columns are not those of the image."""
        (rows, columns), (height, width) = shape, self.image.shape[:2]
        if (rows, columns) != (height, width):
            name = repr(self.source) if isinstance(self.source, str) else "the original"
            raise ParameterError(
                f"{name} is {columns} x {rows} pixels and the compressed image {width} x {height}; "
                "give the source that was compressed, or original=False (--no-original) for none"
            )

    def write(self, folder: Path, scratch: Path, client: Connection, progress: Progress) -> None:
        """Write its tiles into a folder, on a cluster of which every worker sees both folders.

        Raises
        ------
        KmdaskError
            If it cannot be read, is not as large as the image, or the folder cannot be written.
        """
        with opened(
            [self.source],
            self.options,
            client=client,
            progress=progress,
            name="view",
            scratch=iter([scratch]),
        ) as there:
            (raster,) = there.rasters
            self.check_shape(raster.shape)
            with there.stages("original"):
                write_original(raster, self.image.display, folder, there.run)


def write_original(
    raster: Raster, display: Display, folder: Path, run: Callable[..., tuple[Any, ...]]
) -> None:
    """Write the tiles of every level, as `kmdask.writing.deepzoom.write_levels` does, as JPEGs.

    Parameters
    ----------
    raster : Raster
        Of the bands that are displayed.
    display : Display
        How values become colours: as in the bundle.
    folder : Path
        Every worker can write there; it is created.
    run : callable
        Computes lazy collections on the cluster and returns them persisted.

    Raises
    ------
    KmdaskError
        If the source cannot be read, or the folder not be written to.
    """
    levels = list(pyramid(raster.pixels, raster.mask))
    results = []
    for depth, level in enumerate(levels):
        place = folder / str(len(levels) - 1 - depth)
        with writing(place):
            storage.make_folder(place)
        results.append(
            over_chunks(
                "write-original",
                _write_tiles,
                sum,
                (level.pixels, level.mask),
                display,
                place,
                places=True,
            )[1]
        )
    run(*results)
    with writing(folder):
        storage.sweep(folder)


def _write_tiles(
    pixels: npt.NDArray[Any],
    mask: npt.NDArray[np.uint8] | None,
    display: Display,
    folder: Path,
    corner: tuple[int, int],
) -> int:
    files = {}
    for name, window in tiles(pixels.shape, corner):
        colors = display.paint(pixels[window])
        if mask is not None:
            colors = np.where(mask[window][:, :, None] != 0, colors, np.array(GROUND, np.uint8))
        files[f"{name}.jpg"] = encode_jpeg(colors)
    with writing(folder):
        return storage.write_files(folder, files)


def encode_jpeg(colors: npt.NDArray[np.uint8]) -> bytes:
    """Encode colours of shape (y, x, 1 or 3) as a JPEG, its colours as sharp as its lightness."""
    from PIL import Image

    grey = colors.shape[2] == 1
    image = Image.fromarray(np.ascontiguousarray(colors[:, :, 0] if grey else colors))
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=QUALITY, subsampling=0)
    return jpeg.getvalue()
