"""Colours written for other programs: GIMP, QGIS, ArcGIS, the eye.

See `kmdask.color_files` for what these formats are. QGIS does not draw values that a style or a
colour map does not list, so that of missing pixels is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import numpy as np

from kmdask.color_files import GIMP
from kmdask.display import Colormap
from kmdask.errors import ParameterError
from kmdask.writing.png import ENTRIES, encode_png

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>"

COLUMNS, SIDE, GAP = 16, 40, 4
"""Squares of a row, their side with the gap before them in pixels, and this gap."""


@dataclass(frozen=True, eq=False)
class Named:
    """Colours, and what they are called where a kind of file has names."""

    colors: npt.NDArray[np.uint8]
    """Array of shape (k, 3)."""

    name: str
    """Of the palette."""

    labels: Sequence[str]
    """Of each colour, in the legend of a style."""

    @property
    def hex(self) -> list[str]:
        """The colours as hexadecimal RGB strings."""
        return Colormap(self.colors).hex


def write(kind: str, named: Named) -> bytes:
    r"""Return a file of colours.

    Parameters
    ----------
    kind : {"hex", "gpl", "png", "qml", "clr"}
        One colour a line; a GIMP palette; squares, sixteen a row; a QGIS style that paints
        indices; a colour map of indices, for QGIS and ArcGIS.
    named : Named

    Returns
    -------
    bytes

    Examples
    --------
    >>> write("clr", Named(np.uint8([[0, 9, 0], [255, 0, 0]]), "two", ["a", "b"]))
    b'0 0 9 0\n1 255 0 0\n'
    """
    return WRITERS[kind](named)


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


def _write_hex(named: Named) -> bytes:
    return "".join(f"{color}\n" for color in named.hex).encode()


def _write_gpl(named: Named) -> bytes:
    called = " ".join(named.name.split())
    lines = [GIMP, f"Name: {called}", f"Columns: {min(len(named.colors), COLUMNS)}", "#"]
    for (red, green, blue), color in zip(named.colors.tolist(), named.hex, strict=True):
        lines.append(f"{red:3d} {green:3d} {blue:3d}\t{color}")
    return ("\n".join(lines) + "\n").encode()


def _write_clr(named: Named) -> bytes:
    rows = enumerate(named.colors.tolist())
    return "".join(f"{i} {red} {green} {blue}\n" for i, (red, green, blue) in rows).encode()


def _write_qml(named: Named) -> bytes:
    # Without a version QGIS takes it for one of long ago, to be converted.
    root = ET.Element("qgis", version="3.34.0", styleCategories="Symbology")
    pipe = ET.SubElement(root, "pipe")
    paletted = {"type": "paletted", "band": "1", "opacity": "1", "alphaBand": "-1"}
    renderer = ET.SubElement(pipe, "rasterrenderer", paletted | {"nodataColor": ""})
    ET.SubElement(renderer, "rasterTransparency")
    listed = ET.SubElement(renderer, "colorPalette")
    for i, (color, label) in enumerate(zip(named.hex, named.labels, strict=True)):
        entry = {"value": str(i), "label": label, "color": color, "alpha": "255"}
        ET.SubElement(listed, "paletteEntry", entry)
    ET.indent(root)
    document = ET.tostring(root, encoding="unicode")
    return f"{DOCTYPE}\n{document}\n".encode()


def _write_png(named: Named) -> bytes:
    colors = named.colors
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


WRITERS: dict[str, Callable[[Named], bytes]] = {
    "hex": _write_hex,
    "gpl": _write_gpl,
    "png": _write_png,
    "qml": _write_qml,
    "clr": _write_clr,
}

FORMATS = (*WRITERS, "json")
"""What a palette is exported as; JSON is kmdask's own."""
