"""What the tests share: scenes, writers of every kind of source, independent readers, a cluster.

Most of it is fixtures that hand out functions, so that tests with hypothesis can use them too.
"""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import compiling
import dask
import numpy as np
import pytest
import rasterio
import yaml
import zarr
from distributed import Client, LocalCluster
from distributed.utils import get_mp_context
from forked import Forked
from hypothesis import settings
from rasterio.crs import CRS
from rasterio.errors import NotGeoreferencedWarning
from threadpoolctl import threadpool_limits

import kmdask
from kmdask.connecting.clusters import NO_PROFILE
from kmdask.georef import Georef, GroundControlPoint

# It would be imported, for doctests, and all processes would wait for one that compiles.
collect_ignore = ["preloaded.py"]

compiling.install()
settings.register_profile(
    "kmdask",
    deadline=None,  # the first example compiles kernels
    derandomize=True,  # the same examples everywhere
    max_examples=25,
)
settings.load_profile("kmdask")

REAL_IMAGES = Path(
    os.environ.get("KMDASK_DATA") or Path(__file__).parents[2] / "shared" / "data"
).absolute()


def pytest_collection_finish():
    """Look for garbage as the command line does, less often, and not among what is there by now.

    It was a twelfth of the processor time of three files of tests, and is a twentieth.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)


@pytest.fixture(scope="session", autouse=True)
def forked_workers():
    """Worker processes of clusters are forked from one that has imported what they need.

    By themselves they take seconds of processor time each, for their imports. Those that Dask's own
    commands start, and programs in processes of their own, begin as a user's do.
    """
    paths = map(str, (Path(__file__).parent, Path(kmdask.__file__).parents[1]))
    with (
        pytest.MonkeyPatch.context() as patch,
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),
        dask.config.set(NO_PROFILE),
    ):
        for name, value in NO_PROFILE.items():
            patch.setenv(f"DASK_{name.upper().replace('.', '__')}", str(value))
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))  # it is not told of sys.path
        get_mp_context().set_forkserver_preload(["preloaded"])
        yield


@pytest.fixture(scope="session", autouse=True)
def single_threads():
    """BLAS and OpenMP, of which scikit-learn makes use, get one thread in each process.

    Theirs wait for one another by turning round, which several processes on few cores pay for.
    """
    with pytest.MonkeyPatch.context() as patch, threadpool_limits(1):
        for library in ("OMP", "OPENBLAS"):
            patch.setenv(f"{library}_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="session")
def scene():
    """``scene(height, width, bands=3, seed=0)``: a uint8 picture, smooth, noisy and flat."""

    def make(height, width, bands=3, seed=0):
        rng = np.random.default_rng(seed)
        y, x, band = np.ogrid[:height, :width, :bands]
        slopes = 128 + 90 * np.sin(y / 17 + band) * np.cos(x / 23 - band)
        noisy = slopes + rng.normal(0, 3, (height, width, bands))
        pixels = np.clip(noisy, 0, 255).astype(np.uint8)
        pixels[height // 3 : height // 2, width // 3 :] = rng.integers(256, size=bands)
        return pixels

    return make


@pytest.fixture(scope="session")
def holes():
    """``holes(height, width, seed=0)``: a bool mask, False in a corner and here and there."""

    def make(height, width, seed=0):
        valid = np.random.default_rng(seed).random((height, width)) > 0.1
        valid[: height // 4, : width // 4] = False
        return valid

    return make


@pytest.fixture(scope="session")
def write_raster():
    """``write_raster(path, pixels, mask=None, **profile)``: write (y, x, band) by rasterio.

    A GeoTIFF unless ``driver`` says otherwise; ``mask`` is stored inside it. Returns the path.
    """

    def write(path, pixels, mask=None, **profile):
        height, width, bands = pixels.shape
        fields = {"driver": "GTiff", "dtype": pixels.dtype, "count": bands} | profile
        with warnings.catch_warnings(), rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path, "w", height=height, width=width, **fields) as dataset:
                dataset.write(np.moveaxis(pixels, 2, 0))
                if mask is not None:
                    dataset.write_mask(mask)
        return path

    return write


@pytest.fixture(scope="session")
def read_raster():
    """``read_raster(path)``: all bands (y, x, band) and GDAL's mask (y, x), by rasterio."""

    def read(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as dataset:
                return np.moveaxis(dataset.read(), 0, 2), dataset.dataset_mask()

    return read


@pytest.fixture(scope="session")
def write_zarr():
    """``write_zarr(path, array, **options)``: write one zarr array; returns the path."""

    def write(path, array, **options):
        chunks = options.pop("chunks", tuple(min(size, 16) for size in array.shape))
        zarr.create_array(path, data=array, chunks=chunks, **options)
        return path

    return write


@pytest.fixture(scope="module")
def client():
    """A client of a cluster in this process: one for all runs of a module."""
    with (
        LocalCluster(
            processes=False, n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster, set_as_default=False) as connected,
    ):
        yield connected


@pytest.fixture(scope="module")
def compress(client):
    """``compress(...)``: `kmdask.compress` on that cluster."""
    return lambda *arguments, **options: kmdask.compress(*arguments, client=client, **options)


@pytest.fixture
def start(tmp_path):
    """``start("scheduler" or "worker", *arguments, before=None)``: one of Dask's own processes.

    Workers are without a nanny. With ``before``, what the command line begins with, it is a new one
    of Python; else it is forked, with kmdask imported. All are killed at the end.
    """
    running = []
    dashboard = ["--dashboard-address", "127.0.0.1:0", "--host", "127.0.0.1"]
    own = {"scheduler": ["--port", "0"], "worker": ["--nthreads", "1", "--no-nanny"]}
    environment = os.environ | {"PYTHONPATH": str(Path(kmdask.__file__).parents[1])}

    def run(kind, *arguments, before=None):
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", *dashboard, *own[kind]]
        command += map(str, arguments)
        log = tmp_path / f"{kind}-{len(running)}.log"
        if before is None:
            process = Forked(command, stderr=log)
        else:
            with log.open("w") as file:
                process = subprocess.Popen([*before, *command], env=environment, stderr=file)
        running.append(process)
        return process

    yield run
    for process in reversed(running):
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def real_image():
    """``real_image("odd/truncated.png")``: path of a real image; skips where there are none."""

    def find(name):
        path = REAL_IMAGES / name
        if not path.exists():
            pytest.skip(f"needs real images, which are no part of the project: no {path}")
        return path

    return find


RPCS = {
    "HEIGHT_OFF": "300",
    "HEIGHT_SCALE": "500",
    "LAT_OFF": "41.5",
    "LAT_SCALE": "0.1",
    "LINE_DEN_COEFF": " ".join(["1", *["0.001"] * 19]),
    "LINE_NUM_COEFF": " ".join(["0.5", *["0.002"] * 19]),
    "LINE_OFF": "350",
    "LINE_SCALE": "351",
    "LONG_OFF": "-8.5",
    "LONG_SCALE": "0.2",
    "SAMP_DEN_COEFF": " ".join(["1", *["0.003"] * 19]),
    "SAMP_NUM_COEFF": " ".join(["0.25", *["0.004"] * 19]),
    "SAMP_OFF": "400",
    "SAMP_SCALE": "401",
}
UTM, LONLAT = (CRS.from_epsg(code).to_wkt() for code in (32629, 4326))
NORTH_UP = (10.0, 0.0, 5e5, 0.0, -10.0, 6e6)
GEOREFS = {
    "north-up": Georef(UTM, NORTH_UP),
    "south-up": Georef(UTM, (10.0, 0.0, 5e5, 0.0, 10.0, 6e6)),
    "rotated": Georef(UTM, (10.0, 0.5, 5e5, 0.25, -10.0, 6e6)),
    "point": Georef(UTM, NORTH_UP, point=True),
    "degrees": Georef(LONLAT, (0.1, 0.0, -9.0, 0.0, -0.1, 41.0)),
    "no transform": Georef(UTM),
    "no crs": Georef(None, NORTH_UP),
    "gcps": Georef(
        LONLAT,
        gcps=tuple(
            GroundControlPoint(row, col, col / 100 - 9.0, 41 - row / 100, 30.0, f"p{row}-{col}")
            for row in (0.0, 700.5)
            for col in (0.0, 600.0)
        ),
    ),
    "rpcs": Georef(rpcs=tuple(RPCS.items())),
    "nowhere": Georef(),
}


@pytest.fixture(params=GEOREFS)
def georef(request):
    """Every way of an image to be on the map, one after the other."""
    return GEOREFS[request.param]


@pytest.fixture(scope="session")
def check_place():
    """``check_place(path, georef)``: a GeoTIFF is where it should be, by rasterio."""

    def check(path, georef):
        crs = CRS.from_wkt(georef.crs_wkt) if georef.crs_wkt else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            dataset = rasterio.open(path)
        with dataset:
            points, points_crs = dataset.gcps
            assert (points_crs if georef.gcps else dataset.crs) == crs
            assert [(p.row, p.col, p.x, p.y, p.z) for p in points] == [
                (p.row, p.col, p.x, p.y, p.z) for p in georef.gcps
            ]
            transform = georef.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
            assert tuple(dataset.transform)[:6] == pytest.approx(transform)
            assert dataset.tags().get("AREA_OR_POINT", "Area") == ("Area", "Point")[georef.point]
            rpcs = dataset.tags(ns="RPC")
            for key, value in georef.rpcs:
                assert list(map(float, rpcs[key].split())) == list(map(float, value.split()))

    return check


CLUSTER = Path(__file__).parents[1] / "cluster"
VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::([-?])([^}]*))?\})")


@pytest.fixture(scope="session")
def compose():
    """``compose("compose.yaml", ..., NAME="value")``: the services of files of `cluster/`, merged.

    Variables are filled in as compose does, from the keywords alone; `env_file` is read.
    """

    def load(*names, **variables):
        def fill(match):
            dollar, name, how, default = match.groups()
            assert dollar or variables.get(name) or how == "-", f"{name} has to be given: {default}"
            return "$" if dollar else variables.get(name) or default

        services = {}
        for name in names:
            text = VARIABLE.sub(fill, (CLUSTER / name).read_text(encoding="utf-8"))
            for service, added in yaml.safe_load(text)["services"].items():
                merged = services.setdefault(service, {"environment": {}, "volumes": []})
                lines = (CLUSTER / added.get("env_file", os.devnull)).read_text().splitlines()
                pairs = dict(line.split("=", 1) for line in lines if line and line[0] != "#")
                pairs |= merged["environment"] | added.get("environment", {})
                volumes = merged["volumes"] + added.get("volumes", [])
                merged |= added | {"environment": pairs, "volumes": volumes}
        return services

    return load
