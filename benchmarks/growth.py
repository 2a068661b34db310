"""How time and memory of a compression grow: with pixels, k, bands, threads and processes.

One thing is changed at a time, from a compression of a scene with k=16. Each is a process of its
own, timed from outside, in turn with the others for some rounds; medians count, of memory the
greatest. The largest image is a VRT of four copies of the one before, so that no disk has
to hold it. Memory of several processes is what all of them held at one time.

Run ``python benchmarks/growth.py --size 1gp``: pixels from 0.1 to 4.3 gigapixels.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gigapixel import WARM, WARM_A_PIXEL, compile_kernels, made, pixels_of
from processes import Run, folder_of_outputs, run, warm
from sizes import SIZES
from timing import save

if TYPE_CHECKING:
    from collections.abc import Sequence

STEPS = ("100mp", "1gp", "4gp")
KS = (2, 4, 16, 64, 256)
BANDS = (1, 3, 4, 8)
K = 16
AXES = ("pixels", "k", "bands", "threads", "processes")


@dataclass(frozen=True)
class Point:
    """One compression that is measured."""

    axis: str
    value: int
    """What is changed along the axis."""

    source: Path
    reads: Path
    """The file with the pixels, of a VRT another."""

    k: int = K
    options: tuple[str, ...] = ()
    runs: list[Run] = field(default_factory=list)


def along_pixels(scenes: Sequence[Path], out: Path) -> list[Point]:
    """Points of growing images: these, and a mosaic of the last, unless that is the largest."""
    points = [Point("pixels", pixels_of(path), path, path) for path in scenes]
    largest = points[-1]
    if largest.value >= math.prod(SIZES[STEPS[-1]]):
        return points
    four = made(out / "mosaic.vrt", "--of", str(largest.source), "--mosaic")
    return [*points, Point("pixels", 4 * largest.value, four, largest.source)]


def built(sizes: Sequence[str], work: Path) -> list[Path]:
    """Scenes of these sizes."""
    return [made(work / f"scene-{size}.tif", "--size", size) for size in sizes]


def along_bands(bands: Sequence[int], base: Path, out: Path) -> list[Point]:
    """Points of the base with other numbers of bands."""
    points = []
    for number in bands:
        path = made(out / f"bands-{number}.tif", "--of", str(base), "--bands", str(number))
        points.append(Point("bands", number, path, path))
    return points


def along_workers(cores: int, base: Path) -> list[Point]:
    """Points of more threads in one process, and of more processes of one thread."""
    several = [1 << i for i in range(cores.bit_length())]
    return [
        Point(axis, number, base, base, options=("--workers", workers, "--threads", threads))
        for axis in ("threads", "processes")
        for number in several
        for workers, threads in [
            ("1", str(number)) if axis == "threads" else (str(number), "1"),
        ]
    ]


def measure(points: Sequence[Point], rounds: int, out: Path) -> list[dict[str, Any]]:
    """Compress all of them in turn."""
    for number in range(rounds):
        for point in points:
            bundle = Path(tempfile.mkdtemp(dir=out)) / "out.kmdask"
            warm(point.reads, WARM + WARM_A_PIXEL * pixels_of(point.source))
            compress = [sys.executable, "-m", "kmdask", "compress", str(point.source), str(bundle)]
            point.runs.append(run([*compress, "-k", str(point.k), "--quiet", *point.options]))
            shutil.rmtree(bundle.parent)
            done = f"{point.axis} {point.value:,}: {point.runs[-1].seconds:.1f} s"
            print(f"round {number + 1}: {done}", file=sys.stderr, flush=True)
    return [
        {
            "axis": point.axis,
            "value": point.value,
            "seconds": statistics.median(one.seconds for one in point.runs),
            "cpu_seconds": statistics.median(one.cpu_seconds for one in point.runs),
            "peak_bytes": max(one.peak_bytes for one in point.runs),
            "runs": [asdict(one) for one in point.runs],
        }
        for point in points
    ]


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--axes", choices=AXES, nargs="+", default=AXES)
    parser.add_argument("--size", choices=SIZES, default="1gp", help="of the last image but one")
    parser.add_argument("--scene", type=Path, help="use this image in place of built ones")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "kmdask-bench")
    parser.add_argument("-k", type=int, nargs="+", default=KS)
    parser.add_argument("--bands", type=int, nargs="+", default=BANDS)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the result here as well")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    out = folder_of_outputs(args.work)
    try:
        smaller = [each for each in STEPS if math.prod(SIZES[each]) < math.prod(SIZES[args.size])]
        scenes = [args.scene] if args.scene else built([*smaller, args.size], args.work)
        base = scenes[0]
        compile_kernels(base, out)
        points = []
        if "pixels" in args.axes:
            points += along_pixels(scenes, out)
        if "k" in args.axes:
            points += [Point("k", k, base, base, k=k) for k in args.k]
        if "bands" in args.axes:
            points += along_bands(args.bands, base, out)
        points += [each for each in along_workers(args.cores, base) if each.axis in args.axes]
        rows = measure(points, args.rounds, out)
        megapixels = pixels_of(base) / 1e6
    finally:
        shutil.rmtree(out)
    print(f"k={K}, {megapixels:.0f} megapixels unless said otherwise; medians")
    print(f"{'axis':<10}{'value':>15}{'seconds':>9}{'cpu s':>8}{'peak GB':>9}")
    for row in rows:
        print(
            f"{row['axis']:<10}{row['value']:>15,}{row['seconds']:>9.1f}"
            f"{row['cpu_seconds']:>8.1f}{row['peak_bytes'] / 1e9:>9.2f}"
        )
    save(args.json, {"megapixels": megapixels, "k": K, "rounds": args.rounds, "rows": rows})


if __name__ == "__main__":
    main()
