"""What can be opened for reading: rasters through rasterio, arrays through zarr.

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
import zarr
from rasterio.enums import ColorInterp, MaskFlags, PhotometricInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from kmdask.errors import SourceError, SourceNotFoundError, UnsupportedImageError
from kmdask.georef import Georef

if TYPE_CHECKING:
    import numpy.typing as npt

GDAL_OPTIONS = {
    # Blocks decoded for the bands are found again for the mask. The default, 5 % of the memory of
    # the machine, would make the footprint of a worker depend on the machine.
    "GDAL_CACHEMAX": 256,
    # Dask's threads decode whole chunks side by side; threads within a read would fight them.
    "GDAL_NUM_THREADS": 1,
}

WHOLE_IMAGE_DRIVERS = frozenset({"PNG", "JPEG", "GIF", "WEBP", "JPEGXL"})
"""GDAL drivers that decode from the first row on, whatever window is asked for."""

PHOTOMETRIC = frozenset(
    {None, PhotometricInterp.black, PhotometricInterp.rgb, PhotometricInterp.ycbcr}
)
"""TIFF colour models whose samples are grey or red, green and blue."""

SUPPORTED = "8-bit grey or RGB, with or without an alpha band"


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
    local = Path(path)
    if "://" not in path and not path.startswith("/vsi"):
        if not local.exists():
            msg = f"there is no file {path!r}; check the path, and that every worker can see it"
            raise SourceNotFoundError(msg)
        if local.is_dir():
            return ZarrSource.open(path)
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
    stamp: tuple[int, int] | None = None
    """Size and time of change of the file, so that Dask tells two versions of it apart."""

    @classmethod
    def open(cls, path: str) -> RasterioSource:
        """Describe the raster at a path."""
        try:
            with rasterio.Env(**GDAL_OPTIONS), open_dataset(path) as dataset:
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
        bands = _color_bands(path, dataset)
        if dataset.driver == "PNG":
            _verify_png(path)
        whole = dataset.driver in WHOLE_IMAGE_DRIVERS
        stat = Path(path).stat() if Path(path).exists() else None
        identity = dataset.transform.is_identity
        return cls(
            path=path,
            shape=dataset.shape,
            bands=bands,
            masked=any(MaskFlags.all_valid not in flags for flags in dataset.mask_flag_enums),
            block=dataset.shape if whole else dataset.block_shapes[0],
            georef=Georef(
                crs_wkt=dataset.crs.to_wkt() if dataset.crs else None,
                transform=None if identity else tuple(dataset.transform)[:6],
            ),
            stamp=stat and (stat.st_size, stat.st_mtime_ns),
        )

    def read(self, rows: slice, columns: slice) -> npt.NDArray[np.uint8]:
        """Read a window of shape (y, x, sample), band by band in memory as GDAL gives it."""
        window = Window.from_slices(rows, columns)
        out = np.empty((self.bands + self.masked, window.height, window.width), np.uint8)
        try:
            with rasterio.Env(**GDAL_OPTIONS), open_dataset(self.path) as dataset:
                indexes = list(range(1, self.bands + 1))
                dataset.read(indexes, window=window, out=out[: self.bands])
                if self.masked:
                    out[self.bands] = dataset.dataset_mask(window=window)
        except RasterioError as error:
            raise _damaged(self.path, rows, columns, error) from error
        return np.moveaxis(out, 0, 2)


@dataclass(frozen=True)
class ZarrSource:
    """A zarr array of version 2 or 3, of shape (y, x), (y, x, sample) or (sample, y, x)."""

    path: str
    shape: tuple[int, int]
    bands: int
    masked: bool
    block: tuple[int, int]
    axes: str
    """The order of the stored axes, one letter each: "yx", "yxs" or "syx"."""

    georef: Georef = Georef()  # noqa: RUF009  frozen

    @classmethod
    def open(cls, path: str) -> ZarrSource:
        """Describe the array at a path."""
        try:
            array = zarr.open_array(path, mode="r")
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            msg = (
                f"{path!r} is a directory but no zarr array: {error}; give the path of the array "
                "itself, such as group.zarr/array"
            )
            raise SourceError(msg) from error
        if array.dtype != np.uint8:
            raise _unsupported(path, f"its data type is {array.dtype}")
        axes = _zarr_axes(path, array.shape)
        samples = array.shape[axes.index("s")] if "s" in axes else 1
        y, x = axes.index("y"), axes.index("x")
        chunk = array.shards or array.chunks
        return cls(
            path=path,
            shape=(array.shape[y], array.shape[x]),
            bands=samples - (samples in {2, 4}),
            masked=samples in {2, 4},
            block=(chunk[y], chunk[x]),
            axes=axes,
        )

    def read(self, rows: slice, columns: slice) -> npt.NDArray[np.uint8]:
        """Read a window of shape (y, x, sample)."""
        window = {"y": rows, "x": columns, "s": slice(None)}
        try:
            array = zarr.open_array(self.path, mode="r")
            block = np.asarray(array[tuple(window[axis] for axis in self.axes)])
        except (OSError, ValueError, RuntimeError) as error:
            raise _damaged(self.path, rows, columns, error) from error
        if self.axes == "syx":
            return np.moveaxis(block, 0, 2)
        return block.reshape(*block.shape[:2], -1)


_opening = threading.Lock()


def open_dataset(*args: Any, **kwargs: Any) -> Any:
    """Call `rasterio.open`, without its warning that an image has no georeferencing."""
    # Warning filters are global to the process, so threads take turns at changing them.
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(*args, **kwargs)


def _color_bands(path: str, dataset: Any) -> int:
    """Check that the bands are colours as supported; return how many there are without alpha."""
    if dataset.count == 0:
        raise _unsupported(path, "it has no bands of its own, only subdatasets: name one of them")
    if set(dataset.dtypes) != {"uint8"}:
        raise _unsupported(path, f"its data type is {', '.join(sorted(set(dataset.dtypes)))}")
    meaning = dataset.colorinterp
    if ColorInterp.palette in meaning:
        raise _unsupported(path, "its pixels are indices into a colour table already")
    alpha = ColorInterp.alpha in meaning
    names = ", ".join(interp.name for interp in meaning)
    if (dataset.count, alpha) not in {(1, False), (2, True), (3, False), (4, True)}:
        raise _unsupported(path, f"its {dataset.count} band(s) are {names}")
    if alpha and meaning[-1] != ColorInterp.alpha:
        raise _unsupported(path, f"its alpha band is not the last: {names}")
    if ColorInterp.cyan in meaning or dataset.photometric not in PHOTOMETRIC:
        raise _unsupported(path, f"its colour model is {dataset.photometric or names}")
    return int(dataset.count) - alpha


def _zarr_axes(path: str, shape: tuple[int, ...]) -> str:
    if len(shape) == 2:
        return "yx"
    if len(shape) == 3 and 1 <= shape[2] <= 4:
        return "yxs"
    if len(shape) == 3 and 1 <= shape[0] <= 4:
        return "syx"
    raise _unsupported(path, f"its shape is {shape}, not (y, x), (y, x, band) or (band, y, x)")


def _verify_png(path: str) -> None:
    # GDAL reads a PNG that ends too early without a word and leaves the rest black.
    from PIL.PngImagePlugin import PngImageFile

    try:
        with Path(path).open("rb") as file:
            PngImageFile(file).verify()
    except (OSError, SyntaxError) as error:
        msg = f"{path!r} is a damaged or incomplete PNG: {error}; fetch it again"
        raise SourceError(msg) from error


def _unsupported(path: str, reason: str) -> UnsupportedImageError:
    msg = f"{path!r} is not supported: {reason}; this version takes {SUPPORTED}"
    return UnsupportedImageError(msg)


def _damaged(path: str, rows: slice, columns: slice, error: Exception) -> SourceError:
    msg = (
        f"{path!r} cannot be read at rows {rows.start} to {rows.stop}, columns {columns.start} to "
        f"{columns.stop}: {error.__cause__ or error}; the file is damaged or incomplete there, "
        "so fetch it again or cut that part off"
    )
    return SourceError(msg)
