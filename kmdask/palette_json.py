"""How a saved palette stands in its file.

The file is JSON. Numbers are written so that they are read again as they were, to the last bit.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from kmdask.bands import Band
from kmdask.display import Display
from kmdask.errors import PaletteError
from kmdask.fitting.space import Space
from kmdask.palette import Palette

if TYPE_CHECKING:
    from kmdask.saved_palette import SavedPalette

KIND = "kmdask palette"

FORMAT_VERSION = 1
"""Raised when a palette could no longer be read by the version before."""

DAMAGED = (LookupError, TypeError, ValueError, ArithmeticError, RecursionError)
"""What damaged files make Python raise."""


def dumped(saved: SavedPalette) -> bytes:
    """Return what is in the file of a palette."""
    penalties = saved.palette.penalties
    fields = {
        "kind": KIND,
        "format_version": FORMAT_VERSION,
        "kmdask": saved.version,
        "dtype": saved.palette.colors.dtype.name,
        "colors": saved.palette.colors.tolist(),
        "penalties": None if penalties is None else penalties.tolist(),
        "bands": [band.to_dict() for band in saved.bands],
        "display": asdict(saved.display),
        "space": None if saved.space is None else saved.space.to_dict(),
        "peak": saved.peak,
        "k": saved.k,
        "seed": saved.seed,
        "options": saved.options,
        "sources": list(saved.sources),
        "plain": saved.plain,
    }
    return (json.dumps(fields) + "\n").encode()


def loaded(content: bytes, path: str | None = None) -> dict[str, Any]:
    """Return the fields of a `SavedPalette` from its file; `path` is where that was read.

    Raises
    ------
    PaletteError
        If it is nothing that `dumped` returned.
    """
    try:
        fields = json.loads(content)
        kind, version = fields["kind"], fields["format_version"]
    except DAMAGED as error:
        msg = f"{path!r} is no palette that kmdask saved: {error!r}; make one with kmdask fit"
        raise PaletteError(msg) from error
    if (kind, version) != (KIND, FORMAT_VERSION):
        msg = (
            f"{path!r} is a {kind!r} of format version {version!r}, this kmdask reads a "
            f"{KIND!r} of {FORMAT_VERSION}; use the version of kmdask that wrote it"
        )
        raise PaletteError(msg)
    try:
        return _rebuilt(fields)
    except DAMAGED as error:
        msg = f"the palette {path!r} is damaged: {error!r}; fit it again"
        raise PaletteError(msg) from error


def _rebuilt(fields: dict[str, Any]) -> dict[str, Any]:
    colors = np.array(fields["colors"], np.dtype(fields["dtype"]))
    if not np.isfinite(colors).all() or colors.tolist() != fields["colors"]:
        raise ValueError(f"colors are no {fields['dtype']}")
    palette, space = Palette(colors, fields.get("penalties")), fields["space"]
    bands = tuple(map(Band.from_dict, fields["bands"]))
    display = Display.from_dict(fields["display"])
    space = None if space is None else Space.from_dict(space)
    # Older versions knew no others.
    plain = bool(fields.get("plain", False))
    # What is wrong with them is to be found here, and by no worker.
    if palette.bands != len(bands) or (plain and not (palette.displayable and palette.bands == 3)):
        raise ValueError(f"{palette.bands} bands of {colors.dtype} are described otherwise")
    display.rgb(palette, [band.number for band in bands])
    if space is not None:
        space.check(palette.bands, colors.dtype)
    return {
        "palette": palette,
        "bands": bands,
        "display": display,
        "k": int(fields["k"]),
        "peak": float(fields["peak"]),
        "space": space,
        "seed": int(fields["seed"]),
        "options": dict(fields["options"]),
        "sources": tuple(map(str, fields["sources"])),
        "plain": plain,
        "version": str(fields["kmdask"]),
    }
