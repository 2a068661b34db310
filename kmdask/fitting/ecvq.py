"""Palettes for a rate: entropy-constrained vector quantization [1]_ of weighted colours.

Plain k-means asks what an entry costs in error alone. Here each colour takes the entry of least
``d² + λ·bits``, where the bits of an entry are ``-log2`` of its share of the pixels: what its index
takes in an entropy code. Entries are the means of their colours, shares follow, and no step raises
the sum of it over all pixels, the Lagrangian. Rare entries become dear and starve; of those left,
the frequent reach further than half the way to a rare one. The rule belongs to the palette
(`Palette.penalties`): whatever is encoded with it goes by the same.

``d² + w`` is a squared distance too: to an entry that lies ``sqrt(w)`` away in a direction in which
no colour does. So the exact searches of k-means find it, with one feature more.

References
----------
.. [1] P. A. Chou, T. Lookabaugh and R. M. Gray, "Entropy-constrained vector quantization", IEEE
   Transactions on Acoustics, Speech, and Signal Processing 37 (1989) 31-42.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import dask
import numpy as np
from dask.delayed import delayed
from scipy.special import entr

from kmdask.fitting.lloyd import Steps
from kmdask.fitting.seeding import bin_blocks
from kmdask.fitting.space import LinearSpace, project
from kmdask.fitting.threads import threads_here
from kmdask.graphs import block_names
from kmdask.kernels import lloyd as kernels

if TYPE_CHECKING:
    import numpy.typing as npt

    from kmdask.fitting.colors import WeightedColors
    from kmdask.fitting.moments import Floats
    from kmdask.fitting.seeding import Cells
    from kmdask.fitting.space import Space

ROWS = 1 << 20
"""Colours at most: neighbours of more are joined."""

TOL = 1e-5
"""Share of the Lagrangian that a step has to gain, or it is the last one."""

MAX_ITER = 100
"""Steps at most for one λ."""

TRIALS = 24
"""Values of λ that are tried at most."""

CLOSE = 0.002
"""Share of the rate asked for that may be left unused."""

FACTOR = 2.0
"""How many times the last λ is tried next, while the rate is too high."""


@dataclass(frozen=True)
class Entries:
    """Entries, and how they are used."""

    centers: Floats
    """Array of shape (k, feature)."""

    masses: Floats
    """Weight of the colours of each entry, of shape (k,); 0 of one that has starved."""

    price: float = 0.0
    """λ: what a bit costs, in squared units of the features."""

    cost: float = math.inf
    """The Lagrangian: squared errors and the price of all bits, over all colours."""

    @property
    def rate(self) -> float:
        """Entropy of the indices in bits."""
        return float(entr(self.masses / self.masses.sum()).sum()) / math.log(2)

    @property
    def penalties(self) -> Floats:
        """What is added to the squared distances, of shape (k,); infinite of starved entries."""
        with np.errstate(divide="ignore"):
            bits = -np.log2(self.masses / self.masses.sum())
        return np.where(self.masses > 0, self.price * np.where(self.masses > 0, bits, 0.0), np.inf)


class Rated(NamedTuple):
    """A palette that is not rounded, and what it adds to distances."""

    centers: Floats
    """Array of shape (k, band)."""

    penalties: Floats
    """Array of shape (k,), in squared units of the space."""


class Descent:
    """Steps of the algorithm over the same colours.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Colours. Near ones are near in memory.
    weights : ndarray of shape (n,)
        Pixels of each.
    k : int
        Number of entries.
    threads : int, default 1
        How many work side by side. It changes nothing but the time.
    """

    def __init__(self, X: Floats, weights: Floats, k: int, threads: int = 1) -> None:
        self._middle = np.average(X, axis=0, weights=weights)
        rows = np.column_stack([X - self._middle, np.zeros(len(X))])
        # No matrix product: the number of threads would decide in which order it adds up.
        self._squares = float((weights * (rows**2).sum(axis=1)).sum())
        # Farther than this from all colours no entry is nearest.
        self._far = 2 * math.sqrt(float((np.ptp(X, axis=0) ** 2).sum())) + 1.0
        self._steps = Steps(rows, weights, k, threads)

    def step(self, entries: Entries, price: float) -> Entries:
        """Give each colour to its entry, and move the entries to the means of their colours."""
        roots = np.sqrt(Entries(entries.centers, entries.masses, price).penalties)
        alive = np.isfinite(roots)
        roots[~alive] = self._far + roots[alive].max()
        sums = self._steps(np.column_stack([entries.centers - self._middle, roots]))
        used = sums.weights > 0
        centers = entries.centers.copy()
        means = sums.sums[used, :-1] / sums.weights[used, None]
        centers[used] = means + self._middle
        error = self._squares - float((sums.weights[used] * (means**2).sum(axis=1)).sum())
        taken = Entries(centers, sums.weights, price)
        bits = taken.rate * float(sums.weights.sum())
        return Entries(centers, sums.weights, price, max(error, 0.0) + price * bits)

    def settle(self, entries: Entries, price: float) -> Entries:
        """Take steps until they gain next to nothing."""
        cost = math.inf
        for _ in range(MAX_ITER):
            entries = self.step(entries, price)
            if cost - entries.cost <= TOL * entries.cost:
                break
            cost = entries.cost
        return entries

    def reach(self, centers: Floats, rate: float) -> Entries | None:
        """Find the price of a bit at which the entropy is what is asked, or a little less.

        From the palette that is given, and then from the last one whose rate is too high: starved
        entries do not come back.

        Returns
        -------
        Entries or None
            The entries as they are, if their rate is no higher; None if no price brings it down, as
            where all entries are equally frequent and none ever starves.
        """
        low, high = self.step(Entries(centers, np.ones(len(centers))), 0.0), None
        if low.rate <= rate:
            return low
        d, weight = centers.shape[1], float(low.masses.sum())
        # The slope of the curve of error over rate where entries are many (Chou et al.).
        price = 2 * math.log(2) / d * max(low.cost, 1e-6 * self._squares) / weight
        trials = 0
        while trials < TRIALS and price <= self._far**2:
            found = self.settle(low, price)
            if found.rate > rate:
                low = found
            else:
                high = found
                if found.rate >= (1 - CLOSE) * rate or high.price < (1 + CLOSE) * low.price:
                    break
            trials += 1
            price = _next_price(low, high, rate * (1 - CLOSE / 2), trials)
        return high


def _next_price(low: Entries, high: Entries | None, rate: float, trials: int) -> float:
    """Choose between two prices, by a line through the logarithms; or beyond the last."""
    if high is None:
        return low.price * FACTOR
    if low.price == 0:
        return high.price / FACTOR
    apart = (low.rate - rate) / max(low.rate - high.rate, 1e-12)
    # Each third time the middle, lest it come nearer from one side for ever.
    apart = 0.5 if trials % 3 == 0 else min(max(apart, 0.05), 0.95)
    return float(low.price ** (1 - apart) * high.price**apart)


def rated_centers(
    colors: WeightedColors,
    start: npt.NDArray[np.float64],
    rate: float,
    *,
    space: Space | None = None,
) -> Rated | None:
    """Fit entries of least error whose indices have no more than some entropy.

    One task, on at most a million of colours; neighbours of more are joined.

    Parameters
    ----------
    colors : WeightedColors
    start : float64 array of shape (k, band)
        The palette to start from.
    rate : float
        Bits of an index, on average over the valid pixels.
    space : Space, optional
        Where distances are measured. By default between the bands as they are.

    Returns
    -------
    Rated or None
        At most k entries; None where no price of a bit leads there from this start.

    Examples
    --------
    >>> import dask.array as da
    >>> from kmdask import count_colors
    >>> image = da.from_array(np.repeat(np.uint8([[[0], [100], [110]]]), [90, 9, 1], axis=1))
    >>> start = np.array([[0.0], [100.0], [110.0]])
    >>> rated_centers(count_colors(image), start, 0.5).centers.round(1).tolist()
    [[0.0], [101.0]]
    """
    features = project(colors.colors, space)
    began = start if space is None else space.project(start)
    columns = (colors.codes, features, colors.counts)
    blocks = [column.to_delayed().ravel().tolist() for column in columns]
    names = block_names("rate", (features.name, colors.counts.name, began, rate), 2)
    cells = delayed(bin_blocks, pure=True)(*blocks, ROWS, dask_key_name=names[0])
    searched = delayed(_reach, pure=True)(cells, began, rate, dask_key_name=names[1])
    found: Rated | None = dask.compute(searched)[0]
    if found is None or space is None:
        return found
    if isinstance(space, LinearSpace) and space.components:
        return _in_bands(found, colors, space)
    return Rated(space.in_bands(found.centers, colors), found.penalties)


def _reach(cells: Cells, start: Floats, rate: float) -> Rated | None:
    descent = Descent(cells.means, cells.weights, len(start), threads_here())
    found = descent.reach(np.array(start, np.float64), rate)
    if found is None:
        return None
    used = found.masses > 0
    # The last digits of a logarithm are not the same on every machine.
    return Rated(found.centers[used], found.penalties[used].astype(np.float32).astype(np.float64))


def _in_bands(found: Rated, colors: WeightedColors, space: Space) -> Rated:
    """Of components take the mean, in the bands, of the colours of each entry."""
    rows, counts = dask.compute(colors.colors, colors.counts)
    features = np.column_stack([space.project(rows), np.zeros(len(rows))])
    entries = np.column_stack([found.centers, np.sqrt(found.penalties)])
    labels, _ = kernels.nearest(features, entries)
    k = len(entries)
    weights = np.bincount(labels, counts, k)
    sums = np.stack([np.bincount(labels, counts * band, k) for band in rows.T], axis=1)
    used = weights > 0
    return Rated(sums[used] / weights[used, None], found.penalties[used])
