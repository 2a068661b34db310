"""How far the compressed image is from the original, from the colour counts alone.

Every pixel of a colour gets the same palette entry, so the squared error over all pixels is the
squared error over the different colours, each times its count: no pass over the image is needed,
and the result is exact (sums of integers below 2**53).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dask
import numpy as np
from dask.delayed import delayed

from kmdask.graphs import block_names, tree_merge
from kmdask.kernels.lloyd import lloyd_step

if TYPE_CHECKING:
    import numpy.typing as npt

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
    entries = palette.colors.astype(np.float64)
    blocks = zip(
        colors.colors.to_delayed().ravel(), colors.counts.to_delayed().ravel(), strict=True
    )
    names = block_names("measure", (colors.colors.name, palette), colors.counts.numblocks[0])
    parts = [
        delayed(_errors, pure=True)(*block, entries, dask_key_name=name)
        for block, name in zip(blocks, names, strict=True)
    ]
    total = tree_merge(_add, parts, "measure-merge", (colors.colors.name, palette))
    squared, pixels = dask.compute(total)[0]
    return Metrics(
        mse=squared / (colors.pixels * palette.bands),
        shares=tuple((pixels / colors.pixels).tolist()),
    )


def _errors(
    colors: npt.NDArray[np.float32], counts: npt.NDArray[np.int64], entries: npt.NDArray[np.float64]
) -> tuple[float, npt.NDArray[np.float64]]:
    _, pixels, squared = lloyd_step(colors, counts.astype(np.float64), entries)
    return squared, pixels


def _add(
    parts: list[tuple[float, npt.NDArray[np.float64]]],
) -> tuple[float, npt.NDArray[np.float64]]:
    return sum(part[0] for part in parts), np.sum([part[1] for part in parts], axis=0)
