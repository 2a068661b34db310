"""The nearest of many centres, for pixels of any type: what each process prepares once."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from kmdask.fitting.space import LinearSpace
from kmdask.kernels.nearest import Search, nearest_pixels, search_of
from kmdask.pixels import ALL_VALID

if TYPE_CHECKING:
    import numpy.typing as npt

    from kmdask.fitting.space import Space

KEPT = 4
"""Sets of centres that a process keeps prepared."""

_preparing = threading.Lock()


def nearest_rows(
    rows: npt.NDArray[Any],
    centers: npt.NDArray[np.float64],
    space: Space | None,
    penalties: npt.NDArray[np.float64] | None = None,
) -> npt.NDArray[np.uint16]:
    """Find the nearest of some centres for rows of bands: the lowest index of equals.

    Parameters
    ----------
    rows : array of shape (n, band)
        Near rows are near colours, or it is slow.
    centers : float64 array of shape (k, band)
    space : Space, optional
        Where distances are measured.
    penalties : float64 array of shape (k,), optional
        What is added to each squared distance.

    Returns
    -------
    uint16 array of shape (n,)
    """
    if not (space is None or isinstance(space, LinearSpace)):
        rows, centers, space = space.project(rows), space.project(centers), None
    labels = np.empty(len(rows), np.uint16)
    nearest_pixels(rows[None], ALL_VALID, *prepared(centers, space, penalties), 0, labels[None])
    return labels


def prepared(
    centers: npt.NDArray[np.float64],
    space: LinearSpace | None,
    penalties: npt.NDArray[np.float64] | None = None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], Search]:
    """Prepare the search for the nearest of some centres, once in each process.

    Parameters
    ----------
    centers : float64 array of shape (k, band)
    space : LinearSpace, optional
        Where distances are measured.
    penalties : float64 array of shape (k,), optional
        What is added to each squared distance. Its root is a feature more, of which pixels have 0.

    Returns
    -------
    tuple
        What the kernels of `kmdask.kernels.nearest` take: the projection, the scale, the search.
    """
    # One thread prepares, the others wait for it.
    with _preparing:
        added = None if penalties is None else penalties.tobytes()
        return _prepare(centers.tobytes(), centers.shape, space, added)


@lru_cache(maxsize=KEPT)
def _prepare(
    centers: bytes, shape: tuple[int, int], space: LinearSpace | None, penalties: bytes | None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], Search]:
    rows = np.frombuffer(centers, np.float64).reshape(shape)
    scale = np.ones(shape[1]) if space is None else np.array(space.scale, np.float64)
    if penalties is not None:
        matrix = np.diag(scale) if space is None else space.matrix
        features = rows if space is None else space.project(rows)
        lengthened = np.hstack([matrix, np.zeros((len(matrix), 1))])
        roots = np.sqrt(np.frombuffer(penalties, np.float64))
        return lengthened, scale, search_of(np.column_stack([features, roots]))
    if space is not None and space.components:
        matrix = space.matrix
        return matrix, scale, search_of(space.project(rows))
    return np.empty((0, 0)), scale, search_of(rows * scale)
