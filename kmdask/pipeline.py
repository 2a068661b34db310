"""The whole way from a path to a compressed image: open, count, fit, encode, write."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from kmdask import places
from kmdask.connecting.checks import check_workers
from kmdask.connecting.client import Connection, connect
from kmdask.connecting.machines import can_keep, workers_of
from kmdask.image import CompressedImage
from kmdask.options import DEFAULT_FORMATS, Options
from kmdask.palette_fit import fit_rasters, given_palette
from kmdask.palette_source import as_saved
from kmdask.progress import Progress, chosen
from kmdask.reading.raster import found_at, open_raster
from kmdask.reading.window import check_window
from kmdask.records import header_of, report_of
from kmdask.request import bands_explained, check_apart, default_output, request
from kmdask.stages import Stages
from kmdask.watching import performance_report as reported
from kmdask.writing.outputs import sizes_of, write_outputs
from kmdask.writing.staging import publishing

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from sklearn.base import BaseEstimator

    from kmdask.fitting.refine import Refine
    from kmdask.fitting.survey import Scale, SpaceName
    from kmdask.fixed import Fixed
    from kmdask.reading.sources import Source
    from kmdask.saved_palette import SavedPalette


def compress(
    path: str | os.PathLike[str] | Any,
    k: int | Literal["auto"] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    psnr: float | None = None,
    max_bytes: int | None = None,
    ratio: float | None = None,
    target_bpp: float | None = None,
    palette: SavedPalette | str | os.PathLike[str] | Sequence[str] | None = None,
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
    smooth: float = 0.0,
    formats: Sequence[str] = DEFAULT_FORMATS,
    codec: str = "zstd",
    ssim: bool = True,
    overwrite: bool = False,
    resume: bool = False,
    client: Connection = None,
    estimator: BaseEstimator | None = None,
    progress: Progress | bool | None = None,
    performance_report: str | os.PathLike[str] | None = None,
) -> CompressedImage:
    """Compress an image into a palette of `k` colours fitted to all of its pixels, or a given one.

    The image is read in chunks by the workers of a Dask cluster: once to count its colours, once to
    write everything, and where it has more than three bands or other than 8-bit ones, once for
    each step of `refine`. The same image, `k`, `seed` and options give the same files, whatever the
    cluster; only ``report.json`` tells the runs apart.

    Parameters
    ----------
    path : str or path-like, or Dask, NumPy or xarray array
        A raster that GDAL reads (GeoTIFF, JPEG 2000, PNG, VRT, ...), a zarr array or a group of
        them, a ``.npy`` file; every worker must be able to read it under this path or URL
        (``s3://``, ``gs://``, ``az://``, ``https://``). Or an array of shape (y, x) or
        (y, x, band). Any number of bands of integers or floating-point numbers.
    k : int or "auto"
        Number of colours, from 1 to 65,536, one less if pixels are missing: these take one index.
        Up to 256 entries in all fit into 8-bit indices and palette PNGs. An image of fewer
        colours gets exactly its own. "auto" is the knee of the rate-distortion curve from 2 to 256
        colours [1]_. Give one of `k`, `psnr`, `max_bytes`, `ratio` and `palette`, or `target_bpp`.
    out : str or path-like, optional
        The bundle to write, a directory that every worker sees, or a URL (``s3://``, ``gs://``,
        ``az://``). By default the source with the ending ``.kmdask``; of a URL, in this directory.
    psnr : float, optional
        The least peak signal-to-noise ratio in dB: of the fewest colours that reach it, after
        `smooth`, if there is any, by as much as `max_bytes` keeps free.
    max_bytes : int, optional
        What "zarr" may take: the most colours, at least two, with which it takes no more. Measured
        on up to 64 chunks of 1024 x 1024 pixels (fewer of many bands); of larger images with two
        standard errors kept free: hardly ever more is written, mostly 5 to 25 % less.
    ratio : float, optional
        How many times smaller than the raw pixels "zarr" is to be, likewise.
    target_bpp : float, optional
        The entropy that the indices may have at most, in bits for each valid pixel, by entropy-
        constrained vector quantization [3]_ from at most `k` colours, by default as many as 8 bits
        hold: a pixel takes the entry of least squared distance and price of its bits; rare ones
        starve. If `k` colours have no more, they are taken. Not with `fixed`. Not stored bytes.
    palette : SavedPalette, str, path-like or sequence of str, optional
        What `kmdask.fit` returned, the path or URL of its file or of a bundle, or, for images of
        8-bit RGB or grey, hexadecimal colours or a file of colours (see `SavedPalette.read`), which
        keep order and values, also of one that means a missing pixel. The image is then read once,
        by default in the palette's bands, and its colours are not counted. What the fit has decided
        cannot be given besides: `seed`, `scale`, `pca`, `space`, `refine`, `display`, `stretch`,
        `estimator`, `fixed`. One index is kept for missing pixels if the source can have such.
    fixed : sequence of str or of sequence of float, optional
        Colours that have to be in the palette, used or not: hexadecimal (``"#1b9e77"``) for 8-bit
        RGB, or a value for each band. They count for `k`; k-means fits the others around them.
    seed : int, default 0
        Seed of the fit, not negative.
    bands : sequence of int, optional
        The numbers of the bands to take, from 1, in this order. By default all but alpha.
    nodata : float, optional
        The value that means that a pixel is missing, if every band taken has it. By default what
        the source says: nodata values, mask or alpha. What is not finite is always missing.
    scale : "std" or sequence of float, optional
        What bands are weighted by when colours are compared: a factor each, or with "std" the
        reciprocal of each one's standard deviation. By default all weigh the same.
    pca : int, optional
        Compare colours by this many principal components of the (weighted) bands.
    space : {"rgb", "oklab"}, default "rgb"
        Where colours are compared: by their bands or, of three 8-bit bands taken for red, green and
        blue of sRGB, as they are seen, in OKLab [2]_, without `scale` or `pca`. PSNR, also as a
        target, stays that of the bands, and becomes lower; `Report.delta_e` is what is seen.
    refine : int or "converge", default 2
        Steps of k-means over all pixels after the fit to their colours, each one pass, where these
        are too many to be counted one by one. Of no effect on up to three 8-bit bands.
    display : sequence of int, optional
        The numbers of the one or three bands that tiles, preview and GeoTIFF show. By default
        red, green and blue if the source names them, else the first three.
    stretch : sequence of float, optional
        The percentiles shown as black and white; by default 2 and 98, of 8-bit pixels none.
    window : sequence of int or rasterio.windows.Window, optional
        The region of the image to take, as first column, first row, width and height in pixels;
        its place on the map moves with it. Only the file's blocks that it touches are read.
    smooth : float, default 0
        How much error a pixel may take for fewer bytes, as `kmdask.encode` explains: 0.1 to 0.5
        cost some 0.1 dB of PSNR and save up to a fifth of the bytes, on texture next to none.
    formats : sequence of str, default ("zarr", "tiles")
        What to write. "zarr" is the compressed image itself and must be among them; "tiles" are a
        Deep Zoom pyramid, "cog" is a palette Cloud Optimized GeoTIFF, for up to 256 entries.
    codec : {"zstd", "bz2"}, default "zstd"
        How the indices in "zarr" are compressed. "zstd" is fast, and all that reads zarr reads it.
        "bz2" takes 20 to 32 % fewer bytes (measured on two scenes), and some ten times as long to
        compress, 2 to 70 megapixels a second and core; decoding is 10 to 60 times as slow. Besides
        kmdask, zarr and xarray read it where kmdask is installed, and GDAL does not.
    ssim : bool, default True
        Whether the report has SSIM: 3 ns of a core a pixel and band of 8 bits, else 4 to 9.
    overwrite : bool, default False
        Whether to replace a bundle that stands at `out`, once the new one is whole; in an object
        store once the palette is known.
    resume : bool, default False
        Whether to go on from what a run that was cut off has left of the same request, its palette
        and the chunks that are written; if there is nothing, from the beginning. If it fails
        itself, what it has written is left.
    client : distributed.Client, kmdask.Local, kmdask.Remote or str, optional
        The cluster, or its address; by default the current client or the configured scheduler, else
        all cores of this machine. Only what kmdask started is shut down. See `kmdask.connect`.
    estimator : scikit-learn compatible clusterer, optional
        What fits the palette in place of `kmdask.KMeans`; see `fit_palette`.
    progress : Progress or bool, optional
        Is told what the run is doing. True shows a bar for each stage; by default nothing is shown.
    performance_report : str or path-like, optional
        A page to write, ending in ``.html``, with what Dask knows of the run: which worker did
        what when. It is replaced with `overwrite`.

    Returns
    -------
    CompressedImage

    Raises
    ------
    KmdaskError
        One of its kinds: `ParameterError`, `SourceError`, `UnsupportedImageError`,
        `EmptyImageError`, `OutputExistsError`, `OutputError`, `PaletteError` or `ClusterError`.
        What stood at `out` stands there still, and nothing is left behind but what can be gone on
        from: after a `ClusterError`, or with `resume`.

    Notes
    -----
    What `psnr`, `max_bytes`, `ratio` and "auto" choose is found on the counts of the colours, in no
    further pass; the files are those of the k chosen. Where error or size do not always fall or
    rise, that is a k which meets the target while its neighbour does not. Of many or deep bands
    targets are met by cells, before `refine`; "auto" and `target_bpp` before `smooth`.

    References
    ----------
    .. [1] V. Satopää, J. Albrecht, D. Irwin and B. Raghavan, "Finding a 'Kneedle' in a haystack:
       detecting knee points in system behavior", ICDCS Workshops 2011, 166-171.
    .. [2] B. Ottosson, "A perceptual color space for image processing", 2020,
       https://bottosson.github.io/posts/oklab/
    .. [3] P. A. Chou, T. Lookabaugh and R. M. Gray, "Entropy-constrained vector quantization", IEEE
       Transactions on Acoustics, Speech, and Signal Processing 37 (1989) 31-42.

    Examples
    --------
    >>> import numpy as np
    >>> import kmdask
    >>> from PIL import Image
    >>> Image.fromarray(np.tile(np.uint8([[0, 9], [9, 200]]), (50, 50))).save("scan.png")
    >>> result = kmdask.compress("scan.png", k=2)
    >>> result
    <CompressedImage 'scan.kmdask': 100 x 100 x 1, 2 colours, ...>
    >>> result.palette
    Palette(['#060606', '#c8c8c8'])
    >>> kmdask.compress("scan.png", psnr=40, overwrite=True).report.k
    3
    """
    options = Options(
        k=k,
        psnr=psnr,
        max_bytes=max_bytes,
        ratio=ratio,
        target_bpp=target_bpp,
        palette=None if palette is None else as_saved(palette),
        seed=seed,
        bands=bands,
        nodata=nodata,
        scale=scale,
        pca=pca,
        space=space,
        refine=refine,
        display=display,
        stretch=stretch,
        smooth=smooth,
        formats=formats,
        codec=codec,
        window=check_window(window),
        fixed=fixed,
    )
    options.check_estimator(estimator)
    target = places.output_place(default_output(path) if out is None else out)
    stages = Stages(chosen(progress))
    check_apart(path, target)
    asked = request(path, options, estimator)
    with (
        publishing(target, overwrite=overwrite, asked=asked, resume=resume) as staging,
        # Before a cluster is started: what cannot be opened here cannot be compressed at all.
        nullcontext(_found(path, options)) as source,
        connect(client) as connected,
        stages.on(connected, target.name),
        reported(performance_report, apart=target, overwrite=overwrite),
    ):
        check_workers(connected, source, staging.scratch, target)
        with stages("open"), bands_explained(options):
            raster = open_raster(
                path,
                bands=options.wanted_bands,
                nodata=nodata,
                scratch=staging.scratch,
                chunk=staging.chunk,
                workers=workers_of(connected, source),
                window=options.window,
            )
            stages.pixels = math.prod(raster.shape)
        run = partial(stages.run, connected)
        fitted = staging.load()
        if fitted is None and options.palette is not None:
            fitted = given_palette(raster, options, options.palette)
        if fitted is None:
            keep = can_keep(connected, [raster])
            fitted, (raster,) = fit_rasters([raster], options, run, stages, estimator, keep=keep)
        raster = raster if fitted.masked else replace(raster, mask=None)
        header = header_of(raster, fitted, options)
        staging.save(fitted, header, raster, stages.seconds, options.codec)
        with stages("write"):
            metrics, digests = write_outputs(
                raster, fitted, options, ssim=ssim, staging=staging, run=run
            )
        staging.finish(
            report_of(
                raster,
                fitted,
                metrics,
                options=options,
                sizes=sizes_of(raster, staging.path),
                seconds=staging.seconds | stages.seconds,
                digests=digests,
                dashboard=stages.dashboard,
            )
        )
    return CompressedImage.read(target)


def _found(path: Any, options: Options) -> Source | None:
    with bands_explained(options):
        return found_at(
            path, bands=options.wanted_bands, nodata=options.nodata, window=options.window
        )
