"""What a compression did: sizes, quality, timings, versions."""

from __future__ import annotations

import json
import math
import platform
import threading
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib.metadata import version
from typing import Any

from kmdask import __version__
from kmdask.writing.digests import OWN, signed

LIBRARIES = (
    "dask",
    "dask-ml",
    "deflate",
    "distributed",
    "numba",
    "numcodecs",
    "numpy",
    "pillow",
    "rasterio",
    "scikit-learn",
    "scipy",
    "tifffile",
    "zarr",
)


@dataclass(frozen=True)
class Report:
    """The account of one compression, as it stands in ``report.json``."""

    source: str
    """Path of the source image."""

    shape: tuple[int, int, int]
    """Rows, columns and bands."""

    dtype: str
    """Data type of the pixels."""

    valid_pixels: int
    """Pixels that are not transparent, masked or nodata."""

    colors: int | None
    """Different colours among the valid pixels, or cells of similar ones; None if nobody counted
    them, as the palette was there already."""

    exact_colors: bool | None
    """Whether `colors` are the different colours; else they are cells, or None."""

    k: int
    """Palette entries asked for, or chosen; see `asked`."""

    k_used: int
    """Palette entries there are: fewer than `k` where the image has fewer colours, or where
    centres round to the same colour."""

    seed: int
    """Seed of the fit."""

    mse: float
    """Mean squared error over valid pixels and bands, in squared units of the image."""

    peak: float
    """What `psnr` takes for the signal: 255 of uint8, else the range of the valid pixels, with a
    palette that was there already of those it was fitted to."""

    psnr: float
    """Peak signal-to-noise ratio in dB over valid pixels; infinite where the image is exact."""

    shares: tuple[float, ...]
    """The share of the valid pixels that has each palette entry."""

    sizes: dict[str, int]
    """Bytes of the source file, of the raw pixels, and of each part of the bundle."""

    seconds: dict[str, float]
    """Wall time of each stage."""

    versions: dict[str, str]
    """Versions of Python and the libraries."""

    digests: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the files of the bundle that carry no checksum of their own."""

    dashboard: str | None = None
    """Link of the cluster's dashboard; that of a cluster of the run's own leads nowhere now."""

    palette: dict[str, Any] | None = None
    """Where a palette that was there already is from: its ``path``, None if it has none, and the
    ``sources`` that it was fitted to. None if it was fitted to this image."""

    window: tuple[int, int, int, int] | None = None
    """The region of the source: first column, first row, width and height; None if it is all."""

    asked: dict[str, Any] | None = None
    """What was asked for in place of `k`, as ``{"psnr": 35.0}``; None if `k` or a palette was."""

    band_mse: tuple[float, ...] | None = None
    """Mean squared error of each band. This and what follows is None in bundles that were written
    before it was looked for."""

    band_max_error: tuple[float, ...] | None = None
    """The largest absolute error of each band."""

    ssim: float | None = None
    """Mean structural similarity, from -1 to 1, of 1 where the image is exact: over all windows of
    7 x 7 valid pixels and all bands, relative to `peak`. None if it was not asked for, there is no
    such window, or `peak` is 0. Defined in `kmdask.similarity`."""

    entropy: float | None = None
    """Entropy of the indices in bits per pixel, that of invalid ones among them."""

    delta_e: float | None = None
    """Mean ΔEOK, how large the error looks, of three bands of 8 bits; else None. See `Metrics`."""

    smooth: float = 0.0
    """How much error pixels took for fewer bytes; see `kmdask.compress`."""

    @property
    def max_error(self) -> float | None:
        """The largest absolute error of any band of any valid pixel."""
        return None if self.band_max_error is None else max(self.band_max_error)

    @property
    def ratio_source(self) -> float | None:
        """How many times smaller ``image.zarr`` is than the source; None if its size is unknown."""
        return self.sizes["source"] / self.sizes["zarr"] or None

    @property
    def ratio_raw(self) -> float:
        """How many times smaller ``image.zarr`` is than the raw pixels."""
        return self.sizes["raw"] / self.sizes["zarr"]

    @property
    def bits_per_pixel(self) -> float:
        """Bits that ``image.zarr`` takes for a pixel."""
        return 8 * self.sizes["zarr"] / (self.shape[0] * self.shape[1])

    @property
    def attained(self) -> float | None:
        """What came out of what was asked, in its unit; None if that has none.

        The PSNR, the bytes of ``image.zarr``, how many times smaller than raw these are, or the
        entropy of the indices of valid pixels.
        """
        kind = next(iter(self.asked or {"k": 0}))
        if kind == "target_bpp":
            return -sum(share * math.log2(share) for share in self.shares if share)
        found = {"psnr": self.psnr, "max_bytes": self.sizes["zarr"], "ratio": self.ratio_raw}
        return found.get(kind)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields and ratios, ready for JSON; an infinite PSNR becomes None."""
        return {
            **asdict(self),
            "psnr": self.psnr if math.isfinite(self.psnr) else None,
            "max_error": self.max_error,
            "ratio_source": self.ratio_source,
            "ratio_raw": self.ratio_raw,
            "bits_per_pixel": self.bits_per_pixel,
        }

    def to_json(self) -> bytes:
        """Return what is in ``report.json``."""
        return (json.dumps(signed(self.to_dict()), indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Report:
        """Rebuild from the result of `to_json`."""
        fields = json.loads(content)
        for derived in ("max_error", "ratio_source", "ratio_raw", "bits_per_pixel", OWN):
            fields.pop(derived, None)
        fields["shape"] = tuple(fields["shape"])
        fields["shares"] = tuple(fields["shares"])
        for name in ("window", "band_mse", "band_max_error"):
            values = fields.get(name)
            fields[name] = None if values is None else tuple(values)
        fields["psnr"] = math.inf if fields["psnr"] is None else fields["psnr"]
        return cls(**fields)


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide the result."""
    import rasterio

    # One at a time: importlib.metadata now and then finds nothing in two threads at once.
    with _finding:
        installed = _installed()
    own = {"kmdask": __version__, "python": platform.python_version()}
    return own | installed | {"gdal": str(rasterio.__gdal_version__)}


_finding = threading.Lock()


@cache
def _installed() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}
