"""What a picture of a compressed image is drawn from: overviews, crops, and a sample of pixels.

However large an image is, what is read of it does not grow: twenty-five windows, and overviews.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from kmdask.chunks import ceil_div
from kmdask.errors import ParameterError
from kmdask.plotting.originals import LONGEST, find_original
from kmdask.reading.missing import valid_values
from kmdask.writing.decompress import Decoded
from kmdask.writing.preview import BACKGROUND
from kmdask.writing.sampled import sample_windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from kmdask.image import CompressedImage
    from kmdask.plotting.originals import Original

SIDE, LEAST = 256, 32
"""Side of a window in pixels: a third of the shorter side of the image, within these."""

WINDOWS = 25
"""Windows of which crops and pixels are taken."""

SHOWN = 4000
"""Pixels in the cloud."""

READERS = 8
"""Windows that are read at once: of remote images most of the time is waiting."""


@dataclass(frozen=True, eq=False)
class Crop:
    """One window, as it is and as it was."""

    rows: slice
    columns: slice

    original: npt.NDArray[np.uint8]
    """Of shape (y, x, 3), as displayed; invalid pixels are white."""

    compressed: npt.NDArray[np.uint8]

    error: npt.NDArray[np.float64]
    """Of shape (y, x): the root of the mean squared difference of the bands; invalid: NaN."""

    mse: float
    """Mean squared error over the valid pixels and bands."""


@dataclass(frozen=True, eq=False)
class Look:
    """All that a picture shows besides the report."""

    original: npt.NDArray[np.uint8] | None
    """The overview, of shape (y, x, 3); None if it would cost too much, or there is no original."""

    compressed: npt.NDArray[np.uint8]
    """The overview of the compressed image."""

    crops: tuple[Crop, ...]
    """Windows apart from each other, those of the largest error first; none without an original."""

    values: npt.NDArray[np.float64]
    """Of shape (n, band): some valid pixels of the original; none without one."""


def look_at(image: CompressedImage, given: Any = None) -> Look:
    """Read what a picture of an image needs; see `kmdask.plotting.originals.find_original`.

    Raises
    ------
    ParameterError
        If what is given is further from the compressed image than its original can be. (What only
        the report names is taken for changed since, and left out.)
    """
    original = find_original(image, given)
    stored = Decoded.open(image.path)
    # What is small is averaged from all pixels, both sides alike.
    small = original.small if original is not None else max(stored.shape) <= LONGEST
    compressed = _averaged(image, stored) if small else np.asarray(image.preview().convert("RGB"))
    alone = Look(None, compressed, (), np.empty((0, image.shape[2])))
    if original is None:
        return alone
    windows = look_windows(stored.shape)
    with ThreadPoolExecutor(READERS) as pool:
        read = list(pool.map(lambda window: original.window(*window), windows))
    crops, values = [], []
    for pixels, (rows, columns) in zip(read, windows, strict=True):
        colors, valid = stored.read(rows, columns)
        if valid.any():
            crops.append(_crop(image, pixels, np.moveaxis(colors, 0, 2), valid, (rows, columns)))
            values.append(pixels[valid].astype(np.float64))
    if not all(_possible(image, crop) for crop in crops):
        if given is None:
            return alone
        msg = (
            "what is given as the original is further from the compressed image than this is from "
            "its own, by its report: give the image it was made of, as it was then"
        )
        raise ParameterError(msg)
    overview = _averaged(image, stored, original) if small else _overview(image, original)
    # Sorting is stable: of equals the first one.
    crops.sort(key=lambda crop: -crop.mse)
    return Look(overview, compressed, _apart(crops), _some(values, image.shape[2]))


def look_windows(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Place the windows, by the size of the image alone.

    Examples
    --------
    >>> look_windows((20, 100))[-1]
    (slice(0, 20, None), slice(68, 100, None))
    """
    side = min(max(min(shape) // 3, LEAST), SIDE)
    # Those at the edges are moved in until they are as large as the others.
    return [
        (
            slice(max(rows.stop - side, 0), rows.stop),
            slice(max(columns.stop - side, 0), columns.stop),
        )
        for rows, columns in sample_windows(shape, WINDOWS, side)
    ]


def paint(
    image: CompressedImage, values: npt.NDArray[Any], valid: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """Show pixels of shape (y, x, band) in 8-bit colours, as the bundle's tiles do."""
    colors = display(image, values).copy()
    colors[~valid] = BACKGROUND
    return colors


def display(image: CompressedImage, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the colours, of shape (..., 3), of values of shape (..., band)."""
    numbers = [band.number for band in image.bands]
    shown = values[..., [numbers.index(band) for band in image.display.bands]]
    return np.broadcast_to(image.display.paint(shown), (*values.shape[:-1], 3))


def _crop(
    image: CompressedImage,
    pixels: npt.NDArray[Any],
    colors: npt.NDArray[Any],
    valid: npt.NDArray[np.bool_],
    window: tuple[slice, slice],
) -> Crop:
    different = np.zeros(pixels.shape)
    different[valid] = pixels[valid].astype(np.float64) - colors[valid]
    squared = np.square(different)
    error = np.sqrt(squared.mean(axis=2))
    error[~valid] = np.nan
    return Crop(
        *window,
        original=paint(image, pixels, valid),
        compressed=paint(image, colors, valid),
        error=error,
        mse=float(squared[valid].mean()),
    )


def _possible(image: CompressedImage, crop: Crop) -> bool:
    """Whether no pixel is further off than the report says that any is."""
    most = image.report.max_error
    # The mean over the bands is no more than the largest; NaN is no error at all.
    worst = float(crop.error[~np.isnan(crop.error)].max(initial=0))
    return bool(np.isfinite(crop.mse)) and (most is None or worst <= most * (1 + 1e-6))


def _apart(crops: Sequence[Crop]) -> tuple[Crop, ...]:
    """Leave out crops that reach into one before: those at the edges have been moved in."""
    kept: list[Crop] = []
    for crop in crops:
        if not any(
            crop.rows.start < other.rows.stop
            and other.rows.start < crop.rows.stop
            and crop.columns.start < other.columns.stop
            and other.columns.start < crop.columns.stop
            for other in kept
        ):
            kept.append(crop)
    return tuple(kept)


def _overview(image: CompressedImage, original: Original) -> npt.NDArray[np.uint8] | None:
    there = original.overview()
    if there is None:
        return None
    pixels, valid = there
    # The bundle may know of a value for missing pixels that the file does not name.
    told = valid_values(pixels, tuple(band.nodata for band in image.bands))
    return paint(image, pixels, valid & told)


def _averaged(
    image: CompressedImage, stored: Decoded, original: Original | None = None
) -> npt.NDArray[np.uint8]:
    """Show all of an image, strip by strip, averaged to an overview."""
    height, width = stored.shape
    factor = ceil_div(max(height, width), LONGEST)
    tall = factor * max(1, SIDE // factor)
    everywhere = slice(0, width)
    strips = []
    for top in range(0, height, tall):
        rows = slice(top, min(top + tall, height))
        colors, valid = stored.read(rows, everywhere)
        pixels = (
            np.moveaxis(colors, 0, 2) if original is None else original.window(rows, everywhere)
        )
        shown = Image.fromarray(paint(image, pixels, valid))
        strips.append(np.asarray(shown.reduce(factor)))
    return np.concatenate(strips)


def _some(values: Sequence[npt.NDArray[np.float64]], bands: int) -> npt.NDArray[np.float64]:
    """Draw pixels for the cloud, the same each time."""
    everything = np.concatenate([np.empty((0, bands)), *values])
    drawn = np.random.default_rng(0).permutation(len(everything))[:SHOWN]
    return everything[np.sort(drawn)]
