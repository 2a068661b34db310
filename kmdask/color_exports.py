"""Colours written for other programs: GIMP, QGIS, ArcGIS, the eye.

See `kmdask.color_files` for what these formats are. QGIS does not draw values that a style or a
colour map does not list, so that of missing pixels is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias
from xml.etree import ElementTree as ET

import numpy as np

from kmdask.color_files import GIMP
from kmdask.display import Colormap
from kmdask.errors import ParameterError
from kmdask.writing.png import ENTRIES, encode_png

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

Colors: TypeAlias = "npt.NDArray[np.uint8]"

DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"

COLUMNS, SIDE, GAP = 16, 40, 4
"""Squares of a row, their side with the gap before them in pixels, and this gap."""


def write(kind: str, colors: Colors, *, name: str, labels: Sequence[str]) -> bytes:
    r"""Return a file of colours.

    Parameters
    ----------
    kind : {"hex", "gpl", "png", "qml", "clr"}
        One colour a line; a GIMP palette; squares, sixteen a row; a QGIS style that paints
        indices; a colour map of indices, for QGIS and ArcGIS.
    colors : uint8 array of shape (k, 3)
    name : str
        What the palette is called, where it has a name.
    labels : sequence of str
        What each is called in the legend of a style.

    Returns
    -------
    bytes

    Examples
    --------
    >>> write("clr", np.uint8([[0, 9, 0], [255, 0, 0]]), name="two", labels=["a", "b"])
    b'0 0 9 0\n1 255 0 0\n'
    """
    return WRITERS[kind](colors, name, labels)


def format_of(name: str, kind: str | None = None) -> str:
    """Return what a file is to be: what is asked, or what its ending says.

    Raises
    ------
    ParameterError
        If there is no such kind of file.

    Examples
    --------
    >>> format_of("map.GPL"), format_of("colours.txt"), format_of("map.clr", "hex")
    ('gpl', 'hex', 'hex')
    """
    ending = name.rpartition(".")[2].lower() if "." in name else ""
    found = kind or {"txt": "hex"}.get(ending, ending)
    if found not in FORMATS:
        asked = f"format {kind!r}" if kind else f"the ending of {name!r}"
        msg = f"{asked} is none of {', '.join(FORMATS)}; give one as format= (--format)"
        raise ParameterError(msg)
    return found


def _hexes(colors: Colors) -> list[str]:
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in colors.tolist()]


def _write_hex(colors: Colors, name: str, labels: Sequence[str]) -> bytes:  # noqa: ARG001  all alike
    return "".join(f"{color}\n" for color in _hexes(colors)).encode()


def _write_gpl(colors: Colors, name: str, labels: Sequence[str]) -> bytes:  # noqa: ARG001  all alike
    called = " ".join(name.split())
    lines = [GIMP, f"Name: {called}", f"Columns: {min(len(colors), COLUMNS)}", "#"]
    for (red, green, blue), color in zip(colors.tolist(), _hexes(colors), strict=True):
        lines.append(f"{red:3d} {green:3d} {blue:3d}\t{color}")
    return ("\n".join(lines) + "\n").encode()


def _write_clr(colors: Colors, name: str, labels: Sequence[str]) -> bytes:  # noqa: ARG001  all alike
    rows = enumerate(colors.tolist())
    return "".join(f"{i} {red} {green} {blue}\n" for i, (red, green, blue) in rows).encode()


def _write_qml(colors: Colors, name: str, labels: Sequence[str]) -> bytes:  # noqa: ARG001  all alike
    # Without a version QGIS takes it for one of long ago, to be converted.
    root = ET.Element("qgis", version="3.34.0", styleCategories="Symbology")
    pipe = ET.SubElement(root, "pipe")
    paletted = {"type": "paletted", "band": "1", "opacity": "1", "alphaBand": "-1"}
    renderer = ET.SubElement(pipe, "rasterrenderer", paletted | {"nodataColor": ""})
    ET.SubElement(renderer, "rasterTransparency")
    listed = ET.SubElement(renderer, "colorPalette")
    for i, (color, label) in enumerate(zip(_hexes(colors), labels, strict=True)):
        entry = {"value": str(i), "label": label, "color": color, "alpha": "255"}
        ET.SubElement(listed, "paletteEntry", entry)
    ET.indent(root)
    document = ET.tostring(root, encoding="unicode")
    return f"{DOCTYPE}\n{document}\n".encode()


def _write_png(colors: Colors, name: str, labels: Sequence[str]) -> bytes:  # noqa: ARG001  all alike
    # What is between the squares is one entry more, transparent, if there is room for it.
    gap = 0 if len(colors) == ENTRIES else GAP
    columns = min(len(colors), COLUMNS)
    rows = -(-len(colors) // columns)
    places = np.full((rows, columns), len(colors), np.uint16)
    places.ravel()[: len(colors)] = np.arange(len(colors))
    squares = places.repeat(SIDE, axis=0).repeat(SIDE, axis=1)
    for edge in range(gap):
        squares[edge::SIDE] = squares[:, edge::SIDE] = len(colors)
    image = np.pad(squares, ((0, gap), (0, gap)), constant_values=len(colors))
    colormap = Colormap(colors, len(colors) if gap else None)
    dtype = np.uint8 if colormap.entries <= ENTRIES else np.uint16
    return encode_png(image.astype(dtype), colormap)


WRITERS: dict[str, Callable[[Colors, str, Sequence[str]], bytes]] = {
    "hex": _write_hex,
    "gpl": _write_gpl,
    "png": _write_png,
    "qml": _write_qml,
    "clr": _write_clr,
}

FORMATS = (*WRITERS, "json")
"""What a palette is exported as; JSON is kmdask's own."""
