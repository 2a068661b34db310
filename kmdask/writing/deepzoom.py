"""Deep Zoom tiles: a pyramid of PNGs that viewers load piece by piece.

References
----------
.. [1] "Deep Zoom File Format Overview", Microsoft, 2011: an image is ``name.dzi``, an XML
   description, beside ``name_files/LEVEL/COLUMN_ROW.png``; level 0 is one pixel, and the last
   level the full image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np

from kmdask import storage
from kmdask.chunks import TILE, level_shapes, tiles
from kmdask.errors import writing
from kmdask.graphs import shared, write_blocks
from kmdask.writing.png import encode_png

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dask.array as da
    import numpy.typing as npt

    from kmdask.display import Colormap
    from kmdask.places import Place
    from kmdask.writing.receipts import Receipts

NAMESPACE = "http://schemas.microsoft.com/deepzoom/2008"


def write_description(path: Place, shape: tuple[int, int]) -> None:
    """Write the ``.dzi`` file of an image of that many rows and columns."""
    image = ET.Element("Image", xmlns=NAMESPACE, Format="png", Overlap="0", TileSize=str(TILE))
    ET.SubElement(image, "Size", Width=str(shape[1]), Height=str(shape[0]))
    with writing(path):
        storage.write_file(path, ET.tostring(image, encoding="utf-8", xml_declaration=True))


def tile_names(shape: tuple[int, int]) -> dict[str, list[str]]:
    """Name the tiles of an image of that many rows and columns, level by level.

    Examples
    --------
    >>> list(tile_names((600, 300)).items())[:3]
    [('10', ['0_0.png', '0_1.png']), ('9', ['0_0.png']), ('8', ['0_0.png'])]
    """
    shapes = level_shapes(shape)
    return {
        str(len(shapes) - 1 - depth): [f"{name}.png" for name, _ in tiles(level, (0, 0))]
        for depth, level in enumerate(shapes)
    }


def write_levels(
    levels: Sequence[da.Array],
    colormap: Colormap,
    folder: Place,
    receipts: Receipts | None = None,
) -> list[da.Array]:
    """Write the tiles of every level, lazily.

    Parameters
    ----------
    levels : sequence of dask arrays of shape (y, x), uint8 or uint16
        The indices of each pyramid level, the full image first. Chunks are multiples of 512.
    colormap : Colormap
        The colours; invalid pixels are transparent.
    folder : Path or UPath
        The ``_files`` directory; it is created.
    receipts : Receipts, optional
        Where is kept which chunks are written.

    Returns
    -------
    list of dask arrays of int64
        When computed, the tiles are written; one number per chunk, the bytes of its tiles.
    """
    writes = []
    for depth, indices in enumerate(levels):
        level = folder / str(len(levels) - 1 - depth)
        with writing(level):
            storage.make_folder(level)
        writes.append(
            write_blocks(
                _write_tiles,
                indices,
                f"write-tiles:{level.name}",
                receipts=receipts,
                colormap=shared(colormap),
                folder=level,
            )
        )
    return writes


def _write_tiles(
    indices: npt.NDArray[np.integer], colormap: Colormap, folder: Place, block_info: Any = None
) -> npt.NDArray[np.int64]:
    (top, _), (left, _) = block_info[0]["array-location"]
    files = {
        f"{name}.png": encode_png(indices[window], colormap)
        for name, window in tiles(indices.shape, (top, left))
    }
    with writing(folder):
        return np.full((1, 1), storage.write_files(folder, files))
