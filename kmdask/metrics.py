"""How far the compressed image is from the original, from the colour counts alone.

Every pixel of a colour gets the same palette entry, so the squared error over all pixels is the
squared error over the different colours, each times its count: no pass over the image is needed,
and the result is exact (sums of integers below 2**53).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kmdask.kmeans_blocks import Blocks

if TYPE_CHECKING:
    from kmdask.colors import WeightedColors
    from kmdask.palette import Palette

PEAK = 255


@dataclass(frozen=True)
class Metrics:
    """Error over all valid pixels."""

    mse: float
    """Mean squared error over pixels and bands, in squared units of the image."""

    shares: tuple[float, ...]
    """The share of the valid pixels that has each palette entry, in order."""

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in decibels, for a peak of 255; infinite without error."""
        return 10 * math.log10(PEAK**2 / self.mse) if self.mse else math.inf


def measure(colors: WeightedColors, palette: Palette) -> Metrics:
    """Compare an image with what a palette makes of it.

    Parameters
    ----------
    colors : WeightedColors
        The counted colours of the image.
    palette : Palette

    Returns
    -------
    Metrics

    Examples
    --------
    >>> import dask.array as da
    >>> from kmdask import Palette, count_colors
    >>> image = da.from_array(np.array([[[0], [4], [4], [10]]], np.uint8))
    >>> measure(count_colors(image), Palette(np.array([[4], [10]], np.uint8)))
    Metrics(mse=4.0, shares=(0.75, 0.25))
    """
    total = Blocks(colors.colors, colors.counts).step(palette.colors.astype(np.float64))
    return Metrics(
        mse=total.inertia / (colors.pixels * palette.bands),
        shares=tuple((total.weights / colors.pixels).tolist()),
    )
