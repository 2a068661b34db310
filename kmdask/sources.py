"""What can be opened for reading: rasters through rasterio, and zarr arrays.

A source is an address with a description. It pickles, it holds no open file, and every worker
opens the path for itself, for as long as it reads one window.
"""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import rasterio
from rasterio.enums import ColorInterp, MaskFlags, PhotometricInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from kmdask.chunks import PIXELS, TILE
from kmdask.colors import BANDS
from kmdask.errors import SourceError, SourceNotFoundError, UnsupportedImageError
from kmdask.georef import Georef
from kmdask.png import verify_png
from kmdask.zarr_source import ZarrSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

GDAL_OPTIONS = {
    # Blocks decoded for the bands are found again for the mask. The default, 5 % of the memory of
    # the machine, would make the footprint of a worker depend on the machine.
    "GDAL_CACHEMAX": 256,
    # Dask's threads decode whole chunks side by side; threads within a read would fight them.
    "GDAL_NUM_THREADS": 1,
}

DESCRIBING_OPTIONS = GDAL_OPTIONS | {
    # Large strips would be presented as rows, each of which decodes its strip from the beginning.
    "GDAL_ENABLE_TIFF_SPLIT": "NO",
}

WHOLE_IMAGE_DRIVERS = frozenset({"PNG", "JPEG", "GIF", "WEBP", "JPEGXL"})
"""GDAL drivers that decode from the first row on, whatever window is asked for."""

PHOTOMETRIC = frozenset(
    {None, PhotometricInterp.black, PhotometricInterp.rgb, PhotometricInterp.ycbcr}
)
"""TIFF colour models whose samples are grey or red, green and blue."""

COLORS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)


class Source(Protocol):
    """An image that can be read window by window, from any process that can reach its path."""

    @property
    def path(self) -> str:
        """What to call the image in messages."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    @property
    def bands(self) -> int:
        """Number of colour bands, 1 or 3."""

    @property
    def masked(self) -> bool:
        """Whether `read` returns a further sample, 0 where the pixel is invalid."""

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns that are decoded together."""

    @property
    def georef(self) -> Georef:
        """Where the image is on the map."""

    def read(self, rows: slice, columns: slice) -> npt.NDArray[np.uint8]:
        """Read a window of shape (y, x, sample): the bands, and the mask if there is one."""

    def forward(self) -> Iterator[tuple[slice, slice, npt.NDArray[np.uint8]]]:
        """Read everything once, in the order that is cheapest: rows, columns and samples."""


def find_source(path: str) -> Source:
    """Recognise what is at a path and check that it is supported.

    Raises
    ------
    SourceNotFoundError
        If there is nothing at the path.
    SourceError
        If it is not an image, or is damaged where the description is.
    UnsupportedImageError
        If it is an image of a data type or with bands that are not supported.
    """
    try:
        exists, is_directory = Path(path).exists(), Path(path).is_dir()
    except OSError as error:
        raise SourceError(f"{path!r} cannot be opened: {error.strerror or error}") from None
    if is_directory:
        return ZarrSource.open(path)
    # GDAL knows names that are no files: https://..., /vsizip/..., HDF5:file.h5://array
    if not (exists or ":" in path or path.startswith("/vsi")):
        msg = f"there is no file {path!r}; check the path, and that every worker can see it"
        raise SourceNotFoundError(msg)
    return RasterioSource.open(path)


@dataclass(frozen=True)
class RasterioSource:
    """A raster that GDAL can read."""

    path: str
    shape: tuple[int, int]
    bands: int
    masked: bool
    block: tuple[int, int]
    georef: Georef
    indexes: tuple[int, ...]
    """The numbers of the bands in the file, red, green and blue in this order."""

    @classmethod
    def open(cls, path: str) -> RasterioSource:
        """Describe the raster at a path."""
        try:
            with rasterio.Env(**DESCRIBING_OPTIONS), open_dataset(path) as dataset:
                source = cls._describe(path, dataset)
        except RasterioError as error:
            msg = (
                f"{path!r} cannot be opened as an image: {error}; kmdask reads what GDAL reads "
                "(GeoTIFF, PNG, JPEG, ...) and zarr arrays"
            )
            raise SourceError(msg) from error
        return source

    @classmethod
    def _describe(cls, path: str, dataset: Any) -> RasterioSource:
        indexes = _color_bands(path, dataset)
        if dataset.driver == "PNG" and Path(path).is_file():
            verify_png(Path(path))
        whole = dataset.driver in WHOLE_IMAGE_DRIVERS
        placed = not dataset.transform.is_identity
        return cls(
            path=path,
            shape=dataset.shape,
            bands=len(indexes),
            masked=any(MaskFlags.all_valid not in flags for flags in dataset.mask_flag_enums),
            block=dataset.shape if whole else dataset.block_shapes[0],
            georef=Georef(
                crs_wkt=dataset.crs.to_wkt() if dataset.crs else None,
                transform=tuple(dataset.transform)[:6] if placed else None,
            ),
            indexes=indexes,
        )

    def read(self, rows: slice, columns: slice) -> npt.NDArray[np.uint8]:
        """Read a window of shape (y, x, sample), band by band in memory as GDAL gives it."""
        with rasterio.Env(**GDAL_OPTIONS), self._opened(rows, columns) as dataset:
            return self._window(dataset, rows, columns)

    def forward(self) -> Iterator[tuple[slice, slice, npt.NDArray[np.uint8]]]:
        """Read strips of full rows from one open file, which decodes it once."""
        height, width = self.shape
        columns = slice(0, width)
        step = max(1, min(TILE, PIXELS // width))
        with rasterio.Env(**GDAL_OPTIONS), self._opened(slice(0, height), columns) as dataset:
            for top in range(0, height, step):
                rows = slice(top, min(top + step, height))
                yield rows, columns, self._window(dataset, rows, columns)

    def _opened(self, rows: slice, columns: slice) -> Any:
        try:
            return open_dataset(self.path)
        except RasterioError as error:
            failure = SourceError.within(self.path, rows, columns, error)
        raise failure

    def _window(self, dataset: Any, rows: slice, columns: slice) -> npt.NDArray[np.uint8]:
        window = Window.from_slices(rows, columns)
        out = np.empty((self.bands + self.masked, window.height, window.width), np.uint8)
        try:
            dataset.read(list(self.indexes), window=window, out=out[: self.bands])
            if self.masked:
                out[self.bands] = dataset.dataset_mask(window=window)
        except RasterioError as error:
            failure = SourceError.within(self.path, rows, columns, error)
        else:
            return np.moveaxis(out, 0, 2)
        # Raised out here, without GDAL's error in its chain: that one cannot be unpickled.
        raise failure


_opening = threading.Lock()


def open_dataset(*args: Any, **kwargs: Any) -> Any:
    """Call `rasterio.open`, without its warning that an image has no georeferencing."""
    # Warning filters are global to the process, so threads take turns at changing them.
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(*args, **kwargs)


def _color_bands(path: str, dataset: Any) -> tuple[int, ...]:
    """Check that the bands are colours as supported; return their numbers, without alpha."""
    for objection in _objections(dataset):
        raise UnsupportedImageError.of(path, objection)
    meaning = dataset.colorinterp
    if set(COLORS) <= set(meaning):
        return tuple(meaning.index(color) + 1 for color in COLORS)
    return tuple(_without_alpha(meaning))


def _without_alpha(meaning: tuple[ColorInterp, ...]) -> list[int]:
    return [i for i, band in enumerate(meaning, start=1) if band != ColorInterp.alpha]


def _objections(dataset: Any) -> Iterator[str]:
    """What about an image is not supported, the gravest first."""
    if dataset.count == 0:
        yield "it has no bands of its own, only subdatasets: name one of them"
    if set(dataset.dtypes) != {"uint8"}:
        yield f"its data type is {', '.join(sorted(set(dataset.dtypes)))}"
    meaning = dataset.colorinterp
    if ColorInterp.palette in meaning:
        yield "its pixels are indices into a colour table already"
    bits = dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", "8")
    if bits != "8":
        yield f"it has {bits} bits a sample"
    if dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE"):
        yield "its grey is inverted (0 is white)"
    colors = len(_without_alpha(meaning))
    names = ", ".join(band.name for band in meaning)
    if colors not in BANDS or dataset.count - colors > 1:
        yield f"its {dataset.count} band(s) are {names}"
    if ColorInterp.cyan in meaning or dataset.photometric not in PHOTOMETRIC:
        yield f"its colour model is {dataset.photometric or names}"
