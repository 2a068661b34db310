"""What GDAL has to be told to read from object stores and web servers as everything else here does.

GDAL has a file system of its own for each protocol. It is given the names, end points and
credentials that fsspec's file systems, which read and write all but rasters, find by themselves,
and settings by which it asks seldom and for much at once.
"""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rasterio._env import del_gdal_config, set_gdal_config

from kmdask.chunks import BYTES
from kmdask.places import is_url

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE_SYSTEMS = {
    "s3": "/vsis3/",
    "s3a": "/vsis3/",
    "gs": "/vsigs/",
    "gcs": "/vsigs/",
    "az": "/vsiaz/",
    "abfs": "/vsiaz/",
    "http": "/vsicurl/http://",
    "https": "/vsicurl/https://",
}
"""GDAL's file systems by protocol."""

OPTIONS: dict[str, Any] = {
    # The tiles of a chunk are asked for at once, each run of neighbours by one request, as long as
    # they take less than this. The default, 10 MB, is a fifth of a chunk; the rest came in pieces.
    "GDAL_MAX_RAW_BLOCK_CACHE_SIZE": BYTES,
    # Holds the directory of an image of a gigapixel; the default, 16 kB, took several requests.
    "GDAL_INGESTED_BYTES_AT_OPEN": 1 << 16,
    # A server that is overloaded, or is replaced by another, has some seconds to come back.
    "GDAL_HTTP_MAX_RETRY": 3,
    "GDAL_HTTP_RETRY_DELAY": 1,
    # No run hangs for ever. There is no limit to how long a request takes that makes progress.
    "GDAL_HTTP_CONNECTTIMEOUT": 15,
    "GDAL_HTTP_LOW_SPEED_TIME": 30,
    "GDAL_HTTP_LOW_SPEED_LIMIT": 1,
}
"""Each may be set otherwise by an environment variable of its name."""

ARCHIVES = frozenset({"zip", "tar", "gzip"})

ALONE = frozenset({"tif", "tiff", "btf", "jp2", "j2k", "png", "jpg", "jpeg", "webp", "gif"})
"""Endings of images that are one file, but for what may stand beside it."""

BESIDE = ("msk", "aux.xml", "tfw", "tifw", "wld", "j2w", "pgw", "jgw", "rpb", "_rpc.txt")
"""Endings of files beside an image that say what is valid and where it is. Where a server lists no
directories GDAL asks for some fifty names, one by one, which tell nothing that is used here."""

TRANSLATED = {
    "AZURE_STORAGE_ACCOUNT_NAME": "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_ACCOUNT_KEY": "AZURE_STORAGE_ACCESS_KEY",
    "STORAGE_EMULATOR_HOST": "CPL_GS_ENDPOINT",
}
"""Environment variables of adlfs and gcsfs, and what GDAL calls the same."""

END_POINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")

KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

_told = threading.local()


def gdal_name(path: str) -> str:
    """Return what GDAL calls a file.

    Examples
    --------
    >>> gdal_name("s3://bucket/scene.tif"), gdal_name("https://example.com/scene.tif")
    ('/vsis3/bucket/scene.tif', '/vsicurl/https://example.com/scene.tif')
    >>> gdal_name("gs://bucket/scene.tif"), gdal_name("az://container/scene.tif")
    ('/vsigs/bucket/scene.tif', '/vsiaz/container/scene.tif')
    >>> gdal_name("scene.tif")
    'scene.tif'
    """
    # rasterio would cut a name at "#", and take credentials from boto3 if that is there.
    protocol, mark, rest = path.partition("://")
    prefix = FILE_SYSTEMS.get(protocol.lower()) if mark else None
    return path if prefix is None else prefix + rest


def is_remote(path: str) -> bool:
    """Whether a source is behind a URL, and no archive that rasterio knows how to name to GDAL.

    Examples
    --------
    >>> [is_remote(path) for path in ("s3://bucket/a.tif", "zip://scenes.zip!/a.tif", "a.tif")]
    [True, False, False]
    """
    return is_url(path) and path.partition(":")[0].partition("+")[0].lower() not in ARCHIVES


def remote_options(path: str) -> dict[str, Any]:
    """Return the settings by which GDAL reads a file from elsewhere; none of others."""
    if not is_url(path) and not path.startswith("/vsi"):
        return {}
    options = dict(OPTIONS)
    ending = PurePosixPath(urlsplit(path).path).suffix.lstrip(".").lower()
    if ending in ALONE:
        options["CPL_VSIL_CURL_ALLOWED_EXTENSIONS"] = ",".join((ending, *BESIDE))
    return {name: value for name, value in options.items() if name not in os.environ}


def tell_end_points(path: str) -> None:
    """Tell GDAL, for this thread, the end points and credentials of the environment.

    They are told once, not by a `rasterio.Env` around each reading: whenever one of them changes
    GDAL forgets the headers that it has read, of all files.
    """
    wanted = end_points(os.environ) | _credentials(path)
    told: dict[str, str] = getattr(_told, "options", {})
    if told == wanted:
        return
    for name in told.keys() - wanted.keys():
        del_gdal_config(name)
    for name, value in wanted.items():
        set_gdal_config(name, value)
    _told.options = wanted


def end_points(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what GDAL calls the end points that environment variables name.

    What is set for GDAL itself stays as it is.

    Examples
    --------
    >>> end_points({"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"})
    {'AWS_S3_ENDPOINT': '127.0.0.1:9000', 'AWS_HTTPS': 'NO', 'AWS_VIRTUAL_HOSTING': 'FALSE'}
    """
    options = {
        gdals: environment[ours] for ours, gdals in TRANSLATED.items() if environment.get(ours)
    }
    url = next((environment[name] for name in END_POINTS if environment.get(name)), "")
    if url and "AWS_S3_ENDPOINT" not in environment:
        parts = urlsplit(url)
        options |= {
            "AWS_S3_ENDPOINT": parts.netloc + parts.path.rstrip("/"),
            "AWS_HTTPS": "YES" if parts.scheme == "https" else "NO",
            # As botocore does: servers at an end point of their own seldom have a name per bucket.
            "AWS_VIRTUAL_HOSTING": "FALSE",
        }
    return {name: value for name, value in options.items() if name not in environment}


def _credentials(path: str) -> dict[str, str]:
    """Find credentials for S3 as s3fs does, in more places than GDAL looks into.

    Those of environment variables GDAL finds by itself.
    """
    name = gdal_name(path)
    given = any(os.environ.get(key) for key in (KEYS[0], "AWS_NO_SIGN_REQUEST"))
    if given or not name.startswith(FILE_SYSTEMS["s3"]):
        return {}
    botocore = _botocore(os.environ.get("AWS_PROFILE"))
    if botocore is None:
        return {}
    try:
        found = botocore.get_credentials()
        frozen = found.get_frozen_credentials() if found else ("", "", "")
        region = botocore.get_config_variable("region") or ""
    except Exception:  # noqa: BLE001  whatever it is: GDAL, and then s3fs, will say what is wrong
        return {}
    values = dict(zip((*KEYS, "AWS_REGION"), (*tuple(frozen)[:3], region), strict=True))
    return {key: value for key, value in values.items() if value}


@lru_cache(maxsize=4)
def _botocore(profile: str | None) -> Any:
    try:
        from botocore.session import Session
    except ImportError:
        return None
    return Session(profile=profile)
