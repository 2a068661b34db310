"""The benchmark of scale still runs, and what it counts is so."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kmdask
from kmdask.chunks import SHARD

ROOT = Path(kmdask.__file__).parents[1]


@pytest.mark.cluster
@pytest.mark.slow
def test_scale(tmp_path, scene, write_raster):
    image = write_raster(tmp_path / "a.tif", scene(1024, 1024), tiled=True)
    arguments = {
        "--scene": [image],
        "--work": [tmp_path],
        "--workers": [1],
        "--rounds": [1],
        "--idle": [1e8],
        "--dry": [1e8, 1e9, 1e13],
        "--most": [1e8],
        "--json": [tmp_path / "result.json"],
    }
    listed = [str(each) for name, values in arguments.items() for each in (name, *values)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "scale.py"), *listed],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())

    (alone,) = result["scaling"]["processes"].values()
    assert alone["efficiency"] == 1
    assert alone["transferred_per_chunk"] < 10_000, "one process sends nothing but small results"
    assert {"read", "count", "encode", "write-zarr", "write-tiles"} <= alone["busy"].keys()

    small, extrapolated, refused = result["dry"]
    chunks = (-(-10_000 // SHARD)) ** 2
    assert small["chunks"] == result["overhead"]["chunks"] == chunks
    assert small["stages"]["count"]["count"] == small["stages"]["count"]["read"] == chunks
    assert small["stages"]["write"]["write-zarr"] == small["stages"]["write"]["read"] == chunks
    assert small["tasks"] == sum(sum(stages.values()) for stages in small["stages"].values())
    assert small["graph_bytes"] < 5000 * chunks
    assert extrapolated["tasks"] == 10 * small["tasks"]
    assert "chunks to read" in refused["refused"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "result.json"]
