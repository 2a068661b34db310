"""Two images that are to be compared, opened in the same chunks."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from kmdask.chunks import CHUNK, UNKNOWN, Workers, plan_reads
from kmdask.connecting.machines import workers_of
from kmdask.errors import ParameterError, without_secrets
from kmdask.image import CompressedImage
from kmdask.pixels import checked
from kmdask.reading.arrays import lay_out_array, recognise
from kmdask.reading.plans import sample_bytes
from kmdask.reading.raster import found_at, open_raster
from kmdask.reading.window import Window, check_window
from kmdask.units import several
from kmdask.writing import store

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dask.array as da
    from distributed import Client

    from kmdask.reading.sources import Source

Opened: TypeAlias = "tuple[da.Array, da.Array | None]"
"""Pixels and mask."""


@dataclass(frozen=True)
class Given:
    """An image to compare."""

    name: str

    what: Any
    """A path, an array, or a bundle."""

    bundle: CompressedImage | None = None
    source: Source | None = None
    bands: Sequence[int] | None = None
    window: Window | None = None

    def open(self, chunk: tuple[int, int] | None, workers: Workers) -> Opened:
        """Return the pixels and the mask, lazily."""
        if self.bundle is None:
            raster = open_raster(
                self.what, bands=self.bands, window=self.window, chunk=chunk, workers=workers
            )
            return checked(raster.pixels, raster.mask)
        pixels, nodata = self.bundle.to_dask(), self.bundle.nodata
        mask = None if nodata is None else (self.bundle.indices != nodata).astype(np.uint8)
        if self.bands is not None:
            numbers = [band.number for band in self.bundle.bands]
            if not set(self.bands) <= set(numbers):
                msg = f"{self.name!r} has bands {numbers}, not all of {list(self.bands)}"
                raise ParameterError(f"{msg}: choose among these by bands= (--bands)")
            pixels = pixels[:, :, [numbers.index(number) for number in self.bands]]
        if self.window is not None:
            cut = self.window.rows, self.window.columns
            self.window.check_inside(self.bundle.shape[:2], self.name)
            pixels, mask = pixels[cut], None if mask is None else mask[cut]
        return checked(pixels, mask)


def given(what: Any, bands: Sequence[int] | None, window: Window | None) -> Given:
    """Look what something is, without opening what is no bundle."""
    place = None
    if isinstance(what, str | os.PathLike):
        place = store.begun_at(os.fspath(what))
    if isinstance(what, CompressedImage) or place is not None:
        bundle = what if place is None else CompressedImage.read(place)
        return Given(str(bundle.path), what, bundle, bands=bands, window=window)
    if isinstance(what, str | os.PathLike):
        return Given(without_secrets(os.fspath(what)), what, bands=bands, window=window)
    return Given(f"array {getattr(what, 'shape', '')}", what, bands=bands, window=window)


def paired(*pair: Given) -> list[Given]:
    """Find the images; what is compared with a bundle has its bands and its region by default."""
    return [
        image if image.bundle is not None else _found(image, other.bundle)
        for image, other in zip(pair, reversed(pair), strict=True)
    ]


def _found(image: Given, bundle: CompressedImage | None) -> Given:
    """Find an image that is no bundle, to compare it with a bundle or another."""
    if bundle is not None:
        bands = image.bands or [band.number for band in bundle.bands]
        image = replace(image, bands=bands)
        image = replace(image, window=_within(image, bundle))
    source = found_at(image.what, bands=image.bands, window=image.window)
    return replace(image, source=source)


def _within(image: Given, bundle: CompressedImage) -> Window | None:
    """Find in an image what is asked for, if it may be the larger one that a bundle is made of."""
    region, asked = check_window(bundle.report.window), image.window
    if region is None or _shape_of(image) == bundle.shape[:2]:
        return asked
    if asked is None:
        return region
    asked.check_inside(bundle.shape[:2], str(bundle.path))
    return Window(region.col_off + asked.col_off, region.row_off + asked.row_off, *asked[2:])


def _shape_of(image: Given) -> tuple[int, int]:
    """Rows and columns of an image, all of it."""
    source = found_at(image.what, bands=image.bands)
    if source is not None:
        return source.shape
    return lay_out_array(recognise(image.what), bands=image.bands).shape


def opened_alike(pair: Sequence[Given], client: Client) -> list[Opened]:
    """Open both in the same chunks, or raise a `ParameterError` if they cannot be compared."""
    found = [workers_of(client, each.source) for each in pair if each.bundle is None]
    workers = min(found, key=lambda each: each.room or math.inf, default=UNKNOWN)
    sources = [each.source for each in pair if each.source is not None]
    chunk = None
    if sources:
        # Whole blocks of both; an array or a bundle can be cut in any way.
        blocks = [source.block for source in sources] + [(CHUNK, CHUNK)]
        block = max(rows for rows, _ in blocks), max(columns for _, columns in blocks)
        taken = 2 * max(map(sample_bytes, sources))
        chunk = plan_reads(sources[0].shape, block, taken, workers).chunk
    images = [each.open(chunk, workers) for each in pair]
    _check_alike(pair, images)
    cuts = images[0][0].chunks[:2]
    return [
        (pixels.rechunk((*cuts, -1)), None if mask is None else mask.rechunk(cuts))
        for pixels, mask in images
    ]


def _check_alike(pair: Sequence[Given], images: Sequence[Opened]) -> None:
    shapes = [tuple(map(int, pixels.shape)) for pixels, _ in images]
    if shapes[0] != shapes[1]:
        told = " and ".join(
            f"{each.name!r} has {shape[1]} x {shape[0]} pixels of {several(shape[2], 'band')}"
            for each, shape in zip(pair, shapes, strict=True)
        )
        raise ParameterError(
            f"{told}: compare images of the same size and bands; choose bands of both by bands= "
            "(--bands) and a region of both by window= (--window), or resample one of them"
        )
