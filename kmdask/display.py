"""What a palette looks like on a screen: which bands, stretched how, in 8-bit colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kmdask.errors import ParameterError

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Colormap:
    """The 8-bit colours that tiles, preview and palette GeoTIFF paint indices with."""

    rgb: npt.NDArray[np.uint8]
    """Array of shape (k, 3): the colour of each palette entry."""

    nodata: int | None = None
    """The index of invalid pixels, the first after the palette; None if every pixel is valid."""

    def __post_init__(self) -> None:
        if self.nodata not in (None, len(self.rgb)):
            raise ParameterError(f"nodata is {self.nodata} for {len(self.rgb)} colours")

    @property
    def entries(self) -> int:
        """Indices that may occur."""
        return len(self.rgb) + (self.nodata is not None)

    @property
    def rgba(self) -> npt.NDArray[np.uint8]:
        """Array of shape (entries, 4), the entry of invalid pixels transparent."""
        colors = np.zeros((self.entries, 4), np.uint8)
        colors[: len(self.rgb), :3] = self.rgb
        colors[: len(self.rgb), 3] = 255
        return colors
