"""What is there before the first pixel: an import, the help, the compression of a megapixel.

Each is a process of its own, run once uncounted, so that kernels are compiled and files are in the
system's cache, then in turn for some rounds. A Python that does nothing is the least there is.

Run ``python benchmarks/startup.py``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gigapixel import made
from processes import run
from timing import save

if TYPE_CHECKING:
    from processes import Run


def commands(scene: Path, out: Path) -> dict[str, list[str]]:
    """What is run, by name."""
    kmdask = [sys.executable, "-m", "kmdask"]
    return {
        "python": [sys.executable, "-c", "pass"],
        "import kmdask": [sys.executable, "-c", "import kmdask"],
        "kmdask --help": [*kmdask, "--help"],
        "compress, 1 megapixel": [
            *kmdask,
            *("compress", str(scene), str(out / "little.kmdask"), "-k", "16", "-q", "--overwrite"),
        ],
    }


def measure(scene: Path, rounds: int) -> list[dict[str, Any]]:
    """Run all of them in turn."""
    with tempfile.TemporaryDirectory() as folder:
        listed = commands(scene, Path(folder))
        runs: dict[str, list[Run]] = {name: [] for name in listed}
        for number in range(rounds + 1):
            for name, command in listed.items():
                took = run(command)
                if number:
                    runs[name].append(took)
    return [
        {
            "name": name,
            "seconds": statistics.median(one.seconds for one in times),
            "cpu_seconds": statistics.median(one.cpu_seconds for one in times),
            "peak_bytes": max(one.peak_bytes for one in times),
            "runs": [asdict(one) for one in times],
        }
        for name, times in runs.items()
    ]


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "kmdask-bench")
    parser.add_argument("--scene", type=Path, help="use this image in place of a built one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the result here as well")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    scene = args.scene or made(args.work / "scene-1mp.tif", "--size", "1mp")
    rows = measure(scene, args.rounds)
    for row in rows:
        print(f"{row['name']:<24}{row['seconds']:>7.2f} s{row['cpu_seconds']:>7.2f} s of processor")
    save(args.json, {"rounds": args.rounds, "rows": rows})


if __name__ == "__main__":
    main()
