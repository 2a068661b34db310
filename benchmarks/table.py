"""Write the README's tables from what the benchmarks have saved.

A table stands between two comments, ``<!-- benchmark NAME -->`` and ``<!-- end NAME -->``; names
are those of the files in the folder of results: ``race.json`` (``gigapixel.py``), ``fit.json``,
``growth.json``, ``index_bytes.json``, ``against.json``, ``kernels.json``, ``startup.json``. What
has no comments in the text, or no file, is left alone.

Run ``python benchmarks/table.py README.md --results FOLDER``, with any number of texts; without one
it prints all.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Result = dict[str, Any]

CODEC_NAMES = {"jpeg": "JPEG", "webp": "WebP", "jxl": "JPEG XL"}


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None, form: str = ".1f") -> str:
    """A number, or nothing."""
    return "" if value is None else f"{value:{form}}"


def conditions(result: Result) -> str:
    """What a result was had on."""
    told = result["machine"]
    return f"{told['processor']}, {told['cores']} cores, {told['memory_gb']:.0f} GB"


def rounds_of(result: Result) -> str:
    """How often each was run."""
    return "one run each" if result["rounds"] == 1 else f"medians of {result['rounds']}"


def race(result: Result) -> str:
    """The race, scene by scene, the largest first."""
    parts = []
    for size in sorted({row["megapixels"] for row in result["rows"]}, reverse=True):
        rows = [row for row in result["rows"] if row["megapixels"] == size]
        heads = (
            *(f"{rows[0]['megapixels']:,.0f} megapixels", "k", "seconds", "x decoding", "x kmdask"),
            *("cores busy", "peak GB", "MB written", "PSNR", "palettes"),
        )
        parts.append(table(heads, [_racer(row) for row in rows]))
    often = rounds_of(result)
    if result["rounds"] > 1:
        least = min(len(row["runs"]) for row in result["rows"] if "runs" in row)
        span = f"{least} to " if least < result["rounds"] else ""
        often = f"medians of {span}{result['rounds']} rounds, ratios round by round"
    found = "; ".join(f"{name} {said}" for name, said in result["versions"].items())
    notes = {row["name"]: row["note"] for row in result["rows"] if "note" in row}
    parts += [
        (
            f"{conditions(result)}; `{result['scene']}`; "
            f"{often}; x kmdask is against zarr and tiles with the same k on the same pixels."
        ),
        " ".join(f"{name}: {note}." for name, note in notes.items()),
    ]
    if result["missing"]:
        parts.append(f"Not installed: {', '.join(result['missing'])}.")
    parts += [f"Versions: {found}.", f"Repeat it with `make bench {_asked(result)}`."]
    return "\n\n".join(part for part in parts if part)


def _asked(result: Result) -> str:
    scene = str(result["scene"])
    return f'ARGS="--scene {scene}"' if "." in scene else f"SIZE={scene}"


def _racer(row: Result) -> list[str]:
    cells = [row["name"], str(row.get("k", ""))]
    if "seconds" not in row:
        return [*cells, row["failed"], *[""] * 7]
    return [
        *cells,
        number(row["seconds"]),
        number(row["times_decoding"], ".2f"),
        number(row["times_kmdask"], ".2f"),
        number(row["cores_busy"]),
        number(row["peak_bytes"] / 1e9, ".2f"),
        number(row["bytes"] / 1e6) if "bytes" in row else "",
        number(row.get("psnr"), ".2f"),
        number(row.get("palettes"), ",.0f"),
    ]


def growth(result: Result) -> str:
    """How time and memory grow."""
    rows = [
        [
            row["axis"],
            f"{row['value']:,}",
            number(row["seconds"]),
            number(row["cpu_seconds"]),
            number(row["peak_bytes"] / 1e9, ".2f"),
        ]
        for row in result["rows"]
    ]
    base = f"{result['megapixels']:,.0f} megapixels of three bands, k = {result['k']}"
    heads = ("what grows", "to", "seconds", "processor seconds", "peak GB")
    text = f"{conditions(result)}; {rounds_of(result)}; {base} unless said otherwise."
    return f"{table(heads, rows)}\n\n{text}"


def fit(result: Result) -> str:
    """The fits."""
    rows = []
    if row := result.get("scikit-learn"):
        for name, faster in row["times_faster"].items():
            what = f"k-means on {row['colors']:,} colours, k = {row['k']}, against {name}"
            ended = f"inertia {row['inertia_ratio'][name] - 1:+.1e}"
            rows.append((what, row["seconds"]["kmdask"], row["seconds"][name], faster, ended))
    if row := result.get("dask-ml"):
        what = f"{row['megapixels']:.1f} megapixels, k = {row['k']}, against stock dask-ml"
        ended = f"MSE {row['mse']['kmdask']:.2f}, theirs {row['mse']['dask-ml']:.2f}"
        seconds = row["seconds"]
        rows.append((what, seconds["kmdask"], seconds["dask-ml"], row["times_faster"], ended))
    cells = [
        [what, number(ours, ".2f"), number(theirs), number(faster), ended]
        for what, ours, theirs, faster, ended in rows
    ]
    heads = ("fit", "kmdask, s", "theirs, s", "times as fast", "end")
    return f"{table(heads, cells)}\n\n{conditions(result)}; {rounds_of(result)}."


def index_bytes(result: Result) -> str:
    """Bytes of the same indices."""
    ks = list(dict.fromkeys(row["k"] for row in result["rows"]))
    names: dict[str, dict[int, Result]] = {}
    for row in result["rows"]:
        names.setdefault(row["name"], {})[row["k"]] = row
    rows = []
    for name, by_k in names.items():
        first = next(iter(by_k.values()))
        parts = first.get("random_access", "not installed")
        changed = [str(k) for k, row in by_k.items() if row.get("same") is False]
        note = f" (changes colours at k = {', '.join(changed)})" if changed else ""
        bits = [number(by_k[k].get("bits_per_pixel"), ".3f") for k in ks]
        rows.append([f"{name}{note}", *bits, parts])
    heads = ("bits per pixel", *(f"k = {k}" for k in ks), "decodes in parts")
    return table(heads, rows)


def against(result: Result) -> str:
    """Palettes against other codecs."""
    rows = []
    for row in result["rows"]:
        cells = [row["scene"], str(row["k"]), number(row["bits_per_pixel"], ".2f")]
        rivals = [_reached(**row[codec]) for codec in result["codecs"]]
        rows.append([*cells, _reached(row["psnr"]), *rivals])
    names = [CODEC_NAMES[codec] for codec in result["codecs"]]
    heads = ("scene, PSNR in dB in the same bytes", "k", "bits per pixel", "palette", *names)
    left = [CODEC_NAMES[codec] for codec in result["missing"]]
    return table(heads, rows) + (f"\n\nNot installed: {', '.join(left)}." if left else "")


def _reached(psnr: float | str | None, *, at_least: bool = False) -> str:
    if psnr is None:
        return "needs more"
    return psnr if isinstance(psnr, str) else f"{'≥ ' * at_least}{psnr:.1f}"


def kernels(result: Result) -> str:
    """Each kernel."""
    rows = [
        [row["name"], str(row["k"]), number(row["millions_per_second"]), row["of"]]
        for row in result["rows"]
    ]
    heads = ("kernel, one thread", "k", "millions a second", "of")
    return f"{table(heads, rows)}\n\n{conditions(result)}; {rounds_of(result)}."


def startup(result: Result) -> str:
    """Starting up."""
    rows = [[row["name"], number(row["seconds"], ".2f")] for row in result["rows"]]
    text = f"{conditions(result)}; {rounds_of(result)}."
    return f"{table(('', 'seconds'), rows)}\n\n{text}"


TABLES: dict[str, Callable[[Result], str]] = {
    "race": race,
    "growth": growth,
    "fit": fit,
    "index_bytes": index_bytes,
    "against": against,
    "kernels": kernels,
    "startup": startup,
}


def replaced(text: str, name: str, written: str) -> str:
    """A text with what is between the comments of that name replaced."""
    between = re.compile(rf"(<!-- benchmark {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
    return between.sub(lambda found: f"{found[1]}\n{written}\n\n{found[2]}", text)


def main() -> None:
    """Write tables from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("texts", type=Path, nargs="*", help="Markdown files with the comments")
    parser.add_argument("--results", type=Path, required=True, help="the folder of JSON files")
    args = parser.parse_args()
    tables = {
        name: made(json.loads(path.read_text()))
        for name, made in TABLES.items()
        if (path := args.results / f"{name}.json").exists()
    }
    for path in args.texts:
        text = path.read_text(encoding="utf-8")
        for name, written in tables.items():
            text = replaced(text, name, written)
        path.write_text(text, encoding="utf-8")
    if not args.texts:
        for name, written in tables.items():
            print(f"## {name}\n\n{written}\n")


if __name__ == "__main__":
    main()
