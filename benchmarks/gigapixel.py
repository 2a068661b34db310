"""The race: how long, in how much memory, to how many bytes, how well; kmdask and its peers.

Builds the scene, then in turn, for some rounds, runs every contestant that is installed with every
k: a pass that only decodes, the least there is; kmdask with less and more to write; the peers. Each
is a process of its own, timed from outside with everything it imports, and each finds the
source in the system's cache and memory that was just in use, so that neither the disk nor the host
of a virtual machine is what is measured. Contestants that do not
take so large a scene get the middle of it, and decoding and kmdask the same for comparison.

Ratios are taken round by round, and medians count. What each wrote is compared with the source in
the first round (``quality.py``) and removed. Who is not installed, or failed, is in the result too.

Run ``make bench SIZE=1gp``, or ``python benchmarks/gigapixel.py --help``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contestants import BASE, CONTESTANTS, DECODE, Contestant
from machine import machine, versions
from processes import FailedError, Run, folder_of_outputs, run, warm, written
from sizes import SIZES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HERE = Path(__file__).parent
SIDE = 4096
"""Of the part for contestants that do not take all of the scene."""

WARM, WARM_A_PIXEL = 1 << 30, 5
"""Bytes of memory that are touched before a run: as many as most of them take, with what they
write."""


@dataclass(frozen=True)
class Scene:
    """An image to race on, as all the files it is needed as."""

    name: str
    path: Path
    pixels: int
    others: dict[str, Path] = field(default_factory=dict)

    def file(self, ending: str) -> Path:
        """The file with that ending, or else the one there is, ready to be read."""
        return warm(self.others.get(ending, self.path), WARM + WARM_A_PIXEL * self.pixels)


@dataclass
class Entry:
    """A contestant on a scene with a k, and what came of it."""

    contestant: Contestant
    scene: Scene
    k: int
    runs: list[Run] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)
    """Bytes, PSNR and number of palettes; or why there is nothing."""

    @property
    def over(self) -> bool:
        """Whether it is not to be run again."""
        return "failed" in self.found


def entries(
    contestants: Iterable[Contestant], scenes: Sequence[Scene], ks: Sequence[int]
) -> list[Entry]:
    """Who runs on what: on the largest scene that each takes, the bases on all that are used."""
    listed = [
        Entry(each, next((s for s in scenes if s.pixels <= each.most), scenes[-1]), k)
        for each in contestants
        for k in (ks[:1] if each.name == DECODE else ks)
        if each.needs() and each.takes(k)
    ]
    used = {entry.scene.name: entry.scene for entry in listed}
    there = {(entry.contestant.name, entry.scene.name) for entry in listed}
    bases = [
        Entry(each, scene, k)
        for scene in used.values()
        for each in CONTESTANTS
        if each.name in {DECODE, BASE} and (each.name, scene.name) not in there
        for k in (ks[:1] if each.name == DECODE else ks)
    ]
    return bases + listed


def race(listed: Sequence[Entry], rounds: int, limit: float, patience: float, work: Path) -> None:
    """Run all in turn; once alone what takes longer than `patience`."""
    for number in range(rounds):
        for entry in listed:
            patient = number == 0 or (entry.runs and entry.runs[0].seconds <= patience)
            if entry.over or not patient:
                continue
            try:
                take_turn(entry, number, limit, work)
            except FailedError as error:
                entry.found["failed"] = str(error)
            done = entry.found.get("failed") or f"{entry.runs[-1].seconds:.1f} s"
            what = f"{entry.contestant.name}, k={entry.k}, {entry.scene.name}"
            print(f"round {number + 1}: {what}: {done}", file=sys.stderr, flush=True)


def take_turn(entry: Entry, number: int, limit: float, work: Path) -> None:
    """Run a contestant once, see to what it wrote, and remove it."""
    source = entry.scene.file(entry.contestant.reads)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        out = Path(folder) / f"out{entry.contestant.ending}"
        entry.runs.append(run(entry.contestant.command(source, out, entry.k), limit=limit))
        if number == 0 and entry.contestant.ending:
            entry.found["bytes"] = written(Path(folder))
            entry.found |= compare(entry.scene.path, out)


def compare(source: Path, out: Path) -> dict[str, Any]:
    """PSNR and number of palettes, found out in a process of its own, which is large."""
    command = [sys.executable, str(HERE / "quality.py"), str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"not_compared": done.stderr.strip().rpartition("\n")[2]}
    compared: dict[str, Any] = json.loads(done.stdout)
    return compared


def summary(listed: Sequence[Entry]) -> list[dict[str, Any]]:
    """One row of the result for each."""
    bases = {
        (each.contestant.name, each.scene.name, each.k): each
        for each in listed
        if each.contestant.name in {DECODE, BASE}
    }
    decoded = {each.scene.name: each for each in listed if each.contestant.name == DECODE}
    rows = []
    for entry in listed:
        scene, name = entry.scene, entry.contestant.name
        row: dict[str, Any] = {"name": name, "scene": scene.name, "megapixels": scene.pixels / 1e6}
        row |= {} if name == DECODE else {"k": entry.k}
        row |= {"note": entry.contestant.note} if entry.contestant.note else {}
        row |= entry.found
        if entry.runs:
            chosen = statistics.median(one.seconds for one in entry.runs)
            row |= {
                "seconds": chosen,
                "times_decoding": ratio(entry, decoded.get(scene.name)),
                "times_kmdask": ratio(entry, bases.get((BASE, scene.name, entry.k)))
                if name != DECODE
                else None,
                "cores_busy": statistics.median(one.cores for one in entry.runs),
                "peak_bytes": max(one.peak_bytes for one in entry.runs),
                "runs": [asdict(one) for one in entry.runs],
            }
        rows.append(row)
    return rows


def ratio(entry: Entry, base: Entry | None) -> float | None:
    """Median of the ratios of seconds, round by round."""
    pairs = zip(entry.runs, base.runs if base else [], strict=False)
    ratios = [one.seconds / other.seconds for one, other in pairs]
    return statistics.median(ratios) if ratios else None


def show(result: dict[str, Any]) -> None:
    """Print the result as a table."""
    told = result["machine"]
    print(f"{told['processor']}, {told['cores']} cores, {told['memory_gb']:.0f} GB; medians")
    print(
        f"{'':<28}{'MP':>6}{'k':>5}{'seconds':>9}{'x decode':>9}{'x kmdask':>9}"
        f"{'cores':>6}{'peak GB':>9}{'MB out':>9}{'PSNR':>7}{'palettes':>9}"
    )
    for row in result["rows"]:
        line = f"{row['name']:<28}{row['megapixels']:>6.0f}{row.get('k', ''):>5}"
        if "seconds" not in row:
            print(f"{line}  {row['failed']}")
            continue
        line += f"{row['seconds']:>9.1f}{_or_blank(row['times_decoding'], '9.2f')}"
        line += f"{_or_blank(row['times_kmdask'], '9.2f')}{row['cores_busy']:>6.1f}"
        line += f"{row['peak_bytes'] / 1e9:>9.2f}"
        if "bytes" in row:
            line += f"{row['bytes'] / 1e6:>9.1f}{_or_blank(row.get('psnr'), '7.2f')}"
            line += _or_blank(row.get("palettes"), "9")
        print(line + (f"  {row['failed']}" if "failed" in row else ""))
    for name in result["missing"]:
        print(f"not installed: {name}")


def _or_blank(value: float | None, form: str) -> str:
    width = int(form.partition(".")[0])
    return " " * width if value is None else f"{value:>{form}}"


def made(path: Path, *arguments: str) -> Path:
    """Have ``scene.py`` make a file, in a process of its own, unless it is there."""
    if not path.exists():
        partial = path.with_name(f"making-{path.name}")
        run([sys.executable, str(HERE / "scene.py"), str(partial), *arguments])
        partial.rename(path)
    return path


def pixels_of(path: Path) -> int:
    """How many pixels an image has."""
    command = [sys.executable, str(HERE / "scene.py"), str(path), "--pixels"]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


def prepared(path: Path, work: Path) -> list[Scene]:
    """Return the scene, and the middle of it; with both as PNG where one is needed."""
    pixels = pixels_of(path)
    scenes = [Scene("scene", path, pixels)]
    if pixels > SIDE**2:
        of = ("--of", str(path), "--crop", str(SIDE))
        middle = made(work / "middle.tif", *of)
        scenes.append(Scene("middle", middle, SIDE**2))
    last = max(each.most for each in CONTESTANTS if each.reads == ".png")
    png_of = next((each for each in scenes if each.pixels <= last), scenes[-1])
    of = ("--of", str(png_of.path), "--crop", str(1 << 20))
    png_of.others[".png"] = made(work / f"{png_of.name}.png", *of)
    return scenes


def compile_kernels(path: Path, work: Path) -> None:
    """Run kmdask once on little: the first run on a machine waits for the compiler."""
    little = made(work / "little.tif", "--of", str(path), "--crop", "1024")
    compress = [sys.executable, "-m", "kmdask", "compress", str(little)]
    run([*compress, str(work / "little.kmdask"), "-k", "4", "--quiet", "--cog"])


def main() -> None:
    """Run the benchmark from the command line."""
    names = [each.name for each in CONTESTANTS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="1gp", help="scene to build")
    parser.add_argument("--scene", type=Path, help="use this image in place of a built one")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "kmdask-bench")
    parser.add_argument("-k", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="WORD", help=f"those of {', '.join(names)}")
    parser.add_argument(
        "--limit", type=float, default=3600, help="seconds after which a run is ended"
    )
    parser.add_argument(
        "--patience", type=float, default=600, help="what takes more seconds is run once"
    )
    parser.add_argument("--json", type=Path, help="write the result here as well")
    args = parser.parse_args()
    words = [word.lower() for word in args.only or [""]]
    chosen = [each for each in CONTESTANTS if any(word in each.name.lower() for word in words)]
    args.work.mkdir(parents=True, exist_ok=True)
    path = args.scene or made(args.work / f"scene-{args.size}.tif", "--size", args.size)
    out = folder_of_outputs(args.work)
    try:
        compile_kernels(path, out)
        listed = entries(chosen, prepared(path, out), args.k)
        before = machine()
        race(listed, args.rounds, args.limit, args.patience, out)
    finally:
        shutil.rmtree(out)
    result = {
        "scene": args.size if args.scene is None else args.scene.name,
        "source_bytes": path.stat().st_size,
        "machine": before,
        "versions": versions(),
        "rounds": args.rounds,
        "missing": [each.name for each in chosen if not each.needs()],
        "rows": summary(listed),
    }
    show(result)
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
