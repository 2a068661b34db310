"""How far the compressed image is from the original.

Where the colours were counted one by one, the counts alone tell: every pixel of a colour gets the
same palette entry, so the squared error over all pixels is that over the colours, each times its
count, and no pass over the image is needed. Otherwise the error is added up chunk by chunk where
the indices are made, from the pixels and the indices of one read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from scipy.special import entr

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
    from kmdask.writing.receipts import Receipts


@dataclass(frozen=True)
class Metrics:
    """Error over all valid pixels."""

    mse: float
    """Mean squared error over pixels and bands, in squared units of the image."""

    shares: tuple[float, ...]
    """The share of the valid pixels that has each palette entry, in order."""

    peak: float = 255.0
    """What `psnr` takes for the signal: 255 of 8-bit pixels, else the range of the valid ones."""

    pixels: int = field(default=0, compare=False, repr=False)
    """How many valid pixels there are."""

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in decibels; infinite without error."""
        return 10 * math.log10(self.peak**2 / self.mse) if self.mse and self.peak else math.inf


def entropy(metrics: Metrics) -> float:
    """Entropy of the indices of valid pixels, in bits: what a code takes for each on average.

    Examples
    --------
    >>> entropy(Metrics(mse=4.0, shares=(0.5, 0.25, 0.25)))
    1.5
    """
    return float(entr(np.array(metrics.shares)).sum()) / math.log(2)


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
        "measure", _color_errors, _sum, [colors.colors, colors.counts], palette, space
    )
    return metrics_of(dask.compute(errors)[0], palette.bands, colors.high - colors.low)


def pixel_errors(
    pixels: da.Array, indices: da.Array, palette: Palette, receipts: Receipts | None = None
) -> tuple[Delayed, da.Array]:
    """Add up the errors of all valid pixels, lazily.

    Parameters
    ----------
    pixels : dask array of shape (y, x, band)
    indices : dask array of shape (y, x)
    palette : Palette
    receipts : Receipts, optional
        Where the errors of each chunk are kept.

    Returns
    -------
    errors : Delayed
        What `metrics_of` takes.
    done : dask array of shape (chunks,), int64
        Ones.
    """
    return over_chunks(
        "measure", _pixel_errors, _sum, [pixels, indices], palette, receipts=receipts
    )


def metrics_of(errors: npt.NDArray[np.float64], bands: int, peak: float) -> Metrics:
    """Return the means over all pixels; of none they are 0.

    Parameters
    ----------
    errors : float64 array of shape (band + k,)
        The sum of squared differences of each band, then the pixels of each palette entry. In one
        array, it adds up and is kept in a file.
    bands : int
    peak : float
        See `Metrics`.
    """
    squared, counts = errors[:bands], errors[bands:]
    pixels = int(counts.sum())
    return Metrics(
        mse=float(squared.sum()) / (max(pixels, 1) * bands),
        shares=tuple((counts / max(pixels, 1)).tolist()),
        peak=peak,
        pixels=pixels,
    )


def _sum(parts: list[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    total: npt.NDArray[np.float64] = np.sum(parts, axis=0)
    return total


def _color_errors(
    colors: npt.NDArray[np.floating[Any]],
    counts: npt.NDArray[np.int64],
    palette: Palette,
    space: Space | None,
) -> npt.NDArray[np.float64]:
    entries = palette.colors.astype(np.float64)
    labels = np.empty((1, len(colors)), np.uint16)
    search = prepared(entries, space, palette.penalties)
    nearest_pixels(colors[None], ALL_VALID, *search, 0, labels)
    squared = (colors - entries[labels[0]]) ** 2
    pixels = np.bincount(labels[0], counts, len(palette))
    return np.concatenate([(squared * counts[:, None]).sum(axis=0), pixels])


def _pixel_errors(
    pixels: npt.NDArray[Any], indices: npt.NDArray[np.unsignedinteger[Any]], palette: Palette
) -> npt.NDArray[np.float64]:
    entries = palette.colors.astype(np.float64)
    squared, counts = np.zeros(palette.bands), np.zeros(len(palette), np.int64)
    add_errors(pixels, indices, entries, squared, counts)
    return np.concatenate([squared, counts])
