"""The nearest-centre kernel against scikit-learn's ``pairwise_distances_argmin``.

Both get the same pixels and centres in turn, round by round, and the median of the rounds counts:
once with one thread each, once with all cores, which are scikit-learn's own threads and a thread
pool over strips for the kernel. scikit-learn gets contiguous float32 or float64, whichever is
faster for it, and converting to it is not timed; the kernel gets the planar uint16 it is made for.

Pixels are a real scene where ``--scenes`` names a folder with the Sentinel-2 stack, and a
synthetic one otherwise: smooth fields with edges, mixed into the bands, with sensor noise of two
per cent of the range. White noise, the worst case, is measured too.

Run ``python benchmarks/nearest.py --scenes FOLDER --json nearest.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from scipy.ndimage import gaussian_filter
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import pairwise_distances_argmin
from threadpoolctl import threadpool_limits

from kmdask.kernels.nearest import moments_of_pixels, nearest_pixels, search_of

if TYPE_CHECKING:
    from collections.abc import Callable

CASES = ((3, 16), (4, 64), (8, 64), (13, 256))
LARGE = ((4, 4096), (4, 65_536))
STACK = "s2_L2A_T29UNU_20221005_R60m_11band_stack.tif"
CHOICES = {3: (3, 2, 1), 4: (3, 2, 1, 7), 8: (0, 1, 2, 3, 4, 7, 9, 10), 13: range(11)}
CORES = os.cpu_count() or 1
NO_MASK = np.empty((0, 0), np.uint8)
NO_PROJECT = np.empty((0, 0))


def real(folder: Path, bands: int, side: int) -> Any:
    """A part of the stack without nodata; bands 12 and 13 are normalised differences."""
    with rasterio.open(folder / STACK) as src:
        stack = src.read()[:, :side, :side]
    picked = stack[list(CHOICES[bands])]
    if bands > len(stack):
        values = stack.astype(np.float64)
        pairs = [(values[7], values[3]), (values[2], values[7])]
        extra = [5000 * (1 + (a - b) / (a + b + 1)) for a, b in pairs]
        picked = np.concatenate([picked, np.rint(extra).astype(np.uint16)])
    return np.moveaxis(picked, 0, 2)


def synthetic(bands: int, side: int) -> Any:
    """Smooth fields with edges, mixed into the bands, plus noise."""
    rng = np.random.default_rng(bands)
    fields = np.stack(
        [
            gaussian_filter(rng.standard_normal((side, side)), sigma) * sigma
            for sigma in (2, 4, 8, 32)
        ]
    )
    fields[1:] += 0.5 * np.sign(fields[1:])
    signal = np.tensordot(rng.normal(size=(bands, 4)), fields, axes=1)
    signal = (signal - signal.min()) / np.ptp(signal)
    noisy = 500 + 8000 * signal + 160 * rng.standard_normal(signal.shape)
    return np.moveaxis(np.clip(np.rint(noisy), 0, 65_535).astype(np.uint16), 0, 2)


def white(bands: int, side: int) -> Any:
    """Noise alone."""
    rng = np.random.default_rng(bands)
    return np.moveaxis(rng.integers(0, 10_000, (bands, side, side), np.uint16), 0, 2)


def centers_of(pixels: Any, k: int) -> Any:
    """Centres of a sample, or for many a sample itself."""
    rng = np.random.default_rng(0)
    flat = pixels.reshape(-1, pixels.shape[2])
    if k > 1000:
        return flat[rng.choice(len(flat), k, replace=False)].astype(np.float64)
    sample = flat[rng.choice(len(flat), min(len(flat), 50_000), replace=False)]
    model = MiniBatchKMeans(k, random_state=0, n_init=1, batch_size=4096)
    return model.fit(sample.astype(np.float64)).cluster_centers_


def kernel(pixels: Any, centers: Any, threads: int) -> Any:
    """Indices by the kernel, strip by strip."""
    search, scale = search_of(centers), np.ones(pixels.shape[2])
    indices = np.empty(pixels.shape[:2], np.uint16)
    bounds = np.linspace(0, len(pixels), 4 * threads + 1).astype(int) if threads > 1 else [0, None]

    def strip(i: int) -> None:
        part = slice(bounds[i], bounds[i + 1])
        nearest_pixels(
            pixels[part], NO_MASK, NO_PROJECT, scale, search, len(centers), indices[part]
        )

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(strip, range(len(bounds) - 1)))
    return indices


def moments(pixels: Any, centers: Any) -> float:
    """One Lloyd step by the kernel, with one thread."""
    bands, k = pixels.shape[2], len(centers)
    ones = np.ones(bands)
    sums, counts = np.zeros((k, bands), np.int64), np.zeros(k, np.int64)
    arguments = (pixels, NO_MASK, NO_PROJECT, ones, search_of(centers), np.zeros(bands), ones)
    return moments_of_pixels(*arguments, 2.0**40, sums, counts)


def seconds(function: Callable[..., Any], *args: Any) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def contenders(pixels: Any, centers: Any) -> dict[str, Callable[[], Any]]:
    """What is timed, by name."""

    def theirs(dtype: str, threads: int) -> Callable[[], Any]:
        X: Any = np.ascontiguousarray(pixels.reshape(-1, pixels.shape[2]), dtype)
        y: Any = np.ascontiguousarray(centers, dtype)

        def run() -> Any:
            with threadpool_limits(threads):
                return pairwise_distances_argmin(X, y)

        return run

    timed: dict[str, Callable[[], Any]] = {"moments 1": lambda: moments(pixels, centers)}
    for threads in (1, CORES):
        timed[f"kernel {threads}"] = partial(kernel, pixels, centers, threads)
        if len(centers) <= 1000:
            timed[f"float32 {threads}"] = theirs("f4", threads)
            timed[f"float64 {threads}"] = theirs("f8", threads)
    return timed


def measure(pixels: Any, centers: Any, rounds: int) -> dict[str, float]:
    """Median megapixels per second of each, all of them in turn."""
    timed = contenders(pixels, centers)
    times: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(rounds + 1):
        for name, function in timed.items():
            took = seconds(function)
            if number:  # the first compiles
                times[name].append(took)
    megapixels = pixels.shape[0] * pixels.shape[1] / 1e6
    return {name: megapixels / float(np.median(took)) for name, took in times.items()}


def report(data: str, shape: tuple[int, int], speeds: dict[str, float]) -> dict[str, Any]:
    """One row of the table, printed."""
    row: dict[str, Any] = {"data": data, "bands": shape[0], "k": shape[1], **speeds}
    line = f"{data:10}{shape[0]:5}{shape[1]:7}"
    for threads in (1, CORES):
        ours = speeds[f"kernel {threads}"]
        theirs = max(
            (v for n, v in speeds.items() if n in {f"float32 {threads}", f"float64 {threads}"}),
            default=0.0,
        )
        row[f"ratio {threads}"] = ours / theirs if theirs else None
        line += f"{ours:10.2f}{theirs:9.2f}" + (f"{ours / theirs:7.1f} x" if theirs else " " * 9)
    print(line + f"{speeds['moments 1']:10.2f}", flush=True)
    return row


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=1024)
    args = parser.parse_args()
    print("megapixels per second, one thread and all cores: kernel, scikit-learn, ratio; moments")
    makers: dict[str, Callable[[int, int], Any]] = {"synthetic": synthetic, "white": white}
    if args.scenes and (args.scenes / STACK).exists():
        makers = {"real": lambda bands, side: real(args.scenes, bands, side), **makers}
    rows = []
    for data, make in makers.items():
        for bands, k in CASES + (LARGE if data != "white" else ()):
            pixels = make(bands, args.side)
            rounds = args.rounds if k <= 1000 else 1
            speeds = measure(pixels, centers_of(pixels, k), rounds)
            rows.append(report(data, (bands, k), speeds))
    if args.json:
        machine = {"processor": platform.processor() or platform.machine(), "cores": CORES}
        args.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
