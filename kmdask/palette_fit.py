"""From open images to what is known of them once their palette is; and `kmdask.fit`."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmdask import places
from kmdask.choosing import check_entries, fit_asked
from kmdask.counted import count
from kmdask.display import choose_display
from kmdask.errors import ParameterError, writing
from kmdask.free import check_writable
from kmdask.opening import opened
from kmdask.options import Options
from kmdask.palette import check_room
from kmdask.progress import chosen
from kmdask.reading.window import check_window
from kmdask.saved_palette import FILE, SavedPalette
from kmdask.smoothed import Smoothed
from kmdask.stored import Stored
from kmdask.units import several
from kmdask.writing import publish
from kmdask.writing.cog import check_cog
from kmdask.writing.sampled import affordable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from sklearn.base import BaseEstimator

    from kmdask.connecting.client import Connection
    from kmdask.fitted import Fitted
    from kmdask.fitting.refine import Refine
    from kmdask.fitting.survey import Scale, SpaceName
    from kmdask.fixed import Fixed
    from kmdask.places import Place
    from kmdask.progress import Progress
    from kmdask.reading.raster import Raster
    from kmdask.stages import Stages


def fit(
    path: str | os.PathLike[str] | Any | list[Any],
    k: int,
    out: str | os.PathLike[str] | None = None,
    *,
    fixed: Fixed = None,
    seed: int = 0,
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
    scale: Scale = None,
    pca: int | None = None,
    space: SpaceName = "rgb",
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
        The file to write it to, a path or a URL, ending in ``.json``. By default it is not written.
    fixed, seed, bands, nodata, scale, pca, space, refine, display, stretch : optional
        As for `kmdask.compress`.
    window : sequence of int or rasterio.windows.Window, optional
        The region to fit to, the same of each image.
    overwrite : bool, default False
        Whether to replace a palette that is there.
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
        space=space,
        refine=refine,
        display=display,
        stretch=stretch,
        window=check_window(window),
        fixed=fixed,
    )
    options.check_estimator(estimator)
    paths = list(path) if isinstance(path, list | tuple) else [path]
    target = None if out is None else places.output_place(out)
    if target is not None:
        _check_name(target)
        with writing(target):
            publish.check_free(target, FILE, overwrite=overwrite)
        check_writable(target)
    with (
        _scratch(target) as scratch,
        opened(
            paths,
            options,
            client=client,
            progress=chosen(progress),
            name="palette" if target is None else target.name,
            scratch=scratch,
        ) as images,
    ):
        rasters = images.rasters
        check_alike(rasters)
        keep = images.can_keep(options)
        fitted, _ = fit_rasters(
            rasters, options, images.run, images.stages, estimator, wary=True, keep=keep
        )
    saved = SavedPalette(
        palette=fitted.palette,
        bands=rasters[0].bands,
        display=fitted.display,
        k=fitted.k,
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
    with stages("count"):
        sample = affordable(rasters[0].pixels) if options.sampled else 0
        counted = count(rasters, options, run, wary=wary, keep=keep, sample=sample)
        raster, colors, plan = counted.rasters[0], counted.colors, counted.survey
        check_entries(counted, options)
        display = choose_display(
            raster.bands,
            colors,
            raster.pixels.dtype,
            display=options.display,
            stretch=options.stretch,
        )
    with stages("fit"):
        # What is tried on the sample is no pass over the image.
        stages.pixels, pixels = 0, stages.pixels
        trial = fit_asked(
            counted,
            options,
            estimator,
            stored=Stored(counted, display, options, run),
            smoothed=Smoothed(counted, options.smooth, run),
        )
        stages.pixels = pixels
        fitted = counted.fitted(trial, display)
        if options.smooth:
            # Pixels of one colour may get several entries.
            fitted = replace(fitted, metrics=None)
    if plan.units is not None and options.refine != 0:
        with stages("refine"):
            centers = counted.refined(trial, options.refine, run)
            palette = counted.palette(centers, trial.penalties)
            fitted = replace(fitted, palette=palette)
    return fitted, list(counted.rasters)


def given_palette(raster: Raster, options: Options, palette: SavedPalette) -> Fitted:
    """Return what is known of an image that is to have a palette that is there already.

    Raises
    ------
    ParameterError
        If the bands are others than the palette's, or what is asked cannot hold its entries.
    """
    fitted = palette.fitted(raster)
    check_room(len(fitted.palette), masked=fitted.masked)
    if "cog" in options.formats:
        check_cog(len(fitted.palette) + fitted.masked)
    return fitted


def check_alike(rasters: Sequence[Raster]) -> None:
    """Raise a `ParameterError` unless there are images, all of the same bands and data type."""
    if not rasters:
        raise ParameterError("path is an image or a list of images; got an empty list")
    kinds = [(len(raster.bands), str(raster.pixels.dtype)) for raster in rasters]
    for raster, kind in zip(rasters, kinds, strict=True):
        if kind != kinds[0]:
            msg = (
                f"{raster.source!r} has {several(kind[0], 'band')} of {kind[1]}, "
                f"{rasters[0].source!r} has {kinds[0][0]} of {kinds[0][1]}: a palette takes images "
                "of the same bands; choose them by bands= (--bands), or fit a palette for each"
            )
            raise ParameterError(msg)


def _check_name(target: Place) -> None:
    """Raise a `ParameterError` unless a name is one of a palette: it may be that of an image."""
    if not target.name.lower().endswith(".json"):
        raise ParameterError(
            f"a palette is written as JSON, to a file whose name ends in .json; got {str(target)!r}"
        )


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
