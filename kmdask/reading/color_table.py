"""The colours of a raster that has a colour table, by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from rasterio.enums import ColorInterp

from kmdask.reading import gdal

if TYPE_CHECKING:
    import numpy.typing as npt

BLACK = (0, 0, 0)


def table_colors(path: str) -> npt.NDArray[np.uint8]:
    """Return the colours in the colour table of a raster, in the order of their indices.

    No pixel is read, so colours that none has are among them. Left out are entries that are
    transparent, as that of the nodata value is, and two or more black ones at the end: with these
    GDAL fills tables up to all indices that there can be.

    Parameters
    ----------
    path : str
        Anything GDAL reads, a path or a URL.

    Returns
    -------
    uint8 array of shape (n, 3)

    Raises
    ------
    ValueError
        If it is no raster, or one without such a table, or of nothing else than is left out.
    """
    try:
        with gdal.settings(path, gdal.DESCRIBING_OPTIONS), gdal.open_dataset(path) as dataset:
            if dataset.count < 1 or dataset.colorinterp[0] != ColorInterp.palette:
                raise ValueError("its first band has no colour table")
            table = dataset.colormap(1)
    except gdal.DESCRIBING_ERRORS as error:
        raise ValueError(str(error.__cause__ or error)) from error
    shown = [tuple(table[i]) for i in sorted(table)]
    colors = [color[:3] for color in shown if color[3] != 0]
    used = len(colors)
    while used and colors[used - 1] == BLACK:
        used -= 1
    used = len(colors) if used == len(colors) - 1 else used
    if not used:
        raise ValueError("its colour table has no colour")
    return np.array(colors[:used], np.uint8)
