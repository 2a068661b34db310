"""How far the compressed image is from the original.

Where the colours were counted one by one, the counts alone tell: every pixel of a colour gets the
same palette entry, so the squared error over all pixels is that over the colours, each times its
count, and no pass over the image is needed. Otherwise the error is added up chunk by chunk where
the indices are made, from the pixels and the indices of one read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

from kmdask.fitting.search import prepared
from kmdask.graphs import over_chunks
from kmdask.kernels.errors import add_errors
from kmdask.kernels.nearest import nearest_pixels
from kmdask.pixels import ALL_VALID

if TYPE_CHECKING:
    import dask.array as da
    import numpy.typing as npt
    from dask.delayed import Delayed

    from kmdask.fitting.colors import WeightedColors
    from kmdask.fitting.space import Space
    from kmdask.palette import Palette


@dataclass(frozen=True)
class Metrics:
    """Error over all valid pixels."""

    mse: float
    """Mean squared error over pixels and bands, in squared units of the image."""

    shares: tuple[float, ...]
    """The share of the valid pixels that has each palette entry, in order."""

    peak: float = 255.0
    """What `psnr` takes for the signal: 255 of 8-bit pixels, else the range of the valid ones."""

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in decibels; infinite without error."""
        return 10 * math.log10(self.peak**2 / self.mse) if self.mse and self.peak else math.inf


@dataclass(frozen=True, eq=False)
class Errors:
    """Squared errors and counts of some pixels; errors add up."""

    squared: npt.NDArray[np.float64]
    """Sum of squared differences of each band, of shape (band,)."""

    counts: npt.NDArray[np.int64]
    """Pixels of each palette entry, of shape (k,)."""

    @staticmethod
    def merge(parts: list[Errors]) -> Errors:
        """Add up the errors of several groups of pixels, in their order."""
        return Errors(
            np.sum([part.squared for part in parts], axis=0),
            np.sum([part.counts for part in parts], axis=0),
        )

    def metrics(self, peak: float) -> Metrics:
        """Return the means over all pixels."""
        pixels = int(self.counts.sum())
        return Metrics(
            mse=float(self.squared.sum()) / (pixels * self.squared.size),
            shares=tuple((self.counts / pixels).tolist()),
            peak=peak,
        )


def measure(colors: WeightedColors, palette: Palette, *, space: Space | None = None) -> Metrics:
    """Compare the colours of an image with what a palette makes of them.

    Exact for counted colours; for cells an estimate that leaves out how far pixels are from the
    means of their cells.

    Parameters
    ----------
    colors : WeightedColors
        The counted colours of the image.
    palette : Palette
    space : Space, optional
        Where the nearest entry was looked for. Errors are those of the bands nevertheless.

    Returns
    -------
    Metrics

    Examples
    --------
    >>> import dask.array as da
    >>> from kmdask import Palette, count_colors
    >>> image = da.from_array(np.array([[[0], [4], [4], [10]]], np.uint8))
    >>> measure(count_colors(image), Palette(np.array([[4], [10]], np.uint8)))
    Metrics(mse=4.0, shares=(0.75, 0.25), peak=255.0)
    """
    errors, _ = over_chunks(
        "measure", _color_errors, Errors.merge, [colors.colors, colors.counts], palette, space
    )
    result: Errors = dask.compute(errors)[0]
    return result.metrics(colors.high - colors.low)


def pixel_errors(pixels: da.Array, indices: da.Array, palette: Palette) -> tuple[Delayed, da.Array]:
    """Add up the errors of all valid pixels, lazily: a `Delayed` of `Errors`, and one per chunk."""
    return over_chunks("measure", _pixel_errors, Errors.merge, [pixels, indices], palette)


def _color_errors(
    colors: npt.NDArray[np.floating[Any]],
    counts: npt.NDArray[np.int64],
    palette: Palette,
    space: Space | None,
) -> Errors:
    entries = palette.colors.astype(np.float64)
    labels = np.empty((1, len(colors)), np.uint16)
    nearest_pixels(colors[None], ALL_VALID, *prepared(entries, space), 0, labels)
    squared = (colors - entries[labels[0]]) ** 2
    return Errors(
        squared=(squared * counts[:, None]).sum(axis=0),
        counts=np.bincount(labels[0], counts, len(palette)).astype(np.int64),
    )


def _pixel_errors(
    pixels: npt.NDArray[Any], indices: npt.NDArray[np.unsignedinteger[Any]], palette: Palette
) -> Errors:
    entries = palette.colors.astype(np.float64)
    errors = Errors(np.zeros(palette.bands), np.zeros(len(palette), np.int64))
    add_errors(pixels, indices, entries, errors.squared, errors.counts)
    return errors
