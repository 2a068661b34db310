"""The benchmarks still run, on little, and what they count is so."""

import importlib
import json
import math
import os
import runpy
import subprocess
import sys
import warnings
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest

import kmdask
from kmdask.chunks import SHARD

ROOT = Path(kmdask.__file__).parents[1]


@pytest.fixture
def benchmark_of(monkeypatch):
    """``benchmark_of("fit")``: the module, as its script imports it."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return importlib.import_module


def here(command, **_):
    """Run a command of Python's in this process; what `subprocess.run` gives of it."""
    program, *arguments = map(str, command)
    assert program == sys.executable
    with (
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(action="ignore"),
        redirect_stdout(StringIO()) as told,
    ):
        patch.setattr(sys, "argv", [each for each in arguments if each not in {"-c", "-m"}])
        try:
            if arguments[0] == "-c":
                exec(arguments[1], {})  # noqa: S102  what python would be given
            elif arguments[0] == "-m":
                runpy.run_module(arguments[1], run_name="__main__")
            else:
                runpy.run_path(arguments[0], run_name="__main__")
            code = 0
        except SystemExit as error:
            code = error.code or 0
    assert code == 0, command
    return subprocess.CompletedProcess(command, 0, told.getvalue(), "")


def brute_psnr(pixels, palette):
    squared = np.square(pixels[:, :, None].astype(float) - palette).sum(axis=3).min(axis=2)
    return 10 * math.log10(255**2 * pixels.size / squared.sum())


@pytest.mark.cluster
@pytest.mark.slow
def test_race(tmp_path, scene, write_raster, benchmark_of, monkeypatch):
    pixels = scene(300, 400)
    image = write_raster(tmp_path / "a.tif", pixels, tiled=True)
    chosen = ["decode", "rgb2pct", "vips", "pngquant", "magick", "pillow quantize", "minibatch"]
    saved = tmp_path / "race.json"
    arguments = ["--scene", image, "--work", tmp_path, "-k", 4, "--rounds", 1, "--json", saved]
    monkeypatch.setattr(sys, "argv", ["gigapixel.py", *map(str, arguments), "--only", *chosen])
    gigapixel = benchmark_of("gigapixel")
    # The contestants run as they will, in processes of their own; what is done around them, here.
    one, there = gigapixel.Run(1.0, 1.0, 1), gigapixel.run
    monkeypatch.setattr(
        gigapixel, "run", lambda words, **at: there(words, **at) if at else here(words) and one
    )
    monkeypatch.setattr(gigapixel, "subprocess", SimpleNamespace(run=here))
    gigapixel.main()
    result = json.loads(saved.read_text())
    rows = {row["name"]: row for row in result["rows"]}
    assert not [row for row in result["rows"] if {"failed", "not_compared"} & row.keys()]

    ours = rows["kmdask: zarr, tiles"]
    palette = kmdask.fit_palette(kmdask.count_colors(da.from_array(pixels)), 4)
    assert ours["psnr"] == pytest.approx(brute_psnr(pixels, palette.colors), abs=0.001)
    assert ours["times_kmdask"] == 1
    assert ours["peak_bytes"] > 5e7
    assert ours["palettes"] == rows["Pillow quantize"]["palettes"] == 1
    assert rows["decode only"]["times_decoding"] == 1
    # Few colours, fitted by anyone: of the same order, and no peer's picture is upside down.
    assert all(abs(row["psnr"] - ours["psnr"]) < 8 for row in rows.values() if "psnr" in row)
    if "libvips dzsave" in rows:
        assert rows["libvips dzsave"]["palettes"] == 10  # one tile on each level of 400 pixels
    names = {each.name for each in benchmark_of("contestants").CONTESTANTS}
    assert rows.keys() | set(result["missing"]) < names
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "race.json"]

    text = "before\n<!-- benchmark race -->\nwhat was there\n<!-- end race -->\nafter\n"
    table = benchmark_of("table")
    written = table.replaced(text, "race", table.race(result))
    assert written.startswith("before\n<!-- benchmark race -->\n\n| 0 megapixels | k |")
    assert "what was there" not in written
    assert written.endswith("\n<!-- end race -->\nafter\n")
    assert "| Pillow quantize | 4 |" in written
    assert table.replaced(written, "race", table.race(result)) == written


def test_entries_of_the_race_fit(benchmark_of):
    gigapixel, contestants = benchmark_of("gigapixel"), benchmark_of("contestants")
    scenes = [
        gigapixel.Scene("scene", Path("a.tif"), 10**9),
        gigapixel.Scene("middle", Path("b.tif"), 4096**2),
    ]
    listed = gigapixel.entries(contestants.CONTESTANTS, scenes, [16, 256])
    on = {(each.contestant.name, each.scene.name, each.k) for each in listed}
    assert len(on) == len(listed)
    assert ("Pillow quantize", "middle", 256) in on
    assert ("scikit-learn KMeans", "middle", 256) not in on
    assert {("decode only", "scene", 16), ("decode only", "middle", 16)} < on
    assert {(contestants.BASE, name, k) for name in ("scene", "middle") for k in (16, 256)} < on


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="there is no wait4")
def test_commands_that_end_badly(benchmark_of):
    processes = benchmark_of("processes")
    with pytest.raises(processes.FailedError, match="no such thing"):
        processes.run([sys.executable, "-c", "raise SystemExit('no such thing')"])
    with pytest.raises(processes.FailedError, match="stopped after"):
        processes.run([sys.executable, "-c", "import time; time.sleep(60)"], limit=0.2)
    held = "held = bytearray(200_000_000); held[::4096] = held[::4096]"
    assert processes.run([sys.executable, "-c", held]).peak_bytes > 2e8


@pytest.mark.parametrize("k", [4, 20])
def test_kernels(scene, benchmark_of, k):
    kernels = benchmark_of("kernels")
    pixels = np.moveaxis(np.moveaxis(scene(100, 130), 2, 0).copy(), 0, 2)
    rows = kernels.measure(kernels.Block(pixels, k), rounds=1)
    assert len({row["name"] for row in rows}) == len(rows) == 27
    assert all(row["millions_per_second"] > 0 for row in rows)


def test_fit(scene, benchmark_of):
    fit, pixels = benchmark_of("fit"), scene(64, 96)
    rows, counts = fit.counted(pixels)
    assert counts.sum() == 64 * 96
    against = fit.against_sklearn(rows, counts, 5, rounds=1)
    assert against["inertia_ratio"]["scikit-learn"] == pytest.approx(1, abs=1e-6)
    assert against["colors"] == len(np.unique(pixels.reshape(-1, 3), axis=0))
    assert against["iterations"]["kmdask"] == against["iterations"]["scikit-learn"]

    against = fit.against_dask_ml(pixels, 4, rounds=1)
    assert against["mse"]["kmdask"] < 1.05 * against["mse"]["dask-ml"]
    palette = kmdask.fit_palette(kmdask.count_colors(da.from_array(pixels)), 4).colors
    psnr = 10 * math.log10(255**2 / against["mse"]["kmdask"])
    assert psnr == pytest.approx(brute_psnr(pixels, palette))


@pytest.mark.cluster
def test_index_bytes(tmp_path, scene, benchmark_of):
    index_bytes = benchmark_of("index_bytes")
    rows = index_bytes.measure(scene(200, 300), 5, tmp_path)
    found = {row["name"]: row for row in rows if "missing" not in row}
    assert {"kmdask, zarr", "PNG, Pillow optimised", "PNG, libdeflate 9"} <= found.keys()
    assert all(row["same"] for row in found.values() if "same" in row)
    folder = tmp_path / "image.kmdask" / "image.zarr" / "indices"
    sizes = [(Path(at) / name).stat().st_size for at, _, files in os.walk(folder) for name in files]
    assert found["kmdask, zarr"]["bytes"] == sum(sizes)
    assert found["kmdask, zarr"]["times_zarr"] == 1


@pytest.mark.cluster
def test_against(tmp_path, write_raster, benchmark_of, monkeypatch, capsys):
    drawings, saved = benchmark_of("drawings"), tmp_path / "against.json"
    drawn = {name: draw(96) for name, draw in drawings.DRAWN.items()}
    assert all((each.shape, each.dtype) == ((96, 96, 3), np.uint8) for each in drawn.values())
    assert np.array_equal(drawings.scan(96), drawn["scan"])
    image = write_raster(tmp_path / "a.tif", drawn["scan"])
    against = benchmark_of("against")
    monkeypatch.setattr(against, "CODECS", ("jpeg", "webp"))
    arguments = [image, "-k", 3, 300, "--side", 96, "--json", saved]
    monkeypatch.setattr(sys, "argv", ["against.py", *map(str, arguments)])
    against.main()
    result = json.loads(saved.read_text())
    rows = {(row["scene"], row["k"]): row for row in result["rows"]}
    assert len(rows) == 8
    assert rows["classes, drawn", 300]["psnr"] == "exact"
    same, row = rows["scan, drawn", 3], rows["a.tif", 3]
    assert same | {"scene": "a.tif"} == row
    table = kmdask.sweep(image, (3,), against=("jpeg",), progress=False)
    assert row["psnr"] == table.sample_psnr(table.points[0])
    assert row["jpeg"]["psnr"] == table.rival_psnr(table.points[0], "jpeg")
    printed = capsys.readouterr().out
    assert f"| a.tif | 3 | {row['bits_per_pixel']:.2f} | {row['psnr']:.1f} |" in printed
    assert "≥ " in printed


def test_smooth(tmp_path, scene, holes, write_raster, benchmark_of):
    smooth = benchmark_of("smooth")
    valid = holes(90, 120)
    image = write_raster(tmp_path / "a.tif", scene(90, 120), mask=np.uint8(255) * valid)
    (part,) = parts = smooth.parts_of(image, 4, None)
    base, some, searched = smooth.measure(parts, 5, (0.0, 0.5), loss=0.03)
    palette = kmdask.fit_palette(kmdask.count_colors(*part), 5).colors
    pixels = scene(90, 120)[valid][:, None]
    assert base["psnr"] == pytest.approx(brute_psnr(pixels, palette))
    assert base["loss"] == base["saved_zstd"] == base["saved_bz2"] == 0
    assert min(some["saved_zstd"], some["saved_bz2"], some["loss"]) > 0
    assert 0 < searched["loss"] <= searched["at_loss"] == 0.03
    more = smooth.measured(parts, kmdask.Palette(palette), 1.02 * searched["smooth"])
    assert base["psnr"] - more["psnr"] > 0.03


@pytest.mark.cluster
def test_entropy(tmp_path, scene, write_raster, benchmark_of, monkeypatch):
    entropy = benchmark_of("entropy")
    monkeypatch.setattr(entropy, "KS", (2, 8, 24))
    image = write_raster(tmp_path / "a.tif", scene(60, 80) & 0xF0)
    row, nothing = [*entropy.measure(image, (2.0, 60.0), None), None]
    assert nothing is None
    assert row["entropy"] <= 2
    plain = kmdask.sweep(image, ks=(24,)).points[0]
    assert row["psnr"] < plain.psnr
    assert row["bytes_to_plain"] * plain.stored_bytes > row["bytes"]


@pytest.mark.cluster
@pytest.mark.slow
def test_growth_and_startup(tmp_path, scene, write_raster, read_raster, benchmark_of, monkeypatch):
    # In processes of their own commands are measured above.
    growth, startup, pixels = benchmark_of("growth"), benchmark_of("startup"), scene(100, 120)
    one = benchmark_of("processes").Run(1.0, 1.0, 1)
    for module in (growth, startup, benchmark_of("gigapixel")):
        monkeypatch.setattr(module, "run", lambda command: here(command) and one)
    image = write_raster(tmp_path / "a.tif", pixels)
    (more,) = growth.along_bands([5], image, tmp_path)
    mosaic = growth.along_pixels([image], tmp_path)[1]
    assert mosaic.value == 4 * 100 * 120
    assert np.array_equal(read_raster(mosaic.source)[0], np.tile(pixels, (2, 2, 1)))
    bands, _ = read_raster(more.source)
    assert bands.shape == (100, 120, 5)
    assert np.array_equal(bands[:, :, :3], pixels)
    rows = growth.measure([mosaic, more], 1, tmp_path)
    assert [(row["axis"], row["value"]) for row in rows] == [("pixels", 48_000), ("bands", 5)]

    rows = startup.measure(image, rounds=1)
    assert len(rows) == 4
    assert all(row["cpu_seconds"] == 1 for row in rows)


@pytest.mark.cluster
@pytest.mark.slow
def test_scale(tmp_path, scene, write_raster, benchmark_of, monkeypatch):
    image = write_raster(tmp_path / "a.tif", scene(1024, 1024), tiled=True)
    arguments = {
        "--scene": [image],
        "--work": [tmp_path],
        "--workers": [1],
        "--rounds": [1],
        "--idle": [1e8],
        "--dry": [1e8, 1e9, 2e13],
        "--most": [1e8],
        "--json": [tmp_path / "result.json"],
    }
    listed = [str(each) for name, values in arguments.items() for each in (name, *values)]
    monkeypatch.setattr(sys, "argv", ["scale.py", *listed])
    benchmark_of("scale").main()
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
    assert "more than 1e+13" in refused["refused"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "result.json"]
