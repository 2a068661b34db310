"""A patch of pixels against single centres: its box, the centres that matter in it, distances."""

from __future__ import annotations

import numpy as np

from kmdask.kernels.compiled import kernel
from kmdask.kernels.room import PATCH, Floats, Room, Search

__all__ = ["box", "search_centers", "squared_distances"]

TINY = 1e-290
"""What is less than this may have lost digits to underflow."""
SAFE = 1e-11
"""Share of squared distances that rounding, at most (f + 3) * 2**-53 of them, cannot reach."""


@kernel
def box(room: Room, n: int) -> None:
    """Find the bounding box of the pixels; repeat the first one where the patch has room left."""
    low, high, half = room.squared, room.distances, PATCH // 2
    for j in range(room.run.shape[0]):
        row = room.run[j]
        for r in range(n, PATCH):
            row[r] = row[0]
        # By halves, for a chain of minima would wait for each of them.
        for r in range(half):
            a, b = row[r], row[half + r]
            low[r], high[r] = (a, b) if a < b else (b, a)
        for r in range(half // 2):
            a, b = low[r + half // 2], high[r + half // 2]
            low[r] = a if a < low[r] else low[r]
            high[r] = b if b > high[r] else high[r]
        for r in range(half // 4):
            a, b = low[r + half // 4], high[r + half // 4]
            low[r] = a if a < low[r] else low[r]
            high[r] = b if b > high[r] else high[r]
        least, greatest = low[0], high[0]
        for r in range(1, half // 4):
            least = low[r] if low[r] < least else least
            greatest = high[r] if high[r] > greatest else greatest
        room.low[j], room.high[j] = least, greatest


@kernel
def squared_distances(run: Floats, n: int, center: Floats, out: Floats) -> None:
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
def _candidates(columns: Floats, k: int, room: Room) -> int:
    """List, ascending, those of k centres that can be nearest to a pixel of the patch.

    The centre nearest to the middle of the patch's box judges the others. How much nearer than
    the judge another centre is, in squared distance, is linear in the pixel, so it is most in the
    corner that lies farthest towards that centre (Kanungo et al. 2002). Where even that is less
    than nothing, by more than rounding could hide, the centre is nowhere nearest nor tied. Where
    the distance to the judge itself overflows, all are kept.
    """
    low, high, near, gain, kept = room.low, room.high, room.near, room.far, room.kept
    f = columns.shape[0]
    near[:k] = 0.0
    for j in range(f):
        middle = (low[j] + high[j]) / 2
        for c in range(k):
            gap = columns[j, c] - middle
            near[c] += gap * gap
    judge = 0
    for c in range(1, k):
        judge = c if near[c] < near[judge] else judge
    near[:k] = 0.0
    gain[:k] = 0.0
    reach = 0.0
    for j in range(f):
        own = columns[j, judge]
        reach += max(own - low[j], high[j] - own) ** 2
        bottom, top = 2 * low[j] - own, 2 * high[j] - own
        for c in range(k):
            step = columns[j, c] - own
            corner = top if step > 0.0 else bottom
            gain[c] += step * (corner - columns[j, c])
            near[c] += step * step
    count = 0
    bounded = reach < np.inf
    for c in range(k):
        # Writing always and counting sometimes spares a branch that is hard to predict.
        kept[count] = c
        count += 0 if bounded and gain[c] < -SAFE * (reach + near[c]) - TINY else 1
    return count


@kernel
def _try(run: Floats, center: Floats, c: int, room: Room) -> None:
    """Give the pixels of a patch to a centre where it is nearer than the one they have."""
    f = run.shape[0]
    squared, labels, sofar = room.squared, room.labels, room.distances
    if f > 4:
        squared_distances(run[: f - 4], PATCH, center, sofar)
        a, b, c1, d = center[f - 4], center[f - 3], center[f - 2], center[f - 1]
        for r in range(PATCH):
            p, q = run[f - 4, r] - a, run[f - 3, r] - b
            s, t = run[f - 2, r] - c1, run[f - 1, r] - d
            distance = sofar[r] + p * p + q * q + s * s + t * t
            closer = distance < squared[r]
            squared[r] = distance if closer else squared[r]
            labels[r] = c if closer else labels[r]
    elif f == 4:
        a, b, c1, d = center[0], center[1], center[2], center[3]
        for r in range(PATCH):
            p, q, s, t = run[0, r] - a, run[1, r] - b, run[2, r] - c1, run[3, r] - d
            distance = p * p + q * q + s * s + t * t
            closer = distance < squared[r]
            squared[r] = distance if closer else squared[r]
            labels[r] = c if closer else labels[r]
    elif f == 3:
        a, b, c1 = center[0], center[1], center[2]
        for r in range(PATCH):
            p, q, s = run[0, r] - a, run[1, r] - b, run[2, r] - c1
            distance = p * p + q * q + s * s
            closer = distance < squared[r]
            squared[r] = distance if closer else squared[r]
            labels[r] = c if closer else labels[r]
    else:
        squared_distances(run, PATCH, center, sofar)
        for r in range(PATCH):
            closer = sofar[r] < squared[r]
            squared[r] = sofar[r] if closer else squared[r]
            labels[r] = c if closer else labels[r]


@kernel
def search_centers(prepared: Search, room: Room) -> None:
    """Try the centres left for the patch, one after the other, on all of its pixels."""
    count = _candidates(prepared.columns[0], len(prepared.centers), room)
    room.squared[:] = np.inf
    room.labels[:] = room.kept[0]
    for i in range(count):
        c = room.kept[i]
        _try(room.run, prepared.centers[c], c, room)
