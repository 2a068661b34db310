"""What the command line says of a bundle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from kmdask.units import several, size_told, times_smaller

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kmdask.image import CompressedImage
    from kmdask.point import Point
    from kmdask.rates import Sweep
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
        "image": f"{width} x {height}, {several(bands, 'band')} of {report.dtype}"
        + (f", {invalid / (height * width):.1%} invalid" if invalid else ""),
        "colours": _colors(report),
        "quality": f"PSNR {report.psnr:.2f} dB, MSE {report.mse:.4g}"
        + ("" if report.delta_e is None else f", mean delta E OK {report.delta_e:.4f}")
        + _judged(report),
        "size": f"{size_told(report.sizes['zarr'])} = {report.bits_per_pixel:.2f} bits per pixel",
        "ratio": f"{times_smaller(report.ratio_raw)} than raw" + _beside_source(report),
        "time": ", ".join(f"{name} {took:.1f} s" for name, took in report.seconds.items()),
        "palette": " ".join(image.colormap.hex[:8]) + (" ..." if len(image.palette) > 8 else ""),
        "bundle": str(image.path),
        "look at": str(image.path / "preview.jpg"),
    }
    if report.sizes["tiles"]:
        rows["tiles"] = f"{image.path / 'tiles.dzi'} ({size_told(report.sizes['tiles'])})"
    if report.sizes["cog"]:
        rows["geotiff"] = f"{image.path / 'image.tif'} ({size_told(report.sizes['cog'])})"
    for name, text in rows.items():
        click.echo(f"{name:<10} {text}")


def _beside_source(report: Report) -> str:
    if not report.ratio_source:
        return ""
    return f", {times_smaller(report.ratio_source, digits=2)} than the source"


def show_sweep(table: Sweep) -> None:
    """Print the points of a sweep, with the knee of its curve."""
    kind = (
        "different colours" if table.exact else "groups of colours: errors and bits are estimates"
    )
    height, width, bands = table.shape
    click.echo(f"{table.source}: {width} x {height}, {several(bands, 'band')} of {table.dtype}")
    click.echo(f"{table.colors:,} {kind}")
    _show_points(table.points)
    click.echo(
        f"the knee of the curve is at k={table.knee.k}"
        if table.bends
        else "the curve has no knee: there are fewer than three points, or it is nowhere above the "
        "line from its first to its last"
    )
    if table.entropy_constrained:
        click.echo("entropy-constrained, begun with k, of no more entropy than each of these:")
        _show_points(table.entropy_constrained)
    if table.rivals:
        _show_rivals(table)


def _show_points(points: Sequence[Point]) -> None:
    click.echo(
        f"{'k':>6} {'entries':>7} {'MSE':>9} {'PSNR':>8} {'delta E':>7} {'entropy':>9} "
        f"{'bytes':>9} {'error':>6} {'seconds':>7}"
    )
    for point in points:
        size, error = _stored(point)
        seen = "-" if point.delta_e is None else f"{point.delta_e:.4f}"
        click.echo(
            f"{point.k:>6} {point.entries:>7} {point.mse:>9.4g} {point.psnr:>5.2f} dB {seen:>7} "
            f"{point.bits_per_pixel:>5.2f} bpp {size_told(size):>9} {error:>6} "
            f"{point.seconds:>7.2f}"
        )


def _show_rivals(table: Sweep) -> None:
    """Print what other codecs reach in the bytes of each palette, on the sampled chunks."""
    codecs = [name for name in dict.fromkeys(r.codec for r in table.rivals) if name != "png"]
    pngs = {rival.k: rival.sample_bytes for rival in table.rivals if rival.k is not None}
    click.echo(f"PSNR in dB in the same bytes, on a sample of {table.sample_pixels:,} pixels:")
    names = "".join(f"{name:>9}" for name in ["palette", *codecs])
    click.echo(f"{'k':>6} {'stored':>9}{names}{'as PNG' if pngs else '':>9}".rstrip())
    for point in table.points:
        reached = [_reached(table, point, name) for name in codecs]
        values = "".join(f"{each:>9}" for each in [f"{table.sample_psnr(point):.2f}", *reached])
        png = size_told(pngs[point.k]) if point.k in pngs else ""
        stored = size_told(point.sample_bytes or 0)
        click.echo(f"{point.k:>6} {stored:>9}{values}{png:>9}".rstrip())
    for rival in table.rivals:
        if rival.quality is None and rival.k is None:
            click.echo(f"{rival.codec} without loss: {size_told(rival.sample_bytes)}")


def _reached(table: Sweep, point: Point, codec: str) -> str:
    psnr = table.rival_psnr(point, codec)
    least = ">=" if table.rival_is_bound(point, codec) else ""
    return "-" if psnr is None else f"{least}{psnr:.2f}"


def _stored(point: Point) -> tuple[int, str]:
    """Bytes, and how sure they are."""
    if point.stored_bytes is None or point.stored_error is None:
        return point.index_bytes, "?"
    share = point.stored_error / point.stored_bytes
    return point.stored_bytes, f"±{share:.1%}" if share else "exact"


def _colors(report: Report) -> str:
    asked = f" (k={report.k} asked)" if report.k != report.k_used else ""
    if report.asked is not None:
        ((name, value),) = report.asked.items()
        got = "" if report.attained is None else f", came to {report.attained:.6g}"
        how = f"left of {report.k}" if name == "target_bpp" else f"k={report.k} chosen"
        asked = f" ({how} for {name}={value}{got})"
    used = f"{report.k_used} in the palette{asked}"
    if report.palette is not None and report.palette["sources"]:
        return f"{used}, fitted to {', '.join(report.palette['sources'])}"
    if report.palette is not None:
        return f"{used}, given" + (
            f" by {report.palette['path']}" if report.palette["path"] else ""
        )
    groups = "" if report.exact_colors else "groups of them "
    return f"{report.colors:,} {groups}in the source, {used}"


def _judged(report: Report) -> str:
    """What older bundles do not say."""
    ssim = "" if report.ssim is None else f", SSIM {report.ssim:.4f}"
    return ssim + ("" if report.max_error is None else f", largest error {report.max_error:.4g}")
