"""Which bands of a raster are taken, and how stored samples become pixels.

Three kinds of files store something else than they show. Colour tables are expanded to red, green
and blue, samples of one bit (and grey PNGs of two and four) to 0 to 255, and grey that has white at
0 is inverted. Everything else is taken as GDAL gives it; it decodes CMYK JPEGs and 8-bit CMYK and
Lab TIFFs to RGB by itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.enums import ColorInterp, MaskFlags

from kmdask.bands import Band, choose
from kmdask.errors import UnsupportedImageError
from kmdask.reading.missing import occurs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

COLORS = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)

STORED, PALETTE, GREY, INVERTED, SCALED = "stored", "palette", "grey", "inverted", "scaled"
"""How samples are shown: as they are; by the colours of a table; by the first of these, which are
all grey; counted from the largest down; or multiplied up to 255."""


@dataclass(frozen=True)
class Facts:
    """What an open dataset says of its bands, asked once: every answer is about all of them."""

    driver: str
    bits: int
    """Bits of a sample."""

    inverted: bool
    """Whether white is 0."""

    dtypes: tuple[str, ...]
    colors: tuple[ColorInterp, ...]
    flags: tuple[list[MaskFlags], ...]
    nodata: tuple[float | None, ...]
    names: tuple[str | None, ...]
    units: tuple[str | None, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]

    @classmethod
    def of(cls, dataset: Any) -> Facts:
        """Ask a dataset of one band or more."""
        dtypes = dataset.dtypes
        size = 0 if "complex" in dtypes[0] else np.dtype(dtypes[0]).itemsize * 8
        bits = dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", "")
        white = dataset.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES"
        return cls(
            driver=dataset.driver,
            bits=min(int(bits), size) if bits.isdigit() and bits != "0" else size,
            inverted=white and dtypes[0].startswith("uint"),
            dtypes=dtypes,
            colors=dataset.colorinterp,
            flags=dataset.mask_flag_enums,
            nodata=dataset.nodatavals,
            names=dataset.descriptions,
            units=dataset.units,
            scales=dataset.scales,
            offsets=dataset.offsets,
        )

    def alpha(self) -> list[int]:
        """Return the numbers of the bands that are alpha."""
        return [n for n, color in enumerate(self.colors, start=1) if color == ColorInterp.alpha]

    def data(self) -> list[int]:
        """Return the numbers of the others."""
        return [n for n, color in enumerate(self.colors, start=1) if color != ColorInterp.alpha]


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

    top: int = 0
    """The largest value that the bits of a sample can hold."""


def choose_bands(path: str, dataset: Any, facts: Facts, wanted: Sequence[int] | None) -> Choice:
    """Choose bands: those asked for, else red, green and blue, else all but alpha.

    Raises
    ------
    UnsupportedImageError
        If there is none, or one of them cannot be taken.
    ParameterError
        If a band is asked for that is not there.
    """
    data = facts.data()
    shown = _shown(dataset, facts, data)
    if shown == PALETTE:
        colors = [Band(number, color=color.name) for number, color in enumerate(COLORS, start=1)]
        numbers = choose(wanted, range(1, 4), (1, 2, 3), path)
        indexes: tuple[int, ...] = (data[0],)
        bands = tuple(colors[number - 1] for number in numbers)
    else:
        indexes = choose(wanted, range(1, dataset.count + 1), _default(facts, data), path)
        bands = tuple(_describe(facts, number) for number in indexes)
        tables = [band.number for band in bands if band.color == "palette"]
        if tables and shown != GREY:
            reason = f"band {tables[0]} holds indices into a colour table beside other bands"
            raise UnsupportedImageError.of(path, f"{reason}: choose others by `bands`")
    if not indexes:
        raise UnsupportedImageError.of(path, "it has no bands but alpha; choose one by `bands`")
    stored = _common_dtype(path, facts, indexes)
    dtype = np.dtype(np.uint8) if shown in {PALETTE, GREY, SCALED} else stored
    if shown in {GREY, INVERTED}:
        bands = tuple(replace(band, color="gray") for band in bands)
    return Choice(indexes, bands, stored, dtype, shown, (1 << facts.bits) - 1)


def show(
    dataset: Any, choice: Choice, stored: npt.NDArray[Any], numbers: Sequence[int]
) -> npt.NDArray[Any]:
    """Turn stored samples of shape (band, y, x) into what comes out, likewise.

    Of a colour table, `numbers` says which of red (1), green and blue.
    """
    shown: npt.NDArray[Any]
    if choice.shown == PALETTE:
        table = color_table(dataset)
        shown = np.stack([table[:, number - 1][stored[0]] for number in numbers])
    elif choice.shown == GREY:
        shown = color_table(dataset)[:, 0][stored]
    else:
        # A value above the largest that its bits can hold has no business there.
        held = np.minimum(stored, stored.dtype.type(choice.top))
        if choice.shown == INVERTED:
            shown = stored.dtype.type(choice.top) - held
        else:
            shown = held * np.uint8(255 // choice.top)
    return shown


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


def _default(facts: Facts, data: list[int]) -> tuple[int, ...]:
    found = sorted((facts.colors[n - 1], facts.dtypes[n - 1]) for n in data)
    if found == sorted((color, "uint8") for color in COLORS):
        return tuple(facts.colors.index(color) + 1 for color in COLORS)
    return tuple(data)


def _shown(dataset: Any, facts: Facts, data: list[int]) -> str:
    single = data == [1] and facts.dtypes[0] in {"uint8", "uint16"}
    if single and facts.colors[0] == ColorInterp.palette:
        table = color_table(dataset)[: 1 << facts.bits]
        grey = (table[:, :1] == table[:, 1:3]).all() and (table[:, 3] == 255).all()
        return GREY if facts.bits == 1 and grey else PALETTE
    if facts.inverted:
        return INVERTED
    fraction = facts.bits == 1 or (facts.driver == "PNG" and facts.bits in {2, 4})
    return SCALED if fraction and set(facts.dtypes) == {"uint8"} else STORED


def _common_dtype(path: str, facts: Facts, indexes: tuple[int, ...]) -> np.dtype[Any]:
    found = {facts.dtypes[number - 1] for number in indexes}
    if any("complex" in name for name in found):
        name = ", ".join(sorted(found))
        reason = f"its data type is {name}, and complex numbers have no order: choose a real part"
        raise UnsupportedImageError.of(path, reason)
    dtype = np.result_type(*(np.dtype(name) for name in found))
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _describe(facts: Facts, number: int) -> Band:
    i = number - 1
    nodata = facts.nodata[i]
    told = MaskFlags.nodata in facts.flags[i] and "complex" not in facts.dtypes[i]
    if not told or nodata is None or not occurs(nodata, np.dtype(facts.dtypes[i])):
        nodata = None
    return Band(
        number=number,
        name=facts.names[i] or "",
        color=facts.colors[i].name,
        unit=facts.units[i] or "",
        scale=facts.scales[i],
        offset=facts.offsets[i],
        nodata=nodata,
    )
