"""The command that compares two images."""

from __future__ import annotations

import json
from typing import Any

import click

from kmdask.cli_options import CONNECTING, chosen, connecting, numbers, talking
from kmdask.cli_set_up import plain_errors, set_up


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--bands", type=numbers(int), help="Numbers of the bands to compare, as 4,3,2.")
@click.option(
    "--window",
    type=numbers(int),
    help="Region of both: first column, first row, width, height, as 0,0,4096,4096.",
)
@click.option("--peak", type=float, help="Range of the values, in place of 255 or that of A.")
@click.option("--no-ssim", is_flag=True, help="Leave the structural similarity out.")
@connecting
@talking
def compare(
    a: str, b: str, *, no_ssim: bool, as_json: bool, quiet: bool, verbose: int, **options: Any
) -> None:
    """Say how far the images A and B are from each other.

    Each is a bundle, whose colours are compared, or any image that kmdask reads. They have the same
    size and bands; with a bundle, its bands are taken of the other.
    """
    from kmdask import comparing

    told = set_up(quiet=quiet, verbose=verbose)
    where = {name: options.pop(name) for name in CONNECTING}
    with plain_errors():
        found = comparing.compare(
            a, b, ssim=not no_ssim, client=chosen(**where), progress=told, **options
        )
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
        return
    height, width, bands = found.shape
    rows = {
        "images": f"{found.a}, {found.b}",
        "pixels": f"{found.pixels:,} compared of {width} x {height}"
        f", {found.only_a:,} valid in A alone, {found.only_b:,} in B alone",
        "quality": f"PSNR {found.psnr:.2f} dB, MSE {found.mse:.4g}"
        + ("" if found.delta_e is None else f", mean delta E OK {found.delta_e:.4f}")
        + ("" if found.ssim is None else f", SSIM {found.ssim:.4f}"),
        "largest": f"{found.max_error:.4g}, of a peak of {found.peak:.4g}",
    }
    pairs = zip(found.band_mse, found.band_max_error, strict=True)
    if bands > 1:
        rows["bands"] = "\n".join(f"MSE {mse:.4g}, largest {most:.4g}" for mse, most in pairs)
    for name, text in rows.items():
        click.echo(f"{name:<10} {text}".replace("\n", "\n" + " " * 11))
