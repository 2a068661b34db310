"""Rasters that GDAL reads, as sources of pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.windows import Window

from kmdask import places
from kmdask.chunks import forward_windows
from kmdask.errors import SourceError, UnsupportedImageError
from kmdask.reading import gdal, remote
from kmdask.reading.gdal_bands import STORED, Choice, Facts, choose_bands, show
from kmdask.reading.gdal_georef import read_georef
from kmdask.reading.gdal_validity import Validity, find_validity, with_nodata
from kmdask.reading.missing import check_nodata, valid_values
from kmdask.writing.png import verify_png

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from kmdask.bands import Band
    from kmdask.georef import Georef

WHOLE_IMAGE_DRIVERS = frozenset({"PNG", "JPEG", "GIF", "BIGGIF", "WEBP", "JPEGXL"})
"""GDAL drivers that decode from the first row on, whatever window is asked for."""

LARGEST_BLOCK = 1 << 30
"""Bytes of a tile that GDAL is let decode, which it does as a whole whatever part is read."""


@dataclass(frozen=True)
class RasterioSource:
    """A raster that GDAL can read."""

    path: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    bands: tuple[Band, ...]
    block: tuple[int, int]
    block_bytes: int
    """What GDAL decodes at once: of interleaved bands the blocks of all that are stored."""
    georef: Georef
    choice: Choice
    validity: Validity
    driver: str
    version: str = ""
    """Of a file behind a URL, what tells it from the one that may stand there later."""
    level: int | None = None
    """Which of its overviews is read in place of the image."""

    @classmethod
    def open(
        cls, path: str, *, bands: Sequence[int] | None = None, nodata: float | None = None
    ) -> RasterioSource:
        """Describe the raster at a path."""
        version = remote.version_of(path) if remote.is_remote(path) else ""
        gdal.renew(path, version)
        try:
            with (
                gdal.settings(path, gdal.DESCRIBING_OPTIONS),
                gdal.open_dataset(path) as dataset,
            ):
                return cls._describe(path, dataset, bands, nodata, version)
        except (SourceError, UnsupportedImageError):
            raise
        except gdal.DESCRIBING_ERRORS as error:
            if type(error).__module__.startswith("kmdask."):
                raise
            if remote.is_remote(path):
                remote.check(path)
            msg = (
                f"{path!r} cannot be opened as an image: {_first_line(error)}; kmdask reads what "
                "GDAL reads (GeoTIFF, PNG, JPEG, ...), zarr and .npy arrays"
            )
            raise SourceError(msg) from error

    @classmethod
    def _describe(
        cls,
        path: str,
        dataset: Any,
        bands: Sequence[int] | None,
        nodata: float | None,
        version: str,
    ) -> RasterioSource:
        if dataset.count == 0:
            reason = "it has no bands of its own, only subdatasets: name one of them"
            raise UnsupportedImageError.of(path, reason)
        facts = Facts.of(dataset)
        choice = choose_bands(path, dataset, facts, bands)
        if nodata is not None:
            nodata = check_nodata(nodata, choice.stored)
        if dataset.driver == "PNG" and remote.is_file(path):
            verify_png(places.place(path))
        whole = dataset.driver in WHOLE_IMAGE_DRIVERS
        block = dataset.block_shapes[choice.indexes[0] - 1]
        block_bytes = _block_bytes(dataset, choice, block)
        validity = find_validity(dataset, facts, choice, nodata)
        if not whole:
            _check_block(path, dataset.width, block, block_bytes)
        return cls(
            path=path,
            shape=dataset.shape,
            dtype=choice.dtype,
            bands=with_nodata(dataset, choice, validity, nodata),
            block=dataset.shape if whole else block,
            block_bytes=block_bytes,
            georef=read_georef(path, dataset),
            choice=choice,
            validity=validity,
            driver=dataset.driver,
            version=version,
        )

    @property
    def masked(self) -> bool:
        """Whether `read` returns a further sample, 0 where the pixel is invalid."""
        return self.validity.needed

    @property
    def location(self) -> str:
        """The file."""
        return self.path

    def read(self, rows: slice, columns: slice) -> npt.NDArray[Any]:
        """Read a window of shape (y, x, sample), band by band in memory as GDAL gives it."""

        def once() -> npt.NDArray[Any]:
            with gdal.reading(self.path, self.block_bytes), self._opened(rows, columns) as dataset:
                return self._window(dataset, rows, columns)

        gdal.renew(self.path, self.version)
        return remote.persistent(self.path, once, forget=gdal.forget)

    def overview(self, longest: int) -> RasterioSource | None:
        """Return its largest overview of so many pixels a side at most; None if there is none.

        It shows the image if whoever has made it did so: that is not checked.
        """
        height, width = self.shape
        with gdal.settings(self.path), self._opened(slice(0, height), slice(0, width)) as dataset:
            factors = dataset.overviews(self.choice.indexes[0])
        for level, factor in enumerate(factors):
            # GDAL rounds sizes up, other programs down.
            if max(self.shape) > factor * longest:
                continue
            small = replace(self, level=level)
            with (
                gdal.settings(self.path),
                small._opened(slice(0, 1), slice(0, 1)) as dataset,  # noqa: SLF001  its own kind
            ):
                block = dataset.block_shapes[self.choice.indexes[0] - 1]
                size = _block_bytes(dataset, self.choice, block)
                return replace(small, shape=dataset.shape, block=block, block_bytes=size)
        return None

    def forward(self) -> Iterator[tuple[slice, slice, npt.NDArray[Any]]]:
        """Read strips of full rows from one open file, which decodes it once."""
        everything = slice(0, self.shape[0]), slice(0, self.shape[1])
        pixel_bytes = (len(self.bands) + self.masked) * self.dtype.itemsize
        gdal.renew(self.path, self.version)
        with gdal.reading(self.path, self.block_bytes), self._opened(*everything) as dataset:
            for rows, columns in forward_windows(self.shape, pixel_bytes):
                yield rows, columns, self._window(dataset, rows, columns)

    def _opened(self, rows: slice, columns: slice) -> Any:
        try:
            if self.level is None:
                return gdal.open_dataset(self.path)
            return gdal.open_dataset(self.path, overview_level=self.level)
        except gdal.ERRORS as error:
            failure = SourceError.within(self.path, rows, columns, error)
        raise failure

    def _window(self, dataset: Any, rows: slice, columns: slice) -> npt.NDArray[Any]:
        window = Window.from_slices(rows, columns)
        bands = len(self.bands)
        out = np.empty((bands + self.masked, window.height, window.width), self.dtype)
        try:
            if self._with_alpha(dataset):
                dataset.read([*self.choice.indexes, self.validity.alpha], window=window, out=out)
                stored = out[:bands]
            else:
                stored = self._stored(dataset, window, out[:bands])
            if self.masked:
                self._mask(dataset, window, stored, out[bands])
        except gdal.ERRORS as error:
            failure = SourceError.within(self.path, rows, columns, error)
        except (LookupError, ValueError) as error:
            # Another file stands at the path now, of other bands or another size.
            failure = SourceError.within(self.path, rows, columns, error)
        else:
            return np.moveaxis(out, 0, 2)
        # Raised out here, without GDAL's error in its chain: that one cannot be unpickled.
        raise failure

    def _with_alpha(self, dataset: Any) -> bool:
        """Whether the bands and alpha can be read at once, as they are decoded."""
        alpha, choice = self.validity.alpha, self.choice
        if alpha is None or self.validity.mask or choice.shown != STORED:
            return False
        return bool(dataset.dtypes[alpha - 1] == choice.stored)

    def _stored(self, dataset: Any, window: Window, out: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Read the bands into `out`; return them as they are stored."""
        choice = self.choice
        if choice.shown == STORED:
            dataset.read(list(choice.indexes), window=window, out=out)
            return out
        stored: npt.NDArray[Any] = dataset.read(list(choice.indexes), window=window)
        out[...] = show(dataset, choice, stored, [band.number for band in self.bands])
        return stored

    def _mask(
        self, dataset: Any, window: Window, stored: npt.NDArray[Any], out: npt.NDArray[Any]
    ) -> None:
        """Write into `out` what is valid."""
        told = self.validity
        if not self._with_alpha(dataset):
            first = self.choice.indexes[0]
            out[...] = dataset.read_masks(first, window=window) if told.mask else 1
            if told.alpha:
                out[dataset.read(told.alpha, window=window) == 0] = 0
        if told.transparent:
            out[np.isin(stored[0], told.transparent)] = 0
        if told.values:
            out[~valid_values(np.moveaxis(stored, 0, 2), told.nodata)] = 0


def _first_line(error: Exception) -> str:
    # A part of a sentence here, which GDAL may have ended.
    return (str(error).splitlines() or [type(error).__name__])[0].removesuffix(".")


def _block_bytes(dataset: Any, choice: Choice, block: tuple[int, int]) -> int:
    interleaved = dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE") == "PIXEL"
    together = dataset.count if interleaved else 1
    return int(block[0] * block[1] * together * choice.stored.itemsize)


def _check_block(path: str, width: int, block: tuple[int, int], size: int) -> None:
    """Refuse tiles that GDAL would need more memory for than a worker may be asked to have."""
    tiles = block[1] < width or block[0] == 1
    if tiles and size > LARGEST_BLOCK:
        reason = (
            f"its blocks of {block[0]} x {block[1]} pixels take {size} bytes each, more than "
            f"{LARGEST_BLOCK}, and can only be decoded whole"
        )
        raise UnsupportedImageError.of(path, reason)
