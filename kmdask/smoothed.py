"""How good an image is once its indices are smoothed, before they are: estimated from a sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

from kmdask.chunks import CHUNK, ceil_div
from kmdask.encoding import encode
from kmdask.metrics import pixel_errors, psnr_of
from kmdask.stored import SURE, projected

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmdask.counted import Counted, Trial


@dataclass(frozen=True)
class Smoothed:
    """Estimates the PSNR of an image with the palettes that are tried on its colours.

    The sampled chunks are encoded twice, plainly and smoothed. What smoothing adds to the error of
    the others goes by the plain errors of the image and of the sample, as bytes do by entropies;
    see `kmdask.stored.Stored`. The image's plain error is known from the counts.
    """

    counted: Counted
    """The image, with a sample."""

    smooth: float
    """As for `kmdask.encode`."""

    run: Callable[..., tuple[Any, ...]]
    """Computes lazy collections on the cluster and returns them persisted."""

    def __call__(self, trial: Trial) -> float:
        """Return the PSNR in dB that the image will hardly fall below.

        With two standard errors kept; exact where every chunk is in the sample.
        """
        counted, palette = self.counted, trial.palette
        plain, smoothed = (self._squared(trial, smooth) for smooth in (0.0, self.smooth))
        height, width = counted.rasters[0].shape
        chunks = ceil_div(height, CHUNK) * ceil_div(width, CHUNK)
        values = counted.colors.pixels * palette.bands
        total, error = projected(smoothed, plain, trial.metrics.mse * values, chunks)
        peak = counted.colors.high - counted.colors.low
        return psnr_of((total + SURE * error) / values, peak)

    def _squared(self, trial: Trial, smooth: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Add up the squared errors of each sampled chunk."""
        palette, space = trial.palette, self.counted.survey.space
        encoded = [
            (pixels, encode(pixels, palette, mask, space=space, smooth=smooth))
            for pixels, mask in self.counted.sample
        ]
        errors = [pixel_errors(*each, palette, looks=False)[0] for each in encoded]
        done = dask.compute(*self.run(*errors))
        return np.array([each[0, : palette.bands].sum() for each in done])
