"""Each kernel by itself: megapixels, or millions of whatever it walks over, per second, one thread.

Each is given the middle of a scene as the workers get it, planar and strided, and is run in turn
with the others for some rounds after one that compiles; the median counts.

Run ``python benchmarks/kernels.py --scene scene.tif``.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from middle import parser_of, read
from timing import in_turn, save

from kmdask.display import Colormap
from kmdask.fitting import plus_plus as seeding
from kmdask.fitting.cells import Grid, Units
from kmdask.kernels import (
    bins,
    bounds,
    cells,
    colors,
    descent,
    errors,
    memory,
    nearest,
    plus_plus,
    tiles,
)
from kmdask.kernels import lloyd as steps
from kmdask.kernels import table as tables
from kmdask.kernels.oklab import from_oklab, to_oklab
from kmdask.kernels.views import frozen
from kmdask.palette import Palette
from kmdask.pixels import ALL_VALID
from kmdask.similarity import palette_scale, sums_of_windows
from kmdask.smoothing import smooth_block, spacing
from kmdask.writing.levels import SUMS
from kmdask.writing.png import encode_png

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

NO_PROJECT = np.empty((0, 0))
COLORS = 1 << 24
SEEDED = 1 << 15
"""Rows that k-means++ starts on: as many as there are cells in `kmdask.fitting.seeding`."""

STEPS = 8
"""Steps of k-means that are taken in one go."""

FINE_BITS = 6
"""Last bits of a code in which the colours of a cell differ: 4 steps along each band."""


@dataclass(frozen=True)
class Kernel:
    """A kernel with its arguments."""

    name: str
    run: Callable[[], Any]
    items: int
    unit: str = "pixels"


@dataclass(frozen=True)
class Block:
    """A block of an image, and what the passes make of it."""

    pixels: npt.NDArray[np.uint8]
    """(y, x, 3), a view of planes."""

    k: int

    @property
    def size(self) -> int:
        """Pixels."""
        return math.prod(self.pixels.shape[:2])

    @cached_property
    def counted(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Codes and counts of its colours."""
        counted: tuple[Any, Any] = colors.count(self.pixels, ALL_VALID, np.zeros(COLORS, np.uint8))
        return counted

    @cached_property
    def rows(self) -> npt.NDArray[np.float64]:
        """Its colours."""
        return np.asarray(colors.decode_codes(self.counted[0], 3), np.float64)

    @cached_property
    def palette(self) -> npt.NDArray[np.uint8]:
        """Colours drawn by k-means++."""
        some = np.linspace(0, len(self.rows) - 1, min(SEEDED, len(self.rows))).astype(int)
        weights = self.counted[1][some].astype(float)
        drawn = seeding.plus_plus(self.rows[some], weights, self.k, np.random.default_rng(0))
        return np.rint(drawn).astype(np.uint8)

    @cached_property
    def table(self) -> npt.NDArray[np.uint8]:
        """The palette's look-up table."""
        table = np.zeros(COLORS, np.uint8)
        tables.nearest_table(self.palette, np.zeros(len(self.palette)), table)
        return table

    @cached_property
    def indices(self) -> npt.NDArray[np.uint8]:
        """The nearest entry of every pixel."""
        indices = np.empty(self.pixels.shape[:2], np.uint8)
        tables.look_up(self.pixels, ALL_VALID, self.table, self.k, indices)
        return indices


def of_colors(block: Block) -> list[Kernel]:
    """Counting, the table, looking up."""
    table, sums = np.zeros(COLORS, np.uint8), np.zeros(COLORS, np.int64)
    codes, counts = block.counted
    bytes_of_rows = colors.decode_codes(codes, 3)
    filled, indices = np.zeros(COLORS, np.uint8), np.empty_like(block.indices)

    def merge() -> None:
        colors.add(codes, counts, sums)
        colors.drain(sums)

    def look_up() -> None:
        tables.look_up(block.pixels, ALL_VALID, block.table, block.k, indices)

    return [
        Kernel("count", lambda: colors.count(block.pixels, ALL_VALID, table), block.size),
        Kernel("add and drain", merge, codes.size, "colours"),
        Kernel("encode_codes", lambda: colors.encode_codes(bytes_of_rows), codes.size, "colours"),
        Kernel("decode_codes", lambda: colors.decode_codes(codes, 3), codes.size, "colours"),
        Kernel(
            "nearest_table",
            lambda: tables.nearest_table(block.palette, np.zeros(len(block.palette)), filled),
            COLORS,
            "entries",
        ),
        Kernel("look_up", look_up, block.size),
    ]


def of_fits(block: Block) -> list[Kernel]:
    """Steps of k-means on the colours."""
    rows, weights = frozen(block.rows), frozen(block.counted[1], np.float64)
    centers = block.palette.astype(np.float64)
    few = frozen(rows[:: -(-len(rows) // SEEDED)], np.float64)
    masses = frozen(weights[:: -(-len(rows) // SEEDED)])
    codes = frozen(block.counted[0])
    n = 1 + int(bins.differences(codes)[FINE_BITS + 1 :].sum())
    joined = np.empty(n, np.uint32), np.zeros((n, 3)), np.zeros(n)
    uniforms = np.random.default_rng(0).random((block.k, seeding.n_trials(block.k)))
    palette, free = frozen(block.palette), frozen(np.zeros(len(block.palette)))
    labels = np.empty(len(codes), np.uint16)
    return [
        Kernel(
            "lloyd_step", lambda: steps.lloyd_step(rows, weights, centers), len(rows), "colours"
        ),
        Kernel("resettle", _walk(rows, weights, centers), len(rows), "colours"),
        Kernel(
            "join",
            lambda: bins.join(codes, rows, weights, FINE_BITS, *joined),
            len(rows),
            "colours",
        ),
        Kernel("nearest", lambda: steps.nearest(rows, centers), len(rows), "colours"),
        Kernel(
            "nearest_of_codes",
            lambda: tables.nearest_of_codes(codes, palette, free, labels),
            len(codes),
            "colours",
        ),
        Kernel("descend", _descent(few, masses, centers), STEPS * len(few), "colours"),
        Kernel(
            "plus_plus", lambda: plus_plus.plus_plus(few, masses, uniforms), len(few), "colours"
        ),
    ]


def _descent(
    rows: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    centers: npt.NDArray[np.float64],
) -> Callable[[], None]:
    """The first steps of k-means that remember, in one go."""
    past = np.empty((STEPS, *centers.shape))

    def descend() -> None:
        known = memory.forgetful(rows, len(centers))
        descent.descend(rows, weights, centers.copy(), past, known, 0, STEPS, -1.0, 0)

    return descend


def _walk(
    rows: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    centers: npt.NDArray[np.float64],
) -> Callable[[], None]:
    """Steps of k-means that remember, each after the centres have moved by a tenth."""
    known, numbers = memory.forgetful(rows, len(centers)), count()
    ways = np.full((2, len(centers)), 0.1 * math.sqrt(3))
    ways[1] = 0.0

    def step() -> None:
        number = next(numbers)
        moved = centers + 0.1 * (number % 2)
        bounds.resettle(rows, weights, moved, ways[-1:] if number == 0 else ways, number, known)

    return step


def of_pixels(block: Block) -> list[Kernel]:
    """What is done with pixels that are not counted: gathering, searching, adding up."""
    deep = np.moveaxis(np.moveaxis(block.pixels, 2, 0).astype(np.uint16) * 16, 0, 2)
    sample = deep.reshape(-1, 3)[:: -(-block.size // 4096)].astype(np.float64)
    grid = Grid.of(sample, np.eye(3), Units.of(sample, deep.dtype, block.size))
    bits = np.array([1 << len(each) for each in grid.dealt], np.int64)
    dealt = (grid.axes, grid.origin, bits, grid.parts(), grid.units.array(), 1 << 18)
    centers, ones = block.palette.astype(np.float64) * 16, np.ones(3)
    search, indices = nearest.search_of(centers), np.empty_like(block.indices)
    sums, counts = np.zeros((block.k, 3), np.int64), np.zeros(block.k, np.int64)
    given = (deep, ALL_VALID, NO_PROJECT, ones, search)
    moments = (np.zeros(3), ones, 2.0**40, sums, counts)
    entries = block.palette.astype(np.float64)
    errors_of = (block.pixels, block.indices, entries, np.zeros(3), counts, np.zeros(3))
    found = cells.gather(deep, ALL_VALID, *dealt)
    codes, added = frozen(found.codes), (found.counts.copy(), found.sums.copy())
    columns = codes, frozen(found.counts), frozen(found.sums), codes
    return [
        Kernel("gather", lambda: cells.gather(deep, ALL_VALID, *dealt), block.size),
        Kernel("add_cells", lambda: cells.add_cells(*columns, *added), len(codes), "cells"),
        Kernel(
            "nearest_pixels", lambda: nearest.nearest_pixels(*given, block.k, indices), block.size
        ),
        Kernel(
            "moments_of_pixels", lambda: nearest.moments_of_pixels(*given, *moments), block.size
        ),
        Kernel("add_errors", lambda: errors.add_errors(*errors_of), block.size),
    ]


def of_sight(block: Block) -> list[Kernel]:
    """Colours as they are seen, smoothing, and similarity."""
    colored = block.rows.astype(np.float64)
    lab, palette = to_oklab(colored), Palette(block.palette)
    limit = 0.25 * spacing(palette)
    scale = palette_scale(palette, 255.0)

    def smooth() -> None:
        smooth_block(block.pixels, block.indices.copy(), palette, None, limit)

    def similar() -> None:
        sums_of_windows((block.pixels, block.indices, None), block.palette, scale)

    return [
        Kernel("to_oklab", lambda: to_oklab(colored), len(colored), "colours"),
        Kernel("from_oklab", lambda: from_oklab(lab), len(lab), "colours"),
        Kernel("smooth_rows", smooth, block.size),
        Kernel("add_similarities", similar, block.size),
    ]


def of_tiles(block: Block) -> list[Kernel]:
    """Halving and packing; and a whole PNG, for what packing is worth."""
    height, width = block.pixels.shape[:2]
    half = ((height + 1) // 2, (width + 1) // 2)
    out, reals = np.empty((3, *half), np.uint8), np.empty((3, *half), np.float32)
    valid = np.full((height, width), 255, np.uint8)
    floats = np.moveaxis(np.moveaxis(block.pixels, 2, 0).astype(np.float32), 0, 2)
    bits = next(each for each in (1, 2, 4, 8) if block.k <= 1 << each)
    zero, colormap, start = SUMS[1](0), Colormap(block.palette), (0, 0)
    half_valid = np.empty(half, np.uint8)
    return [
        Kernel("halve", lambda: tiles.halve(block.pixels, ALL_VALID, zero, out, start), block.size),
        Kernel(
            "halve_reals", lambda: tiles.halve_reals(floats, ALL_VALID, reals, start), block.size
        ),
        Kernel("halve_mask", lambda: tiles.halve_mask(valid, half_valid, start), block.size),
        Kernel("pack_rows", lambda: tiles.pack_rows(block.indices, bits), block.size),
        Kernel("encode_png", lambda: encode_png(block.indices, colormap), block.size),
    ]


def measure(block: Block, rounds: int) -> list[dict[str, Any]]:
    """Run all of them."""
    groups = (of_colors, of_fits, of_pixels, of_sight, of_tiles)
    listed = [kernel for group in groups for kernel in group(block)]
    times = in_turn({each.name: each.run for each in listed}, rounds + 1)
    rows = []
    for kernel in listed:
        seconds = statistics.median(times[kernel.name][1:])
        speed = kernel.items / seconds / 1e6
        rows.append(
            {"name": kernel.name, "k": block.k, "millions_per_second": speed, "of": kernel.unit}
        )
    return rows


def main() -> None:
    """Run the benchmark from the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("-k", type=int, nargs="+", default=[16, 256])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    pixels = read(args)
    rows = [row for k in args.k for row in measure(Block(pixels, k), args.rounds)]
    print("millions a second, one thread")
    for row in rows:
        name, k, speed = row["name"], row["k"], row["millions_per_second"]
        print(f"{name:<20}{k:>5}{speed:>10.1f} {row['of']}")
    save(args.json, {"shape": pixels.shape[:2], "rounds": args.rounds, "rows": rows})


if __name__ == "__main__":
    main()
