"""What processes of the tests have done before they are forked; see `conftest` and `forked`.

Imports, those of a worker's dashboard too, and kernels taken from their cache.
Nothing here may start a thread: a fork would not have it.
"""

import compiling
import dask
import dask.array as da
import distributed.cli.dask_worker
import distributed.dashboard.worker
import numpy as np
import pytest

import kmdask
import kmdask.pipeline

__all__ = ["distributed", "pytest"]

compiling.install()
with dask.config.set(scheduler="synchronous"):
    for dtype, bands in (("uint8", 3), ("uint16", 4)):
        values = np.random.default_rng(0).integers(200, size=(30, 40, bands)).astype(dtype)
        pixels = da.from_array(values)
        colors = kmdask.count_colors(pixels)
        kmdask.encode(pixels, kmdask.fit_palette(colors, 5)).compute()
