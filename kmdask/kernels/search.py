"""Exact search for the nearest centres of a patch of pixels.

Pixels come in patches of at most ``PATCH``, neighbours in the image and therefore alike. The
bounding box of a patch is small, and most centres can be ruled out for all of it:

* Up to ``UNGROUPED`` centres, each is tested in the corner of the box where it does best against
  the centre nearest to the middle, and those left are tried on all pixels of the patch at once.
  All loops vectorise and no branch depends on a single pixel, so noise costs some speed, and
  there is no cliff.
* More centres come in groups of ``GROUP``, neighbours in a k-d tree, each with a bounding box.
  Groups are tested against the box of the patch, those left against each pixel, and the centres
  of the few groups that pass are tried at once.

The results are those of trying every centre on every pixel, bit for bit. Single centres are left
out by a margin that rounding cannot reach. For boxes the argument is that of
`kmdask.kernels.lloyd`. Rounding is monotone, and all functions here add the features in the same
order. The computed distance between a pixel and a centre hence never leaves the computed least
and greatest distance of any two boxes, or points, that contain them. A centre or group is left
out only if its least distance exceeds, strictly, the greatest distance to another centre. It can
be neither nearest nor tied. Underflow and overflow are monotone too and need no care.

Distances are float64. Ties go to the lowest index. Nothing depends on how an image is cut into
chunks.
"""

from __future__ import annotations

import numpy as np

from kmdask.kernels.compiled import kernel
from kmdask.kernels.groups import search_groups
from kmdask.kernels.patch import box, search_centers
from kmdask.kernels.room import PATCH, Floats, Indices, Room, Search, make_room

__all__ = ["PATCH", "Floats", "Indices", "Room", "Search", "make_room", "search", "search_of"]

GROUP = 32
"""Centres that share one bounding box, where there are many."""
UNGROUPED = 512
"""Up to so many centres are tested one by one."""


def search_of(centers: Floats) -> Search:
    """Prepare the search for the nearest of some centres.

    Parameters
    ----------
    centers : ndarray of shape (k, f), float64
        Finite.

    Examples
    --------
    >>> search_of(np.array([[0.0, 0.0], [10.0, 5.0]])).highs
    array([[10.],
           [ 5.]])
    """
    centers = np.array(centers, np.float64, order="C")
    (k, f), size = centers.shape, GROUP
    if k > UNGROUPED:
        # Hardly any palette is as large, and everyone would wait for the import.
        from scipy.spatial import cKDTree

        members = cKDTree(centers, leafsize=GROUP).indices.astype(np.int64)
    else:
        members, size = np.arange(k), k
    starts = np.arange(0, k, size)
    order = np.full((len(starts), size), k)
    order.ravel()[:k] = members
    columns = np.full((len(starts), size, f), np.inf)
    columns.reshape(-1, f)[:k] = sorted_ = centers[members]
    boxes = (
        np.minimum.reduceat(sorted_, starts),
        np.maximum.reduceat(sorted_, starts),
        sorted_[np.minimum(starts + size // 2, k - 1)],
    )
    return Search(
        centers,
        np.ascontiguousarray(columns.transpose(0, 2, 1)),
        order,
        *(np.ascontiguousarray(box.T) for box in boxes),
    )


@kernel
def search(prepared: Search, room: Room, n: int) -> None:
    """Find the nearest centres of the pixels of a patch, and the squared distances to them."""
    box(room, n)
    if prepared.columns.shape[0] == 1:
        search_centers(prepared, room)
    else:
        search_groups(prepared, room, n)
