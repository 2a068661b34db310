"""Compile the kernels that usual runs take, so that their cache is in the image.

Small scenes are compressed, which takes about a minute once and nothing afterwards.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

import kmdask

# Bands, type, nodata, colours: grey, colour and with holes; deep and many bands; 16-bit indices.
SCENES = [
    (1, "uint8", None, 16),
    (3, "uint8", None, 16),
    (3, "uint8", 0, 300),
    (4, "uint8", None, 16),
    (4, "uint16", 0, 16),
    (2, "float32", float("nan"), 16),
]


def main() -> None:
    """Write and compress each scene."""
    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    with tempfile.TemporaryDirectory() as folder:
        for number, (bands, dtype, nodata, k) in enumerate(SCENES):
            source = Path(folder) / f"{number}.tif"
            pixels = np.random.default_rng(0).integers(256, size=(bands, 300, 700)).astype(dtype)
            fields = {"width": 700, "height": 300, "count": bands, "dtype": dtype, "nodata": nodata}
            with rasterio.open(source, "w", driver="GTiff", **fields) as dataset:
                dataset.write(pixels)
            kmdask.compress(source, k, formats=("zarr", "tiles"))


if __name__ == "__main__":
    main()
