"""Pixels to colours with weights: exact counts of the different colours of an image.

A gigapixel holds some 10**6 different colours, and k-means over all pixels is k-means over the
different colours, each weighted by how often it occurs. Each chunk is counted where it is read;
only its list of colours (12 bytes each, never more than there are pixels) travels, and lists are
added up in a tree.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import dask
import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph

from kmdask.chunks import split
from kmdask.errors import EmptyImageError
from kmdask.fitting.look import NOTHING_VALID
from kmdask.fitting.threads import in_parts
from kmdask.graphs import FAN_IN, block_names, merge_tasks, over_chunks
from kmdask.kernels import colors as kernels
from kmdask.pixels import valid_or_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

IN_ONE = 1 << 25
"""Values of colours at most that are one block, to which one task fits, in some 450 MB: 11 million
colours of RGB. K-means then remembers them from step to step."""

ROWS = 1 << 19
"""Colours of a block where there are more: fixed, so that sums do not depend on the cluster."""


class ColorTable(NamedTuple):
    """Different colours and how often each occurs, as it travels between workers."""

    codes: npt.NDArray[np.uint32]
    """Morton codes, ascending, of shape (n,)."""

    counts: npt.NDArray[np.integer[Any]]
    """Pixels of each colour, of shape (n,): uint32 of one chunk, int64 of several."""


@dataclass(frozen=True)
class WeightedColors:
    """The colours of an image, each with the number of its pixels, kept on the workers.

    The different colours themselves where they are few enough to be counted, as those of up to
    three bands of 8 bits are; else the means of cells of similar colours. Rows are sorted by code,
    so that near rows are near colours.
    """

    colors: da.Array
    """float64 array of shape (n, band), in the units of the image."""

    counts: da.Array
    """int64 array of shape (n,), in the same blocks of rows, mostly one."""

    codes: da.Array
    """uint32 array of shape (n,), ascending: codes with the same first bits are near colours."""

    pixels: int
    """Number of valid pixels: the sum of the counts."""

    low: float
    """Least value of any band of a valid pixel, or 0 of 8-bit pixels."""

    high: float
    """Greatest value of any band of a valid pixel, or 255 of 8-bit pixels."""

    exact: bool = True
    """Whether these are the different colours; else they are the means of cells."""

    def __len__(self) -> int:
        return int(self.colors.shape[0])

    @property
    def bands(self) -> int:
        """Number of bands of a colour."""
        return int(self.colors.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the pixels as far as it is known: uint8 (counted) or float64 (cells)."""
        return np.dtype(np.uint8 if self.exact else np.float64)


class Counter(Protocol):
    """A way from pixels to weighted colours, in two steps: one pass, and what is made of it."""

    def table(self, pixels: da.Array, mask: da.Array | None) -> tuple[Delayed, da.Array]:
        """Return the result of the pass, lazily, and an array of one element per chunk."""

    def joined(self, tables: Sequence[Delayed]) -> Delayed:
        """Add up the persisted results of several images; return that of all, persisted."""

    def colors(self, table: Delayed) -> WeightedColors:
        """Make weighted colours of the persisted result.

        Raises
        ------
        EmptyImageError
            If no pixel is valid.
        """


@dataclass(frozen=True)
class ColorCounter:
    """Counts the different colours of an image of up to three bands of 8 bits."""

    bands: int

    def table(self, pixels: da.Array, mask: da.Array | None) -> tuple[Delayed, da.Array]:
        """Count the colours, lazily; the result is a `ColorTable`."""
        return over_chunks("count", _count, _merge, [pixels, mask])

    def joined(self, tables: Sequence[Delayed]) -> Delayed:
        """Add up the colours of several images."""
        return added_up(_merge, tables)

    def colors(self, table: Delayed) -> WeightedColors:
        """Spread a persisted `ColorTable` over blocks of rows."""
        # A group of its own for each run: they would be one, and in one span, under a plain name.
        (name,) = block_names("totals", table.key, 1)
        n, pixels = dask.compute(delayed(_totals)(table, dask_key_name=name))[0]
        if n == 0:
            raise EmptyImageError(NOTHING_VALID)
        rows = [n] if n * self.bands <= IN_ONE else split(n, ROWS)
        names = block_names("colors", table.key, len(rows))
        columns: list[list[da.Array]] = [[], [], []]
        for i, name in enumerate(names):
            part = delayed(_rows, pure=True, nout=3)(
                table, slice(i * ROWS, i * ROWS + rows[i]), self.bands, dask_key_name=name
            )
            columns[0].append(da.from_delayed(part[0], (rows[i], self.bands), np.float64))
            columns[1].append(da.from_delayed(part[1], (rows[i],), np.int64))
            columns[2].append(da.from_delayed(part[2], (rows[i],), np.uint32))
        colors, counts, codes = dask.persist(*map(da.concatenate, columns))
        return WeightedColors(colors, counts, codes, pixels, low=0.0, high=255.0)


def added_up(
    merge: Callable[[list[Any]], Any], tables: Sequence[Delayed], fan_in: int = FAN_IN
) -> Delayed:
    """Merge persisted results in a tree; one is left as it is."""
    if len(tables) == 1:
        return tables[0]
    root, tasks = merge_tasks(merge, [table.key for table in tables], "merge", fan_in)
    there: list[Any] = list(tables)
    graph = HighLevelGraph.from_collections(root[0], tasks, dependencies=there)
    joined: Delayed = dask.persist(Delayed(root, graph, layer=root[0]), optimize_graph=False)[0]
    return joined


_spare: dict[str, list[npt.NDArray[Any]]] = {"uint8": [], "uint32": [], "int64": []}


@contextmanager
def zeros(dtype: str) -> Iterator[npt.NDArray[Any]]:
    """Give a table of all codes, all zeros, that has to be all zeros again at the end.

    As many are kept as are in use at once: paging in tens of MiB afresh costs more than
    counting a chunk. What a failure leaves in one is not counted again: that table is dropped.
    """
    spare = _spare[dtype]
    try:
        table = spare.pop()
    except IndexError:
        table = np.zeros(1 << kernels.CODE_BITS, dtype)
    yield table
    spare.append(table)


def _count(pixels: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8] | None) -> ColorTable:
    with zeros("uint8") as table:
        return ColorTable(*kernels.count(pixels, valid_or_all(mask), table))


def _merge(tables: list[ColorTable]) -> ColorTable:
    # Lists of millions of colours add up several times faster in a table than pair by pair.
    with zeros("int64") as table:
        for codes, counts in tables:
            kernels.add(codes, counts, table)
        return ColorTable(*kernels.drain(table))


def _totals(table: ColorTable) -> tuple[int, int]:
    return table.codes.size, int(table.counts.sum())


def _rows(
    table: ColorTable, rows: slice, bands: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
    codes = table.codes[rows]
    # As the means of cells are, for kernels that are compiled once then.
    colors = np.empty((len(codes), bands))

    def decode(part: slice) -> None:
        colors[part] = kernels.decode_codes(codes[part], bands)

    in_parts(decode, len(codes))
    return colors, table.counts[rows].astype(np.int64, copy=False), codes
