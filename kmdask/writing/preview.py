"""The preview: a JPEG of the pyramid level that fits a screen."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from kmdask import storage
from kmdask.errors import writing
from kmdask.graphs import shared, write_blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dask.array as da
    import numpy.typing as npt

    from kmdask.display import Colormap
    from kmdask.places import Place
    from kmdask.writing.receipts import Receipts

LONGEST = 2048
"""Longest side of a preview in pixels."""

QUALITY = 90
BACKGROUND = 255
"""JPEG knows no transparency: invalid pixels become white."""


def write_preview(
    levels: Sequence[da.Array], colormap: Colormap, path: Place, receipts: Receipts | None = None
) -> da.Array:
    """Write the largest level whose longest side is at most 2048 pixels as a JPEG, lazily.

    Parameters
    ----------
    levels : sequence of dask arrays of shape (y, x), uint8 or uint16
        The indices of each pyramid level, the full image first.
    colormap : Colormap
    path : Path or UPath
    receipts : Receipts, optional
        Where is kept that it is written.

    Returns
    -------
    dask array of shape (1, 1), int64
        When computed, the file is written; the number of its bytes.
    """
    level = next(indices for indices in levels if max(indices.shape) <= LONGEST)
    whole = level.rechunk(-1)
    return write_blocks(
        _write_jpeg,
        whole,
        "write-preview",
        receipts=receipts,
        colormap=shared(colormap),
        path=path,
    )


def _write_jpeg(
    indices: npt.NDArray[np.integer],
    colormap: Colormap,
    path: Place,
    block_info: Any = None,  # noqa: ARG001  there is one block
) -> npt.NDArray[np.int64]:
    from PIL import Image

    colors = np.full((colormap.entries, 3), BACKGROUND, np.uint8)
    colors[: len(colormap.rgb)] = colormap.rgb
    grey = (colormap.rgb == colormap.rgb[:, :1]).all()
    image = Image.fromarray((colors[:, 0] if grey else colors)[indices])
    jpeg = io.BytesIO()
    image.save(jpeg, format="JPEG", quality=QUALITY)
    with writing(path):
        return np.full((1, 1), storage.write_file(path, jpeg.getvalue()))
