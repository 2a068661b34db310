"""Everything that is written of an image, once its palette is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask

from kmdask import storage
from kmdask.encoding import encode
from kmdask.errors import writing
from kmdask.metrics import metrics_of, pixel_errors
from kmdask.similarity import palette_scale, similarities, similarity_of
from kmdask.writing import store
from kmdask.writing.cog import assemble_cog, write_cog_tiles
from kmdask.writing.deepzoom import write_description, write_levels
from kmdask.writing.digests import digests_of
from kmdask.writing.levels import pyramid
from kmdask.writing.preview import write_preview

if TYPE_CHECKING:
    from collections.abc import Callable

    import dask.array as da

    from kmdask.fitted import Fitted
    from kmdask.metrics import Metrics
    from kmdask.options import Options
    from kmdask.places import Place
    from kmdask.reading.raster import Raster
    from kmdask.writing.staging import Staging


def write_outputs(
    raster: Raster,
    fitted: Fitted,
    options: Options,
    *,
    staging: Staging,
    run: Callable[..., tuple[Any, ...]],
    ssim: bool = True,
) -> tuple[Metrics, dict[str, str]]:
    """Write everything, in one graph that reads each chunk once.

    Parameters
    ----------
    raster : Raster
        The image.
    fitted : Fitted
        Its palette, and how to use it.
    options : Options
        What to write, and how to encode it.
    staging : Staging
        Where to write, and what an earlier run has written already.
    run : callable
        Computes lazy collections on the cluster and returns them persisted.
    ssim : bool, default True
        Whether to look for the structural similarity.

    Returns
    -------
    metrics : Metrics
        The errors over all valid pixels.
    digests : dict
        As `kmdask.writing.digests.digests_of` returns them.
    """
    bundle, scratch, receipts = staging.path, staging.scratch, staging.receipts
    palette, colormap = fitted.palette, fitted.colormap(raster.bands)
    formats, smooth = options.formats, options.smooth
    levels = [
        encode(level.pixels, palette, level.mask, space=fitted.space, smooth=smooth)
        for level in pyramid(raster.pixels, raster.mask, receipts)
    ]
    writes = [
        store.write_indices(levels[0], bundle, receipts),
        write_preview(levels, colormap, bundle / store.PREVIEW, receipts),
    ]
    if "tiles" in formats:
        write_description(bundle / store.TILES, raster.shape)
        writes += write_levels(levels, colormap, bundle / store.TILES_FILES, receipts)
    tiles: list[da.Array] = []
    if "cog" in formats:
        padding = colormap.nodata or 0
        tiles = write_cog_tiles(levels, scratch, padding=padding, receipts=receipts)
    errors: tuple[Any, ...] = ()
    if fitted.metrics is None:
        errors = pixel_errors(raster.pixels, levels[0], palette, receipts)
    scale = palette_scale(palette, fitted.peak)
    sums: tuple[Any, ...] = ()
    if ssim:
        sums = similarities(raster.pixels, levels[0], scale, palette=palette, receipts=receipts)
    done = run(*sums, *errors, *tiles, *writes)
    similar, done = done[: len(sums)], done[len(sums) :]
    with writing(bundle):
        storage.sweep(bundle)
    digests = digests_of(bundle)
    if "cog" in formats:
        sizes = done[len(errors) : len(errors) + len(tiles)]
        shapes = [(int(level.shape[0]), int(level.shape[1])) for level in levels]
        digests[store.COG] = assemble_cog(
            bundle / store.COG, sizes, shapes, scratch, colormap=colormap, georef=raster.georef
        )
    metrics = fitted.metrics
    if metrics is None:
        metrics = metrics_of(dask.compute(done[0])[0], palette.bands, fitted.peak)
    if ssim:
        metrics = replace(metrics, ssim=similarity_of(dask.compute(similar[0])[0], scale))
    return metrics, digests


def sizes_of(raster: Raster, bundle: Place) -> dict[str, int]:
    """Bytes of the source, of the raw pixels, and of each part of a bundle."""
    return {
        "source": raster.source_bytes,
        "raw": int(raster.pixels.nbytes),
        "zarr": storage.size_of(bundle / store.IMAGE),
        "tiles": storage.size_of(bundle / store.TILES_FILES),
        "cog": storage.size_of(bundle / store.COG),
        "preview": storage.size_of(bundle / store.PREVIEW),
    }
