"""A patch of pixels against groups of centres, where there are many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kmdask.kernels.compiled import kernel
from kmdask.kernels.patch import squared_distances

if TYPE_CHECKING:
    from kmdask.kernels.room import Floats, Room, Search

__all__ = ["search_groups"]


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
            gap = max(below, above, 0.0)
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
def _search_group(
    prepared: Search, room: Room, group: int, best: float, label: int
) -> tuple[float, int]:
    """Try the centres of a group, all at once, on one pixel."""
    order, distances = prepared.order[group], room.distances
    squared_distances(prepared.columns[group], order.size, room.point, distances)
    for i in range(order.size):
        if distances[i] <= best and (distances[i] < best or order[i] < label):
            best, label = distances[i], order[i]
    return best, label


@kernel
def search_groups(prepared: Search, room: Room, n: int) -> None:
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
