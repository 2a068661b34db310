"""The fit alone: kmdask's k-means against scikit-learn's, and against stock dask-ml's.

``scikit-learn``
    Both on the same different colours, weighted by their counts, from the same start with the same
    tolerance: where they end is the same, and how soon they do can be compared. scikit-learn is
    faster in float32, but its sums are less exact then, and it stops elsewhere.
``dask-ml``
    From pixels in memory to centres, each as it comes: counting and fitting here, dask-ml's KMeans
    on all pixels there; with the mean squared error over all pixels that each ends with.

In one process, in turn, after a first fit to few colours that compiles; both use all cores.

Run ``python benchmarks/fit.py --size 16mp``.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
from dask_ml.cluster import KMeans as DaskMLKMeans
from middle import parser_of, read
from sklearn.cluster import KMeans as SklearnKMeans
from timing import in_turn, ratio, save

import kmdask
from kmdask.fitting.plus_plus import plus_plus

if TYPE_CHECKING:
    from collections.abc import Callable

PARTS = ("scikit-learn", "dask-ml")
ROWS = 1 << 20
SEEDED = 1 << 15
Rows = npt.NDArray[np.float64]
Weights = npt.NDArray[np.float64]


def inertia(rows: Rows, weights: Weights, centers: Any) -> float:
    """Weighted sum of squared distances to the nearest centre, by brute force, in float64."""
    centers = np.asarray(centers, np.float64)
    total = 0.0
    for start in range(0, len(rows), 1 << 14):
        part = rows[start : start + (1 << 14)].astype(np.float64)
        squared = sum((part[:, j, None] - centers[:, j]) ** 2 for j in range(part.shape[1]))
        total += float(weights[start : start + (1 << 14)] @ np.min(squared, axis=1))
    return total


def against_sklearn(
    rows: Rows, counts: npt.NDArray[np.int64], k: int, rounds: int
) -> dict[str, Any]:
    """Fit both to the same colours from the same start."""
    weights = counts.astype(np.float64)
    some = np.sort(np.random.default_rng(0).permutation(len(rows))[:SEEDED])
    rng = np.random.default_rng(0)
    start = plus_plus(rows[some], weights[some], k, rng)
    # Off the grid of whole numbers: colours as near to two centres would go here to one and there
    # to the other, as distances are rounded, and both would end elsewhere.
    start += rng.normal(scale=0.01, size=start.shape)
    # In one block, as a compression joins them.
    block = da.from_array(rows, chunks=-1), da.from_array(counts, chunks=-1)
    fitted: dict[str, Any] = {}

    def ours() -> None:
        fitted["kmdask"] = kmdask.KMeans(k, init=start).fit(block[0], sample_weight=block[1])

    def theirs(name: str, samples: npt.NDArray[Any]) -> None:
        model = SklearnKMeans(k, init=start, n_init=1)
        fitted[name] = model.fit(samples, sample_weight=weights)

    functions: dict[str, Callable[[], None]] = {
        "kmdask": ours,
        "scikit-learn": partial(theirs, "scikit-learn", rows),
        "scikit-learn, float32": partial(theirs, "scikit-learn, float32", rows.astype(np.float32)),
    }
    kmdask.KMeans(k, init=start, max_iter=2).fit(block[0], sample_weight=block[1])
    times = in_turn(functions, rounds)
    ends = {name: inertia(rows, weights, fitted[name].cluster_centers_) for name in fitted}
    return {
        "k": k,
        "colors": len(rows),
        "seconds": {name: statistics.median(took) for name, took in times.items()},
        "iterations": {name: int(model.n_iter_) for name, model in fitted.items()},
        "times_faster": {
            name: ratio(took, times["kmdask"]) for name, took in times.items() if name != "kmdask"
        },
        "inertia": ends,
        "inertia_ratio": {name: ends["kmdask"] / end for name, end in ends.items()},
        "runs": times,
    }


def against_dask_ml(pixels: npt.NDArray[np.uint8], k: int, rounds: int) -> dict[str, Any]:
    """Fit both to the same pixels, each as it comes."""
    image = da.from_array(pixels, chunks=(4096, 4096, -1))
    flat = da.from_array(pixels.reshape(-1, pixels.shape[2]).astype(np.float32), chunks=(ROWS, -1))
    centers: dict[str, Any] = {}

    def ours() -> None:
        colors = kmdask.count_colors(image)
        centers["kmdask"] = kmdask.fit_palette(colors, k).colors

    def theirs() -> None:
        centers["dask-ml"] = DaskMLKMeans(k, random_state=0).fit(flat).cluster_centers_

    kmdask.fit_palette(kmdask.count_colors(image[:256, :256]), k)
    times = in_turn({"kmdask": ours, "dask-ml": theirs}, rounds)
    rows, counts = counted(pixels)
    samples = pixels.size
    errors = {
        name: inertia(rows, counts.astype(np.float64), found) / samples
        for name, found in centers.items()
    }
    return {
        "k": k,
        "megapixels": pixels.shape[0] * pixels.shape[1] / 1e6,
        "seconds": {name: statistics.median(took) for name, took in times.items()},
        "times_faster": ratio(times["dask-ml"], times["kmdask"]),
        "mse": errors,
        "runs": times,
    }


def counted(pixels: npt.NDArray[np.uint8]) -> tuple[Rows, npt.NDArray[np.int64]]:
    """The different colours of an image, near ones together, and how often each occurs."""
    image = da.from_array(pixels, chunks=(4096, 4096, -1))
    colors = kmdask.count_colors(image)
    rows, counts = dask.compute(colors.colors, colors.counts)
    return rows, counts


def show(result: dict[str, Any]) -> None:
    """Print the result."""
    if "scikit-learn" in result:
        row = result["scikit-learn"]
        seconds, steps = row["seconds"], row["iterations"]
        print(
            f"{row['colors']:,} colours, k={row['k']}: {seconds['kmdask']:.2f} s "
            f"in {steps['kmdask']} steps"
        )
        for name, faster in row["times_faster"].items():
            print(
                f"{name}: {seconds[name]:.2f} s in {steps[name]}: {faster:.1f} x as fast, "
                f"inertia {row['inertia_ratio'][name] - 1:+.1e}"
            )
    if "dask-ml" in result:
        row = result["dask-ml"]
        ours, theirs = row["seconds"]["kmdask"], row["seconds"]["dask-ml"]
        print(
            f"{row['megapixels']:.1f} megapixels, k={row['k']}: {ours:.2f} s, dask-ml "
            f"{theirs:.2f} s: {row['times_faster']:.1f} x as fast; "
            f"MSE {row['mse']['kmdask']:.3f} against {row['mse']['dask-ml']:.3f}"
        )


def main() -> None:
    """Run the benchmark from the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--parts", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("-k", type=int, default=256, help="against scikit-learn")
    parser.add_argument("--dask-ml-k", type=int, default=16, help="against dask-ml")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    pixels = np.ascontiguousarray(read(args))
    result: dict[str, Any] = {"rounds": args.rounds}
    if "scikit-learn" in args.parts:
        result["scikit-learn"] = against_sklearn(*counted(pixels), args.k, args.rounds)
    if "dask-ml" in args.parts:
        result["dask-ml"] = against_dask_ml(pixels, args.dask_ml_k, args.rounds)
    show(result)
    save(args.json, result)


if __name__ == "__main__":
    main()
