"""What a page says of places: coordinates, and how long a pixel is on the ground."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from kmdask.georef import Georef

STEPS = 9
"""Rows and columns of the points where the length of a pixel is computed; between them it is
interpolated."""


def coordinates(georef: Georef, shape: tuple[int, int]) -> dict[str, Any] | None:
    """Describe the way from pixels to coordinates, ready for JSON.

    Parameters
    ----------
    georef : Georef
    shape : tuple of int
        Rows and columns of the image.

    Returns
    -------
    dict or None
        ``transform`` (six coefficients), ``crs`` (its name, or None), ``geographic`` (whether
        coordinates are longitude and latitude), ``unit`` (of the coordinates), ``decimals`` (to
        tell pixels apart) and ``metres`` (see `pixel_lengths`). None if no transform says where
        the image is, or one that puts it on a line.

    Examples
    --------
    >>> from kmdask import Georef
    >>> coordinates(Georef(transform=(30.0, 0.0, 5e5, 0.0, -30.0, 4e6)), (10, 10))["decimals"]
    0
    """
    if georef.transform is None:
        return None
    a, b, _, d, e, _ = georef.transform
    if not all(map(math.isfinite, georef.transform)) or a * e == b * d:
        return None
    step = math.hypot(a, d)
    told: dict[str, Any] = {
        "transform": list(georef.transform),
        "crs": None,
        "geographic": False,
        "unit": "",
        "decimals": min(max(math.ceil(-math.log10(step)), 0), 9),
        "metres": None,
    }
    if georef.crs_wkt is None:
        return told
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    try:
        crs = CRS.from_wkt(georef.crs_wkt)
    except CRSError:
        return told
    code = crs.to_authority()
    unit = crs.axis_info[0].unit_name if crs.axis_info else ""
    return told | {
        "crs": f"{crs.name} ({':'.join(code)})" if code else crs.name,
        "geographic": crs.is_geographic,
        "unit": {"metre": "m", "degree": "°"}.get(unit, unit),
        "metres": pixel_lengths(georef, shape),
    }


def pixel_lengths(georef: Georef, shape: tuple[int, int]) -> list[list[float]] | None:
    """Lengths on the ground, in metres, of a pixel from left to right at points of an image.

    Along the geodesic, as maps stretch: a pixel of Web Mercator at 60° is half as long as its
    coordinates say.

    Parameters
    ----------
    georef : Georef
    shape : tuple of int
        Rows and columns of the image.

    Returns
    -------
    list of 9 lists of 9 floats, or None
        At points evenly from the first row to the last, and the first column to the last. None if
        nothing says where the image is, the system has no ellipsoid, or no point is on it.

    Examples
    --------
    >>> from kmdask import Georef
    >>> from pyproj import CRS
    >>> north = Georef(CRS(3857).to_wkt(), (10.0, 0.0, 0.0, 0.0, -10.0, 8399737.89))  # at 60°
    >>> round(pixel_lengths(north, (1, 1))[0][0], 2)
    5.01
    """
    from pyproj import CRS, Transformer
    from pyproj.exceptions import ProjError

    if georef.crs_wkt is None or georef.transform is None:
        return None
    crs = CRS.from_wkt(georef.crs_wkt)
    geod, base = crs.get_geod(), crs.geodetic_crs
    if geod is None or base is None:
        return None
    rows, columns = np.meshgrid(*(np.linspace(0, size, STEPS) for size in shape), indexing="ij")
    a, b, c, d, e, f = georef.transform
    try:
        there = Transformer.from_crs(crs, base, always_xy=True)
        ends = [
            there.transform(a * x + b * rows + c, d * x + e * rows + f)
            for x in (columns - 0.5, columns + 0.5)
        ]
        _, _, metres = geod.inv(*ends[0], *ends[1])
    except ProjError:
        return None
    metres = np.where(np.isfinite(metres) & (metres > 0), metres, np.nan)
    if np.isnan(metres).all():
        return None
    # A scene of a whole disc has corners beside the Earth.
    lengths: list[list[float]] = np.where(np.isnan(metres), np.nanmedian(metres), metres).tolist()
    return lengths
