"""Where distances between pixels are measured: the bands as they are, weighted, or projected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True)
class Space:
    """A linear map of the bands to the features between which distances are measured.

    Palettes, decoded images and metrics stay in the units of the bands. The mean of pixels maps to
    the mean of their features, so k-means in the space is k-means with another yardstick.

    Examples
    --------
    >>> Space(scale=(1.0, 0.5)).project(np.array([[3.0, 4.0]]))
    array([[3., 2.]])
    """

    scale: tuple[float, ...]
    """What the values of each band are multiplied by."""

    components: tuple[tuple[float, ...], ...] = ()
    """Of each principal component the weights of the scaled bands; empty for the bands alone."""

    @property
    def matrix(self) -> npt.NDArray[np.float64]:
        """Array of shape (band, feature): features are ``pixels @ matrix``."""
        scaling = np.diag(np.array(self.scale, np.float64))
        if not self.components:
            return scaling
        return scaling @ np.array(self.components, np.float64).T

    def project(self, values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """Map values of shape (n, band) to features of shape (n, feature)."""
        return product(values.astype(np.float64), self.matrix)

    def __len__(self) -> int:
        return len(self.components) or len(self.scale)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {"scale": list(self.scale), "components": [list(row) for row in self.components]}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Space:
        """Rebuild from the result of `to_dict`."""
        return cls(tuple(fields["scale"]), tuple(map(tuple, fields["components"])))


def product(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Matrix product, added up in the same order whatever the number of threads."""
    result: npt.NDArray[np.float64] = np.einsum("ij,jk->ik", a, b, optimize=False)
    return result


def project(colors: da.Array, space: Space | None) -> da.Array:
    """Map a Dask array of shape (n, band) to its features, lazily; without a space to itself."""
    if space is None:
        return colors
    features: da.Array = da.map_blocks(
        space.project,
        colors,
        dtype=np.float64,
        chunks=(colors.chunks[0], (len(space),)),
        meta=np.empty((0, 0), np.float64),
        token="project",
    )
    return features
