"""The preview: a JPEG of the pyramid level that fits a screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kmdask.errors import writing
from kmdask.graphs import write_blocks
from kmdask.palette import decode_block

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import dask.array as da
    import numpy.typing as npt

from kmdask.palette import Palette

LONGEST = 2048
"""Longest side of a preview in pixels."""

QUALITY = 90
BACKGROUND = 255
"""JPEG knows no transparency: invalid pixels become white."""


def write_preview(levels: Sequence[da.Array], palette: Palette, path: Path) -> da.Array:
    """Write the largest level whose longest side is at most 2048 pixels as a JPEG, lazily.

    Parameters
    ----------
    levels : sequence of dask arrays of shape (y, x), uint8
        The indices of each pyramid level, the full image first.
    palette : Palette
    path : Path

    Returns
    -------
    dask array of shape (1, 1), int64
        When computed, the file is written; the number of its bytes.
    """
    level = next(indices for indices in levels if max(indices.shape) <= LONGEST)
    return write_blocks(_write_jpeg, level.rechunk(-1), "write-preview", palette=palette, path=path)


def _write_jpeg(
    indices: npt.NDArray[np.uint8], palette: Palette, path: Path
) -> npt.NDArray[np.int64]:
    from PIL import Image

    colors = decode_block(indices, palette)
    colors[indices == palette.nodata] = BACKGROUND
    image = Image.fromarray(colors if palette.bands > 1 else colors[:, :, 0])
    with writing(path):
        image.save(path, format="JPEG", quality=QUALITY, optimize=True)
    return np.full((1, 1), path.stat().st_size)
