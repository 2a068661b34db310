"""How to tell the valid pixels of a raster.

As with GDAL a mask file or the mask inside a file tells, else nodata values, else alpha. Three
things are added. Where a file has one of these and alpha too, either makes a pixel invalid. A
nodata value that no pixel can have, such as -9999 for bytes, means nothing. And what is NaN or
infinite in any band is invalid.

Only mask files are left to GDAL's own masks: it makes those of nodata values and alpha band by
band, and decodes all interleaved bands again for each (measured: 12 times the reading of 11 bands).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from rasterio.enums import MaskFlags

from kmdask.reading.gdal_bands import PALETTE, STORED, Choice, Facts, color_table, show
from kmdask.reading.missing import can_miss, occurs

if TYPE_CHECKING:
    from kmdask.bands import Band


@dataclass(frozen=True)
class Validity:
    """How to tell valid pixels of a raster; those pass all of it."""

    mask: bool = False
    """Whether there is a mask beside the bands or in the file, the same for all of them."""

    alpha: int | None = None
    """The alpha band."""

    transparent: tuple[int, ...] = ()
    """Entries of the colour table that are transparent."""

    nodata: tuple[float | None, ...] = ()
    """For each stored band the value to look for: the user's, or the file's."""

    values: bool = False
    """Whether stored values tell: there is `nodata`, or they may be NaN."""

    @property
    def needed(self) -> bool:
        """Whether any pixel can be invalid."""
        return bool(self.mask or self.alpha or self.transparent or self.values)


def find_validity(dataset: Any, facts: Facts, choice: Choice, nodata: float | None) -> Validity:
    """Find out how to tell; `nodata` is what the user says."""
    flags = [facts.flags[number - 1] for number in choice.indexes]
    alpha = next(iter(facts.alpha()), None)
    beside = MaskFlags.per_dataset in flags[0] and MaskFlags.alpha not in flags[0]
    told = all(MaskFlags.nodata in flag and MaskFlags.per_dataset not in flag for flag in flags)
    values: tuple[float | None, ...] = (nodata,) * len(choice.indexes)
    if told and nodata is None and _can_occur(facts, choice):
        values = tuple(facts.nodata[number - 1] for number in choice.indexes)
    transparent: tuple[int, ...] = ()
    if choice.shown == PALETTE:
        # GDAL makes the colour of a nodata index transparent, which the user may know better.
        own = facts.nodata[choice.indexes[0] - 1] if nodata is not None else None
        indices = np.flatnonzero(color_table(dataset)[:, 3] == 0).tolist()
        transparent = tuple(index for index in indices if index != own)
    return Validity(
        mask=beside,
        alpha=None if alpha in choice.indexes else alpha,
        transparent=transparent,
        nodata=values,
        values=can_miss(choice.stored, values),
    )


def with_nodata(
    dataset: Any, choice: Choice, validity: Validity, nodata: float | None
) -> tuple[Band, ...]:
    """Say of each band which value of what comes out means that it is missing.

    Of floats, NaN, if nothing else tells.
    """
    if choice.shown == PALETTE:
        return choice.bands
    bands = choice.bands
    if nodata is not None:
        bands = tuple(replace(band, nodata=nodata) for band in bands)
    elif choice.stored.kind == "f" and not _told(validity):
        bands = tuple(replace(band, nodata=math.nan) for band in bands)
    if choice.shown == STORED:
        return bands
    return tuple(
        band if band.nodata is None else replace(band, nodata=_shown(dataset, choice, band.nodata))
        for band in bands
    )


def _told(validity: Validity) -> bool:
    """Whether anything but NaN tells that a pixel is missing."""
    return validity.mask or validity.alpha is not None or None not in validity.nodata


def _can_occur(facts: Facts, choice: Choice) -> bool:
    """Whether every chosen band can have its nodata value."""
    values = [(facts.nodata[number - 1], facts.dtypes[number - 1]) for number in choice.indexes]
    return all(value is None or occurs(value, np.dtype(dtype)) for value, dtype in values)


def _shown(dataset: Any, choice: Choice, value: float) -> float:
    return float(show(dataset, choice, np.full((1, 1, 1), value, choice.stored), (1,)).item())
