"""The original of a compressed image, as far as a picture needs it.

What is read at once is bounded: a window, an overview, or all of an image that is small. An image
that can only be decoded from its first row on, and is not small, is not read at all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

from kmdask.errors import KmdaskError, ParameterError
from kmdask.reading.arrays import lay_out_array, recognise
from kmdask.reading.gdal_source import RasterioSource
from kmdask.reading.plans import plan_source, sample_bytes
from kmdask.reading.raster import found_at, open_raster
from kmdask.reading.window import cropped
from kmdask.units import several

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from kmdask.image import CompressedImage
    from kmdask.reading.sources import Source

WHOLE = 1 << 26
"""Bytes of pixels up to which an image is read whole."""

LONGEST = 2048
"""Longest side of an overview in pixels, as that of a preview."""


@dataclass(frozen=True)
class Original:
    """Where windows of an original are read."""

    window: Callable[[slice, slice], npt.NDArray[Any]]
    """Takes rows and columns, returns the pixels there, of shape (y, x, band)."""

    small: bool
    """Whether all of it is in memory, or may be."""

    overview: Callable[[], tuple[npt.NDArray[Any], npt.NDArray[np.bool_]] | None]
    """Returns an overview with what of it is valid; None if there is none that costs little."""


def find_original(image: CompressedImage, given: Any = None) -> Original | None:
    """Open the original of an image: what is given, or what the report names, if that is there.

    Parameters
    ----------
    image : CompressedImage
    given : str or path-like, or NumPy, Dask or xarray array, optional
        In place of the source that the report names.

    Returns
    -------
    Original or None
        None if nothing is given, and what the report names is not there, is another image now, or
        cannot be read in windows.

    Raises
    ------
    KmdaskError
        If what is given cannot be opened, or is not of the size and the kind of the image.
    """
    if given is not None:
        return _opened(image, given)
    try:
        return _opened(image, image.report.source)
    except KmdaskError:
        return None


def _opened(image: CompressedImage, given: Any) -> Original:
    numbers = [band.number for band in image.bands]
    if not isinstance(given, str | os.PathLike):
        return _of_array(image, given, numbers)
    source = found_at(given, bands=numbers)
    if source is not None and source.shape != image.shape[:2] and image.report.window is not None:
        source = found_at(given, bands=numbers, window=image.report.window)
    if source is None:
        raise ParameterError(f"original is a path or an array; got {given!r}")
    _check_same(image, os.fspath(given), source.shape, source.dtype)
    return _of_source(source, image.shape[2])


def _of_source(source: Source, bands: int) -> Original:
    height, width = source.shape
    small = height * width * sample_bytes(source) <= WHOLE
    # Each window would decode all of one that is a single block.
    single = source.block[0] >= height and source.block[1] >= width
    if single or plan_source(source).spool:
        if not small:
            msg = (
                f"{source.path!r} can only be decoded as a whole or from its first row on, and "
                f"takes more than {WHOLE >> 20} MiB: too much for a picture; give a copy in tiles, "
                "or none"
            )
            raise ParameterError(msg)
        held = np.empty((height, width, bands), source.dtype)
        for rows, columns, samples in source.forward():
            held[rows, columns] = samples[:, :, :bands]
        return _held(held)
    return Original(
        lambda rows, columns: source.read(rows, columns)[:, :, :bands],
        small,
        lambda: _read_overview(source, bands),
    )


def _read_overview(
    source: Source, bands: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]] | None:
    if not isinstance(source, RasterioSource):
        return None
    there = source.overview(LONGEST)
    if there is None:
        return None
    samples = there.read(slice(0, there.shape[0]), slice(0, there.shape[1]))
    valid = samples[:, :, -1] != 0 if source.masked else np.ones(there.shape, bool)
    return samples[:, :, :bands], valid


def _held(pixels: npt.NDArray[Any]) -> Original:
    return Original(lambda rows, columns: pixels[rows, columns], small=True, overview=lambda: None)


def _of_array(image: CompressedImage, given: Any, numbers: Sequence[int]) -> Original:
    known = recognise(given)
    window = image.report.window
    layout = lay_out_array(known, bands=numbers)
    if layout.shape != image.shape[:2] and window is not None:
        known, layout = cropped(known, layout, window)
    _check_same(image, known.name, layout.shape, layout.dtype)
    if isinstance(known.data, da.Array):
        raster = open_raster(given, bands=numbers, window=window)

        def computed(rows: slice, columns: slice) -> npt.NDArray[Any]:
            return np.asarray(raster.window(rows, columns)[0].compute())

        return Original(computed, small=False, overview=lambda: None)
    data = np.asarray(known.data)

    def cut(rows: slice, columns: slice) -> npt.NDArray[Any]:
        samples = layout.arrange(np.array(data[layout.selection(rows, columns)]))
        return samples[:, :, : len(numbers)]

    return Original(cut, data.nbytes <= WHOLE, overview=lambda: None)


def _check_same(
    image: CompressedImage, name: str, shape: tuple[int, int], dtype: np.dtype[Any]
) -> None:
    height, width, bands = image.shape
    own = image.palette.colors.dtype
    if shape != (height, width) or dtype != own:
        msg = (
            f"{name!r} is {shape[1]} x {shape[0]} pixels of {dtype}, the compressed image "
            f"{width} x {height} of {own}, {several(bands, 'band')}: give the image it was made of"
        )
        raise ParameterError(msg)
