"""What a run leaves in its directory for a later one to go on from, and how that is read again.

``run.json`` says what it was asked; ``fitted.json``, in ``scratch/``, has all of the fit that is
not in ``image.zarr``. Both have a checksum: what is damaged counts as not there.
"""

from __future__ import annotations

import json
import logging
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kmdask import storage
from kmdask.display import Display
from kmdask.errors import BundleError, writing
from kmdask.fitted import Fitted
from kmdask.writing import store

if TYPE_CHECKING:
    from kmdask.places import Place

logger = logging.getLogger(__name__)

FITTED = "fitted.json"
"""The fit, in the scratch directory of a run."""


@dataclass(frozen=True)
class Earlier:
    """What a run that was cut off has left to go on from, besides its receipts."""

    fitted: Fitted
    """Its palette, and how to use it."""

    chunk: tuple[int, int]
    """Rows and columns of the chunks that it read, which have to stay the same."""

    seconds: dict[str, float]
    """Wall time of the stages that led to the palette."""

    @classmethod
    def found(cls, path: Place, asked: dict[str, Any]) -> Earlier | None:
        """Return what a run has left in its directory, if it was asked the same."""
        with writing(path):
            same = read_fields(path / store.RUN).get("asked") == asked
            kept = read_fields(path / store.SCRATCH / FITTED) if same else {}
        if not kept:
            return None
        try:
            _, palette, header = store.read_arrays(path)
            display = Display.from_dict(header.display)
            fitted = Fitted.from_dict(kept["fitted"], palette, display)
        except (BundleError, LookupError, ValueError) as error:
            logger.warning("%s cannot be gone on from: %s", path, error)
            return None
        rows, columns = kept["chunk"]
        return cls(fitted, (int(rows), int(columns)), kept["seconds"])

    def leave(self, path: Place) -> None:
        """Write what `found` reads, but for the palette and what was asked."""
        kept = {"fitted": self.fitted.to_dict(), "chunk": self.chunk, "seconds": self.seconds}
        with writing(path):
            write_fields(path / store.SCRATCH / FITTED, kept)


def write_fields(path: Place, fields: dict[str, Any]) -> None:
    """Write a file of a run, with a checksum."""
    content = {"crc32": checksum(fields), "fields": fields}
    storage.write_file(path, json.dumps(content).encode())


def read_fields(path: Place) -> dict[str, Any]:
    """Read a file of a run; empty if there is none, or none that is whole."""
    try:
        content = json.loads(storage.read_file(path))
        fields: dict[str, Any] = content["fields"]
    except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError):
        return {}
    return fields if content.get("crc32") == checksum(fields) else {}


def checksum(fields: dict[str, Any]) -> int:
    """Return the CRC-32 of what is ready for JSON."""
    return zlib.crc32(json.dumps(fields).encode())
