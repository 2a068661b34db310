"""Chunk and level sizes: what must hold for every image."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from itertools import islice, pairwise

import dask
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kmdask.chunks import (
    BYTES,
    EACH,
    PIXELS,
    TILE,
    ReadPlan,
    Workers,
    ceil_div,
    forward_windows,
    level_shapes,
    plan_reads,
    split,
)

sizes = st.integers(1, 1000) | st.integers(1, 300_000)
shapes = st.tuples(sizes, sizes)


@given(st.integers(0, 10**9), st.integers(1, 10**6))
def test_ceil_div(size, step):
    steps = ceil_div(size, step)
    assert steps * step >= size > (steps - 1) * step


@given(sizes, st.integers(1, 5000))
def test_split_covers_every_pixel_once(size, step):
    pieces = split(size, step)
    assert sum(pieces) == size
    assert set(pieces[:-1]) <= {step}
    assert 1 <= pieces[-1] <= step


@given(shapes)
@example((1, 1))
@example((1, 4097))
@example((70_000, 10))
def test_levels_halve_by_ceiling_down_to_one_pixel(shape):
    levels = level_shapes(shape)
    assert levels[0] == shape
    assert levels[-1] == (1, 1)
    assert (1, 1) not in levels[:-1]
    for (height, width), (half_height, half_width) in pairwise(levels):
        assert half_height in {height / 2, (height + 1) / 2}
        assert half_width in {width / 2, (width + 1) / 2}
    assert len(levels) == 1 + (max(shape) - 1).bit_length()


blocks = st.one_of(
    st.tuples(sizes, sizes),  # anything
    st.sampled_from([(16, 16), (256, 256), (512, 512), (1024, 1024), (4096, 4096)]),  # tiles
)


pixel_sizes = st.integers(1, 600)
SQUARES = Workers(threads=10**9)


@given(shapes, blocks, pixel_sizes)
@example((70_000, 10), (1, 10), 4)
@example((10, 70_000), (1, 70_000), 4)
@example((1, 1), (1, 1), 4)
@example((1, 300_000), (1, 300_000), 4)
@example((20_000, 20_000), (20_000, 20_000), 4)
@example((20_000, 20_000), (1, 20_000), 4)
@example((20_000, 40_000), (1, 40_000), 4)
@example((5000, 1500), (1, 1500), 4)  # a little wider than a square chunk
def test_read_plans(shape, block, pixel_bytes):
    block = min(block[0], shape[0]), min(block[1], shape[1])
    plan = plan_reads(shape, block, pixel_bytes, SQUARES)
    rows, columns = plan.chunk
    assert rows % TILE == 0
    assert columns % TILE == 0 or columns == shape[1]
    assert rows * columns <= PIXELS
    assert rows * columns * pixel_bytes <= BYTES or (rows, columns) == (TILE, TILE)
    if not plan.spool:
        assert block[0] * block[1] <= PIXELS
        # A block wider than a chunk would be decoded for each of its chunks.
        assert columns >= block[1]
    assert plan_reads(shape, block, pixel_bytes, SQUARES) == plan


@pytest.mark.parametrize(
    ("shape", "block", "spool"),
    [
        ((5000, 20_000), (1, 20_000), False),  # a strip of one row
        ((5000, 20_000), (512, 20_000), False),  # as high as a chunk may be
        ((5000, 20_000), (1024, 20_000), True),  # higher
        ((5000, 40_000), (1, 40_000), True),  # too wide for a chunk of whole rows
        ((5000, 5000), (5000, 5000), True),  # decoded whole only
        ((600, 500), (600, 500), False),  # likewise, but one chunk
        ((70_000, 10), (1, 10), False),
        ((10, 70_000), (1, 70_000), True),
        ((32_768, 32_768), (256, 256), False),
        ((1, 1), (1, 1), False),
    ],
)
def test_what_is_copied_first(shape, block, spool):
    assert plan_reads(shape, block).spool is spool


@pytest.mark.parametrize(
    ("pixel_bytes", "side"),
    [(3, 4096), (4, 4096), (8, 4096), (10, 2048), (24, 2048), (66, 1024), (264, 512), (900, 512)],
)
def test_chunks_of_many_bands_are_smaller(pixel_bytes, side):
    assert plan_reads((32_768, 32_768), (256, 256), pixel_bytes) == ReadPlan(
        (side, side), spool=False
    )


@given(shapes, pixel_sizes)
@example((3, 300_000), 600)
def test_one_pass_covers_every_pixel_once(shape, pixel_bytes):
    height, width = shape
    windows = list(islice(forward_windows(shape, pixel_bytes), 5000))
    areas = [(rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in windows]
    assert max(areas) * pixel_bytes <= BYTES
    assert len(windows) == 5000 or sum(areas) == height * width
    assert windows == sorted(windows, key=lambda window: (window[0].start, window[1].start))


@pytest.mark.parametrize(
    ("pixel_bytes", "room", "columns"),
    [(3, None, 8192), (4, None, 8192), (5, None, 4096), (3, 400 << 20, 8192), (3, 300 << 20, 4096)],
)
@pytest.mark.parametrize("threads", [2, 8, 18])
def test_chunks_are_twice_as_wide_where_each_thread_has_many(pixel_bytes, room, columns, threads):
    side = math.isqrt(2 * PIXELS * EACH * threads)
    workers = Workers(threads, room)
    wide = plan_reads((side, side), (512, 512), pixel_bytes, workers)
    assert wide == ReadPlan((4096, columns), spool=False)
    below = plan_reads((side, side - 1), (512, 512), pixel_bytes, workers)
    assert below == ReadPlan((4096, 4096), spool=False)


@given(
    shapes,
    blocks,
    pixel_sizes | st.integers(1, 4),
    st.sampled_from([1, 2, 32]),
    st.none() | st.integers(200 << 20, 2 << 30),
)
@example((32_768, 32_768), (1, 32_768), 3, 2, None)
@example((60_000, 20_000), (1, 20_000), 3, 1, None)
@example((300_000, 300_000), (512, 512), 10, 32, None)
def test_large_chunks_leave_enough_for_each_thread(shape, block, pixel_bytes, threads, room):
    block = min(block[0], shape[0]), min(block[1], shape[1])
    plan = plan_reads(shape, block, pixel_bytes, Workers(threads, room))
    square = plan_reads(shape, block, pixel_bytes, replace(SQUARES, room=room))
    assert plan.spool == square.spool
    if plan == square:
        return
    size = math.prod(plan.chunk)
    assert size == 2 * math.prod(square.chunk)
    assert math.prod(shape) >= size * EACH * threads
    assert size * pixel_bytes <= BYTES
    # No wider than the image already, which would be as many chunks as before.
    assert plan.chunk[1] == square.chunk[1] or square.chunk[1] < shape[1]


def test_strips_are_read_in_larger_ones():
    image = (32_768, 32_768), (1, 32_768), 3
    assert plan_reads(*image, Workers(threads=2)).chunk == (1024, 32_768)
    assert plan_reads(*image, Workers(threads=3)).chunk == (512, 32_768)


def test_small_images_are_cut_for_every_core():
    rows, columns = plan_reads((4096, 4096), (256, 256)).chunk
    assert ceil_div(4096, rows) * ceil_div(4096, columns) >= 8


def test_plans_do_not_depend_on_the_machine(monkeypatch):
    images = [((9000, 9000), (256, 256)), ((9000, 9000), (1, 9000)), ((300, 300), (300, 300))]
    here = [plan_reads(*image) for image in images]
    monkeypatch.setattr(os, "cpu_count", lambda: 999)
    with dask.config.set({"array.chunk-size": "1kiB", "num_workers": 999}):
        assert [plan_reads(*image) for image in images] == here
