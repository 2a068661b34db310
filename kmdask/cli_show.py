"""What the command line says of a bundle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kmdask.image import CompressedImage
    from kmdask.report import Report


def show(image: CompressedImage, *, as_json: bool) -> None:
    """Print the report of an image, as a table or as JSON."""
    report = image.report
    if as_json:
        click.echo(json.dumps({"path": str(image.path), **json.loads(report.to_json())}, indent=2))
        return
    height, width, bands = image.shape
    invalid = height * width - report.valid_pixels
    rows = {
        "source": report.source,
        "image": f"{width} x {height}, {_bands(bands)} of {report.dtype}"
        + (f", {invalid / (height * width):.1%} invalid" if invalid else ""),
        "colours": _colors(report),
        "quality": f"PSNR {report.psnr:.2f} dB, MSE {report.mse:.4g}",
        "size": f"{_bytes(report.sizes['zarr'])} = {report.bits_per_pixel:.2f} bits per pixel",
        "ratio": f"{report.ratio_raw:.1f} x smaller than raw"
        + (f", {report.ratio_source:.2f} x than the source" if report.sizes["source"] else ""),
        "time": ", ".join(f"{name} {took:.1f} s" for name, took in report.seconds.items()),
        "palette": " ".join(image.colormap.hex[:8]) + (" ..." if len(image.palette) > 8 else ""),
        "bundle": str(image.path),
        "look at": str(image.path / "preview.jpg"),
    }
    if report.sizes["tiles"]:
        rows["tiles"] = f"{image.path / 'tiles.dzi'} ({_bytes(report.sizes['tiles'])})"
    if report.sizes["cog"]:
        rows["geotiff"] = f"{image.path / 'image.tif'} ({_bytes(report.sizes['cog'])})"
    for name, text in rows.items():
        click.echo(f"{name:<10} {text}")


def _colors(report: Report) -> str:
    asked = f" (k={report.k} asked)" if report.k != report.k_used else ""
    used = f"{report.k_used} in the palette{asked}"
    if report.palette is not None:
        return f"{used}, fitted to {', '.join(report.palette['sources'])}"
    groups = "" if report.exact_colors else "groups of them "
    return f"{report.colors:,} {groups}in the source, {used}"


def _bands(bands: int) -> str:
    return "1 band" if bands == 1 else f"{bands} bands"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
