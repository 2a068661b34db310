"""What a run puts on record: the header of its array, and its report."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from kmdask.errors import without_secrets
from kmdask.metrics import entropy_of
from kmdask.report import Report, versions
from kmdask.writing.store import Header

if TYPE_CHECKING:
    from kmdask.fitted import Fitted
    from kmdask.metrics import Metrics
    from kmdask.options import Options
    from kmdask.reading.raster import Raster


def header_of(raster: Raster, fitted: Fitted, options: Options) -> Header:
    """Return what `image.zarr` says of an image."""
    given = options.palette
    space = None if fitted.space is None else fitted.space.to_dict()
    return Header(
        k=fitted.k,
        seed=(given or options).seed,
        masked=fitted.masked,
        georef=raster.georef,
        bands=raster.bands,
        display=fitted.display.to_dict(),
        options={
            **(options.to_dict() if given is None else given.options),
            "space": space,
            "shared": given is not None,
            "smooth": options.smooth,
        },
    )


def report_of(
    raster: Raster,
    fitted: Fitted,
    metrics: Metrics,
    *,
    options: Options,
    sizes: dict[str, int],
    seconds: dict[str, float],
    digests: dict[str, str],
    dashboard: str | None,
) -> Report:
    """Return the report of a run."""
    return Report(
        source=without_secrets(raster.source),
        shape=(*raster.shape, fitted.palette.bands),
        dtype=str(raster.pixels.dtype),
        valid_pixels=metrics.pixels,
        colors=fitted.colors,
        exact_colors=fitted.exact,
        k=fitted.k,
        k_used=len(fitted.palette),
        seed=(options.palette or options).seed,
        mse=metrics.mse,
        peak=metrics.peak,
        psnr=metrics.psnr,
        delta_e=metrics.delta_e,
        shares=metrics.shares,
        sizes=sizes,
        seconds=seconds,
        versions=versions(),
        digests=digests,
        dashboard=dashboard,
        palette=None if options.palette is None else options.palette.origin,
        window=options.window,
        band_mse=metrics.band_mse,
        band_max_error=metrics.band_max_error,
        ssim=metrics.ssim,
        entropy=entropy_of(metrics.shares, metrics.pixels / math.prod(raster.shape)),
        asked=options.asked,
        smooth=options.smooth,
    )
