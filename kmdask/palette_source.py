"""What can be given as a palette: one that was saved, a bundle, or colours of whatever source."""

from __future__ import annotations

import codecs
import os
from typing import TYPE_CHECKING

import numpy as np

from kmdask import color_files, places, storage
from kmdask.bands import Band
from kmdask.display import RGB, Display
from kmdask.errors import PaletteError, ParameterError
from kmdask.fitting.space import Space
from kmdask.image import CompressedImage
from kmdask.palette import ENTRIES, Palette
from kmdask.reading.color_table import table_colors
from kmdask.saved_palette import SavedPalette
from kmdask.writing import store

if TYPE_CHECKING:
    import numpy.typing as npt

    from kmdask.places import Place

HEAD = 4096
"""Bytes of a file that tell what it is."""

KNOWN = (
    "a file that kmdask fit wrote, a bundle, a GIMP palette (.gpl), a list of hexadecimal colours, "
    "a QGIS style (.qml) or colour map (.clr), or a raster with a colour table"
)


def as_saved(palette: object) -> SavedPalette:
    """Return a palette that is given as such, by its path or by its colours.

    Parameters
    ----------
    palette : SavedPalette, str, path-like or sequence of str
        A palette, the path or URL of one (see `read`), or hexadecimal colours: a sequence of them,
        or several in a string with commas between. A string of a single one begins with ``#``.

    Raises
    ------
    ParameterError, PaletteError, BundleError
        If it is none of these.

    Examples
    --------
    >>> as_saved("#1b9e77,#d95f02").palette
    Palette(['#1b9e77', '#d95f02'])
    >>> as_saved(["fff", "000"]).palette
    Palette(['#ffffff', '#000000'])
    """
    if isinstance(palette, SavedPalette):
        return palette
    if isinstance(palette, str) and color_files.is_hex(palette):
        palette = color_files.split_hex(palette)
    if isinstance(palette, str | os.PathLike):
        return read(places.place(palette))
    if isinstance(palette, list | tuple) and all(isinstance(each, str) for each in palette):
        colors = [color_files.hex_color(color) for color in palette]
        if not 1 <= len(colors) <= ENTRIES:
            msg = f"palette is 1 to {ENTRIES:,} colours; got {len(colors):,}"
            raise ParameterError(msg)
        return of_colors(np.array(colors, np.uint8))
    msg = (
        "palette is what kmdask.fit returns, a sequence of hexadecimal colours, or the path of "
        f"{KNOWN}; got {type(palette).__name__}"
    )
    raise ParameterError(msg)


def read(place: Place) -> SavedPalette:
    """Read the palette at a place; see `SavedPalette.read`."""
    try:
        if store.IMAGE in storage.names(place):
            return _of_bundle(place)
        head = storage.read_start(place, HEAD)
        kind = color_files.kind_of(head)
        own = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"{"
        content = storage.read_file(place) if own else b""
        if kind is not None:
            content = storage.read_start(place, color_files.MOST + 1)
    except OSError as error:
        msg = f"there is no palette at {str(place)!r}: {error.strerror or error}; give {KNOWN}"
        raise PaletteError(msg) from error
    if own:
        return SavedPalette.from_json(content, str(place))
    try:
        colors = table_colors(str(place)) if kind is None else color_files.read(kind, content)
        return of_colors(colors, str(place))
    except ValueError as error:
        what = "a raster with a colour table" if kind is None else f"a file of colours ({kind})"
        msg = f"{str(place)!r} is no palette, read as {what}: {error}; give {KNOWN}"
        raise PaletteError(msg) from error


def shares_of(saved: SavedPalette) -> tuple[float, ...] | None:
    """Return the share of pixels that take each entry, of a palette that was read from a bundle."""
    place = None if saved.path is None else places.place(saved.path)
    if place is None or store.IMAGE not in storage.names(place):
        return None
    return CompressedImage.read(place).report.shares


def of_colors(colors: npt.NDArray[np.uint8], path: str | None = None) -> SavedPalette:
    """Make a palette of colours as such, red, green and blue, which keep their order."""
    return SavedPalette(
        palette=Palette(colors),
        bands=tuple(Band(number, color=color) for number, color in enumerate(RGB, start=1)),
        display=Display((1, 2, 3), (0.0,) * 3, (255.0,) * 3),
        k=len(colors),
        peak=255.0,
        plain=True,
        path=path,
    )


def _of_bundle(place: Place) -> SavedPalette:
    image, (_, _, header) = CompressedImage.read(place), store.read_arrays(place)
    options = {name: value for name, value in header.options.items() if name != "smooth"}
    if "space" not in options:
        msg = (
            f"the bundle {str(place)!r} does not say where its colours are compared; compress "
            "the image again"
        )
        raise PaletteError(msg)
    space = options.pop("space")
    shared = options.pop("shared", False)
    report = image.report
    sources = report.palette["sources"] if shared and report.palette else [report.source]
    return SavedPalette(
        palette=image.palette,
        bands=image.bands,
        display=image.display,
        k=header.k,
        peak=report.peak,
        space=None if space is None else Space.from_dict(space),
        seed=header.seed,
        options=options,
        sources=tuple(sources),
        version=report.versions["kmdask"],
        path=str(place),
    )
