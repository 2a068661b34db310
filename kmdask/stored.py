"""What an image takes as it is stored with a palette, before it is: estimated from a sample."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

from kmdask import storage
from kmdask.chunks import CHUNK, ceil_div
from kmdask.records import header_of
from kmdask.writing import store
from kmdask.writing.sampled import measured

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from kmdask.counted import Counted, Trial
    from kmdask.display import Display
    from kmdask.options import Options

SURE = 2
"""Standard errors by which a limit is kept: of a hundred images some two exceed it."""


@dataclass(frozen=True)
class Estimate:
    """Bytes of ``image.zarr``."""

    bytes: int
    """The indices, the palette, and all that is said of them."""

    error: int
    """The standard error; 0 where every chunk is in the sample, and the bytes are exact."""

    sampled: int
    """Bytes that the indices of the sampled chunks take, measured."""

    @property
    def at_most(self) -> int:
        """What it will hardly exceed."""
        return self.bytes + SURE * self.error


@dataclass(frozen=True)
class Stored:
    """Estimates what an image takes with the palettes that are tried on its colours.

    The indices of the sampled chunks are made and compressed as they would be stored. What the
    others take goes by the entropy of the image and of the sample, a ratio estimator [1]_: chunks
    take more or less as their indices are rare or frequent in all of the image, of which the counts
    tell exactly. Everything else in ``image.zarr`` is written to a temporary folder, and measured.

    References
    ----------
    .. [1] W. G. Cochran, "Sampling Techniques", third edition, 1977, chapter 6.
    """

    counted: Counted
    """The image, with a sample."""

    display: Display
    options: Options
    run: Callable[..., tuple[Any, ...]]
    """Computes lazy collections on the cluster and returns them persisted."""

    def __call__(self, trial: Trial) -> Estimate:
        """Return what the image takes with a palette.

        Examples
        --------
        >>> Estimate(bytes=90_000, error=4_000, sampled=40_000).at_most
        98000
        """
        counted, metrics = self.counted, trial.metrics
        shares = counted.shares(metrics)
        lengths = -np.log2(np.where(shares > 0, shares, 1.0))
        pieces = measured(
            counted.sample,
            trial.palette,
            counted.survey.space,
            lengths,
            codec=self.options.codec,
            smooth=self.options.smooth,
        )
        taken, bits = np.array(dask.compute(*self.run(*pieces)), np.float64).T
        height, width = counted.rasters[0].shape
        chunks = ceil_div(height, CHUNK) * ceil_div(width, CHUNK)
        total, error = projected(taken, bits, counted.bits(metrics) * counted.pixels, chunks)
        return Estimate(round(total) + self._rest(trial), math.ceil(error), int(taken.sum()))

    def _rest(self, trial: Trial) -> int:
        """Bytes of all but the indices."""
        counted, raster = self.counted, self.counted.rasters[0]
        fitted = counted.fitted(trial, self.display)
        header = header_of(raster, fitted, self.options)
        with tempfile.TemporaryDirectory(prefix="kmdask-") as folder:
            bundle = Path(folder)
            store.create_image(bundle, raster.shape, fitted.palette, header, self.options.codec)
            return storage.size_of(bundle)


def projected(
    taken: npt.NDArray[np.float64], known: npt.NDArray[np.float64], total: float, n: int
) -> tuple[float, float]:
    """Project a total from a sample, by the ratio to something whose total is known.

    Parameters
    ----------
    taken : float64 array of shape (sampled,)
        What is to be added up.
    known : float64 array of shape (sampled,)
        What it is roughly in proportion to.
    total : float
        The sum of that over everything.
    n : int
        How many there are in all.

    Returns
    -------
    estimate, error : float
        The error is the standard error; 0 if all are in the sample.

    Examples
    --------
    >>> projected(np.array([2.0, 4.0]), np.array([1.0, 2.0]), 30.0, 10)
    (60.0, 0.0)
    """
    m = len(taken)
    if m == n:
        return float(taken.sum()), 0.0
    if known.sum() == 0 or total == 0:
        known, total = np.ones(m), float(n)
    ratio = taken.sum() / known.sum()
    # Of a single one nothing tells how they differ.
    spread = np.sum((taken - ratio * known) ** 2) / (m - 1) if m > 1 else taken[0] ** 2
    return float(ratio * total), float(n * math.sqrt((1 - m / n) * spread / m))
