"""Pyramid levels: the same however the image is chunked, and equal to NumPy on the whole image."""

from __future__ import annotations

import math
from fractions import Fraction
from heapq import heapify, heappop, heappush

import dask.array as da
import numpy as np
import pytest
from dask.core import get_dependencies, reverse_dict
from dask.highlevelgraph import HighLevelGraph
from dask.order import order
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdask import Palette, encode
from kmdask import pyramid as build
from kmdask.chunks import TILE, level_shapes
from kmdask.similarity import palette_scale, similarities
from kmdask.writing.receipts import Receipts

chunks = st.lists(st.integers(1, 23), min_size=1, max_size=5).map(tuple)


def reference(pixels, valid):
    """Every level of the whole image at once: (pixels, valid), averaged in float64."""
    yield pixels, valid
    while valid.shape != (1, 1):
        height, width = valid.shape
        pad = [(0, height % 2), (0, width % 2)]
        blocks = (-(-height // 2), 2, -(-width // 2), 2)
        known = np.pad(valid, pad).reshape(blocks).astype(float)
        values = np.pad(pixels, [*pad, (0, 0)]).astype(float).reshape(*blocks, pixels.shape[2])
        count = known.sum(axis=(1, 3))
        mean = (values * known[..., None]).sum(axis=(1, 3)) / np.maximum(count, 1)[..., None]
        pixels, valid = np.rint(mean).astype(np.uint8), count > 0
        yield pixels, valid


def check(levels, pixels, valid, *, masked):
    levels = list(levels)
    assert [level.shape for level in levels] == list(level_shapes(valid.shape))
    for level, (colors, known) in zip(levels, reference(pixels, valid), strict=True):
        assert level.pixels.dtype == np.uint8
        assert (level.mask is not None) == masked
        np.testing.assert_array_equal(level.pixels.compute()[known], colors[known])
        if masked:
            assert level.mask.dtype == np.uint8
            assert level.mask.chunks == level.pixels.chunks[:2]
            np.testing.assert_array_equal(level.mask.compute() != 0, known)


@settings(max_examples=8)
@given(rows=chunks, columns=chunks, masked=st.booleans(), bands=st.sampled_from([1, 3]))
def test_levels_do_not_depend_on_chunks(scene, holes, rows, columns, masked, bands):
    shape = sum(rows), sum(columns)
    pixels = scene(*shape, bands)
    valid = holes(*shape) if masked else np.ones(shape, bool)
    with pytest.MonkeyPatch.context() as patch:
        # Joined every few pixels, not every few thousand.
        patch.setitem(build.__globals__, "TILE", 4)
        patch.setitem(build.__globals__, "SHARD", 16)
        levels = list(
            build(
                da.from_array(pixels, chunks=(rows, columns, -1)),
                da.from_array(valid, chunks=(rows, columns)) if masked else None,
            )
        )
        for level in levels:
            assert all(size % 4 == 0 for axis in level.pixels.chunks[:2] for size in axis[:-1])
    check(levels, pixels, valid, masked=masked)


@pytest.mark.parametrize("chunk", [(1024, 1024), (512, 1500), (5, 1500), (1100, 7), (513, 511)])
def test_levels_of_real_chunk_sizes(scene, chunk):
    pixels = scene(1100, 1500)
    levels = list(build(da.from_array(pixels, chunks=(*chunk, -1))))
    check(levels, pixels, np.ones((1100, 1500), bool), masked=False)
    for level in levels:
        assert all(size % TILE == 0 for axis in level.pixels.chunks[:2] for size in axis[:-1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 37), (41, 1), (3000, 2)])
def test_levels_of_thin_images(scene, holes, shape):
    pixels = scene(*shape)
    valid = holes(*shape)
    valid[-1, -1] = True
    levels = build(
        da.from_array(pixels, chunks=(1000, 7, -1)), da.from_array(valid, chunks=(1000, 7))
    )
    check(levels, pixels, valid, masked=True)


def test_a_level_without_a_valid_pixel_stays_so(scene):
    valid = np.zeros((6, 5), bool)
    levels = build(da.from_array(scene(6, 5)), da.from_array(valid))
    assert not any(level.mask.compute().any() for level in levels)


# Pixels of any type


INTEGERS = ["int8", "uint16", "int16", "uint32", "int32", "int64", "uint64"]


def exact(pixels, valid):
    """The next level in fractions: means (band, y, x), None where nothing is valid."""
    height, width, bands = pixels.shape
    means = np.full((-(-height // 2), -(-width // 2), bands), None, object)
    for y, x, band in np.ndindex(means.shape):
        square = slice(2 * y, 2 * y + 2), slice(2 * x, 2 * x + 2)
        values = list(map(Fraction, pixels[(*square, band)][valid[square]].tolist()))
        if values:
            means[y, x, band] = sum(values) / len(values)
    return means


def values_of(dtype, shape):
    """Values everywhere in the range, in one half of the image at its ends."""
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return (rng.normal(0, 1, shape) * 10.0 ** rng.integers(-9, 9, shape)).astype(dtype)
    limits = np.iinfo(dtype)
    # 64-bit integers are averaged as float64, exactly if their sums fit.
    room = 0 if limits.bits < 64 else 14
    pixels = rng.integers(limits.min >> room, limits.max >> room, shape, dtype, endpoint=True)
    ends = np.array([limits.min >> room, limits.max >> room, (limits.max >> room) - 1], dtype)
    pixels[:, : shape[1] // 2] = rng.choice(ends, pixels[:, : shape[1] // 2].shape)
    return pixels


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [*INTEGERS, "float32", "float64"])
def test_levels_of_every_type(holes, dtype, masked):
    pixels = values_of(dtype, (9, 14, 2))
    valid = holes(9, 14) if masked else np.ones((9, 14), bool)
    if masked and pixels.dtype.kind == "f":
        pixels[~valid] = np.nan
    mask = da.from_array(valid) if masked else da.ones((9, 14), dtype=np.uint8)
    levels = list(build(da.from_array(pixels), mask))
    assert [level.shape for level in levels] == list(level_shapes((9, 14)))
    for level in levels[1:]:
        means = exact(pixels, valid)
        known = means[:, :, 0] != np.array(None)
        found = level.pixels.compute()
        assert found.dtype == dtype
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(level.mask.compute() != 0, known)
        for value, mean in zip(found[known].ravel().tolist(), means[known].ravel(), strict=True):
            if isinstance(value, int):
                assert value == round(mean)
            else:
                assert abs(value - mean) <= np.abs(pixels[valid]).max() * np.finfo(dtype).eps
        pixels, valid = found, known


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_levels_of_the_greatest_integers(dtype):
    limits = np.iinfo(dtype)
    pixels = np.array([[limits.max] * 2 + [limits.min] * 2] * 2, dtype)[:, :, None]
    level = list(build(da.from_array(pixels)))[1].pixels.compute()[0, :, 0]
    assert limits.max - 2048 < int(level[0]) <= limits.max
    assert int(level[1]) == limits.min


def test_what_is_not_finite_is_not_averaged():
    pixels = np.array([[[1.0], [np.nan], [np.inf]], [[3.0], [8.0], [5.0]]], np.float32)
    levels = list(build(da.from_array(pixels)))
    assert levels[1].pixels.compute()[:, :, 0].tolist() == [[4.0, 5.0]]
    assert levels[0].mask.compute().tolist() == [[1, 0, 0], [1, 1, 1]]


# Tasks


@pytest.mark.parametrize(
    ("chunk", "tasks"),
    [
        ((4096, 4096), [35, 21, 4, 1, 1]),
        ((2048, 8192), [42, 28, 4, 1, 1]),
        ((1536, 1536), [70, 20, 6, 2, 1]),
        ((512, 512), [560, 140, 35, 12, 4]),
        ((512, 20000), [28, 14, 7, 2, 1]),
    ],
)
def test_tasks_become_few(chunk, tasks):
    image = da.zeros((28000, 20000, 3), chunks=(*chunk, -1), dtype=np.uint8)
    levels = list(build(image))
    assert [level.pixels.npartitions for level in levels[1:6]] == tasks
    odd = chunk[0] % 1024 and chunk[1] % 1024
    for level in levels[1:]:
        # A group may be somewhat larger than half a chunk of the image.
        assert np.prod(level.pixels.chunksize[:2]) <= np.prod(chunk) / (1 if odd else 3.5)


def held_at_most(levels, ssim):
    """Bytes of halves that there are at most while all levels are encoded and written, and SSIM.

    By one thread, in Dask's order: chunks are read when nothing else can be done.
    """
    palette = Palette(np.arange(48, dtype=np.uint8).reshape(16, 3))
    indices = [encode(level.pixels, palette) for level in levels]
    wanted = [da.map_blocks(np.sum, each, dtype=np.int64, token="write") for each in indices]
    if ssim:
        scale = palette_scale(palette, 255.0)
        wanted += similarities(levels[0].pixels, indices[0], scale, palette=palette)
    layers = HighLevelGraph.merge(*(each.__dask_graph__() for each in wanted)).layers
    late = {key for name, layer in layers.items() if layer.annotations for key in layer}
    graph = {key: layer[key] for layer in layers.values() for key in layer}
    ranks = order(graph)
    inputs = {key: get_dependencies(graph, key) for key in graph}
    outputs = reverse_dict(inputs)
    missing, waiting = ({key: len(each[key]) for key in graph} for each in (inputs, outputs))
    sizes = {key: size for level in levels[1:] for key, size in bytes_of(level.pixels)}

    def entry(key):
        return (not inputs[key], key in late, ranks[key]), str(key), key

    ready = [entry(key) for key in graph if not inputs[key]]
    heapify(ready)
    held = most = 0
    while ready:
        key = heappop(ready)[-1]
        held += sizes.get(key, 0)
        most = max(most, held)
        for each in inputs[key]:
            waiting[each] -= 1
            held -= 0 if waiting[each] else sizes.get(each, 0)
        for each in outputs[key]:
            missing[each] -= 1
            if not missing[each]:
                heappush(ready, entry(each))
    return most


def bytes_of(array):
    """Keys of the chunks of an array, and their sizes."""
    for place in np.ndindex(*array.numblocks):
        shape = [sizes[i] for sizes, i in zip(array.chunks, place, strict=True)]
        yield (array.name, *place), math.prod(shape)


@pytest.mark.parametrize("ssim", [False, True])
@pytest.mark.parametrize("shape", [(8, 8), (4, 32), (32, 4), (4, 128)])
def test_few_halves_wait_for_others_however_wide_an_image_is(shape, ssim):
    rows, columns = shape
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(build.__globals__, "TILE", 8)
        image = da.zeros(
            (64 * rows, 128 * columns, 3), chunks=(64, 128, -1), dtype=np.uint8, name="image"
        )
        levels = list(build(image))
    # In chunks of the image: what is halved once is a quarter of one.
    assert held_at_most(levels, ssim) <= 4.5 * 64 * 128 * 3


@pytest.mark.parametrize("masked", [False, True])
def test_a_run_that_goes_on_does_not_read_again_what_is_kept(tmp_path, scene, holes, masked):
    pixels, valid = scene(70, 90), holes(70, 90)
    mask = da.from_array(valid, chunks=(8, 8)) if masked else None

    def gone(_block):
        raise OSError("read again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(build.__globals__, "TILE", 4)
        image = da.from_array(pixels, chunks=(8, 8, -1))
        first = list(build(image, mask, Receipts.found(tmp_path)))
        assert not list(tmp_path.iterdir())
        check(first, pixels, valid if masked else np.ones((70, 90), bool), masked=masked)
        there = Receipts.found(tmp_path)
        assert len(there.there) == first[3].pixels.npartitions * (1 + masked) == 9 * (1 + masked)
        image = image.map_blocks(gone, dtype=np.uint8)
        mask = mask.map_blocks(gone, dtype=np.uint8) if masked else None
        again = list(build(image, mask, there))
    for level, expected in zip(again[3:], first[3:], strict=True):
        np.testing.assert_array_equal(level.pixels.compute(), expected.pixels.compute())
        if masked:
            np.testing.assert_array_equal(level.mask.compute(), expected.mask.compute())
    with pytest.raises(OSError, match="read again"):
        again[2].pixels.compute()


def test_of_few_chunks_none_is_kept(tmp_path, scene):
    image = da.from_array(scene(1100, 1500), chunks=(512, 512, -1))
    for level in build(image, None, Receipts.found(tmp_path)):
        level.pixels.compute()
    assert not list(tmp_path.iterdir())


def test_halving_comes_after_the_work_on_the_image():
    image = da.zeros((9000, 5000, 3), chunks=(4096, 4096, -1), dtype=np.uint8)
    last = list(build(image))[-1].pixels.__dask_graph__()
    halving = {name for name in last.layers if name.startswith("halve")}
    assert len(halving) == 14
    for name, layer in last.layers.items():
        expected = {"priority": -1} if name in halving else {}
        assert (layer.annotations or {}) == expected
