"""Exact search for the nearest centres of a patch of pixels.

Pixels come in patches of at most ``PATCH``, neighbours in the image and therefore alike. The
bounding box of a patch is small, and most centres can be ruled out for all of it:

* Up to ``UNGROUPED`` centres, each is tested against the box, and those left are tried on all
  pixels of the patch at once. All loops vectorise and no branch depends on a single pixel, so
  noise costs some speed, and there is no cliff.
* More centres come in groups of ``GROUP``, neighbours in a k-d tree, each with a bounding box.
  Groups are tested against the box of the patch, those left against each pixel, and the centres
  of the few groups that pass are tried at once.

The results are those of trying every centre on every pixel, bit for bit, by the argument given in
`kmdask.kernels.lloyd`. Rounding is monotone, and all functions here add the features in the same
order. The computed distance between a pixel and a centre hence never leaves the computed least
and greatest distance of any two boxes, or points, that contain them. A centre or group is left
out only if its least distance exceeds, strictly, the greatest distance to another centre. It can
be neither nearest nor tied. Underflow and overflow are monotone too and need no care.

Distances are float64. Ties go to the lowest index. Nothing depends on how an image is cut into
chunks. There is no ``fastmath``: every machine gives the same bits.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.spatial import cKDTree

__all__ = ["PATCH", "Room", "Search", "make_room", "search", "search_of"]

Floats: TypeAlias = npt.NDArray[np.float64]
Indices: TypeAlias = npt.NDArray[np.int64]
kernel = njit(nogil=True, cache=True)

PATCH = 64
"""Pixels that share one bounding box: more cost fewer tests, fewer prune harder."""
GROUP = 32
"""Centres that share one bounding box, where there are many."""
UNGROUPED = 512
"""Up to so many centres are tested one by one."""


class Search(NamedTuple):
    """What is computed once of the centres, in memory of about three times theirs.

    Attributes
    ----------
    centers : ndarray of shape (k, f), float64
        The centres, in their own order.
    columns : ndarray of shape (g, f, m), float64
        The centres in g groups of m, transposed; infinite where the last group has fewer.
    order : ndarray of shape (g, m), int64
        The index of each of them; k where the last group has fewer.
    lows, highs : ndarrays of shape (f, g), float64
        The bounding boxes of the groups.
    judges : ndarray of shape (f, g), float64
        One centre of each group.
    """

    centers: Floats
    columns: Floats
    order: Indices
    lows: Floats
    highs: Floats
    judges: Floats


class Room(NamedTuple):
    """Scratch space of one call: f features, n = PATCH pixels, c centres or groups of them."""

    run: Floats  # (f, n)
    where: Indices  # (n,), position in the patch of each valid pixel
    low: Floats  # (f,)
    high: Floats  # (f,)
    near: Floats  # (c,)
    far: Floats  # (c,)
    kept: Indices  # (c + 1,)
    lows: Floats  # (f, g), boxes of the groups kept
    highs: Floats  # (f, g)
    point: Floats  # (f,)
    distances: Floats  # (max(n, m),)
    squared: Floats  # (n,)
    labels: Indices  # (n,)


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
def make_room(prepared: Search) -> Room:
    """Scratch space for `search`."""
    groups, f, size = prepared.columns.shape
    c = max(groups, size)
    return Room(
        np.empty((f, PATCH)),
        np.empty(PATCH, np.int64),
        np.empty(f),
        np.empty(f),
        np.empty(c),
        np.empty(c),
        np.empty(c + 1, np.int64),
        np.empty((f, groups)),
        np.empty((f, groups)),
        np.empty(f),
        np.empty(max(PATCH, size)),
        np.empty(PATCH),
        np.empty(PATCH, np.int64),
    )


@kernel
def _box(run: Floats, length: int, low: Floats, high: Floats) -> None:
    for j in range(run.shape[0]):
        least = greatest = run[j, 0]
        for r in range(1, length):
            least = min(least, run[j, r])
            greatest = max(greatest, run[j, r])
        low[j] = least
        high[j] = greatest


@kernel
def _least(
    lows: Floats, highs: Floats, low: Floats, high: Floats, count: int, near: Floats
) -> None:
    """Least squared distances between a box, or a point, and the first of some others."""
    for c in range(count):
        near[c] = 0.0
    for j in range(lows.shape[0]):
        bottom, top = low[j], high[j]
        for c in range(count):
            below, above = bottom - highs[j, c], lows[j, c] - top
            gap = max(max(below, above), 0.0)  # noqa: PLW3301 - of two each, it vectorises
            near[c] += gap * gap


@kernel
def _greatest(columns: Floats, low: Floats, high: Floats, far: Floats) -> float:
    """Greatest squared distance between a patch's box and the best of some centres."""
    far[:] = 0.0
    for j in range(columns.shape[0]):
        bottom, top = low[j], high[j]
        for c in range(columns.shape[1]):
            above, below = columns[j, c] - bottom, top - columns[j, c]
            span = max(above, below)
            far[c] += span * span
    least = np.inf
    for c in range(columns.shape[1]):
        least = min(least, far[c])
    return least


@kernel
def _squared(run: Floats, n: int, center: Floats, out: Floats) -> None:
    """Squared distances of the pixels of a patch from a centre, added up feature by feature."""
    f = run.shape[0]
    head = (f - 1) % 4 + 1
    a = center[0]
    if head == 1:
        for r in range(n):
            p = run[0, r] - a
            out[r] = p * p
    elif head == 2:
        b = center[1]
        for r in range(n):
            p, q = run[0, r] - a, run[1, r] - b
            out[r] = p * p + q * q
    elif head == 3:
        b, c = center[1], center[2]
        for r in range(n):
            p, q, s = run[0, r] - a, run[1, r] - b, run[2, r] - c
            out[r] = p * p + q * q + s * s
    else:
        b, c, d = center[1], center[2], center[3]
        for r in range(n):
            p, q, s, t = run[0, r] - a, run[1, r] - b, run[2, r] - c, run[3, r] - d
            out[r] = p * p + q * q + s * s + t * t
    for j in range(head, f, 4):
        a, b, c, d = center[j], center[j + 1], center[j + 2], center[j + 3]
        for r in range(n):
            p, q = run[j, r] - a, run[j + 1, r] - b
            s, t = run[j + 2, r] - c, run[j + 3, r] - d
            out[r] = out[r] + p * p + q * q + s * s + t * t


@kernel
def _keep(lows: Floats, highs: Floats, judges: Floats, room: Room) -> int:
    """List, ascending, the boxes that can hold the centre nearest to a pixel of the patch."""
    n, kept = lows.shape[1], room.kept
    bound = _greatest(judges, room.low, room.high, room.far)
    _least(lows, highs, room.low, room.high, n, room.near)
    count = 0
    for c in range(n):
        # Writing always and counting sometimes spares a branch that is hard to predict.
        kept[count] = c
        count += 1 if room.near[c] <= bound else 0
    return count


@kernel
def _search_centers(prepared: Search, room: Room, n: int) -> None:
    """Try the centres left for the patch, one after the other, on all of its pixels."""
    labels, squared, distances = room.labels, room.squared, room.distances
    columns = prepared.columns[0]
    count = _keep(columns, columns, columns, room)
    labels[:n] = room.kept[0]
    _squared(room.run, n, prepared.centers[room.kept[0]], squared)
    for i in range(1, count):
        c = room.kept[i]
        _squared(room.run, n, prepared.centers[c], distances)
        for r in range(n):
            closer = distances[r] < squared[r]
            squared[r] = distances[r] if closer else squared[r]
            labels[r] = c if closer else labels[r]


@kernel
def _search_group(
    prepared: Search, room: Room, group: int, best: float, label: int
) -> tuple[float, int]:
    """Try the centres of a group, all at once, on one pixel."""
    order, distances = prepared.order[group], room.distances
    _squared(prepared.columns[group], order.size, room.point, distances)
    for i in range(order.size):
        if distances[i] <= best and (distances[i] < best or order[i] < label):
            best, label = distances[i], order[i]
    return best, label


@kernel
def _search_groups(prepared: Search, room: Room, n: int) -> None:
    """Try the groups left for the patch on its pixels, one after the other."""
    point, near, kept = room.point, room.near, room.kept
    count = _keep(prepared.lows, prepared.highs, prepared.judges, room)
    for j in range(point.size):
        for i in range(count):
            room.lows[j, i] = prepared.lows[j, kept[i]]
            room.highs[j, i] = prepared.highs[j, kept[i]]
    for r in range(n):
        for j in range(point.size):
            point[j] = room.run[j, r]
        _least(room.lows, room.highs, point, point, count, near)
        first = 0
        for i in range(1, count):
            first = i if near[i] < near[first] else first
        best, label = np.inf, prepared.centers.shape[0]
        best, label = _search_group(prepared, room, kept[first], best, label)
        for i in range(count):
            if near[i] <= best and i != first:
                best, label = _search_group(prepared, room, kept[i], best, label)
        room.squared[r], room.labels[r] = best, label


@kernel
def search(prepared: Search, room: Room, n: int) -> None:
    """Find the nearest centres of the pixels of a patch, and the squared distances to them."""
    _box(room.run, n, room.low, room.high)
    if prepared.columns.shape[0] == 1:
        _search_centers(prepared, room, n)
    else:
        _search_groups(prepared, room, n)
