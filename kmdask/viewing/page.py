"""The files of the page that shows a compressed image, its tiles aside."""

from __future__ import annotations

import html
import json
import math
import re
from importlib import resources
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from kmdask.chunks import TILE
from kmdask.palette import SMALL
from kmdask.units import several
from kmdask.viewing.ground import coordinates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kmdask.image import CompressedImage

INDEX = "index.html"
OWN = ("viewer.css", "viewer.js", "tiles.js", "palette.js", "place.js")
BOKEH = ("bokeh.min.js", "bokeh-api.min.js")
"""BokehJS, which draws the tiles, and the part of it that other scripts call."""

COMPRESSED, ORIGINAL = "compressed", "original"
"""Folders of the tiles, beside the page."""

GROUND = (23, 26, 31)
"""What is around the image, and where its pixels are missing: red, green and blue."""


def page_files(image: CompressedImage, original: Mapping[str, Any] | None) -> dict[str, bytes]:
    """Return the files of a page, by name.

    Parameters
    ----------
    image : CompressedImage
        With tiles.
    original : mapping, optional
        ``state`` of the original's tiles, "ready" or "making"; ``reason``, why there are none.

    Returns
    -------
    dict of str to bytes
        ``index.html`` and what it loads. It asks no other host for anything, as its
        Content-Security-Policy says; the tiles are to be in the folders ``compressed`` and
        ``original``, as ``LEVEL/COLUMN_ROW.png`` or ``.jpg``.
    """
    static = resources.files("kmdask.viewing") / "static"
    bokeh = resources.files("bokeh") / "server" / "static" / "js"
    told = {
        # No text in a script may look like its end.
        "view": json.dumps(describe(image, original), allow_nan=False).replace("<", "\\u003c"),
        "title": html.escape(image.path.name),
        "ground": "#{:02x}{:02x}{:02x}".format(*GROUND),
    }
    index = (static / INDEX).read_text(encoding="utf-8")
    # At once: a name may look like a place for another.
    index = re.sub(r"{{(\w+)}}", lambda place: told[place[1]], index)
    files = {INDEX: index.encode()}
    files |= {name: (static / name).read_bytes() for name in OWN}
    return files | {name: (bokeh / name).read_bytes() for name in BOKEH}


def describe(image: CompressedImage, original: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the scripts of the page know of an image, ready for JSON."""
    height, width, bands = image.shape
    report = image.report
    depth = "8-bit" if report.dtype == "uint8" else report.dtype
    quality = "exact" if math.isinf(report.psnr) else f"{report.psnr:.1f} dB"
    return {
        "name": image.path.name,
        "width": width,
        "height": height,
        "tile": TILE,
        "level": max(0, max(height, width) - 1).bit_length(),
        # Browsers keep tiles: those of another page, maybe of another original, are not taken.
        "version": uuid4().hex,
        "kind": f"{several(bands, 'band')}, {depth}",
        "facts": {
            "colours": f"{len(image.palette):,}",
            "PSNR": quality,
            "times smaller than raw": f"{report.ratio_raw:.1f}",
            "bits per pixel": f"{report.bits_per_pixel:.2f}",
        },
        "palette": _palette(image),
        "georef": coordinates(image.georef, (height, width)),
        "original": None if original is None else dict(original),
    }


def _palette(image: CompressedImage) -> dict[str, Any] | None:
    """Describe the palette; None where it is too long to be shown."""
    if len(image.palette) > SMALL:
        return None
    names = [band.name or f"band {band.number}" for band in image.bands]
    if image.palette.displayable and image.palette.bands == 3:
        names = ["R", "G", "B"]
    return {
        "bands": names,
        "colors": image.colormap.hex,
        "values": image.palette.colors.tolist(),
        "shares": list(image.report.shares),
        "of": "pixels" if image.nodata is None else "valid pixels",
    }
