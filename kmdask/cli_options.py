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


class Numbers(click.ParamType[Any]):
    """Numbers with commas between them, or one word."""

    name = "numbers"

    def __init__(self, kind: type[int | float], word: str | None = None) -> None:
        self.kind, self.word = kind, word

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002  click's
        """Return what the help shows."""
        return "N,N,..." if self.word is None else f"N,N,...|{self.word}"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...] | str:
        """Parse."""
        if value == self.word:
            return str(value)
        try:
            return tuple(map(self.kind, str(value).split(",")))
        except ValueError:
            word = "" if self.word is None else f", or {self.word}"
            self.fail(f"{value!r} is not a list of numbers such as 4,3,2{word}", param, ctx)


class Words(click.ParamType[Any]):
    """Words with commas between them."""

    name = "words"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002  click's
        """Return what the help shows."""
        return "NAME,NAME,..."

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,  # noqa: ARG002  click's
        ctx: click.Context | None,  # noqa: ARG002  click's
    ) -> tuple[str, ...]:
        """Parse."""
        return value if isinstance(value, tuple) else tuple(str(value).split(","))


class NumberOr(click.ParamType[Any]):
    """A whole number, or a word."""

    def __init__(self, name: str, word: str) -> None:
        self.name, self.word = name, word

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002  click's
        """Return what the help shows."""
        return f"N|{self.word}"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        """Parse."""
        try:
            return self.word if value == self.word else int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number of {self.name} nor {self.word}", param, ctx)


class Colors(click.ParamType[Any]):
    """Hexadecimal colours with commas between them, or one colour by the values of its bands."""

    name = "colors"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002  click's
        """Return what the help shows."""
        return "#RRGGBB,...|N,N,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str | tuple[float, ...], ...]:
        """Parse."""
        parts = [part.strip() for part in str(value).split(",")]
        if all(part.startswith("#") for part in parts):
            return tuple(parts)
        try:
            return (tuple(int(part) if part.isdigit() else float(part) for part in parts),)
        except ValueError:
            self.fail(f"{value!r} is neither colours such as '#1b9e77' nor numbers", param, ctx)


def _joined(
    ctx: click.Context,  # noqa: ARG001  click's
    param: click.Parameter,  # noqa: ARG001  likewise
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
        type=NumberOr("colours", "auto"),
        help="Number of colours, 1 to 65536; auto: where more begin to gain less, 2 to 256.",
    ),
    click.option(
        "--psnr", type=float, help="The fewest colours of this PSNR in dB, in place of -k."
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
        help="Entropy of the indices in bits per valid pixel, of -k colours (256) at most.",
    ),
)
fixing = click.option(
    "--fixed",
    type=Colors(),
    multiple=True,
    callback=_joined,
    help="Colours that have to be in the palette, as '#1b9e77,#fff', or one by its value in each "
    "band, as 812,1204,300,95; may be given again.",
)
reading = options(
    click.option("--bands", type=Numbers(int), help="Numbers of the bands to take, as 4,3,2."),
    click.option(
        "--nodata", type=float, help="Value of missing pixels, in place of what SRC says."
    ),
    click.option(
        "--window",
        type=Numbers(int),
        help="Region to take: first column, first row, width, height, as 0,0,4096,4096.",
    ),
)
spacing = options(
    click.option(
        "--scale",
        type=Numbers(float, "std"),
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
        type=NumberOr("passes", "converge"),
        default=2,
        show_default=True,
        help="Passes of k-means over all pixels of many or deep bands, or converge.",
    ),
    click.option(
        "--display", type=Numbers(int), help="Bands that tiles and preview show, as 4,3,2."
    ),
    click.option(
        "--stretch", type=Numbers(float), help="Percentiles shown as black and white, as 2,98."
    ),
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
