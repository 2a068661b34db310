"""What a source that stands before another one passes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from kmdask.bands import Band
    from kmdask.reading.sources import Source


@dataclass(frozen=True)
class WrappedSource:
    """A source with another shape than the one that is stored, and the same samples."""

    stored: Source

    @property
    def path(self) -> str:
        """What to call the image in messages."""
        return self.stored.path

    @property
    def location(self) -> str:
        """The file or directory that holds its pixels."""
        return self.stored.location

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the samples."""
        return self.stored.dtype

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands that are read."""
        return self.stored.bands

    @property
    def masked(self) -> bool:
        """Whether `read` returns a further sample, 0 where the pixel is invalid."""
        return self.stored.masked

    @property
    def block(self) -> tuple[int, int]:
        """Rows and columns that are decoded together."""
        return self.stored.block
