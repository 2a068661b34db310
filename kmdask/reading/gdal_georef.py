"""Where a raster is on the map, as GDAL says."""

from __future__ import annotations

import logging
from typing import Any

from rasterio.errors import CRSError

from kmdask.georef import Georef, GroundControlPoint

logger = logging.getLogger(__name__)


def read_georef(path: str, dataset: Any) -> Georef:
    """Read all that an open dataset tells: CRS, transform, control points, RPCs.

    A coordinate reference system that GDAL cannot parse is left out, with a warning in the log: the
    pixels are no worse for it.
    """
    gcps, gcps_crs = dataset.gcps
    placed = not dataset.transform.is_identity
    return Georef(
        crs_wkt=_wkt(path, dataset) if placed or not gcps else _wkt_of(path, gcps_crs),
        transform=tuple(dataset.transform)[:6] if placed else None,
        gcps=tuple(
            GroundControlPoint(
                gcp.row, gcp.col, gcp.x, gcp.y, gcp.z, str(gcp.id or ""), str(gcp.info or "")
            )
            for gcp in gcps
        ),
        rpcs=tuple(dataset.tags(ns="RPC").items()),
        point=dataset.tags().get("AREA_OR_POINT") == "Point",
    )


def _wkt(path: str, dataset: Any) -> str | None:
    try:
        return _wkt_of(path, dataset.crs)
    except CRSError as error:
        _leave_out(path, error)
        return None


def _wkt_of(path: str, crs: Any) -> str | None:
    try:
        return (crs.to_wkt() or None) if crs else None
    except CRSError as error:
        _leave_out(path, error)
        return None


def _leave_out(path: str, error: Exception) -> None:
    logger.warning(
        "%r: its coordinate reference system cannot be parsed and is left out: %s", path, error
    )
