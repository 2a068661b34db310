"""How many colours: chosen for a quality, for a size, or where more of them begin to gain less.

What is looked for is a k at which something begins that more colours have more of. Each k that is
tried is a fit to the colour counts, so few are tried: quality in decibels and size in bits go
nearly as straight lines over log2 k, and a line says where to try next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from kmdask.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Kind: TypeAlias = "Literal['auto', 'psnr', 'max_bytes', 'ratio']"

KS = (2, 4, 8, 16, 32, 64, 128, 256)
"""Numbers of colours of the curve whose knee "auto" is."""

MEANINGS = {
    "psnr": "the least peak signal-to-noise ratio in dB, a number above 0",
    "max_bytes": "what image.zarr may take, a whole number of bytes above 0",
    "ratio": "how many times smaller than the raw pixels image.zarr is, a number above 0",
}

FARTHEST = 8
"""How many times as many colours are tried next at most: fits to many are slow."""


@dataclass(frozen=True)
class Target:
    """What a number of colours is chosen for.

    Examples
    --------
    >>> Target("psnr", 35).to_dict()
    {'psnr': 35.0}
    """

    kind: Kind

    value: float | None = None
    """In dB, in bytes, or as a factor; None for "auto"."""

    def __post_init__(self) -> None:
        if self.kind == "auto":
            return
        value, whole = self.value, self.kind == "max_bytes"
        kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
        number = isinstance(value, kinds) and not isinstance(value, bool)
        if not number or not 0 < value < math.inf:  # type: ignore[operator]
            raise ParameterError(f"{self.kind} is {MEANINGS[self.kind]}; got {value!r}")
        object.__setattr__(self, "value", int(value) if whole else float(value))  # type: ignore[arg-type]

    @property
    def sized(self) -> bool:
        """Whether it is about bytes."""
        return self.kind in {"max_bytes", "ratio"}

    def to_dict(self) -> dict[str, Any]:
        """Return what was asked, ready for JSON."""
        return {"k": "auto"} if self.kind == "auto" else {self.kind: self.value}

    def __str__(self) -> str:
        return "k=auto" if self.kind == "auto" else f"{self.kind}={self.value:.15g}"


def first_reaching(gain: Callable[[int], float], least: int, most: int) -> int | None:
    """Find the k from which on a gain is not negative.

    Each k is a costly trial, so few are made: the gain is taken for nearly a straight line over
    log2 k. Where it does not always rise there may be several such k; one of them is found.

    Parameters
    ----------
    gain : callable
        Of k; rises with it, on the whole.
    least, most : int
        Where to look.

    Returns
    -------
    int or None
        A k whose gain is not negative, `least` or the gain at k - 1 is negative; None if
        it is at `most`.

    Examples
    --------
    >>> first_reaching(lambda k: k - 21, 1, 64)
    21
    """
    tried: dict[int, float] = {}
    below, above, k = least - 1, most + 1, least
    while above - below > 1:
        tried[k] = gain(k)
        if tried[k] >= 0:
            above = k
        else:
            below = k
        k = _next(tried, below, above, most)
    return above if above <= most else None


def _next(tried: dict[int, float], below: int, above: int, most: int) -> int:
    """Where to try next, between two trials or beyond the last."""
    if above <= most:
        # Each third time without trust in the line, lest it come nearer from one side for ever.
        apart = 0.5 if len(tried) % 3 == 0 else _crossing(tried, below, above)
        guess = math.ceil(math.exp2((1 - apart) * math.log2(below or 1) + apart * math.log2(above)))
        return min(max(guess, below + 1), above - 1)
    before = max((k for k in tried if k < below), default=below)
    steps = 0.0 if before == below else _crossing(tried, before, below)
    reach = math.log2(below / before) * steps if math.isfinite(steps) else math.inf
    farthest = min(reach, math.log2(FARTHEST * below / before))
    return min(max(math.ceil(before * math.exp2(farthest)), 2 * below), most)


def _crossing(tried: dict[int, float], low: int, high: int) -> float:
    """Where the line through two trials is zero: 0 at the lower, 1 at the higher, or beyond."""
    if low not in tried or not math.isfinite(tried[high] - tried[low]):
        return 0.5
    rise = tried[high] - tried[low]
    return -tried[low] / rise if rise > 0 else math.inf


def knee(x: Sequence[float], y: Sequence[float]) -> int | None:
    """Find the knee of a rising curve, beyond which more x brings less y, by Kneedle.

    The curve is scaled to the unit square; the knee is where it is farthest above the diagonal.
    As all of the curve is known, the sensitivity of the method is 0, and as its points are
    exact, they are not smoothed.

    Parameters
    ----------
    x, y : sequence of float
        Points of the curve, x ascending.

    Returns
    -------
    int or None
        Index of the knee; None if the curve is nowhere above the diagonal.

    References
    ----------
    V. Satopää, J. Albrecht, D. Irwin and B. Raghavan, "Finding a 'Kneedle' in a haystack: detecting
    knee points in system behavior", ICDCS Workshops 2011, 166-171.

    Examples
    --------
    >>> knee([1, 2, 3, 4, 5], [10, 20, 24, 26, 28])
    1
    >>> knee([1, 2, 3], [10, 20, 30]) is None
    True
    """
    points = np.array([x, y], np.float64)
    span = np.ptp(points, axis=1)
    if points.shape[1] < 3 or not span.all():
        return None
    scaled = (points - points.min(axis=1)[:, None]) / span[:, None]
    # Rounding makes no knee.
    above = np.round(scaled[1] - scaled[0], 9)
    return int(above.argmax()) if above.max() > 0 else None
