"""Digests of the files of a bundle that carry no checksum of their own.

Chunks of the indices have one (zstd's, or a CRC-32), and so has every part of a PNG. The rest is
listed in the report with its SHA-256, and the report with its own.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from kmdask import storage
from kmdask.writing import store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmdask.places import Place

OWN = "sha256"
"""The field of a report that holds the digest of the others."""


def digest_of(path: Place) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with storage.reaching(path), path.open("rb") as opened:
        file: Any = opened
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests_of(bundle: Place) -> dict[str, str]:
    """Return the digests of the small files of a bundle, by their names in it."""
    return {name: digest_of(bundle / name) for name in sorted(_small_files(bundle))}


def signed(fields: dict[str, Any]) -> dict[str, Any]:
    """Add the digest of its fields to a report.

    Examples
    --------
    >>> is_signed(signed({"k": 16}))
    True
    >>> is_signed(signed({"k": 16}) | {"k": 17})
    False
    """
    canonical = json.dumps(fields, sort_keys=True)
    return {**fields, OWN: hashlib.sha256(canonical.encode()).hexdigest()}


def is_signed(fields: dict[str, Any]) -> bool:
    """Whether the fields of a report are those that were signed."""
    return signed({name: value for name, value in fields.items() if name != OWN}) == fields


def _small_files(bundle: Place) -> Iterator[str]:
    """Names of all files but the tiles, the chunks of the indices, the report and the GeoTIFF."""
    yield from storage.names(bundle) & {store.PREVIEW, store.TILES}
    for part in storage.names(bundle / store.IMAGE):
        name = f"{store.IMAGE}/{part}"
        if part.startswith("."):
            yield name
        elif part == store.INDICES:
            inside = storage.names(bundle / name)
            yield from (f"{name}/{file}" for file in inside if file.startswith("."))
        else:
            yield from (f"{name}/{file}" for file in storage.files(bundle / name))
