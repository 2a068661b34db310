"""Where an image is on the map, in a form that pickles and goes into JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Georef:
    """Coordinate reference system and affine transform of an image.

    Examples
    --------
    >>> georef = Georef(transform=(30.0, 0.0, 5e5, 0.0, -30.0, 4e6))
    >>> Georef.from_dict(georef.to_dict()) == georef
    True
    """

    crs_wkt: str | None = None
    """The coordinate reference system as WKT, None where the image names none."""

    transform: tuple[float, float, float, float, float, float] | None = None
    """Coefficients a, b, c, d, e, f of x = a·column + b·row + c and y = d·column + e·row + f, as in
    `affine.Affine`, None where the image is not georeferenced."""

    def __post_init__(self) -> None:
        if self.transform is not None and len(self.transform) != len("abcdef"):
            raise ValueError(f"a transform has six coefficients; got {self.transform}")

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, ready for JSON."""
        transform = None if self.transform is None else list(self.transform)
        return {"crs_wkt": self.crs_wkt, "transform": transform}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Georef:
        """Rebuild from the result of `to_dict`."""
        transform = fields["transform"]
        return cls(fields["crs_wkt"], None if transform is None else tuple(transform))
