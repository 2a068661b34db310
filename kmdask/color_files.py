"""Files of colours, as other programs write and read them: GIMP, QGIS, ArcGIS, lists of colours.

Each holds red, green and blue of 8 bits, one colour after the other.

References
----------
.. [1] GIMP developers, "GIMP Palette Format Version 2 (.gpl)",
   https://developer.gimp.org/core/standards/gpl
.. [2] QGIS, `QgsPalettedRasterRenderer`: lines of ``value R G B alpha label`` in a .clr file, of
   which the last two may be left out, as in those of ArcGIS; styles (.qml) with a ``paletteEntry``
   for each value.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias
from xml.etree import ElementTree as ET

import numpy as np

from kmdask.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

Colors: TypeAlias = "npt.NDArray[np.uint8]"

HEX = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")

FIELD = re.compile(r"\w+:")
"""What lines of a GIMP palette begin with that say something of it as a whole."""

TRIPLE = re.compile(r"(\d+)\s+(\d+)\s+(\d+)(?:\s|$)")

ENTRY = re.compile(r"(-?\d+)" + r"[\s,:]+(\d+)" * 3 + r"(?:[\s,:]+(\d+))?(?:[\s,:]|$)")
"""A line of a .clr file."""

GIMP = "GIMP Palette"

MOST = 1 << 25
"""Bytes of a file at most: 512 for each entry that there can be."""


def hex_color(text: str) -> tuple[int, int, int]:
    """Return red, green and blue of a hexadecimal colour.

    Raises
    ------
    ParameterError
        If it is none.

    Examples
    --------
    >>> hex_color("#1b9e77"), hex_color("fff")
    ((27, 158, 119), (255, 255, 255))
    """
    found = HEX.fullmatch(text.strip())
    if found is None:
        msg = f"{text!r} is no colour such as '#1b9e77' or '#fff', red, green and blue from 0 to f"
        raise ParameterError(msg)
    digits = found[1] if len(found[1]) == 6 else "".join(digit * 2 for digit in found[1])
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


def split_hex(text: str) -> list[str]:
    """Split colours with commas between them.

    Examples
    --------
    >>> split_hex("#1b9e77, d95f02")
    ['#1b9e77', 'd95f02']
    """
    return [part.strip() for part in text.split(",")]


def is_hex(text: str) -> bool:
    """Whether a text is meant for colours: several, or what begins with #, right or wrong.

    Examples
    --------
    >>> [is_hex(text) for text in ("#fff", "1b9e77,d95f02", "facade", "a,b.tif")]
    [True, True, False, False]
    """
    parts = split_hex(text)
    return text.startswith("#") or (len(parts) > 1 and all(map(HEX.fullmatch, parts)))


def kind_of(head: bytes) -> str | None:
    """Tell from its beginning what a file of colours is; None if it is none of these.

    Examples
    --------
    >>> kind_of(b"GIMP Palette"), kind_of(b"#1b9e77"), kind_of(b"0 27 158 119"), kind_of(b"II*")
    ('gpl', 'hex', 'clr', None)
    """
    text = head.decode("utf-8-sig", errors="replace")
    if text.startswith(GIMP):
        return "gpl"
    if "<qgis" in text or "<!DOCTYPE qgis" in text:
        return "qml"
    first = next((line for _, line in _lines(text) if not _is_remark(line)), "")
    if HEX.fullmatch(first):
        return "hex"
    return "clr" if ENTRY.match(first) else None


def read(kind: str, content: bytes) -> Colors:
    r"""Return the colours in a file, in its order, or that of their values if they have such.

    Transparent ones are left out.

    Parameters
    ----------
    kind : {"hex", "gpl", "clr", "qml"}
    content : bytes
        What is in the file.

    Returns
    -------
    uint8 array of shape (n, 3)

    Raises
    ------
    ValueError
        If it is not of that kind, or too large.

    Examples
    --------
    >>> read("gpl", b"GIMP Palette\nName: two\n#\n255 0 0 red\n  0 9 0\n")
    array([[255,   0,   0],
           [  0,   9,   0]], dtype=uint8)
    """
    if len(content) > MOST:
        raise ValueError(f"it is larger than {MOST >> 20} MiB")
    rows = READERS[kind](content.decode("utf-8-sig", errors="replace"))
    if not rows:
        raise ValueError("there is no colour in it")
    wrong = next((row for row in rows if not all(0 <= value <= 255 for value in row)), None)
    if wrong is not None:
        raise ValueError(f"{list(wrong)} is no red, green and blue from 0 to 255")
    return np.array(rows, np.uint8)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that are not empty, with their numbers."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


def _is_remark(line: str) -> bool:
    return (line.startswith("#") and not HEX.fullmatch(line)) or line.startswith("INTERPOLATION")


def _read_hex(text: str) -> list[tuple[int, int, int]]:
    return [hex_color(line) for _, line in _lines(text) if not _is_remark(line)]


def _read_gpl(text: str) -> list[tuple[int, int, int]]:
    rows = []
    for number, line in list(_lines(text))[1:]:
        if line.startswith("#") or FIELD.match(line):
            continue
        found = TRIPLE.match(line)
        if found is None:
            raise ValueError(f"line {number} is {line[:60]!r}, not red, green, blue and a name")
        rows.append((int(found[1]), int(found[2]), int(found[3])))
    return rows


def _read_clr(text: str) -> list[tuple[int, int, int]]:
    entries = {}
    for number, line in _lines(text):
        if _is_remark(line):
            continue
        found = ENTRY.match(line)
        if found is None:
            raise ValueError(f"line {number} is {line[:60]!r}, not value, red, green and blue")
        entries[int(found[1])] = (*map(int, found.groups()[1:4]), int(found[5] or 255))
    return _opaque(entries)


def _read_qml(text: str) -> list[tuple[int, int, int]]:
    if "<!ENTITY" in text:
        raise ValueError("it declares entities, as no style does")
    try:
        root = ET.fromstring(text)  # noqa: S314  no entities to expand
    except ET.ParseError as error:
        raise ValueError(str(error)) from error
    entries = {}
    for entry in root.iterfind(".//rasterrenderer[@type='paletted']/colorPalette/paletteEntry"):
        value, alpha = float(entry.get("value", "nan")), int(entry.get("alpha", "255"))
        entries[value] = (*hex_color(entry.get("color", "")), alpha)
    return _opaque(entries)


def _opaque(entries: Mapping[Any, tuple[int, ...]]) -> list[tuple[int, int, int]]:
    ordered = (entries[value] for value in sorted(entries))
    return [(red, green, blue) for red, green, blue, alpha in ordered if alpha != 0]


READERS: dict[str, Callable[[str], list[tuple[int, int, int]]]] = {
    "hex": _read_hex,
    "gpl": _read_gpl,
    "clr": _read_clr,
    "qml": _read_qml,
}
