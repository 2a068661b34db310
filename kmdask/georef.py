"""Where an image is on the map, in a form that pickles and goes into JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class GroundControlPoint:
    """A pixel whose place is known, as `rasterio.control.GroundControlPoint` has it."""

    row: float
    col: float
    x: float
    y: float
    z: float | None = None
    id: str = ""
    info: str = ""


@dataclass(frozen=True)
class Georef:
    """Coordinate reference system of an image, and the ways from its pixels to coordinates.

    Examples
    --------
    >>> georef = Georef(transform=(30.0, 0.0, 5e5, 0.0, -30.0, 4e6))
    >>> Georef.from_dict(georef.to_dict()) == georef
    True
    """

    crs_wkt: str | None = None
    """The coordinate reference system as WKT, None where the image names none; that of the ground
    control points if it has these and no transform."""

    transform: tuple[float, float, float, float, float, float] | None = None
    """Coefficients a, b, c, d, e, f of x = a·column + b·row + c and y = d·column + e·row + f, as in
    `affine.Affine`, None where the image is not georeferenced."""

    gcps: tuple[GroundControlPoint, ...] = ()
    """Ground control points."""

    rpcs: tuple[tuple[str, str], ...] = ()
    """Rational polynomial coefficients: GDAL's metadata items of the domain RPC."""

    point: bool = False
    """Whether a pixel's value stands for its centre (GDAL's AREA_OR_POINT=Point), not its area."""

    def __post_init__(self) -> None:
        if self.transform is not None and len(self.transform) != len("abcdef"):
            raise ValueError(f"a transform has six coefficients; got {self.transform}")

    def shifted(self, rows: int, columns: int) -> Georef:
        """Where the part of the image is that begins so many rows and columns further on.

        Examples
        --------
        >>> Georef(transform=(30.0, 0.0, 5e5, 0.0, -30.0, 4e6)).shifted(
        ...     rows=10, columns=1
        ... ).transform
        (30.0, 0.0, 500030.0, 0.0, -30.0, 3999700.0)
        """
        transform = self.transform
        if transform is not None:
            a, b, c, d, e, f = transform
            transform = (a, b, a * columns + b * rows + c, d, e, d * columns + e * rows + f)
        offsets = {"LINE_OFF": rows, "SAMP_OFF": columns}
        return replace(
            self,
            transform=transform,
            gcps=tuple(replace(p, row=p.row - rows, col=p.col - columns) for p in self.gcps),
            rpcs=tuple(
                (key, f"{float(value) - offsets[key]:.17g}" if key in offsets else value)
                for key, value in self.rpcs
            ),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, ready for JSON."""
        transform = None if self.transform is None else list(self.transform)
        return {
            "crs_wkt": self.crs_wkt,
            "transform": transform,
            "gcps": [asdict(gcp) for gcp in self.gcps],
            "rpcs": dict(self.rpcs),
            "point": self.point,
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Georef:
        """Rebuild from the result of `to_dict`."""
        transform = fields["transform"]
        return cls(
            crs_wkt=fields["crs_wkt"],
            transform=None if transform is None else tuple(transform),
            gcps=tuple(GroundControlPoint(**gcp) for gcp in fields["gcps"]),
            rpcs=tuple(fields["rpcs"].items()),
            point=fields["point"],
        )
