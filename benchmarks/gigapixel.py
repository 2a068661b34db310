"""How long a gigapixel takes, against the least that it can take: decoding it once.

Builds the scene, then in turn, for some rounds, decodes all of it with as many threads as there
are cores, and compresses it with every k, all outputs. Each is a process of its own, timed from
outside with everything it imports, its peak memory as the system accounts for it, and each finds
the source in the system's cache, so that the disk is not what is measured.

Run ``make bench``, or ``python benchmarks/gigapixel.py --help``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scene import SIZES, build

from kmdask.chunks import SHARD
from kmdask.reading.sources import find_source


@dataclass(frozen=True)
class Run:
    """What one process took."""

    seconds: float
    peak_gb: float


def run(*arguments: str | os.PathLike[str]) -> Run:
    """Run Python with these arguments until it ends."""
    start = time.perf_counter()
    command = [sys.executable, *(os.fspath(argument) for argument in arguments)]
    pid = os.posix_spawn(sys.executable, command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return Run(time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9)


def decode(path: Path) -> None:
    """Read every pixel once, in the chunks of a compression, and drop it."""
    source = find_source(str(path))
    height, width = source.shape
    windows = [
        (slice(y, min(y + SHARD, height)), slice(x, min(x + SHARD, width)))
        for y in range(0, height, SHARD)
        for x in range(0, width, SHARD)
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda window: source.read(*window).nbytes, windows):
            pass


def warm(path: Path) -> Path:
    """Read a file through, so that every run finds it in the system's cache."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass
    return path


def compare(path: Path, ks: list[int], rounds: int, work: Path) -> dict[str, list[Run]]:
    """Decode and compress in turn."""
    runs: dict[str, list[Run]] = {name: [] for name in ("decode", *(f"k={k}" for k in ks))}
    for _ in range(rounds):
        runs["decode"].append(run(__file__, "--decode", warm(path)))
        for k in ks:
            out = work / f"{k}.kmdask"
            arguments = ("compress", warm(path), out, "-k", str(k), "-q", "--overwrite")
            runs[f"k={k}"].append(run("-m", "kmdask", *arguments))
    return runs


def summary(path: Path, runs: dict[str, list[Run]], work: Path) -> dict[str, Any]:
    """Medians, and ratios to decoding round by round."""
    height, width = find_source(str(path)).shape
    result: dict[str, Any] = {"megapixels": height * width / 1e6}
    result["cores"] = os.cpu_count()
    for name, times in runs.items():
        ratios = [
            one.seconds / base.seconds for one, base in zip(times, runs["decode"], strict=True)
        ]
        row: dict[str, Any] = {
            "seconds": statistics.median(one.seconds for one in times),
            "ratio": statistics.median(ratios),
            "peak_gb": max(one.peak_gb for one in times),
        }
        report = work / f"{name.removeprefix('k=')}.kmdask" / "report.json"
        if report.exists():
            row["report"] = json.loads(report.read_text())
        result[name] = row
    return result


def show(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    print(f"{result['megapixels']:.0f} megapixels, {result['cores']} cores, medians")
    print(f"{'':<8}{'seconds':>9}{'x decode':>10}{'peak GB':>9}{'PSNR':>8}{'bits/px':>9}  stages")
    for name, row in result.items():
        if isinstance(row, dict):
            line = f"{name:<8}{row['seconds']:>9.1f}{row['ratio']:>10.2f}{row['peak_gb']:>9.2f}"
            if report := row.get("report"):
                stages = ", ".join(f"{key} {value:.1f}" for key, value in report["seconds"].items())
                line += f"{report['psnr']:>8.2f}{report['bits_per_pixel']:>9.3f}  {stages}"
            print(line)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="1gp", help="scene to build")
    parser.add_argument("--scene", type=Path, help="use this image in place of a built one")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "kmdask-bench")
    parser.add_argument("-k", type=int, nargs="+", default=[16, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the result here as well")
    parser.add_argument("--decode", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.decode:
        decode(args.decode)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    path = args.scene or build(args.work / f"scene-{args.size}.tif", args.size)
    out = Path(tempfile.mkdtemp(dir=args.work))
    try:
        result = summary(path, compare(path, args.k, args.rounds, out), out)
    finally:
        shutil.rmtree(out)
    show(result)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
