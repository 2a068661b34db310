"""How far two images are from each other: any two that can be read, bundles among them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import dask
import numpy as np

from kmdask.connecting.checks import check_readers
from kmdask.connecting.client import connect
from kmdask.errors import EmptyImageError, ParameterError
from kmdask.graphs import over_chunks
from kmdask.kernels.errors import add_differences
from kmdask.metrics import merged, psnr_of, with_largest
from kmdask.pairs import given, opened_alike, paired
from kmdask.pixels import valid_or_all
from kmdask.progress import chosen
from kmdask.reading.window import check_window
from kmdask.seen import seen_in_pixels, seen_mean
from kmdask.similarity import Scale, palette_scale, similarities, similarity_of
from kmdask.stages import Stages

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import dask.array as da
    import numpy.typing as npt

    from kmdask.connecting.client import Connection
    from kmdask.image import CompressedImage
    from kmdask.pairs import Given
    from kmdask.progress import Progress

EXACT_BYTES = 2
"""Integers of so many bytes need no value amid them; see `kmdask.similarity.Scale`."""


@dataclass(frozen=True)
class Comparison:
    """What `kmdask.compare` found, over the pixels that are valid in both images."""

    a: str
    """The first image."""

    b: str
    """The second image."""

    shape: tuple[int, int, int]
    """Rows, columns and bands of both."""

    pixels: int
    """Pixels that are valid in both."""

    only_a: int
    """Pixels that are valid in the first image alone."""

    only_b: int
    """Pixels that are valid in the second image alone."""

    peak: float
    """What `psnr` and `ssim` take for the signal."""

    mse: float
    """Mean squared difference over pixels and bands, in squared units of the images."""

    band_mse: tuple[float, ...]
    """Mean squared difference of each band."""

    band_max_error: tuple[float, ...]
    """The largest absolute difference of each band."""

    ssim: float | None
    """Mean structural similarity, from -1 to 1, of 1 where the images are equal: over all windows
    of 7 x 7 pixels and all bands. None if it was not asked for, there is no window whose pixels are
    all valid, or `peak` is 0. Defined in `kmdask.similarity`."""

    delta_e: float | None = None
    """Mean ΔEOK, how large the differences look, where both have three bands of 8 bits; else None.
    See `Metrics`."""

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in decibels; infinite where the images are equal."""
        return psnr_of(self.mse, self.peak)

    @property
    def max_error(self) -> float:
        """The largest absolute difference of any band."""
        return max(self.band_max_error)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, ready for JSON; an infinite PSNR becomes None."""
        psnr = self.psnr if math.isfinite(self.psnr) else None
        return {**asdict(self), "psnr": psnr, "max_error": self.max_error}


def compare(
    a: str | os.PathLike[str] | CompressedImage | Any,
    b: str | os.PathLike[str] | CompressedImage | Any,
    *,
    bands: Sequence[int] | None = None,
    window: Sequence[int] | None = None,
    peak: float | None = None,
    ssim: bool = True,
    client: Connection = None,
    progress: Progress | bool | None = None,
) -> Comparison:
    """Compare two images pixel by pixel, in one pass over both.

    Of an image and the bundle made of it this is what the bundle's report says. How large the
    differences look, of three bands of 8 bits, takes some 15 ns of a core for a pixel, of noise up
    to 100.

    Parameters
    ----------
    a, b : str or path-like, Dask, NumPy or xarray array, or CompressedImage
        What `kmdask.compress` takes, or a bundle, whose colours are compared. Of the same size and
        the same number of bands.
    bands : sequence of int, optional
        The numbers of the bands to compare, from 1. By default all but alpha; those of the bundle
        if one of the two is one.
    window : sequence of int or rasterio.windows.Window, optional
        The region of both to compare: first column, first row, width and height. By default all.
        A bundle that was made of a region of a larger image is compared with that region, and
        `window` counts from its corner.
    peak : float, optional
        The range of the values. By default that in the report of the bundle if one of the two
        is one (of `a` if both are), 255 if `a` is of 8 bits, and else the range of its valid
        pixels, for which it is read once more.
    ssim : bool, default True
        Whether to look for the structural similarity, some 3 ns of a core for a pixel and band
        of 8 bits, 4 to 9 of others.
    client, progress : optional
        As for `kmdask.compress`.

    Returns
    -------
    Comparison

    Raises
    ------
    KmdaskError
        One of its kinds: `ParameterError` if the two do not have the same size and bands,
        `EmptyImageError` if no pixel is valid in both, `SourceError`, `BundleError` or
        `ClusterError`.

    Examples
    --------
    >>> import numpy as np
    >>> import kmdask
    >>> grey = np.arange(4000, dtype=np.uint8).reshape(40, 100) // 2
    >>> bundle = kmdask.compress(grey, 16, "grey.kmdask")
    >>> found = kmdask.compare(grey, "grey.kmdask")
    >>> found.psnr == bundle.report.psnr, found.max_error
    (True, 4.0)
    """
    asked = check_window(window)
    _check_peak(peak)
    pair = paired(given(a, bands, asked), given(b, bands, asked))
    stages = Stages(chosen(progress))
    with connect(client) as connected, stages.on(connected, "compare"):
        check_readers(connected, [each.source for each in pair if each.source is not None])
        with stages("open"):
            (first, mask), (second, other) = opened_alike(pair, connected)
            stages.pixels = math.prod(map(int, first.shape[:2]))

        def run(*collections: Any) -> tuple[Any, ...]:
            done = stages.run(connected, *collections)
            computed: tuple[Any, ...] = dask.compute(*done[::2])
            return computed

        with stages("compare"):
            scale = _scale(pair, (first, second, mask), peak, run)
            lazy = [*over_chunks("compare", _differences, merged, [first, second, mask, other])]
            if ssim:
                lazy += similarities(first, second, scale, valid=_both(mask, other))
            errors, *sums = run(*lazy)
    size = int(first.shape[2])
    count = errors[0, size : size + 3].astype(np.int64).tolist()
    if not count[0]:
        raise EmptyImageError(
            f"no pixel is valid in both {pair[0].name!r} and {pair[1].name!r}: nothing to compare"
        )
    return Comparison(
        a=pair[0].name,
        b=pair[1].name,
        shape=(int(first.shape[0]), int(first.shape[1]), size),
        pixels=count[0],
        only_a=count[1],
        only_b=count[2],
        peak=scale.peak,
        mse=float(errors[0, :size].sum()) / (count[0] * size),
        band_mse=tuple((errors[0, :size] / count[0]).tolist()),
        band_max_error=tuple(errors[1, :size].tolist()),
        ssim=similarity_of(sums[0], scale) if sums else None,
        delta_e=seen_mean(errors[0, size + 3 :], count[0]),
    )


def _check_peak(peak: Any) -> None:
    number = isinstance(peak, int | float | np.number) and not isinstance(peak, bool)
    if peak is not None and not (number and 0 < peak < math.inf):
        msg = f"peak is the range of the values, a positive number such as 255; got {peak!r}"
        raise ParameterError(msg)


def _scale(
    pair: Sequence[Given],
    images: tuple[da.Array, da.Array, da.Array | None],
    peak: float | None,
    run: Any,
) -> Scale:
    """Find what differences are relative to; see `compare`."""
    first, second, mask = images
    for each in pair:
        if each.bundle is not None:
            of_bundle = each.bundle.report.peak if peak is None else peak
            return palette_scale(each.bundle.palette, of_bundle)
    if peak is None and first.dtype == np.uint8:
        peak = 255.0
    types = first.dtype, second.dtype
    if peak is not None and all(t.kind in "ui" and t.itemsize <= EXACT_BYTES for t in types):
        return Scale(peak)
    (limits,) = run(*over_chunks("range", _range, _widest, [first, mask]))
    low, high = limits.tolist() if limits[0] <= limits[1] else (0.0, 0.0)
    return Scale(high - low if peak is None else peak, (low + high) / 2)


def _range(pixels: npt.NDArray[Any], mask: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.float64]:
    valid = pixels if mask is None else pixels[mask != 0]
    if not valid.size:
        return np.array([np.inf, -np.inf])
    return np.array([valid.min(), valid.max()], np.float64)


def _widest(parts: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    return np.array([min(low for low, _ in parts), max(high for _, high in parts)])


def _differences(
    first: npt.NDArray[Any],
    second: npt.NDArray[Any],
    mask: npt.NDArray[np.uint8] | None,
    other: npt.NDArray[np.uint8] | None,
) -> npt.NDArray[np.float64]:
    """Add up differences; count the pixels that are valid in both, and in either alone.

    After these two: how large differences look, see `kmdask.seen`.
    """
    both, total = _both(mask, other), first.shape[0] * first.shape[1]
    seen = [total if each is None else np.count_nonzero(each) for each in (both, mask, other)]
    squared, largest = np.zeros(first.shape[2]), np.zeros(first.shape[2])
    add_differences(first, second, valid_or_all(both), squared, largest)
    counts = [seen[0], seen[1] - seen[0], seen[2] - seen[0]]
    looks = seen_in_pixels(first, second, both)
    return with_largest(np.concatenate([squared, counts, looks]), largest)


def _both(mask: Any, other: Any) -> Any:
    """Return where both masks say that a pixel is valid."""
    if mask is None or other is None:
        return other if mask is None else mask
    return ((mask != 0) & (other != 0)).astype(np.uint8)
