"""GDAL as kmdask uses it: its settings, what it raises, and how a file is opened."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

OPTIONS = {
    # Blocks decoded for the bands are found again for the mask. The default, 5 % of the memory of
    # the machine, would make the footprint of a worker depend on the machine.
    "GDAL_CACHEMAX": 256,
    # Dask's threads decode whole chunks side by side; threads within a read would fight them.
    "GDAL_NUM_THREADS": 1,
}

DESCRIBING_OPTIONS = OPTIONS | {
    # Large strips would be presented as rows, each of which decodes its strip from the beginning.
    "GDAL_ENABLE_TIFF_SPLIT": "NO",
}

ERRORS = (RasterioError, CPLE_BaseError)
"""What rasterio raises when GDAL cannot read; not all of it is turned into a `RasterioError`."""

DESCRIBING_ERRORS = (*ERRORS, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What rasterio raises on descriptions of damaged files: they hold text and numbers of any kind."""

_opening = threading.Lock()


def open_dataset(*args: Any, **kwargs: Any) -> Any:
    """Call `rasterio.open`, without its warning that an image has no georeferencing."""
    # Warning filters are global to the process, so threads take turns at changing them.
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(*args, **kwargs)
