"""Pixels of many or deep bands to weighted colours: the cells of a grid, with exact sums.

Such pixels have nearly as many different colours as there are pixels. So they are gathered in
cells: along the principal axes of a first look, cut as finely as 32 bits allow, and made coarser
by halves while more than `MOST` are occupied. A cell keeps how many pixels it has and the sum of
their values in whole numbers, so that neither chunks nor workers change a bit of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
from dask.delayed import delayed

from kmdask.errors import EmptyImageError
from kmdask.fitting.colors import WeightedColors, added_up
from kmdask.fitting.look import NOTHING_VALID
from kmdask.fitting.space import product
from kmdask.graphs import FAN_IN, block_names, over_chunks
from kmdask.kernels.cells import Gathered, add_cells, gather
from kmdask.kernels.views import frozen
from kmdask.pixels import valid_or_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from dask.delayed import Delayed

MOST = 1 << 18
"""Occupied cells at most: what k-means is fitted to, and what a task holds."""

BITS = 32
"""Bits of a cell's code."""

AXIS_BITS = 16
"""Bits along one axis at most."""

MERGED = 1 << 28
"""Bytes of results that a task merges at most, unless two take more."""

AXES = 8
"""Principal axes that are cut: what others hold is in the sums."""

ROBUST = (0.1, 99.9)
"""Percentiles between which pixels are taken at their word about the range of a band."""

OUTLYING = 64.0
"""Values of floating point count as this many ranges away at most: sums must be whole numbers."""


@dataclass(frozen=True, eq=False)
class Units:
    """Whole numbers in which the values of each band are added up.

    A value is ``offset + quantum * n``. Integers are themselves, unless they are so large and so
    many that the sum could overflow.
    """

    offset: npt.NDArray[np.float64]
    """Array of shape (band,)."""

    quantum: npt.NDArray[np.float64]
    """Array of shape (band,)."""

    limit: float
    """Greatest n, positive or negative."""

    @classmethod
    def of(cls, sample: npt.NDArray[np.float64], dtype: np.dtype[Any], pixels: int) -> Units:
        """Choose the units of an image of that many pixels from a sample of them."""
        bits = 62 - math.ceil(math.log2(max(pixels, 2)))
        bands = sample.shape[1]
        limit = float(1 << bits)
        if dtype.kind in "iu" and 8 * dtype.itemsize <= bits:
            return cls(np.zeros(bands), np.ones(bands), limit)
        low, high = np.percentile(sample, ROBUST, axis=0)
        span = np.where(high > low, high - low, np.ptp(sample, axis=0))
        span = np.where(span > 0, span, np.maximum(np.abs(low), np.finfo(np.float32).tiny))
        quantum = np.exp2(np.ceil(np.log2(OUTLYING * span)) - bits)
        return cls(low, quantum, limit)

    def values(
        self, sums: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """Means of shape (n, band) from sums and the numbers of their pixels."""
        means: npt.NDArray[np.float64] = sums / counts[:, None] * self.quantum + self.offset
        return means

    def array(self) -> npt.NDArray[np.float64]:
        """Return what `kernels.cells.gather` takes."""
        limit = np.full_like(self.offset, self.limit)
        return np.stack([self.offset, 1 / self.quantum, limit])


@dataclass(frozen=True, eq=False)
class Grid:
    """The cells that pixels are gathered in."""

    axes: npt.NDArray[np.float64]
    """Array of shape (band, axis): ``pixel @ axes - origin`` is counted in cells."""

    origin: npt.NDArray[np.float64]
    """Array of shape (axis,)."""

    dealt: tuple[tuple[int, ...], ...]
    """Of each axis the bits of the code that count its cells, the most significant first."""

    units: Units
    """What sums are made in."""

    @classmethod
    def of(
        cls, sample: npt.NDArray[np.float64], axes: npt.NDArray[np.float64], units: Units
    ) -> Grid:
        """Lay a grid over a sample of shape (n, band), along axes of shape (band, axis)."""
        places = product(sample, axes)
        low, high = np.percentile(places, ROBUST, axis=0)
        span = high - low
        low = np.maximum(places.min(axis=0), low - span)
        high = np.minimum(places.max(axis=0), high + span)
        spread = np.clip(places, low, high).std(axis=0)
        used = np.flatnonzero((high > low) & (spread > 0))
        dealt = _deal(spread[used])
        density = np.array([1 << len(bits) for bits in dealt]) / (high - low)[used]
        return cls(axes[:, used] * density, low[used] * density, dealt, units)

    def parts(self) -> npt.NDArray[np.uint32]:
        """Return what each step along each axis adds to the code of a cell."""
        longest = max((1 << len(bits) for bits in self.dealt), default=1)
        parts = np.zeros((len(self.dealt), longest), np.uint32)
        for axis, bits in enumerate(self.dealt):
            steps = np.arange(1 << len(bits), dtype=np.uint32)
            for rank, bit in enumerate(reversed(bits)):
                one = (steps >> np.uint32(rank)) & np.uint32(1)
                parts[axis, : steps.size] |= one << np.uint32(bit)
        return parts


def _deal(spread: npt.NDArray[np.float64]) -> tuple[tuple[int, ...], ...]:
    """Deal the bits of a code out to the axes, each to the one whose cells are the longest."""
    dealt: list[list[int]] = [[] for _ in spread]
    length = spread.copy()
    for bit in reversed(range(BITS)):
        if not length.any():
            break
        axis = int(length.argmax())
        dealt[axis].append(bit)
        length[axis] = length[axis] / 2 if len(dealt[axis]) < AXIS_BITS else 0.0
    return tuple(map(tuple, dealt))


@dataclass(frozen=True, eq=False)
class CellCounter:
    """Gathers the pixels of an image in cells; see `kmdask.fitting.colors.Counter`."""

    grid: Grid
    dtype: np.dtype[Any]
    """Data type of the pixels."""

    def table(self, pixels: da.Array, mask: da.Array | None) -> tuple[Delayed, da.Array]:
        """Gather the pixels, lazily."""
        arrays, fan_in = [pixels, mask], self._fan_in()
        return over_chunks("count", _gather, _merge, arrays, self.grid, fan_in=fan_in)

    def joined(self, tables: Sequence[Delayed]) -> Delayed:
        """Add up the cells of several images."""
        return added_up(_merge, tables, self._fan_in())

    def colors(self, table: Delayed) -> WeightedColors:
        """Make colours of a persisted table: the mean of each cell."""
        # A group of its own for each run: they would be one, and in one span, under a plain name.
        (name,) = block_names("totals", table.key, 1)
        n, pixels, low, high = dask.compute(delayed(_totals)(table, dask_key_name=name))[0]
        if n == 0:
            raise EmptyImageError(NOTHING_VALID)
        bands = len(self.grid.units.offset)
        (name,) = block_names("colors", table.key, 1)
        part = delayed(_columns, pure=True, nout=3)(table, self.grid.units, dask_key_name=name)
        columns = (
            da.from_delayed(part[0], (n, bands), np.float64),
            da.from_delayed(part[1], (n,), np.int64),
            da.from_delayed(part[2], (n,), np.uint32),
        )
        colors, counts, codes = dask.persist(*columns)
        if self.dtype == np.uint8:
            low, high = 0.0, 255.0
        return WeightedColors(colors, counts, codes, pixels, low, high, exact=False)

    def _fan_in(self) -> int:
        """Results merged at once: of a hundred bands each may take 213 MB."""
        columns = len(self.grid.units.offset) + 2
        largest = MOST * columns * np.dtype(np.int64).itemsize
        return max(2, min(FAN_IN, MERGED // largest))


def _totals(gathered: Gathered) -> tuple[int, int, float, float]:
    low, high = float(gathered.low.min()), float(gathered.high.max())
    return gathered.codes.size, int(gathered.counts.sum()), low, high


def _columns(
    gathered: Gathered, units: Units
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    return units.values(gathered.sums, gathered.counts), gathered.counts, gathered.codes


def _gather(pixels: npt.NDArray[Any], mask: npt.NDArray[np.uint8] | None, grid: Grid) -> Gathered:
    parts = grid.parts()
    steps = np.array([1 << len(bits) for bits in grid.dealt], np.int64)
    valid = valid_or_all(mask)
    gathered: Gathered = gather(
        pixels, valid, grid.axes, grid.origin, steps, parts, grid.units.array(), MOST
    )
    return gathered


def _merge(parts: list[Gathered]) -> Gathered:
    dropped = max(part.dropped for part in parts)
    codes = np.concatenate([_coarser(part, dropped) for part in parts])
    codes.sort(kind="stable")
    codes = codes[_first_of_equals(codes)]
    while codes.size > MOST:
        dropped += 1
        codes >>= np.uint32(1)
        codes = codes[_first_of_equals(codes)]
    counts = np.zeros(codes.size, np.int64)
    sums = np.zeros((codes.size, parts[0].sums.shape[1]), np.int64)
    codes = frozen(codes)
    # Part by part: sorted together, the copies of all sums would be most of a run's memory.
    for part in parts:
        own = frozen(_coarser(part, dropped))
        add_cells(own, frozen(part.counts), frozen(part.sums), codes, counts, sums)
    return Gathered(
        codes=codes,
        counts=counts,
        sums=sums,
        dropped=dropped,
        low=np.min([part.low for part in parts], axis=0),
        high=np.max([part.high for part in parts], axis=0),
    )


def _coarser(part: Gathered, dropped: int) -> npt.NDArray[np.uint32]:
    """Return the codes of a part with so many bits dropped in all: ascending, some repeated."""
    return part.codes >> np.uint32(dropped - part.dropped)


def _first_of_equals(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    different = np.ones(codes.size, np.bool_)
    different[1:] = codes[1:] != codes[:-1]
    return np.flatnonzero(different)
