"""What is known of the bands of an image besides their values."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Band:
    """One band of an image, as the source describes it.

    Examples
    --------
    >>> band = Band(number=4, name="B08", nodata=float("nan"))
    >>> Band.from_dict(band.to_dict()).name
    'B08'
    """

    number: int
    """Its number in the source, from 1."""

    name: str = ""
    """Its description, empty where the source gives none."""

    color: str = "undefined"
    """Its colour interpretation: a name of `rasterio.enums.ColorInterp`."""

    unit: str = ""
    """The unit of ``value * scale + offset``."""

    scale: float = 1.0
    """What a stored value is to be multiplied by; kmdask works on stored values."""

    offset: float = 0.0
    """What is then to be added."""

    nodata: float | None = None
    """The stored value that stands for a missing one; None where a mask or alpha tells, or where
    nothing is missing."""

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, ready for JSON, which has no NaN and no infinity."""
        fields = asdict(self)
        if self.nodata is not None and not math.isfinite(self.nodata):
            fields["nodata"] = str(self.nodata)
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Band:
        """Rebuild from the result of `to_dict`."""
        nodata = fields["nodata"]
        return cls(**{**fields, "nodata": float(nodata) if isinstance(nodata, str) else nodata})


def fill_values(bands: tuple[Band, ...]) -> tuple[float, ...] | None:
    """Return the nodata value of each band; None unless every band has one."""
    values = tuple(band.nodata for band in bands if band.nodata is not None)
    return values if len(values) == len(bands) else None
