"""Images whose colours are counted, and the palettes that are tried on the counts.

One pass over the pixels counts; whatever is fitted and measured after it needs the counts alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from kmdask.bands import fill_values
from kmdask.display import check_display
from kmdask.fitted import Fitted
from kmdask.fitting.ecvq import rated_centers
from kmdask.fitting.fit import fit_centers
from kmdask.fitting.refine import refine_images
from kmdask.fitting.space import Oklab
from kmdask.fitting.survey import check_pca, check_scale, survey_images
from kmdask.fixed import fixed_values
from kmdask.metrics import entropy_of, measure, shares_of_all
from kmdask.palette import Palette
from kmdask.writing.sampled import cut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import dask.array as da
    import numpy as np
    import numpy.typing as npt
    from sklearn.base import BaseEstimator

    from kmdask.display import Display
    from kmdask.fitting.colors import WeightedColors
    from kmdask.fitting.refine import Refine
    from kmdask.fitting.survey import Survey
    from kmdask.metrics import Metrics
    from kmdask.options import Options
    from kmdask.reading.raster import Raster
    from kmdask.writing.sampled import Window


@dataclass(frozen=True)
class Trial:
    """A palette, and how good it is."""

    k: int
    """Colours asked for."""

    centers: npt.NDArray[np.float64]
    """Array of shape (at most k, band), not rounded."""

    palette: Palette

    measuring: Callable[[], Metrics]
    """Tells the error."""

    penalties: npt.NDArray[np.float64] | None = None
    """What the palette adds to the distances from each centre; None for nothing."""

    @cached_property
    def metrics(self) -> Metrics:
        """The error over the colours that it was fitted to, or over all pixels."""
        return self.measuring()

    def for_k(self, k: int) -> Trial:
        """Return the same palette as what was found for that k, and measure nothing again."""
        return replace(self, k=k, measuring=lambda: self.metrics)


@dataclass(frozen=True)
class Counted:
    """Images of the same bands, with their colours."""

    rasters: tuple[Raster, ...]
    colors: WeightedColors
    survey: Survey
    """How the colours were taken."""

    fixed: npt.NDArray[np.float64]
    """Colours that every palette is to have, of shape (m, band)."""

    wary: bool = False
    """Whether no entry may be what means missing, even if no pixel of these images is missing."""

    sample: tuple[Window, ...] = ()
    """Some of the chunks that the first image is stored in, with their masks; on the workers."""

    @property
    def pixels(self) -> int:
        """Pixels of the images, those that are missing among them."""
        return sum(raster.shape[0] * raster.shape[1] for raster in self.rasters)

    @property
    def entries(self) -> int:
        """Entries at most that a palette has a use for."""
        return len(self.colors) + len(self.fixed)

    @property
    def masked(self) -> bool:
        """Whether pixels are missing."""
        return self.colors.pixels < self.pixels

    @property
    def known(self) -> list[tuple[da.Array, da.Array | None]]:
        """The pixels of each image, and its mask if one is needed."""
        return [(r.pixels, r.mask if self.masked else None) for r in self.rasters]

    def palette(
        self,
        centers: npt.NDArray[np.float64],
        penalties: npt.NDArray[np.float64] | None = None,
    ) -> Palette:
        """Make a palette of centres, and of what it is to add to the distances from them."""
        avoid = fill_values(self.rasters[0].bands) if self.masked or self.wary else None
        return Palette.from_centers(centers, self.rasters[0].pixels.dtype, avoid, penalties)

    def fit(
        self,
        k: int,
        seed: int,
        estimator: BaseEstimator | None = None,
        start: npt.NDArray[np.float64] | None = None,
    ) -> Trial:
        """Fit so many colours; see `kmdask.fitting.fit.fit_centers`."""
        pixels, mask = self.known[0] if len(self.rasters) == 1 else (None, None)
        centers = fit_centers(
            self.colors,
            k,
            seed=seed,
            estimator=estimator,
            pixels=pixels,
            mask=mask,
            space=self.survey.space,
            start=start,
            fixed=self.fixed,
        )
        return self._trial(k, centers)

    def rated(self, plain: Trial, rate: float) -> Trial | None:
        """Fit entries of no more than some entropy; see `kmdask.fitting.ecvq.rated_centers`."""
        space = self.survey.space
        found = rated_centers(self.colors, plain.centers, rate, space=space)
        return None if found is None else self._trial(plain.k, *found)

    def _trial(
        self,
        k: int,
        centers: npt.NDArray[np.float64],
        penalties: npt.NDArray[np.float64] | None = None,
    ) -> Trial:
        palette = self.palette(centers, penalties)
        measuring = partial(measure, self.colors, palette, space=self.survey.space)
        return Trial(k, centers, palette, measuring, penalties)

    def fitted(self, trial: Trial, display: Display) -> Fitted:
        """Return what is known of the images with the palette of a trial."""
        exact = self.colors.exact
        return Fitted(
            palette=trial.palette,
            k=trial.k,
            display=display,
            masked=self.masked,
            space=self.survey.space,
            peak=self.colors.high - self.colors.low,
            colors=len(self.colors),
            exact=exact,
            metrics=trial.metrics if exact else None,
        )

    def refined(
        self,
        trial: Trial,
        steps: Refine,
        run: Callable[..., tuple[Any, ...]],
    ) -> npt.NDArray[np.float64]:
        """Take steps over all pixels of images gathered in cells; see `refine_centers`."""
        units = self.survey.units
        if units is None:
            return trial.centers
        return refine_images(
            self.known,
            trial.centers,
            space=self.survey.space,
            steps=steps,
            units=units,
            run=run,
            held=len(self.fixed),
            penalties=trial.penalties,
        )

    def series(
        self, ks: Sequence[int], seed: int, polish: Callable[[Trial], Trial] | None = None
    ) -> Iterator[Trial]:
        """Fit several numbers of colours, ascending; the error never rises from one to the next.

        It is the mean squared error, in OKLab the mean ΔEOK.

        Each is fitted twice, from the best of many starts and from the palette before with new
        entries where the error is large, and the better of the two is kept. Rounding,
        or a space in which others are nearest, may still make the palette before
        better than both; then it is kept, with its fewer entries.

        Parameters
        ----------
        ks : sequence of int
        seed : int
        polish : callable, optional
            Is given what is kept of the two, returns something better.
        """
        last: Trial | None = None
        for k in ks:
            found = [self.fit(k, seed)]
            if last is not None and len(self.colors) > k:
                found.append(self.fit(k, seed, start=last.centers))
            best = min(found, key=self.error)
            best = best if polish is None else polish(best)
            if last is not None:
                best = min(best, last.for_k(k), key=self.error)
            last = best
            yield best

    def error(self, trial: Trial) -> float:
        """What a palette of these images is to make small."""
        metrics = trial.metrics
        perceived = metrics.delta_e if isinstance(self.survey.space, Oklab) else None
        return metrics.mse if perceived is None else perceived

    def bits(self, metrics: Metrics) -> float:
        """Entropy of the indices in bits per pixel; see `kmdask.metrics.entropy_of`."""
        return entropy_of(metrics.shares, self.colors.pixels / self.pixels)

    def shares(self, metrics: Metrics) -> npt.NDArray[np.float64]:
        """The share of all pixels that has each entry; see `kmdask.metrics.shares_of_all`."""
        return shares_of_all(metrics.shares, self.colors.pixels / self.pixels)

    def index_bytes(self, metrics: Metrics) -> int:
        """Estimate the bytes of the stored indices, by their entropy; see `bits`."""
        return round(self.bits(metrics) * self.pixels / 8)


def count(
    rasters: Sequence[Raster],
    options: Options,
    run: Callable[..., tuple[Any, ...]],
    *,
    wary: bool = False,
    keep: bool = False,
    sample: int = 0,
) -> Counted:
    """Count the colours of images, in one pass over them.

    Parameters
    ----------
    rasters : sequence of Raster
        At least one, all of the same bands and data type.
    options : Options
        What is asked.
    run : callable
        Computes lazy collections on the cluster and returns them persisted.
    wary : bool, default False
        See `Counted`.
    keep : bool, default False
        Whether the workers keep the chunks that they have read, for the passes to come.
    sample : int, default 0
        Chunks of the first image, as it will be stored, whose pixels they keep.

    Returns
    -------
    Counted
        With the chunks that are kept in place of those that would be read.
    """
    bands = rasters[0].bands
    check_display(options.display, bands)
    check_scale(options.scale, len(bands))
    check_pca(options.pca, len(bands))
    fixed = fixed_values(options.fixed, bands, rasters[0].pixels.dtype)
    images = [(raster.pixels, raster.mask, raster.window) for raster in rasters]
    plan = survey_images(images, scale=options.scale, pca=options.pca, space=options.space)
    tables = [plan.counter.table(pixels, mask) for pixels, mask, _ in images]
    chunks = [part for raster in rasters for part in raster.chunks] if keep else []
    windows = cut(rasters[0].pixels, rasters[0].mask, sample)
    cuttings = [part for window in windows for part in window if part is not None]
    done = run(*(part for table in tables for part in table), *chunks, *cuttings)
    colors = plan.counter.colors(plan.counter.joined(done[: 2 * len(tables) : 2]))
    kept = iter(done[2 * len(tables) :])
    rasters = [raster.with_chunks(kept) for raster in rasters] if keep else rasters
    there = [(next(kept), None if mask is None else next(kept)) for _, mask in windows]
    counted = Counted(tuple(rasters), colors, plan, fixed, wary)
    needed = [(pixels, mask if counted.masked else None) for pixels, mask in there]
    return replace(counted, sample=tuple(needed))
