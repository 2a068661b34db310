"""Chunks that the workers keep in memory, so that no pass after the first one reads them again."""

from __future__ import annotations

from collections import Counter

import dask.array as da
import numpy as np
import pytest
from bundles import contents
from distributed import Client, LocalCluster

import kmdask
from kmdask.chunks import Workers
from kmdask.connecting import machines
from kmdask.reading.gdal_source import RasterioSource
from kmdask.reading.raster import open_raster

SHAPE = (1500, 2100)


@pytest.fixture
def reads(monkeypatch):
    """How often each window of a file has been read."""
    seen = Counter()
    read = RasterioSource.read

    def counted(self, rows, columns):
        seen[rows.start, columns.start, rows.stop, columns.stop] += 1
        return read(self, rows, columns)

    monkeypatch.setattr(RasterioSource, "read", counted)
    return seen


@pytest.fixture(params=["uint8", "uint16"])
def source(request, tmp_path, scene, holes, write_raster):
    """An image of several chunks, with invalid pixels; of the deep one cells are refined.

    Of few colours: what the fit does with them is no matter here.
    """
    pixels = (scene(*SHAPE) & 0xF0).astype(request.param)
    return write_raster(tmp_path / "a.tif", pixels, holes(*SHAPE), tiled=True)


def test_each_chunk_is_read_once(tmp_path, monkeypatch, source, reads):
    deep = open_raster(source).pixels.dtype != np.uint8
    kept = kmdask.compress(source, 9, tmp_path / "kept.kmdask", refine=2)
    once = reads.total()
    monkeypatch.setattr("kmdask.pipeline.can_keep", lambda *_: False)
    reads.clear()
    again = kmdask.compress(source, 9, tmp_path / "again.kmdask", refine=2)
    chunks = open_raster(source).pixels.npartitions
    assert chunks >= 6
    assert reads.total() - once == chunks * (3 if deep else 1), "two refinements, and writing"
    assert once >= chunks
    assert contents(kept.path) == contents(again.path)


def test_a_palette_for_several_images(source, reads):
    # Only the refinement of cells needs what was read before.
    kmdask.fit([source, source], 9)
    assert max(reads.values()) == 2, "one for each of the images"


@pytest.mark.cluster
def test_only_what_fits_into_half_of_the_memory(tmp_path, scene, write_raster, monkeypatch):
    raster = open_raster(write_raster(tmp_path / "a.tif", scene(*SHAPE), tiled=True))
    raw = raster.pixels.nbytes
    monkeypatch.setattr(machines, "process_bytes", lambda _: 0)
    monkeypatch.setattr(machines, "task_bytes", lambda *_, **__: 0)
    for limit, fits in ((int(2.1 * raw), True), (int(1.9 * raw), False), (None, True)):
        with (
            LocalCluster(
                n_workers=1,
                processes=False,
                dashboard_address="127.0.0.1:0",
                memory_limit=limit,
            ) as cluster,
            Client(cluster) as client,
        ):
            assert machines.can_keep(client, [raster]) is fits
            assert machines.can_keep(client, [raster, raster]) is (limit is None)


def can_keep(raster, *workers):
    """Whether workers keep an image of 6 MB, which are as `machines._memory` tells of each."""

    class Cluster:
        def run(self, *_, **__):
            return dict(enumerate(workers))

    return machines.can_keep(Cluster(), [raster, raster])


def test_what_workers_can_hold(tmp_path, scene, write_raster, monkeypatch):
    raster = open_raster(write_raster(tmp_path / "a.tif", scene(1000, 1000), tiled=True))
    monkeypatch.setattr(machines, "process_bytes", lambda _: 0)
    monkeypatch.setattr(machines, "task_bytes", lambda *_, **__: 0)
    mb = 1_000_000
    plain = ("a", 13 * mb, 9 * mb, 0, 99 * mb, 1)
    assert can_keep(raster, plain)
    assert not can_keep(raster, ("a", 13 * mb, 5 * mb, 0, 99 * mb, 1)), "the line"
    assert not can_keep(raster, ("a", 13 * mb, 9 * mb, 4 * mb, 99 * mb, 1)), "held already"
    assert not can_keep(raster, ("a", 13 * mb, 9 * mb, 0, 11 * mb, 1)), "not free"
    halves = [("a", 7 * mb, 6 * mb, 0, 99 * mb, 1)] * 2
    assert can_keep(raster, *halves)
    assert not can_keep(raster, *halves[:1], ("a", 7 * mb, 6 * mb, 0, 99 * mb, 3)), "more threads"
    assert not can_keep(raster, *[("a", 7 * mb, 6 * mb, 0, 11 * mb, 1)] * 2), "one host"


@pytest.mark.parametrize(
    ("workers", "here", "expected"),
    [
        ({"a": (None, 2)}, True, Workers(2, None)),
        ({"a": (2 << 30, 2), "b": (None, 6)}, True, Workers(8, 852 << 20)),
        ({"a": (2 << 30, 2), "b": (2 << 30, 4)}, False, Workers(32, 426 << 20)),
        ({"a": (None, 40)}, False, Workers(40, None)),
        ({}, True, Workers(32, None)),
    ],
)
def test_what_chunks_have_to_suit(monkeypatch, workers, here, expected):
    class Cluster:
        def run(self, *_, **__):
            return workers

    monkeypatch.setattr(machines, "in_process", lambda _: here)
    assert machines.workers_of(Cluster(), None) == expected


def test_nothing_is_kept_where_there_is_no_worker(tmp_path, scene, write_raster):
    raster = open_raster(write_raster(tmp_path / "a.tif", scene(60, 80)))

    class Nobody:
        def run(self, *_, **__):
            return {}

    assert machines.can_keep(Nobody(), [raster]) is False


COMPUTED = Counter()


def seen(block, block_info=None):
    """Pass a block on, and note that it was computed."""
    COMPUTED[block_info[0]["chunk-location"]] += 1
    return block


def test_dask_arrays_are_computed_once(tmp_path, scene):
    COMPUTED.clear()
    pixels = da.from_array(scene(600, 700), chunks=(512, 512, 3))
    pixels = pixels.map_blocks(seen, dtype=np.uint8, meta=np.empty((0, 0, 0), np.uint8))
    kmdask.compress(pixels, 5, tmp_path / "a.kmdask")
    assert len(COMPUTED) == 4
    assert set(COMPUTED.values()) == {1}
