"""Everything that is written of an image, once its palette is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask

from kmdask.display import Colormap
from kmdask.metrics import measure, pixel_errors
from kmdask.palette import encode
from kmdask.reading.raster import size_of
from kmdask.writing import store
from kmdask.writing.cog import assemble_cog, write_cog_tiles
from kmdask.writing.deepzoom import write_description, write_levels
from kmdask.writing.levels import pyramid
from kmdask.writing.preview import write_preview

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import dask.array as da

    from kmdask.display import Display
    from kmdask.fitting.colors import WeightedColors
    from kmdask.fitting.space import Space
    from kmdask.metrics import Errors, Metrics
    from kmdask.options import Options
    from kmdask.palette import Palette
    from kmdask.reading.raster import Raster


def write_outputs(
    raster: Raster,
    palette: Palette,
    *,
    space: Space | None,
    display: Display,
    colors: WeightedColors,
    options: Options,
    bundle: Path,
    run: Callable[..., tuple[Any, ...]],
) -> Metrics:
    """Write everything, in one graph that reads each chunk once.

    Parameters
    ----------
    raster : Raster
        The image.
    palette : Palette
    space : Space or None
        Where the nearest entry is looked for.
    display : Display
        What tiles, preview and GeoTIFF show.
    colors : WeightedColors
        The colours of the image.
    options : Options
    bundle : Path
        The directory to write in.
    run : callable
        Computes lazy collections on the cluster and returns them persisted.

    Returns
    -------
    Metrics
        The error over all valid pixels.
    """
    masked = raster.mask is not None
    rgb = display.rgb(palette, [band.number for band in raster.bands])
    colormap = Colormap(rgb, palette.nodata if masked else None)
    header = store.Header(
        k=options.k,
        seed=options.seed,
        masked=masked,
        georef=raster.georef,
        bands=raster.bands,
        display=display.to_dict(),
        options=options.to_dict(),
    )
    store.create_image(bundle, raster.shape, palette, header)
    levels = [
        encode(level.pixels, palette, level.mask, space=space)
        for level in pyramid(raster.pixels, raster.mask)
    ]
    writes = [
        store.write_indices(levels[0], bundle),
        write_preview(levels, colormap, bundle / store.PREVIEW),
    ]
    if "tiles" in options.formats:
        write_description(bundle / store.TILES, raster.shape)
        writes += write_levels(levels, colormap, bundle / store.TILES_FILES)
    scratch = bundle / store.SCRATCH
    tiles: list[da.Array] = []
    if "cog" in options.formats:
        tiles = write_cog_tiles(levels, scratch, padding=colormap.nodata or 0)
    errors = () if colors.exact else pixel_errors(raster.pixels, levels[0], palette)
    done = run(*errors, *tiles, *writes)
    if "cog" in options.formats:
        sizes = done[len(errors) : len(errors) + len(tiles)]
        shapes = [(int(level.shape[0]), int(level.shape[1])) for level in levels]
        path = bundle / store.COG
        assemble_cog(path, sizes, shapes, scratch, colormap=colormap, georef=raster.georef)
    if colors.exact:
        return measure(colors, palette, space=space)
    total: Errors = dask.compute(done[0])[0]
    return total.metrics(colors.high - colors.low)


def sizes_of(raster: Raster, bundle: Path) -> dict[str, int]:
    """Bytes of the source, of the raw pixels, and of each part of a bundle."""
    return {
        "source": raster.source_bytes,
        "raw": int(raster.pixels.nbytes),
        "zarr": size_of(bundle / store.IMAGE),
        "tiles": size_of(bundle / store.TILES_FILES),
        "cog": size_of(bundle / store.COG),
        "preview": size_of(bundle / store.PREVIEW),
    }
