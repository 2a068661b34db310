"""The palette that meets a target, found on the counts of an image."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, cast

from kmdask.errors import ParameterError
from kmdask.metrics import entropy_of
from kmdask.palette import ENTRIES, SMALL, check_room
from kmdask.targets import KS, first_reaching, knee
from kmdask.units import times_smaller
from kmdask.writing.cog import check_cog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sklearn.base import BaseEstimator

    from kmdask.counted import Counted, Trial
    from kmdask.options import Options
    from kmdask.stored import Estimate
    from kmdask.targets import Target

PLAIN = 10 * math.log10(12 * 255**2)
"""PSNR in dB at which an error is that of rounding to 255 steps, and no more is seen: 58.9."""


MORE = 0.75
"""Bits by which entries to begin with are more than the rate asked for takes."""

LEAST = 1e-4
"""Share of the rate asked for that is left where it was exceeded."""


def fit_asked(
    counted: Counted,
    options: Options,
    estimator: BaseEstimator | None,
    *,
    stored: Callable[[Trial], Estimate],
    smoothed: Callable[[Trial], float],
) -> Trial:
    """Fit the number of colours that is asked for, or the one that meets a target.

    What is fitted is in any case what that number alone would give.

    Parameters
    ----------
    counted : Counted
    options : Options
        What is asked.
    estimator : scikit-learn compatible clusterer or None
    stored : callable
        Says what the image takes with a palette; asked only where the target is about bytes.
    smoothed : callable
        Says what PSNR it has once it is smoothed; asked only where that is the target, and it is.

    Raises
    ------
    ParameterError
        If nothing meets the target.
    """
    target = options.target

    @cache
    def fit(k: int) -> Trial:
        return counted.fit(k, options.seed, estimator)

    if options.target_bpp is not None:
        k = widest(counted) if options.k is None else asked_k(options)
        return reach_rate(counted, options.target_bpp, k, fit)
    if target is None:
        return fit(asked_k(options))
    least, most = _range(counted, options)
    if target.kind == "auto":
        ks = sorted({max(least, min(k, most)) for k in KS})
        tried = list(counted.series(ks, options.seed))
        return fit(ks[knee_of([(len(trial.palette), trial.metrics.psnr) for trial in tried])])
    if target.sized:
        return _reach_size(target, counted, (least, most), fit, stored)
    reached = smoothed if options.smooth else _plain_psnr
    return _reach_quality(target, counted, (least, most), fit, reached)


def check_entries(counted: Counted, options: Options) -> None:
    """Raise a `ParameterError` if indices or a GeoTIFF cannot hold the entries there may be."""
    if options.k is None or options.target is not None:
        return
    k, colors = asked_k(options), counted.colors
    entries = min(k, counted.entries) if colors.exact else k
    check_room(entries, masked=counted.masked)
    if "cog" in options.formats:
        check_cog(entries + counted.masked)


def asked_k(options: Options) -> int:
    """Return the number of colours that is asked for, where that is what is asked."""
    return cast("int", options.k)


def bend_of(points: Sequence[tuple[int, float]]) -> int | None:
    """Find the palette beyond which twice the entries gain less than before.

    The knee of PSNR over log2 of the entries. Where the colours spread along a line each doubling
    gains 6 dB, where they fill a plane 3 and a volume 2: the curve bends where the few directions
    in which colours differ most are used up. Neither axis depends on the range of the pixels, and
    that of entries is the rate of indices all equally frequent.

    Parameters
    ----------
    points : sequence of (int, float)
        Entries, ascending, and the PSNR in dB that they give.

    Returns
    -------
    int or None
        Where it stands in `points`; None if the curve is nowhere above the line from its first
        point to its last.
    """
    different: dict[int, int] = {}
    for i, (entries, _) in enumerate(points):
        different.setdefault(entries, i)
    gained = [_counting(points[i][1]) for i in different.values()]
    found = knee([math.log2(entries) for entries in different], gained)
    return None if found is None else list(different.values())[found]


def knee_of(points: Sequence[tuple[int, float]]) -> int:
    """Return what `bend_of` does or, where there is no bend, the first of the greatest PSNR."""
    found = bend_of(points)
    gained = [_counting(psnr) for _, psnr in points]
    return gained.index(max(gained)) if found is None else found


def _counting(psnr: float) -> float:
    """As much of a PSNR as counts."""
    return min(psnr, PLAIN)


def _range(counted: Counted, options: Options) -> tuple[int, int]:
    """Colours at least, the fixed ones, and at most: as indices or a GeoTIFF hold, as there are."""
    room = (SMALL if "cog" in options.formats else ENTRIES) - counted.masked
    least, most = max(1, len(counted.fixed)), min(room, counted.entries)
    if least > most:
        msg = f"{least:,} colours are fixed, and in these formats there is room for {most:,}"
        raise ParameterError(f"{msg}; leave some of them out")
    return least, most


def _plain_psnr(trial: Trial) -> float:
    return trial.metrics.psnr


def _reach_quality(
    target: Target,
    counted: Counted,
    ks: tuple[int, int],
    fit: Callable[[int], Trial],
    reached: Callable[[Trial], float],
) -> Trial:
    asked, (least, most) = float(target.value or 0), ks

    @cache
    def psnr(k: int) -> float:
        return reached(fit(k))

    k = first_reaching(lambda k: psnr(k) - asked, least, most)
    if k is None:
        how, advice = "", ""
        if reached is not _plain_psnr:
            # Of a sample a bound from below, with two standard errors kept.
            how, advice = " at least after smoothing", ", or smooth less"
        # Rounded down: what is offered is what can be had.
        best = math.floor(100 * psnr(most)) / 100
        msg = (
            f"{target} dB is asked, and k={most:,}, the most there can be in these formats for "
            f"{len(counted.colors):,} colours, comes to {best:.2f} dB{how}; ask for "
            f"no more than that{advice}"
        )
        raise ParameterError(msg)
    return fit(k)


def _reach_size(
    target: Target,
    counted: Counted,
    ks: tuple[int, int],
    fit: Callable[[int], Trial],
    stored: Callable[[Trial], Estimate],
) -> Trial:
    raw = sum(int(raster.pixels.nbytes) for raster in counted.rasters)
    asked = float(target.value or 0)
    allowed = asked if target.kind == "max_bytes" else raw / asked

    @cache
    def takes(k: int) -> Estimate:
        return stored(fit(k))

    def excess(k: int) -> float:
        # What takes all that is allowed is not too large.
        return takes(k).at_most - allowed or -1.0

    most = ks[1]
    least = max(ks[0], min(2, most))
    beyond = first_reaching(excess, least, most)
    if beyond == least:
        found = takes(least)
        how = "" if found.error == 0 else ", as estimated from a sample"
        msg = (
            f"{target} is asked, {math.floor(allowed):,} bytes, and image.zarr of k={least} takes "
            f"up to {found.at_most:,}{how}, {times_smaller(raw / found.at_most)} than the raw "
            "pixels; ask for no better than that, or take a smaller window"
        )
        raise ParameterError(msg)
    return fit(most if beyond is None else beyond - 1)


def widest(counted: Counted) -> int:
    """Colours that an entropy-constrained fit begins with by default: what 8-bit indices hold."""
    return SMALL - counted.masked


def reach_rate(counted: Counted, rate: float, k: int, fit: Callable[[int], Trial]) -> Trial:
    """Fit at most k entries whose indices have no more than some entropy.

    Parameters
    ----------
    counted : Counted
    rate : float
        Bits of an index, on average over the valid pixels.
    k : int
        Colours to begin with. If they have no more, that is the palette.
    fit : callable
        Fits a number of colours.

    Returns
    -------
    Trial
        Measured already.
    """
    # From many entries most starve, and not always those that would be missed least.
    # So from some more than are needed, and from as many as may be equally frequent, too.
    most = min(rate, math.log2(k))
    starts = {k, *(min(k, math.ceil(2 ** (most + more))) for more in (0, MORE))}
    found = [_rated(counted, rate, each, fit) for each in sorted(starts)]
    return min(found, key=counted.error).for_k(k)


def _rated(counted: Counted, rate: float, k: int, fit: Callable[[int], Trial]) -> Trial:
    """Do so from the palette of k colours."""
    plain, less = fit(k), 0.0
    while entropy_of(plain.metrics.shares) > rate:
        found = counted.rated(plain, rate - less)
        if found is None:
            # Where entries are equally frequent none is dearer than others: begin with fewer.
            plain, less = fit(len(plain.palette) // 2), 0.0
            continue
        excess = entropy_of(found.metrics.shares) - rate
        if excess <= 0:
            return found
        # Rounding, and joined colours, have brought some in excess. However little it is, twice as
        # much is left each time.
        less = max(1.5 * excess, 2 * less, LEAST * rate)
        if less >= rate / 2:
            plain, less = fit(len(plain.palette) // 2), 0.0
    return plain
