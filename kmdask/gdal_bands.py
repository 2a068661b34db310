"""Which bands of a raster are taken, and how stored samples become pixels.

Three kinds of files store something else than they show. Colour tables are expanded to red, green
and blue, samples of one bit (and grey PNGs of two and four) to 0 to 255, and grey that has white at
0 is inverted. Everything else is taken as GDAL gives it; it decodes CMYK JPEGs and 8-bit CMYK and
Lab TIFFs to RGB by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.enums import ColorInterp, MaskFlags

from kmdask.bands import Band, choose
from kmdask.errors import UnsupportedImageError
from kmdask.missing import occurs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

COLORS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)

STORED, PALETTE, GREY, INVERTED, SCALED = "stored", "palette", "grey", "inverted", "scaled"
"""How samples are shown: as they are; by the colours of a table; by the first of these, which are
all grey; counted from the largest down; or multiplied up to 255."""


@dataclass(frozen=True)
class Choice:
    """The bands that are taken of a raster."""

    indexes: tuple[int, ...]
    """The numbers of the stored bands to read."""

    bands: tuple[Band, ...]
    """What comes out, in the order asked for."""

    stored: np.dtype[Any]
    """Data type of the stored bands together."""

    dtype: np.dtype[Any]
    """Data type of what comes out."""

    shown: str
    """How the former become the latter, one of the constants of this module."""


def choose_bands(path: str, dataset: Any, wanted: Sequence[int] | None) -> Choice:
    """Choose bands: those asked for, else red, green and blue, else all but alpha.

    Raises
    ------
    UnsupportedImageError
        If there is none, or one of them cannot be taken.
    ParameterError
        If a band is asked for that is not there.
    """
    if dataset.count == 0:
        reason = "it has no bands of its own, only subdatasets: name one of them"
        raise UnsupportedImageError.of(path, reason)
    data = _without_alpha(dataset)
    shown = _shown(dataset, data)
    if shown == PALETTE:
        colors = [Band(number, color=color.name) for number, color in enumerate(COLORS, start=1)]
        numbers = choose(wanted, range(1, 4), (1, 2, 3), path)
        indexes: tuple[int, ...] = (data[0],)
        bands = tuple(colors[number - 1] for number in numbers)
    else:
        indexes = choose(wanted, range(1, dataset.count + 1), _default(dataset, data), path)
        bands = tuple(_describe(dataset, number) for number in indexes)
    if not indexes:
        raise UnsupportedImageError.of(path, "it has no bands but alpha; choose one by `bands`")
    stored = _common_dtype(path, dataset, indexes)
    dtype = np.dtype(np.uint8) if shown in {PALETTE, GREY, SCALED} else stored
    return Choice(indexes, bands, stored, dtype, shown)


def show(dataset: Any, shown: str, stored: npt.NDArray[Any], numbers: Sequence[int]) -> Any:
    """Turn stored samples of shape (band, y, x) into what comes out, likewise.

    Of a colour table, `numbers` says which of red (1), green and blue.
    """
    if shown == PALETTE:
        table = color_table(dataset)
        return np.stack([table[:, number - 1][stored[0]] for number in numbers])
    if shown == GREY:
        return color_table(dataset)[:, 0][stored]
    top = _top(dataset, stored.dtype)
    if shown == INVERTED:
        # A value above the largest that its bits can hold has no business there.
        return top - np.minimum(stored, stored.dtype.type(top))
    return (np.minimum(stored, top) * (255 // top)).astype(np.uint8)


def color_table(dataset: Any) -> npt.NDArray[np.uint8]:
    """Return the colour table as an array of shape (index, 4): red, green, blue and alpha.

    Indices that the table does not list are black and opaque.
    """
    dtype = np.dtype(dataset.dtypes[0])
    table = np.zeros((np.iinfo(dtype).max + 1, 4), np.uint8)
    table[:, 3] = 255
    for index, color in dataset.colormap(1).items():
        if index < len(table):
            table[index] = color
    return table


def _without_alpha(dataset: Any) -> list[int]:
    meaning = enumerate(dataset.colorinterp, start=1)
    return [number for number, color in meaning if color != ColorInterp.alpha]


def _default(dataset: Any, data: list[int]) -> tuple[int, ...]:
    meaning = dataset.colorinterp
    found = sorted((meaning[number - 1], dataset.dtypes[number - 1]) for number in data)
    if found == sorted((color, "uint8") for color in COLORS):
        return tuple(meaning.index(color) + 1 for color in COLORS)
    return tuple(data)


def _shown(dataset: Any, data: list[int]) -> str:
    bits = _bits(dataset)
    inverted = dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
    single = data == [1] and dataset.dtypes[0] in {"uint8", "uint16"}
    if single and dataset.colorinterp[0] == ColorInterp.palette:
        table = color_table(dataset)[: 1 << bits]
        grey = bits == 1 and (table[:, :1] == table[:, 1:3]).all() and (table[:, 3] == 255).all()
        return GREY if grey or inverted else PALETTE
    if inverted:
        return INVERTED
    fraction = bits == 1 or (dataset.driver == "PNG" and bits in {2, 4})
    return SCALED if fraction and set(dataset.dtypes) == {"uint8"} else STORED


def _bits(dataset: Any) -> int:
    size = np.dtype(dataset.dtypes[0]).itemsize * 8 if "complex_int" not in dataset.dtypes[0] else 0
    try:
        return int(dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", size))
    except ValueError:
        return size


def _top(dataset: Any, dtype: np.dtype[Any]) -> int:
    return int(min((1 << _bits(dataset)) - 1, np.iinfo(dtype).max))


def _common_dtype(path: str, dataset: Any, indexes: tuple[int, ...]) -> np.dtype[Any]:
    found = {dataset.dtypes[number - 1] for number in indexes}
    if any("complex" in name for name in found):
        name = ", ".join(sorted(found))
        reason = f"its data type is {name}, and complex numbers have no order on a colour scale"
        raise UnsupportedImageError.of(path, reason)
    dtype = np.result_type(*(np.dtype(name) for name in found))
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _describe(dataset: Any, number: int) -> Band:
    i = number - 1
    nodata = dataset.nodatavals[i]
    told = MaskFlags.nodata in dataset.mask_flag_enums[i]
    dtype = np.dtype(dataset.dtypes[i]) if "complex" not in dataset.dtypes[i] else None
    if not told or nodata is None or dtype is None or not occurs(nodata, dtype):
        nodata = None
    return Band(
        number=number,
        name=dataset.descriptions[i] or "",
        color=dataset.colorinterp[i].name,
        unit=dataset.units[i] or "",
        scale=dataset.scales[i],
        offset=dataset.offsets[i],
        nodata=nodata,
    )
