"""The whole way from a path to a compressed image: open, count, fit, encode, write."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

import dask
from distributed import CancelledError, as_completed, futures_of

from kmdask import store
from kmdask.bands import Band
from kmdask.client import Connection, connect
from kmdask.colors import color_table, weighted_colors
from kmdask.deepzoom import write_description, write_levels
from kmdask.display import Colormap
from kmdask.errors import ParameterError, writing
from kmdask.fit import check_k, fit_palette
from kmdask.image import CompressedImage
from kmdask.levels import pyramid
from kmdask.metrics import measure
from kmdask.palette import check_room, encode
from kmdask.preview import write_preview
from kmdask.progress import Progress, Silent
from kmdask.raster import open_raster, size_of
from kmdask.report import Report, versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import dask.array as da
    from distributed import Client, Future
    from sklearn.base import BaseEstimator

    from kmdask.palette import Palette
    from kmdask.raster import Raster

FORMATS = ("zarr", "tiles")

SETTLING_SECONDS = 0.05

PATIENCE = 60
"""Seconds to wait, after a failure, for tasks that run already."""


def compress(
    path: str | os.PathLike[str],
    k: int,
    out: str | os.PathLike[str] | None = None,
    *,
    seed: int = 0,
    client: Connection = None,
    formats: Sequence[str] = FORMATS,
    overwrite: bool = False,
    estimator: BaseEstimator | None = None,
    progress: Progress | None = None,
) -> CompressedImage:
    """Compress an image into a palette of `k` colours fitted to all of its pixels.

    The image is read twice, in chunks, by the workers of a Dask cluster: once to count its
    colours, once to write everything. The same image, `k` and `seed` give the same files, whatever
    the cluster; only ``report.json`` tells the runs apart.

    Parameters
    ----------
    path : str or path-like
        An image of 8-bit grey or RGB pixels, with or without alpha, that GDAL reads (GeoTIFF, PNG,
        JPEG, ...), or a zarr array. Every worker must be able to read it under this path.
    k : int
        Number of colours, from 1 to 256; to 255 if the image has invalid pixels, which take one
        index. An image of fewer colours gets exactly its own.
    out : str or path-like, optional
        The bundle to write, a directory. By default the source with the ending ``.kmdask``.
    seed : int, default 0
        Seed of the fit, not negative.
    client : distributed.Client or str, optional
        The cluster: a client, the address of a scheduler, or the path of a scheduler file. By
        default the current client or the configured scheduler, else all cores of this machine.
    formats : sequence of str, default ("zarr", "tiles")
        What to write. "zarr" is the compressed image itself and must be among them.
    overwrite : bool, default False
        Whether to replace a bundle that stands at `out`, once the new one is whole.
    estimator : scikit-learn compatible clusterer, optional
        What fits the palette in place of `kmdask.KMeans`; see `fit_palette`.
    progress : Progress, optional
        Is told what the run is doing. By default nobody is.

    Returns
    -------
    CompressedImage

    Raises
    ------
    KmdaskError
        One of its kinds: `ParameterError`, `SourceError`, `UnsupportedImageError`,
        `EmptyImageError`, `OutputExistsError`, `OutputError` or `ClusterError`. Nothing is left
        behind then, and what stood at `out` stands there still.

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
    """
    k = check_k(k)
    _check(seed, formats)
    if not isinstance(path, str | os.PathLike):
        raise ParameterError(f"path is a str or path-like; got {type(path).__name__}")
    target = default_output(path) if out is None else Path(out)
    target = target.absolute()
    stages = _Stages(progress or Silent())
    check_apart(path, target)
    with store.publishing(target, overwrite=overwrite) as bundle, connect(client) as connected:
        stages.progress.connected(connected.dashboard_link)
        with stages("open"):
            raster = open_raster(path, scratch=bundle / store.SCRATCH)
        with stages("count"):
            tables = stages.run(connected, *color_table(raster.pixels, raster.mask))
            colors = weighted_colors(tables[0], raster.pixels.shape[2])
            del tables
            raster = raster.with_valid(colors.pixels)
            check_room(k, masked=raster.mask is not None, colors=len(colors))
        with stages("fit"):
            palette = fit_palette(
                colors, k, seed=seed, estimator=estimator, pixels=raster.pixels, mask=raster.mask
            )
            quality = measure(colors, palette)
            valid, n = colors.pixels, len(colors)
            # The workers need the memory for writing.
            del colors
        with stages("write"):
            writes = _outputs(raster, palette, bundle, formats)
            meanings = ("gray",) if palette.bands == 1 else ("red", "green", "blue")
            bands = tuple(Band(i, color=color) for i, color in enumerate(meanings, start=1))
            header = store.Header(k, seed, raster.mask is not None, raster.georef, bands)
            store.create_image(bundle, raster.shape, palette, header)
            stages.run(connected, *writes)
        report = Report(
            source=str(path),
            shape=(*raster.shape, palette.bands),
            valid_pixels=valid,
            colors=n,
            k=k,
            k_used=len(palette),
            seed=seed,
            mse=quality.mse,
            psnr=quality.psnr,
            shares=quality.shares,
            sizes=_sizes(raster, bundle),
            seconds=stages.seconds,
            versions=versions(),
        )
        with writing(target):
            report.write(bundle / store.REPORT)
    return CompressedImage.read(target)


def open(path: str | os.PathLike[str]) -> CompressedImage:
    """Open a bundle that `compress` wrote, lazily.

    Parameters
    ----------
    path : str or path-like
        The bundle.

    Returns
    -------
    CompressedImage

    Raises
    ------
    BundleError
        If there is no bundle at the path, or it is damaged or of another format version.
    """
    return CompressedImage.read(Path(path))


def default_output(path: str | os.PathLike[str]) -> Path:
    """Name the bundle of a source: beside it with another ending; of a URL, in this directory."""
    name = os.fspath(path)
    source = Path(name) if _is_local(name) else Path(PurePosixPath(name).name)
    if not source.name:
        raise ParameterError(f"{name!r} has no name to call the output by; give one")
    return source.with_suffix(".kmdask")


def check_apart(path: str | os.PathLike[str], target: Path) -> None:
    """Raise a `ParameterError` if a source lies in the bundle that is to be written."""
    source = Path(path).absolute()
    inside = target in source.parents or (target == source and source.is_dir())
    if inside and _is_local(os.fspath(path)):
        msg = f"the source {os.fspath(path)!r} lies in the output {str(target)!r}; give another"
        raise ParameterError(msg)


def _is_local(name: str) -> bool:
    return ":" not in name and not name.startswith("/vsi")


def _outputs(
    raster: Raster, palette: Palette, bundle: Path, formats: Sequence[str]
) -> list[da.Array]:
    """All that is written from the pixels, lazily, in one graph that reads each chunk once."""
    levels = [
        encode(level.pixels, palette, level.mask) for level in pyramid(raster.pixels, raster.mask)
    ]
    colormap = Colormap(palette.rgb, None if raster.mask is None else palette.nodata)
    writes = [
        store.write_indices(levels[0], bundle),
        write_preview(levels, colormap, bundle / store.PREVIEW),
    ]
    if "tiles" in formats:
        write_description(bundle / store.TILES, raster.shape)
        writes += write_levels(levels, colormap, bundle / store.TILES_FILES)
    return writes


def _sizes(raster: Raster, bundle: Path) -> dict[str, int]:
    return {
        "source": raster.source_bytes,
        "raw": int(raster.pixels.nbytes),
        "zarr": size_of(bundle / store.IMAGE),
        "tiles": size_of(bundle / store.TILES_FILES),
        "preview": size_of(bundle / store.PREVIEW),
    }


def _check(seed: object, formats: object) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ParameterError(f"seed is an integer, 0 or greater; got {seed!r}")
    known = isinstance(formats, list | tuple | set) and all(name in FORMATS for name in formats)
    if not known or "zarr" not in cast("Sequence[str]", formats):
        msg = f"formats is a sequence of {FORMATS}, with 'zarr' among them; got {formats!r}"
        raise ParameterError(msg)


@dataclass
class _Stages:
    """Runs the stages of a compression: times them, shows them, waits for their tasks."""

    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        with self.progress.stage(name):
            yield
        self.seconds[name] = round(time.perf_counter() - start, 3)

    def run(self, client: Client, *collections: Any) -> tuple[Any, ...]:
        """Persist collections and wait until they are computed; raise what their tasks raise."""
        # Optimized, a Delayed and an array go apart and read every chunk for each of them.
        persisted = dask.persist(*collections, optimize_graph=False)
        futures = futures_of(persisted)
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                if future.status != "finished":
                    future.result()
                self.progress.advance(done, len(futures))
        except BaseException:
            _settle(client, futures)
            raise
        return tuple(persisted)


def _settle(client: Client, futures: list[Future[Any]]) -> None:
    """Cancel tasks, and wait for those that run: late writes would bring back what is removed."""
    groups = {_group(future.key) for future in futures}
    with suppress(OSError, CancelledError):
        client.cancel(futures)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and any(
            _group(key) in groups for running in client.call_stack().values() for key in running
        ):
            time.sleep(SETTLING_SECONDS)


def _group(key: Any) -> str:
    return str(key[0] if isinstance(key, tuple) else key)
