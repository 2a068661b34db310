"""Where distances between pixels are measured: the bands, weighted or projected, or OKLab."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask
import dask.array as da
import numpy as np

from kmdask.errors import ParameterError
from kmdask.kernels import lloyd as kernels
from kmdask.kernels.oklab import from_oklab, to_oklab
from kmdask.units import several

if TYPE_CHECKING:
    import numpy.typing as npt

    from kmdask.fitting.colors import WeightedColors


class Space(ABC):
    """A map of the bands to the features between which distances are measured.

    Palettes, decoded images and metrics stay in the units of the bands: k-means in a space is
    k-means with another yardstick. What takes a space takes None for the bands as they are.
    """

    @abstractmethod
    def check(self, bands: int, dtype: np.dtype[Any]) -> None:
        """Raise a `ParameterError` unless this is a space of pixels of so many bands and type."""

    @abstractmethod
    def project(self, values: npt.NDArray[np.number[Any]]) -> npt.NDArray[np.float64]:
        """Map values of shape (n, band) to features of shape (n, feature)."""

    @abstractmethod
    def in_bands(
        self, centers: npt.NDArray[np.float64], colors: WeightedColors, held: int = 0
    ) -> npt.NDArray[np.float64]:
        """Map centres of shape (k, feature), fitted to colours, to (at most k - held, band).

        The first `held`, which were given in the bands, take colours and are left out.
        """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, ready for JSON."""

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> Space:
        """Rebuild a space of any kind from the result of its `to_dict`.

        Examples
        --------
        >>> Space.from_dict(Oklab().to_dict())
        Oklab()
        """
        if fields == Oklab().to_dict():
            return Oklab()
        return LinearSpace(tuple(fields["scale"]), tuple(map(tuple, fields["components"])))


@dataclass(frozen=True)
class LinearSpace(Space):
    """Bands that are weighted, or projected on principal components.

    The mean of pixels maps to the mean of their features.

    Examples
    --------
    >>> LinearSpace(scale=(1.0, 0.5)).project(np.array([[3.0, 4.0]]))
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

    def check(self, bands: int, dtype: np.dtype[Any]) -> None:  # noqa: ARG002  any will do
        """Raise a `ParameterError` unless the bands are as many as the weights."""
        if len(self.matrix) != bands:
            msg = (
                f"the space has {several(len(self.matrix), 'band')}, the pixels have {bands}: they "
                "must agree; give a weight for each band"
            )
            raise ParameterError(msg)

    def project(self, values: npt.NDArray[np.number[Any]]) -> npt.NDArray[np.float64]:
        """Map values of shape (n, band) to features of shape (n, feature)."""
        return product(values.astype(np.float64), self.matrix)

    def in_bands(
        self, centers: npt.NDArray[np.float64], colors: WeightedColors, held: int = 0
    ) -> npt.NDArray[np.float64]:
        """Undo the scale; of components take the mean of the colours nearest to each centre."""
        if not self.components:
            return np.asarray(centers[held:], np.float64) / self.scale
        rows, counts = dask.compute(colors.colors, colors.counts)
        labels, _ = kernels.nearest(self.project(rows), np.array(centers, np.float64))
        weights = np.bincount(labels, counts, len(centers))
        sums = [np.bincount(labels, counts * band, len(centers)) for band in rows.T]
        found = weights > 0
        found[:held] = False
        means: npt.NDArray[np.float64] = np.stack(sums, axis=1)[found] / weights[found, None]
        return means

    def __len__(self) -> int:
        return len(self.components) or len(self.scale)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, ready for JSON."""
        return {"scale": list(self.scale), "components": [list(row) for row in self.components]}


@dataclass(frozen=True)
class Oklab(Space):
    """OKLab, in which equal distances look about equally large [1]_.

    For three bands of 8 bits, taken for red, green and blue of sRGB, in this order. A centre is a
    mean in OKLab; what of it sRGB cannot show is clipped.

    References
    ----------
    .. [1] B. Ottosson, "A perceptual color space for image processing", 2020,
       https://bottosson.github.io/posts/oklab/

    Examples
    --------
    >>> Oklab().project(np.array([[255, 0, 0]])).round(3)
    array([[0.628, 0.225, 0.126]])
    """

    def check(self, bands: int, dtype: np.dtype[Any]) -> None:
        """Raise a `ParameterError` unless the pixels are three bands of 8 bits."""
        if not is_rgb(bands, dtype):
            msg = (
                "OKLab is for three bands of uint8, red, green and blue of sRGB; these are "
                f"{several(bands, 'band')} of {dtype}; choose three by bands= (--bands), or "
                "leave OKLab out"
            )
            raise ParameterError(msg)

    def project(self, values: npt.NDArray[np.number[Any]]) -> npt.NDArray[np.float64]:
        """Map values of shape (n, 3), from 0 to 255, to L, a and b of shape (n, 3)."""
        features: npt.NDArray[np.float64] = to_oklab(values.astype(np.float64, order="C"))
        return features

    def in_bands(
        self,
        centers: npt.NDArray[np.float64],
        colors: WeightedColors,  # noqa: ARG002  a centre says it all
        held: int = 0,
    ) -> npt.NDArray[np.float64]:
        """Map centres in OKLab back to sRGB, from 0 to 255, not rounded."""
        colors_: npt.NDArray[np.float64] = from_oklab(
            np.array(centers[held:], np.float64, order="C")
        )
        return colors_

    def __len__(self) -> int:
        return 3

    def to_dict(self) -> dict[str, Any]:
        """Return the name, ready for JSON."""
        return {"name": "oklab"}


def is_rgb(bands: int, dtype: np.dtype[Any]) -> bool:
    """Whether pixels are taken for red, green and blue of sRGB: three bands of 8 bits."""
    return bands == 3 and dtype == np.uint8


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
