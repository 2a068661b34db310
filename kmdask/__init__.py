"""Compress images too large for one machine into palette images, by k-means on Dask.

>>> import numpy as np
>>> import kmdask
>>> from PIL import Image
>>> Image.fromarray(np.tile(np.uint8([[0, 9], [9, 200]]), (50, 50))).save("picture.png")
>>> result = kmdask.compress("picture.png", k=3)
>>> result.to_dask().compute().shape
(100, 100, 1)

The stages are public too, for arrays that are in Dask already: `count_colors`, `fit_palette`,
`encode`, `decode`, and `open_raster` before them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kmdask.client import connect
    from kmdask.colors import WeightedColors, count_colors
    from kmdask.errors import (
        BundleError,
        ClusterError,
        EmptyImageError,
        KmdaskError,
        OutputError,
        OutputExistsError,
        ParameterError,
        SourceError,
        SourceNotFoundError,
        UnsupportedImageError,
    )
    from kmdask.fit import fit_palette
    from kmdask.georef import Georef
    from kmdask.image import CompressedImage
    from kmdask.kmeans import KMeans
    from kmdask.metrics import Metrics, measure
    from kmdask.palette import Palette, decode, encode
    from kmdask.pipeline import compress, open  # noqa: A004  as in zarr.open and rasterio.open
    from kmdask.pyramid import pyramid
    from kmdask.raster import Raster, open_raster
    from kmdask.report import Report

__version__ = "0.1.0"

# Importing Dask, GDAL and dask-ml takes seconds: each name loads its own module when it is used.
_MODULES = {
    "client": ("connect",),
    "colors": ("WeightedColors", "count_colors"),
    "errors": (
        "BundleError",
        "ClusterError",
        "EmptyImageError",
        "KmdaskError",
        "OutputError",
        "OutputExistsError",
        "ParameterError",
        "SourceError",
        "SourceNotFoundError",
        "UnsupportedImageError",
    ),
    "fit": ("fit_palette",),
    "georef": ("Georef",),
    "image": ("CompressedImage",),
    "kmeans": ("KMeans",),
    "metrics": ("Metrics", "measure"),
    "palette": ("Palette", "decode", "encode"),
    "pipeline": ("compress", "open"),
    "pyramid": ("pyramid",),
    "raster": ("Raster", "open_raster"),
    "report": ("Report",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [  # noqa: PLE0604  the names above, which type checkers see as imports
    "__version__",
    *sorted(_HOMES),
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'kmdask' has no attribute {name!r}")
    return getattr(import_module(f"kmdask.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
