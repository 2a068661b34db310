"""How kmdask scales: with processes, with the number of chunks, and up to which image.

Three parts, each of which can be run alone:

``scaling``
    The same scene on 1, 2, ... worker processes of one thread each, in turn, for some rounds; with
    the seconds that workers spend in each stage, and the bytes that they send, nearly all of them
    to each other.
``overhead``
    The same graphs with tasks that do nothing: what Dask itself needs for a chunk, in processor
    seconds of client and scheduler, against what workers need for it in the first part.
``dry``
    Graphs of images of 10^9 pixels and more, which are built and not computed: tasks, bytes, time,
    memory. Above ``--most`` they are extrapolated from the largest that was built.

Run ``make bench-scale SIZE=100mp``, or ``python benchmarks/scale.py --help``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from distributed import Client, LocalCluster, wait
from passes import Pass, blank, dry_run, hollow, passes, refusal
from scene import build
from sizes import SIZES

import kmdask
from kmdask.reading.describe import describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PARTS = ("scaling", "overhead", "dry")
SIZES_OF_DRY_RUNS = (1e9, 1e10, 1e11, 1e12, 1e13)
GROWING = (
    "chunks",
    "tasks",
    "graph_bytes",
    "plan_seconds",
    "scheduler_seconds",
    "graph_peak_bytes",
)
K = 16


@contextmanager
def processes(n: int) -> Iterator[Client]:
    """Start worker processes of one thread each, on the loopback address."""
    with (
        dask.config.set({"distributed.worker.memory.spill": False}),
        LocalCluster(
            n_workers=n,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def compress(path: Path, client: Client, out: Path) -> dict[str, Any]:
    """Compress once; return what it took, and what the workers did meanwhile."""
    # The first image that a process sees is also the one for which it loads its kernels.
    kmdask.compress(np.zeros((600, 600, 3), np.uint8), K, out / "warm.kmdask", client=client)
    before = _done(client)
    start = time.perf_counter()
    result = kmdask.compress(path, K, out / "scene.kmdask", client=client)
    seconds = time.perf_counter() - start
    after = _done(client)
    for name in ("warm", "scene"):
        shutil.rmtree(out / f"{name}.kmdask")
    busy = {stage: after[0][stage] - before[0].get(stage, 0.0) for stage in after[0]}
    return {
        "seconds": seconds,
        "stages": result.report.seconds,
        "busy": {stage: took for stage, took in busy.items() if took > 0},
        "transferred": after[1] - before[1],
    }


def _done(client: Client) -> tuple[dict[str, float], int]:
    """Seconds that tasks of each stage have run, and bytes that workers have sent each other."""

    def seconds(dask_scheduler: Any) -> dict[str, float]:
        prefixes = dask_scheduler.task_prefixes
        return {name: prefixes[name].all_durations["compute"] for name in prefixes}

    def sent(dask_worker: Any) -> int:
        return int(dask_worker.transfer_outgoing_bytes_total)

    return client.run_on_scheduler(seconds), sum(client.run(sent).values())


def scaling(path: Path, workers: Sequence[int], rounds: int, work: Path) -> dict[str, Any]:
    """Compress with each number of processes in turn."""
    runs: dict[int, list[dict[str, Any]]] = {n: [] for n in workers}
    for _ in range(rounds):
        for n in workers:
            with processes(n) as client:
                runs[n].append(compress(path, client, work))
    seen = describe(path)
    growing = {stage for one in passes(path) for stage in one.stages}
    alone = statistics.median(run["seconds"] for run in runs[workers[0]]) * workers[0]
    rows = {}
    for n, times in runs.items():
        seconds = statistics.median(run["seconds"] for run in times)
        chosen = min(times, key=lambda run: abs(run["seconds"] - seconds))
        # Without the fit, which takes as long for few chunks as for many.
        busy = sum(took for stage, took in chosen["busy"].items() if stage in growing)
        rows[str(n)] = {
            "seconds": seconds,
            "efficiency": alone / (n * seconds),
            "busy_seconds_per_chunk": busy / seen.chunks,
            "transferred_per_chunk": chosen["transferred"] / seen.chunks,
            "stages": chosen["stages"],
            "busy": chosen["busy"],
        }
    height, width = seen.shape
    return {"megapixels": height * width / 1e6, "chunks": seen.chunks, "processes": rows}


def overhead(pixels: float, workers: int, work: Path) -> dict[str, Any]:
    """Run the graphs of an image with tasks that do nothing."""
    path = blank(work / "blank.vrt", pixels)
    chunks = describe(path).chunks
    with processes(workers) as client:
        rows = {one.name: _idle(one, chunks, client) for one in passes(path)}
    return {"pixels": pixels, "chunks": chunks, "processes": workers, "passes": rows}


def _idle(one: Pass, chunks: int, client: Client) -> dict[str, Any]:
    graph = hollow(one.graph)
    start, spent = time.perf_counter(), time.process_time()
    with client.as_current():
        wait(client.get(graph, one.wanted, sync=False))
    # The scheduler is in this process.
    spent, start = time.process_time() - spent, time.perf_counter() - start
    return {
        "stages": {stage: count / chunks for stage, count in one.stages.items()},
        "tasks_per_chunk": one.tasks / chunks,
        "graph_bytes_per_chunk": one.graph_bytes / chunks,
        "build_seconds_per_chunk": one.seconds / chunks,
        "scheduler_seconds_per_chunk": spent / chunks,
        "wall_seconds_per_chunk": start / chunks,
    }


def dry(sizes: Sequence[float], most: float) -> list[dict[str, Any]]:
    """Build the graphs of images of these sizes, each in a process of its own."""
    rows: list[dict[str, Any]] = []
    spawn = multiprocessing.get_context("spawn")
    for pixels in sorted(sizes):
        built = [row for row in rows if "tasks" in row and "extrapolated" not in row]
        if pixels > most and built:
            rows.append(_extrapolated(built[-1], pixels) | refusal(pixels))
            continue
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            rows.append(pool.submit(dry_run, pixels).result())
    return rows


def _extrapolated(row: dict[str, Any], pixels: float) -> dict[str, Any]:
    factor = pixels / row["pixels"]
    grown = {name: type(row[name])(row[name] * factor) for name in GROWING}
    return {**row, **grown, "pixels": pixels, "extrapolated": True}


def share_of_dask(result: dict[str, Any]) -> float | None:
    """What Dask takes of a pixel: seconds of client and scheduler, against those of workers.

    Huge images are read in larger chunks than the scene.
    """
    if not {"scaling", "overhead"} <= result.keys():
        return None
    idle, busy = result["overhead"], result["scaling"]
    dask_seconds = idle["chunks"] * sum(
        row["build_seconds_per_chunk"] + row["scheduler_seconds_per_chunk"]
        for row in idle["passes"].values()
    )
    first = next(iter(busy["processes"].values()))
    seconds = busy["chunks"] * first["busy_seconds_per_chunk"]
    return float(dask_seconds / idle["pixels"] / (seconds / (1e6 * busy["megapixels"])))


def show(result: dict[str, Any]) -> None:
    """Print the result as tables."""
    if "scaling" in result:
        told = result["scaling"]
        print(f"{told['megapixels']:.0f} megapixels in {told['chunks']} chunks, medians")
        print(f"{'processes':>10}{'seconds':>9}{'efficiency':>12}{'s/chunk':>9}{'sent/chunk':>12}")
        for n, row in told["processes"].items():
            print(
                f"{n:>10}{row['seconds']:>9.1f}{row['efficiency']:>12.2f}"
                f"{row['busy_seconds_per_chunk']:>9.3f}"
                f"{row['transferred_per_chunk'] / 1e6:>9.2f} MB"
            )
    for name, row in result.get("overhead", {"passes": {}})["passes"].items():
        stages = ", ".join(f"{stage} {count:.2f}" for stage, count in row["stages"].items())
        print(
            f"{name}: {row['tasks_per_chunk']:.2f} tasks a chunk ({stages}), "
            f"{row['graph_bytes_per_chunk']:.0f} bytes of graph; "
            f"{1e3 * row['build_seconds_per_chunk']:.2f} ms to build, "
            f"{1e3 * row['scheduler_seconds_per_chunk']:.2f} ms of client and scheduler to run"
        )
    if (share := share_of_dask(result)) is not None:
        print(f"Dask takes {share:.2%} of what workers need for the same pixels")
    if "dry" in result:
        print(
            f"{'pixels':>8}{'chunks':>9}{'tasks':>10}{'graph MB':>10}{'plan s':>8}"
            f"{'scheduler s':>12}{'graph GB':>10}{'worker GB':>10}"
        )
    for row in result.get("dry", []):
        notes = ["extrapolated"] * ("extrapolated" in row)
        notes += [f"refused: {row['refused']}"] if "refused" in row else []
        if "tasks" not in row:
            print(f"{row['pixels']:>8.0e}  {'; '.join(notes)}")
            continue
        print(
            f"{row['pixels']:>8.0e}{row['chunks']:>9}{row['tasks']:>10}"
            f"{row['graph_bytes'] / 1e6:>10.1f}{row['plan_seconds']:>8.1f}"
            f"{row['scheduler_seconds']:>12.1f}{row['graph_peak_bytes'] / 1e9:>10.2f}"
            f"{row['worker_bytes'] / 1e9:>10.2f}" + "  " + "; ".join(notes)
        )


def main() -> None:
    """Run the benchmark from the command line."""
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--size", choices=SIZES, default="100mp", help="scene to build")
    parser.add_argument("--scene", type=Path, help="use this image in place of a built one")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "kmdask-bench")
    parser.add_argument("--workers", type=int, nargs="+", default=range(1, cores + 1))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=float, default=2e10, help="pixels of idle graphs")
    parser.add_argument("--dry", type=float, nargs="+", default=SIZES_OF_DRY_RUNS)
    parser.add_argument("--most", type=float, default=1e11, help="pixels of graphs to be built")
    parser.add_argument("--json", type=Path, help="write the result here as well")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    out = Path(tempfile.mkdtemp(dir=args.work))
    result: dict[str, Any] = {"cores": cores}
    try:
        if "scaling" in args.parts:
            path = args.scene or build(args.work / f"scene-{args.size}.tif", args.size)
            result["scaling"] = scaling(path, list(args.workers), args.rounds, out)
        if "overhead" in args.parts:
            result["overhead"] = overhead(args.idle, max(args.workers), out)
        if "dry" in args.parts:
            result["dry"] = dry(args.dry, args.most)
    finally:
        shutil.rmtree(out)
    show(result)
    if args.json:
        args.json.write_text(json.dumps(result | {"dask_share": share_of_dask(result)}, indent=2))


if __name__ == "__main__":
    main()
