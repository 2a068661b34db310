"""From open images to what is known of them once their palette is; and `kmdask.fit`."""

from __future__ import annotations

import math
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmdask import places, storage
from kmdask.bands import fill_values
from kmdask.connecting.checks import check_readers
from kmdask.connecting.client import Connection, connect
from kmdask.connecting.machines import can_keep, room_of
from kmdask.display import check_display, choose_display
from kmdask.errors import ParameterError, writing
from kmdask.fitted import Fitted
from kmdask.fitting.fit import fit_centers
from kmdask.fitting.refine import refine_images
from kmdask.fitting.survey import check_pca, check_scale, survey_images
from kmdask.metrics import measure
from kmdask.options import Options
from kmdask.palette import Palette, check_room
from kmdask.pixels import countable
from kmdask.progress import Progress, chosen
from kmdask.reading.raster import found_at, open_raster
from kmdask.reading.window import check_window
from kmdask.saved_palette import SavedPalette
from kmdask.stages import Stages
from kmdask.writing.cog import check_cog

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from sklearn.base import BaseEstimator

    from kmdask.fitting.colors import WeightedColors
    from kmdask.fitting.refine import Refine
    from kmdask.fitting.survey import Scale
    from kmdask.places import Place
    from kmdask.reading.raster import Raster


def fit(
    path: str | os.PathLike[str] | Any | list[Any],
    k: int,
    out: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
    scale: Scale = None,
    pca: int | None = None,
    refine: Refine = 2,
    display: Sequence[int] | None = None,
    stretch: Sequence[float] | None = None,
    window: Sequence[int] | None = None,
    overwrite: bool = False,
    client: Connection = None,
    estimator: BaseEstimator | None = None,
    progress: Progress | bool | None = None,
) -> SavedPalette:
    """Fit one palette to an image, or to all pixels of several, and compress nothing yet.

    What comes back is for ``kmdask.compress(image, palette=...)``: of these images, of parts of
    them in jobs of their own, or of others of the same bands. (For arrays whose colours are counted
    already there is `fit_palette`.)

    Parameters
    ----------
    path : str, path-like or array, or a list of these
        As for `kmdask.compress`. Images of a list have the same bands, in the same data type; of
        those the bands are described as in the first.
    k : int
        Number of colours, from 1 to 65,536.
    out : str or path-like, optional
        The file to write it to, a path or a URL. By default it is not written.
    seed, bands, nodata, scale, pca, refine, display, stretch : optional
        As for `kmdask.compress`.
    window : sequence of int or rasterio.windows.Window, optional
        The region to fit to, the same of each image.
    overwrite : bool, default False
        Whether to replace a file that is there.
    client, estimator, progress : optional
        As for `kmdask.compress`.

    Returns
    -------
    SavedPalette

    Raises
    ------
    KmdaskError
        One of its kinds, as for `kmdask.compress`.

    Examples
    --------
    >>> import numpy as np
    >>> import kmdask
    >>> left, right = np.tile(np.uint8([[0, 9], [9, 200]]), (2, 50, 50))
    >>> palette = kmdask.fit([left, right], 2, "both.json")
    >>> palette.palette
    Palette(['#060606', '#c8c8c8'])
    >>> kmdask.compress(right, out="right.kmdask", palette="both.json")
    <CompressedImage 'right.kmdask': 100 x 100 x 1, 2 colours, ...>
    """
    options = Options(
        k=k,
        seed=seed,
        bands=bands,
        nodata=nodata,
        scale=scale,
        pca=pca,
        refine=refine,
        display=display,
        stretch=stretch,
        window=check_window(window),
    )
    paths = list(path) if isinstance(path, list | tuple) else [path]
    target = None if out is None else places.output_place(out)
    if target is not None:
        storage.check_free(target, overwrite=overwrite)
    stages = Stages(chosen(progress))
    found = [found_at(each, bands=bands, nodata=nodata, window=options.window) for each in paths]
    with (
        _scratch(target) as scratch,
        connect(client) as connected,
        stages.on(connected, "palette" if target is None else target.name),
    ):
        check_readers(connected, found)
        with stages("open"):
            rasters = [
                open_raster(
                    each,
                    bands=bands,
                    nodata=nodata,
                    scratch=folder,
                    window=options.window,
                    room=room_of(connected, source),
                )
                for each, source, folder in zip(paths, found, scratch, strict=False)
            ]
            check_alike(rasters)
            stages.pixels = sum(math.prod(raster.shape) for raster in rasters)
        run = partial(stages.run, connected)
        passes = options.refine != 0 and not countable(rasters[0].pixels)
        keep = passes and can_keep(connected, rasters)
        fitted, _ = fit_rasters(rasters, options, run, stages, estimator, wary=True, keep=keep)
    saved = SavedPalette(
        palette=fitted.palette,
        bands=rasters[0].bands,
        display=fitted.display,
        k=k,
        peak=fitted.peak,
        space=fitted.space,
        seed=seed,
        options=options.to_dict(),
        sources=tuple(raster.source for raster in rasters),
        path=None if target is None else str(target),
    )
    if target is not None:
        saved.write(target, overwrite=overwrite)
    return saved


def fit_rasters(
    rasters: Sequence[Raster],
    options: Options,
    run: Callable[..., tuple[Any, ...]],
    stages: Stages,
    estimator: BaseEstimator | None = None,
    *,
    wary: bool = False,
    keep: bool = False,
) -> tuple[Fitted, list[Raster]]:
    """Count the colours of open images of the same bands, and fit one palette to them.

    Parameters
    ----------
    rasters : sequence of Raster
    options : Options
    run : callable
        Computes lazy collections on the cluster and returns them persisted.
    stages : Stages
        Is told what is done.
    estimator : scikit-learn compatible clusterer, optional
    wary : bool, default False
        Whether no entry may be the nodata value even if no pixel of these images is missing, as
        pixels of others may be.
    keep : bool, default False
        Whether the workers keep the chunks that they have read, for the passes to come.

    Returns
    -------
    fitted : Fitted
    rasters : list of Raster
        The images, with the chunks that are kept in place of those that would be read.
    """
    bands, dtype = rasters[0].bands, rasters[0].pixels.dtype
    check_display(options.display, bands)
    check_scale(options.scale, len(bands))
    check_pca(options.pca, len(bands))
    with stages("count"):
        images = [(raster.pixels, raster.mask, raster.window) for raster in rasters]
        plan = survey_images(images, scale=options.scale, pca=options.pca)
        tables = [plan.counter.table(pixels, mask) for pixels, mask, _ in images]
        chunks = [part for raster in rasters for part in raster.chunks] if keep else []
        done = run(*(part for table in tables for part in table), *chunks)
        colors = plan.counter.colors(plan.counter.joined(done[: 2 * len(tables) : 2]))
        kept = iter(done[2 * len(tables) :])
        rasters = [raster.with_chunks(kept) for raster in rasters] if keep else list(rasters)
        del done, kept
        everything = sum(raster.shape[0] * raster.shape[1] for raster in rasters)
        masked = colors.pixels < everything
        _check_room(options, colors, masked=masked)
        display = choose_display(
            bands, colors, dtype, display=options.display, stretch=options.stretch
        )
    known = [(raster.pixels, raster.mask if masked else None) for raster in rasters]
    with stages("fit"):
        alone = known[0] if len(known) == 1 else (None, None)
        centers = fit_centers(
            colors,
            options.colors,
            seed=options.seed,
            estimator=estimator,
            pixels=alone[0],
            mask=alone[1],
            space=plan.space,
        )
        avoid = fill_values(bands) if masked or wary else None
        palette = Palette.from_centers(centers, dtype, avoid)
        metrics = measure(colors, palette, space=plan.space) if colors.exact else None
    if plan.units is not None and options.refine != 0:
        with stages("refine"):
            centers = refine_images(
                known, centers, space=plan.space, steps=options.refine, units=plan.units, run=run
            )
            palette = Palette.from_centers(centers, dtype, avoid)
    fitted = Fitted(
        palette=palette,
        display=display,
        masked=masked,
        space=plan.space,
        peak=colors.high - colors.low,
        colors=len(colors),
        exact=colors.exact,
        metrics=metrics,
    )
    return fitted, rasters


def check_alike(rasters: Sequence[Raster]) -> None:
    """Raise a `ParameterError` unless there are images, all of the same bands and data type."""
    if not rasters:
        raise ParameterError("path is an image or a list of images; got an empty list")
    kinds = [(len(raster.bands), str(raster.pixels.dtype)) for raster in rasters]
    for raster, kind in zip(rasters, kinds, strict=True):
        if kind != kinds[0]:
            msg = (
                f"{raster.source!r} has {kind[0]} band(s) of {kind[1]}, {rasters[0].source!r} has "
                f"{kinds[0][0]} of {kinds[0][1]}: one palette takes images of the same bands; "
                "choose them by bands= (--bands), or fit a palette for each"
            )
            raise ParameterError(msg)


def _check_room(options: Options, colors: WeightedColors, *, masked: bool) -> None:
    """Raise a `ParameterError` if indices or a GeoTIFF cannot hold the entries there may be."""
    entries = min(options.colors, len(colors)) if colors.exact else options.colors
    check_room(entries, masked=masked)
    if "cog" in options.formats:
        check_cog(entries + masked)


@contextmanager
def _scratch(target: Place | None) -> Iterator[Iterator[Path | None]]:
    """Give directories for temporary copies: beside the output, where all workers can write."""
    if not isinstance(target, Path):
        yield iter(lambda: None, 0)
        return
    with writing(target):
        # Not what it is to be in: the disk that belongs there may be absent.
        folder = tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent)
    with folder as name:
        yield (Path(name) / str(number) for number in range(1 << 62))
