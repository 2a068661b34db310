"""What attributes tell in the conventions of xarray, rioxarray and CF: nodata, scale and place.

xarray writes them beside zarr arrays and carries them on its own; both look the same here: the
attributes of an array, and variables that stand beside it by their names.
"""

from __future__ import annotations

import base64
import binascii
import logging
import math
import struct
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from rasterio.crs import CRS
from rasterio.errors import CRSError

from kmdask.errors import SourceError
from kmdask.georef import Georef
from kmdask.reading.layout import COLUMNS, ROWS, Described

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Affine = tuple[float, float, float, float, float, float]

logger = logging.getLogger(__name__)

STEADY = 1e-3
"""How far coordinates may be from evenly spaced, in steps."""


LONGEST = 10_000_000
"""Coordinates that are looked at; who has more gives a transform."""


class Variable(Protocol):
    """An array beside the image: its attributes, and its values if they are asked for."""

    @property
    def attrs(self) -> Mapping[str, Any]:
        """Its attributes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    def values(self) -> npt.NDArray[Any]:
        """All of it."""


def describe(
    path: str, attrs: Mapping[str, Any], dims: tuple[str, ...] | None, fill: object = None
) -> Described:
    """Read what attributes say of the samples; `fill` is xarray's fill value kept elsewhere."""
    names = attrs.get("long_name", ())
    return Described(
        dims=dims,
        names=tuple(str(name) for name in names) if isinstance(names, list | tuple) else (),
        nodata=_nodata(path, attrs, fill),
        scale=_number(attrs.get("scale_factor"), 1.0),
        offset=_number(attrs.get("add_offset"), 0.0),
        unit=str(attrs.get("units", "")),
    )


def place(
    path: str,
    attrs: Mapping[str, Any],
    dims: tuple[str, ...] | None,
    beside: Mapping[str, Variable],
) -> Georef:
    """Read where the image is, of its grid mapping and the coordinates of its rows and columns.

    Where these two differ the coordinates are right: slicing an array changes them alone. A
    coordinate reference system that cannot be parsed is left out, with a warning in the log.
    """
    mapping: Mapping[str, Any] = {}
    for name in (attrs.get("grid_mapping"), "spatial_ref"):
        if isinstance(name, str) and name in beside:
            mapping = beside[name].attrs
            break
    wkt = mapping.get("crs_wkt") or mapping.get("spatial_ref") or attrs.get("crs_wkt")
    return Georef(
        crs_wkt=check_wkt(path, wkt),
        transform=_agreed(_affine(mapping.get("GeoTransform")), _from_coordinates(dims, beside)),
        point=attrs.get("AREA_OR_POINT") == "Point",
    )


def check_wkt(path: str, wkt: object) -> str | None:
    """Return what GDAL can parse of a coordinate reference system, None if it is nothing."""
    if not wkt or not isinstance(wkt, str):
        return None
    try:
        return CRS.from_wkt(wkt).to_wkt() or None
    except CRSError as error:
        logger.warning(
            "%r: its coordinate reference system cannot be parsed and is left out: %s", path, error
        )
        return None


def _nodata(path: str, attrs: Mapping[str, Any], fill: object) -> float | None:
    said = [attrs[name] for name in ("_FillValue", "missing_value") if name in attrs]
    values = {repr(value): value for value in map(_parsed, [*said, *([fill] * (not said))])}
    if len(values) > 1:
        raise SourceError(
            f"{path!r} contradicts itself: _FillValue is {said[0]!r}, missing_value {said[1]!r}; "
            "remove one of these attributes"
        )
    value = next(iter(values.values()))
    if said and value is None:
        raise SourceError(
            f"{path!r} names {said[0]!r} as its nodata value, which is no number; mend the "
            "attribute _FillValue, or remove it"
        )
    return value


def _parsed(value: object) -> float | None:
    if isinstance(value, list | tuple | np.ndarray) and len(value) == 1:
        value = value[0]
    if isinstance(value, str):
        try:
            # xarray writes floats into zarr v3 like that, so that NaN comes through JSON.
            (number,) = struct.unpack("<d", base64.b64decode(value, validate=True))
        except (binascii.Error, struct.error):
            try:
                number = float(value)
            except ValueError:
                return None
        return float(number)
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _number(value: object, default: float) -> float:
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    return default


def _affine(text: object) -> Affine | None:
    """Reorder GDAL's six numbers, which begin with the corner."""
    try:
        c, a, b, f, d, e = (float(number) for number in str(text).split())
    except ValueError:
        return None
    return (a, b, c, d, e, f) if all(map(math.isfinite, (a, b, c, d, e, f))) else None


def _agreed(mapped: Affine | None, found: Affine | None) -> Affine | None:
    """The transform of the mapping, whose digits are exact, if coordinates do not deny it."""
    if mapped is None or found is None:
        return mapped or found
    if mapped[1] or mapped[3]:  # coordinates of rows and columns cannot tell of a rotation
        return mapped
    pixel = max(abs(found[0]), abs(found[4]))
    return mapped if np.allclose(mapped, found, rtol=1e-9, atol=STEADY * pixel) else found


def _from_coordinates(
    dims: tuple[str, ...] | None, beside: Mapping[str, Variable]
) -> Affine | None:
    steps = []
    for known in (COLUMNS, ROWS):
        name = next((dim for dim in dims or () if dim.lower() in known and dim in beside), None)
        if name is None:
            return None
        shape = beside[name].shape
        if len(shape) != 1 or not 2 <= shape[0] <= LONGEST:
            return None
        values = beside[name].values()
        if values.dtype.kind not in "iuf":
            return None
        centres = values.astype(float)
        step = (centres[-1] - centres[0]) / (len(centres) - 1)
        even = centres[0] + step * np.arange(len(centres))
        # Coordinates say where centres are; numbers 0, 1, 2, ... are no place.
        if not step or not np.abs(centres - even).max() <= STEADY * abs(step):
            return None
        steps.append((float(step), float(centres[0] - step / 2)))
    (a, c), (e, f) = steps
    return (a, 0.0, c, 0.0, e, f)
