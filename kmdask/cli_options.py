"""Options that commands take, and what those that name a cluster mean together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from kmdask.connecting.clusters import Local, Remote

CONNECTING = (
    "scheduler",
    "scheduler_file",
    "tls_ca_file",
    "tls_cert",
    "tls_key",
    "workers",
    "threads",
    "memory_limit",
)
"""The options that `chosen` takes."""


def options(*added: Callable[..., Any]) -> Callable[..., Any]:
    """Add several options to a command."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(added):
            command = option(command)
        return command

    return add


class Parsed(click.ParamType[Any]):
    """A text that stands for something else."""

    name = "parsed"

    def __init__(self, metavar: str, parse: Callable[[str], Any], wanted: str) -> None:
        self.metavar, self.parse, self.wanted = metavar, parse, wanted

    def get_metavar(self, *_: Any, **__: Any) -> str:
        """Return what the help shows."""
        return self.metavar

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse; a sequence is parsed already."""
        if isinstance(value, tuple | list):
            return value
        try:
            return self.parse(str(value))
        except ValueError:
            self.fail(f"{value!r} is {self.wanted}", param, ctx)


def numbers(kind: type[int | float], word: str | None = None) -> Parsed:
    """Numbers with commas between them, or one word."""

    def parse(text: str) -> tuple[float, ...] | str:
        return text if text == word else tuple(map(kind, text.split(",")))

    more, other = ("", "") if word is None else (f"|{word}", f", or {word}")
    return Parsed(f"N,N,...{more}", parse, f"not a list of numbers such as 4,3,2{other}")


def number_or(name: str, word: str) -> Parsed:
    """A whole number, or a word."""

    def parse(text: str) -> int | str:
        return text if text == word else int(text)

    return Parsed(f"N|{word}", parse, f"neither a number of {name} nor {word}")


WORDS = Parsed("NAME,NAME,...", lambda text: tuple(text.split(",")), "no list of names")
"""Words with commas between them."""


def _color(text: str) -> tuple[str | tuple[float, ...], ...]:
    parts = [part.strip() for part in text.split(",")]
    if all(part.startswith("#") for part in parts):
        return tuple(parts)
    return (tuple(int(part) if part.isdigit() else float(part) for part in parts),)


COLORS = Parsed("#RRGGBB,...|N,N,...", _color, "neither colours such as '#1b9e77' nor numbers")
"""Hexadecimal colours with commas between them, or one colour by the values of its bands."""


def _joined(
    _ctx: click.Context,
    _param: click.Parameter,
    value: tuple[tuple[str | tuple[float, ...], ...], ...],
) -> list[str | tuple[float, ...]] | None:
    return [color for colors in value for color in colors] or None


connecting = options(
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Dask scheduler to use: tcp://host:8786, tls://host:8786, or its scheduler file.  "
        "[default: the configured one, else this machine]",
    ),
    click.option("--scheduler-file", metavar="FILE", help="The file a scheduler wrote."),
    click.option("--tls-ca-file", metavar="FILE", help="For tls://: who signs for the cluster."),
    click.option("--tls-cert", metavar="FILE", help="For tls://: certificate to show."),
    click.option("--tls-key", metavar="FILE", help="For tls://: its key."),
    click.option("--workers", type=int, help="On this machine: number of worker processes."),
    click.option("--threads", type=int, help="On this machine: threads of each worker."),
    click.option(
        "--memory-limit", metavar="SIZE", help="On this machine: memory of each worker, as 2GB."
    ),
)
telling = options(
    click.option(
        "-q", "--quiet", is_flag=True, help="Show no progress, only the result and errors."
    ),
    click.option("-v", "--verbose", count=True, help="Log what is done; twice for more."),
)
talking = options(
    click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    telling,
)
choosing = options(
    click.option(
        "-k",
        "k",
        type=number_or("colours", "auto"),
        help="Number of colours, 1 to 65536; auto: where more begin to gain less, 2 to 256.",
    ),
    click.option(
        "--psnr",
        type=float,
        help="The fewest colours of this PSNR in dB, after --smooth, in place of -k.",
    ),
    click.option(
        "--max-bytes",
        type=int,
        metavar="BYTES",
        help="The most colours with which image.zarr takes no more, in place of -k.",
    ),
    click.option(
        "--ratio",
        type=float,
        help="The most colours with which it is so many times smaller than raw, in place of -k.",
    ),
    click.option(
        "--target-bpp",
        type=float,
        metavar="BITS",
        help="Entropy of the indices at most, in bits per valid pixel, from -k colours (256).",
    ),
)
fixing = click.option(
    "--fixed",
    type=COLORS,
    multiple=True,
    callback=_joined,
    help="Colours that have to be in the palette, as '#1b9e77,#fff', or one by its value in each "
    "band, as 812,1204,300,95; may be given again.",
)
reading = options(
    click.option("--bands", type=numbers(int), help="Numbers of the bands to take, as 4,3,2."),
    click.option(
        "--nodata", type=float, help="Value of missing pixels, in place of what SRC says."
    ),
    click.option(
        "--window",
        type=numbers(int),
        help="Region to take: first column, first row, width, height, as 0,0,4096,4096.",
    ),
)
spacing = options(
    click.option(
        "--scale",
        type=numbers(float, "std"),
        help="Weights of the bands when colours are compared, as 1,0.5,1, or std.",
    ),
    click.option("--pca", type=int, help="Compare colours by so many principal components."),
    click.option(
        "--space",
        metavar="rgb|oklab",
        default="rgb",
        show_default=True,
        help="Compare colours by their bands or, of 8-bit sRGB, as they are seen (OKLab).",
    ),
)
fitting = options(
    spacing,
    click.option(
        "--refine",
        type=number_or("passes", "converge"),
        default=2,
        show_default=True,
        help="Passes of k-means over all pixels of many or deep bands, or converge.",
    ),
    click.option(
        "--display", type=numbers(int), help="Bands that tiles and preview show, as 4,3,2."
    ),
    click.option(
        "--stretch", type=numbers(float), help="Percentiles shown as black and white, as 2,98."
    ),
)
original_of = click.option(
    "--original",
    metavar="SRC",
    help="The image that was compressed.  [default: the one in the report, if it is there]",
)
seeding = click.option("--seed", default=0, show_default=True, help="Seed of the fit.")
coding = click.option(
    "--codec",
    metavar="zstd|bz2",
    default="zstd",
    show_default=True,
    help="How indices are compressed: zstd is fast and for every reader, bz2 is smaller.",
)
compressing = options(
    seeding,
    click.option("--overwrite", is_flag=True, help="Replace a bundle that is there already."),
    click.option("--resume", is_flag=True, help="Go on from what a run that was cut off has left."),
    coding,
    click.option(
        "--smooth",
        type=float,
        default=0.0,
        show_default=True,
        help="Let indices repeat their neighbours' at some error, for fewer bytes: 0.1 to 0.5 cost "
        "0.1 dB.",
    ),
    click.option("--no-tiles", is_flag=True, help="Write no Deep Zoom tiles."),
    click.option("--no-ssim", is_flag=True, help="Leave the structural similarity out."),
    click.option("--cog", is_flag=True, help="Write a palette GeoTIFF (COG), image.tif, as well."),
    connecting,
    click.option(
        "--performance-report",
        metavar="FILE.html",
        help="Write what Dask knows of the run into a page: which worker did what when.",
    ),
    talking,
)


def chosen(
    *,
    scheduler: str | None,
    scheduler_file: str | None,
    workers: int | None,
    threads: int | None,
    memory_limit: str | None,
    **tls: str | None,
) -> Local | Remote | None:
    """Which cluster the options ask for; None if it is left to Dask's configuration."""
    local = {"workers": workers, "threads": threads, "memory_limit": memory_limit}
    there = {"scheduler": scheduler, "scheduler_file": scheduler_file, **tls}
    asked_local, asked_there = (
        [f"--{name.replace('_', '-')}" for name, value in asked.items() if value is not None]
        for asked in (local, there)
    )
    if asked_local and asked_there:
        raise click.UsageError(
            f"{asked_there[0]} is for a cluster that is there, {asked_local[0]} for one of this "
            "machine; give one of them"
        )
    if scheduler is not None and scheduler_file is not None:
        raise click.UsageError("--scheduler and --scheduler-file name one thing; give one of them")
    from kmdask.connecting.clusters import Local, Remote

    if asked_there:
        return Remote(scheduler_file if scheduler is None else scheduler, **tls)
    if asked_local:
        return Local(workers, threads, memory_limit)
    return None
