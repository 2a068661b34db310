"""Everything that is written of an image, once its palette is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
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
    from collections.abc import Callable, Sequence

    import dask.array as da

    from kmdask.display import Colormap
    from kmdask.fitted import Fitted
    from kmdask.metrics import Metrics
    from kmdask.options import Options
    from kmdask.places import Place
    from kmdask.reading.raster import Raster
    from kmdask.similarity import Scale
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
    levels, colormap = _encoded(raster, fitted, options, staging), fitted.colormap(raster.bands)
    tiles = _cog_tiles(levels, colormap, staging) if "cog" in options.formats else []
    scale = palette_scale(fitted.palette, fitted.peak)
    errors, sums = _judged(raster, levels[0], fitted, scale if ssim else None, staging)
    writes = _written(levels, colormap, options, staging)
    done = iter(run(*errors, *sums, *tiles, *writes))
    errors, sums, sizes = (list(islice(done, len(each))) for each in (errors, sums, tiles))

    with writing(staging.path):
        storage.sweep(staging.path)
    digests = digests_of(staging.path)
    if tiles:
        digests[store.COG] = assemble_cog(
            staging.path / store.COG,
            sizes,
            [(int(level.shape[0]), int(level.shape[1])) for level in levels],
            staging.scratch,
            colormap=colormap,
            georef=raster.georef,
        )
    metrics = fitted.metrics
    if metrics is None:
        metrics = metrics_of(dask.compute(errors[0])[0], fitted.palette.bands, fitted.peak)
    if ssim:
        metrics = replace(metrics, ssim=similarity_of(dask.compute(sums[0])[0], scale))
    return metrics, digests


def _encoded(raster: Raster, fitted: Fitted, options: Options, staging: Staging) -> list[da.Array]:
    """Return the indices of every level, lazily."""
    return [
        encode(level.pixels, fitted.palette, level.mask, space=fitted.space, smooth=options.smooth)
        for level in pyramid(raster.pixels, raster.mask, staging.receipts)
    ]


def _cog_tiles(levels: list[da.Array], colormap: Colormap, staging: Staging) -> list[da.Array]:
    """Write the tiles of the GeoTIFF to where it is assembled from, lazily; return their sizes."""
    return write_cog_tiles(
        levels, staging.scratch, padding=colormap.nodata or 0, receipts=staging.receipts
    )


def _written(
    levels: list[da.Array], colormap: Colormap, options: Options, staging: Staging
) -> list[Any]:
    """Write the indices, and what shows them, lazily."""
    bundle, receipts = staging.path, staging.receipts
    writes = [
        store.write_indices(levels[0], bundle, receipts),
        write_preview(levels, colormap, bundle / store.PREVIEW, receipts),
    ]
    if "tiles" in options.formats:
        write_description(bundle / store.TILES, levels[0].shape)
        writes += write_levels(levels, colormap, bundle / store.TILES_FILES, receipts)
    return writes


def _judged(
    raster: Raster, indices: da.Array, fitted: Fitted, scale: Scale | None, staging: Staging
) -> tuple[Sequence[Any], Sequence[Any]]:
    """Add up errors, if nobody knows them, and similarities on a scale, lazily."""
    palette, receipts = fitted.palette, staging.receipts
    errors: Sequence[Any] = ()
    if fitted.metrics is None:
        errors = pixel_errors(raster.pixels, indices, palette, receipts)
    if scale is None:
        return errors, ()
    sums = similarities(raster.pixels, indices, scale, palette=palette, receipts=receipts)
    return errors, sums


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
