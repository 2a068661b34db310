"""Files of colours, as other programs write and read them: GIMP, QGIS, ArcGIS, lists of colours.

Each holds red, green and blue of 8 bits, one colour after the other.

References
----------
.. [1] GIMP developers, "GIMP Palette Format Version 2 (.gpl)", developer.gimp.org/core/standards/gpl.
.. [2] QGIS, `QgsPalettedRasterRenderer`: ``value R G B alpha label`` in each line of a .clr file, of
   which the last two may be left out, as in those of ArcGIS; styles (.qml) with a ``paletteEntry``
   for each value. Values that neither lists are not drawn.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, TypeAlias
from xml.etree import ElementTree as ET

import numpy as np

from kmdask.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

Colors: TypeAlias = "npt.NDArray[np.uint8]"

HEX = re.compile(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})")

GIMP = b"GIMP Palette"


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
    """Whether a text is colours, not the name of a file: several, or one that begins with #.

    Examples
    --------
    >>> [is_hex(text) for text in ("#fff", "1b9e77,d95f02", "facade", "a,b.tif")]
    [True, True, False, False]
    """
    parts = split_hex(text)
    clear = len(parts) > 1 or parts[0].startswith("#")
    return clear and all(HEX.fullmatch(part) for part in parts)
