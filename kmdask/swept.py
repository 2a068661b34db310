"""The palettes of a sweep: fitted one after the other to the same counts, and what they take."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING

import dask

from kmdask.choosing import reach_rate, widest
from kmdask.display import choose_display
from kmdask.encoding import encode
from kmdask.metrics import metrics_of, pixel_errors
from kmdask.point import Point
from kmdask.stored import Stored

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kmdask.counted import Counted, Trial
    from kmdask.opening import Opened
    from kmdask.options import Options
    from kmdask.stored import Estimate


def point_of(  # noqa: PLR0917  one of each list
    counted: Counted,
    trial: Trial,
    seconds: float,
    rate: float | None,
    size: Estimate | None,
    error: float | None,
) -> Point:
    """Say what is known of one palette: its time, entropy asked for, bytes, error on the sample."""
    metrics = trial.metrics
    return Point(
        k=trial.k,
        entries=len(trial.palette),
        mse=metrics.mse,
        psnr=metrics.psnr,
        bits_per_pixel=counted.bits(metrics),
        index_bytes=counted.index_bytes(metrics),
        stored_bytes=None if size is None else size.bytes,
        stored_error=None if size is None else size.error,
        sample_bytes=None if size is None else size.sampled,
        seconds=seconds,
        sample_mse=error,
        delta_e=metrics.delta_e,
        target_bpp=rate,
    )


def plain_palettes(
    counted: Counted, ks: Sequence[int], options: Options, images: Opened
) -> Iterator[Trial]:
    """Fit each number of colours to the counts, and to all pixels if that is asked for."""
    return counted.series(ks, options.seed, partial(_refined, counted, options, images))


def entropy_constrained_palettes(
    counted: Counted,
    rates: Sequence[float],
    ks: Sequence[int],
    options: Options,
    images: Opened,
) -> Iterator[Trial]:
    """Fit as `kmdask.compress` would for each rate, from no fewer colours than have it plainly."""
    fit = cache(lambda k: counted.fit(k, options.seed))
    for rate, k in zip(rates, ks[: len(rates)], strict=True):
        found = reach_rate(counted, rate, max(k, widest(counted)), fit)
        yield _refined(counted, options, images, found)


def _refined(counted: Counted, options: Options, images: Opened, trial: Trial) -> Trial:
    """Take steps over all pixels, and measure over all, if that is asked for and of use."""
    if options.refine == 0 or counted.survey.units is None:
        return trial
    centers = counted.refined(trial, options.refine, images.run)
    palette = counted.palette(centers, trial.penalties)
    (pixels, mask), space = counted.known[0], counted.survey.space
    errors, _ = pixel_errors(pixels, encode(pixels, palette, mask, space=space), palette)
    (done,) = images.run(errors)
    peak = counted.colors.high - counted.colors.low
    metrics = metrics_of(dask.compute(done)[0], palette.bands, peak)
    return replace(trial, centers=centers, palette=palette, measuring=lambda: metrics)


def bytes_of(
    counted: Counted,
    trials: Sequence[Trial],
    rates: Sequence[float | None],
    options: Options,
    images: Opened,
) -> list[Estimate | None]:
    """What the image takes with each palette; None without a sample."""
    if not counted.sample:
        return [None] * len(trials)
    raster = counted.rasters[0]
    display = choose_display(raster.bands, counted.colors, raster.pixels.dtype)
    stored = Stored(counted, display, options, images.run)
    return [
        # Of a single entry there is no rate to ask for.
        replace(stored, options=replace(options, target_bpp=rate or None))(trial)
        for trial, rate in zip(trials, rates, strict=True)
    ]


def timed(trials: Iterator[Trial]) -> Iterator[tuple[Trial, float]]:
    """Give each palette with the seconds that it has taken."""
    start = time.perf_counter()
    for trial in trials:
        yield trial, round(time.perf_counter() - start, 3)
        start = time.perf_counter()
