"""How far the compressed image is from the original.

Where the colours were counted one by one, the counts alone tell: every pixel of a colour gets the
same palette entry, so the squared error over all pixels is that over the colours, each times its
count, and no pass over the image is needed. Otherwise the error is added up chunk by chunk where
the indices are made, from the pixels and the indices of one read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from scipy.special import entr

from kmdask.encoding import entries_of_codes
from kmdask.errors import ParameterError
from kmdask.fitting.search import nearest_rows
from kmdask.fitting.threads import in_parts
from kmdask.graphs import over_chunks
from kmdask.kernels.errors import add_errors
from kmdask.seen import UNSEEN, seen_in_colors, seen_in_indices, seen_mean
from kmdask.units import several

if TYPE_CHECKING:
    from collections.abc import Sequence

    import dask.array as da
    import numpy.typing as npt
    from dask.delayed import Delayed

    from kmdask.fitting.colors import WeightedColors
    from kmdask.fitting.space import Space
    from kmdask.palette import Palette
    from kmdask.writing.receipts import Receipts


@dataclass(frozen=True)
class Metrics:
    """Error over all valid pixels.

    References
    ----------
    .. [1] W3C, "CSS Color Module Level 4", "Color Difference ΔEOK",
       https://www.w3.org/TR/css-color-4/#color-difference-OK
    """

    mse: float
    """Mean squared error over pixels and bands, in squared units of the image."""

    shares: tuple[float, ...]
    """The share of the valid pixels that has each palette entry, in order."""

    peak: float = 255.0
    """What `psnr` takes for the signal: 255 of uint8, else the range of the valid pixels."""

    pixels: int = field(default=0, compare=False, repr=False)
    """How many valid pixels there are."""

    band_mse: tuple[float, ...] | None = field(default=None, compare=False, repr=False)
    """Mean squared error of each band."""

    band_max_error: tuple[float, ...] | None = field(default=None, compare=False, repr=False)
    """The largest absolute error of each band."""

    ssim: float | None = field(default=None, compare=False, repr=False)
    """Mean structural similarity, from -1 to 1; None if nobody looked for it, or no window of
    7 x 7 pixels is valid; see `kmdask.similarity`."""

    delta_e: float | None = None
    """Mean ΔEOK, the distance in OKLab of a pixel from its palette entry: 1 from black to white,
    and about 0.02 where a difference begins to be seen [1]_. Of three bands of 8 bits, taken for
    red, green and blue of sRGB; else None."""

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in decibels; infinite without error."""
        return psnr_of(self.mse, self.peak)


def psnr_of(mse: float, peak: float) -> float:
    """Return the peak signal-to-noise ratio in decibels; infinite without error."""
    # Not the square of the peak, which may be no float.
    return 20 * math.log10(peak) - 10 * math.log10(mse) if mse and peak else math.inf


def entropy_of(shares: Sequence[float], valid: float = 1.0) -> float:
    """Return the entropy of indices in bits per pixel, that of missing pixels among them.

    What a code would take on average that takes each index by itself: neighbours that are
    alike, which make stored indices smaller, do not count.

    Parameters
    ----------
    shares : sequence of float
        The share of the valid pixels that has each palette entry.
    valid : float, default 1.0
        The share of all pixels that is valid.

    References
    ----------
    C. E. Shannon, "A mathematical theory of communication", Bell System Technical Journal
    27 (1948) 379-423.

    Examples
    --------
    >>> entropy_of((0.5, 0.5)), entropy_of((1.0,), valid=0.5)
    (1.0, 1.0)
    """
    return float(entr(shares_of_all(shares, valid)).sum()) / math.log(2)


def shares_of_all(shares: Sequence[float], valid: float) -> npt.NDArray[np.float64]:
    """Return the share of all pixels that has each entry, last that of missing ones."""
    return np.append(valid * np.array(shares), 1 - valid)


def measure(colors: WeightedColors, palette: Palette, *, space: Space | None = None) -> Metrics:
    """Compare the colours of an image with what a palette makes of them.

    Exact for counted colours; for cells an estimate that leaves out how far pixels are from the
    means of their cells. How large errors look is told of three bands of 8 bits, in any space.

    Parameters
    ----------
    colors : WeightedColors
        The counted colours of the image.
    palette : Palette
    space : Space, optional
        Where the nearest entry was looked for. Errors are those of the bands nevertheless.

    Returns
    -------
    Metrics

    Raises
    ------
    ParameterError
        If the palette has other bands, or the space is none of such colours.

    Examples
    --------
    >>> import dask.array as da
    >>> from kmdask import Palette, count_colors
    >>> image = da.from_array(np.array([[[0], [4], [4], [10]]], np.uint8))
    >>> measure(count_colors(image), Palette(np.array([[4], [10]], np.uint8)))
    Metrics(mse=4.0, shares=(0.75, 0.25), peak=255.0, delta_e=None)
    """
    if palette.bands != colors.bands:
        have = several(colors.bands, "band")
        raise ParameterError(f"the colours have {have}, the palette has {palette.bands}")
    if space is not None:
        space.check(colors.bands, colors.dtype)
    plain = colors.exact and space is None and palette.colors.dtype == np.uint8
    columns = [colors.colors, colors.counts, colors.codes if plain else None]
    errors, _ = over_chunks("measure", _color_errors, merged, columns, palette, space)
    return metrics_of(dask.compute(errors)[0], palette.bands, colors.high - colors.low)


def pixel_errors(
    pixels: da.Array,
    indices: da.Array,
    palette: Palette,
    receipts: Receipts | None = None,
    *,
    looks: bool = True,
) -> tuple[Delayed, da.Array]:
    """Add up the errors of all valid pixels, lazily.

    Parameters
    ----------
    pixels : dask array of shape (y, x, band)
    indices : dask array of shape (y, x)
    palette : Palette
    receipts : Receipts, optional
        Where the errors of each chunk are kept.
    looks : bool, default True
        Whether to add up how large they look, of three bands of 8 bits: some 15 ns of a core for a
        pixel, of noise up to 100.

    Returns
    -------
    errors : Delayed
        What `metrics_of` takes.
    done : dask array of shape (chunks,), int64
        Ones.
    """
    return over_chunks(
        "measure", _pixel_errors, merged, [pixels, indices], palette, looks, receipts=receipts
    )


def metrics_of(errors: npt.NDArray[np.float64], bands: int, peak: float) -> Metrics:
    """Return the means over all pixels; of none they are 0.

    Parameters
    ----------
    errors : float64 array of shape (2, band + k + 2)
        The sum of squared differences of each band, then the pixels of each palette entry, then
        how large differences look, see `kmdask.seen`; under the first the largest differences, then
        zeros. In one array, it is kept in a file.
    bands : int
    peak : float
        See `Metrics`.
    """
    squared, counts, seen = np.split(errors[0], [bands, -2])
    pixels = int(counts.sum())
    return Metrics(
        mse=float(squared.sum()) / (max(pixels, 1) * bands),
        shares=tuple((counts / max(pixels, 1)).tolist()),
        peak=peak,
        pixels=pixels,
        band_mse=tuple((squared / max(pixels, 1)).tolist()),
        band_max_error=tuple(errors[1, :bands].tolist()),
        delta_e=seen_mean(seen, pixels),
    )


def merged(parts: Sequence[npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
    """Merge errors: the first row of each is added up, of the second the largest is taken."""
    rows = np.stack(parts, axis=1)
    return np.stack([rows[0].sum(axis=0), rows[1].max(axis=0)])


def with_largest(
    added: npt.NDArray[np.float64], largest: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Put what adds up and what does not into one array, as `merged` takes it."""
    rows = np.zeros((2, len(added)))
    rows[0], rows[1, : len(largest)] = added, largest
    return rows


def _color_errors(
    colors: npt.NDArray[np.floating[Any]],
    counts: npt.NDArray[np.int64],
    codes: npt.NDArray[np.uint32] | None,
    palette: Palette,
    space: Space | None,
) -> npt.NDArray[np.float64]:
    entries = palette.colors.astype(np.float64)

    def part(rows: slice) -> npt.NDArray[np.float64]:
        some, times = colors[rows], counts[rows]
        if codes is None:
            labels = nearest_rows(some, entries, space, palette.penalties)
        else:
            labels = entries_of_codes(codes[rows], palette)
        pixels = np.bincount(labels, times, len(palette))
        seen = seen_in_colors(some, palette.colors, labels, times)
        sums, largest = np.empty(palette.bands), np.empty(palette.bands)
        # Band by band: what is worked on stays in the cache.
        for band in range(palette.bands):
            gaps = np.abs(some[:, band] - entries[labels, band])
            sums[band], largest[band] = (gaps * gaps * times).sum(), gaps.max(initial=0)
        return with_largest(np.concatenate([sums, pixels, seen]), largest)

    return merged(in_parts(part, len(colors)))


def _pixel_errors(
    pixels: npt.NDArray[Any],
    indices: npt.NDArray[np.unsignedinteger[Any]],
    palette: Palette,
    looks: bool,  # noqa: FBT001  as `over_chunks` gives it
) -> npt.NDArray[np.float64]:
    entries = palette.colors.astype(np.float64)
    squared, counts = np.zeros(palette.bands), np.zeros(len(palette), np.int64)
    largest = np.zeros(palette.bands)
    add_errors(pixels, indices, entries, squared, counts, largest)
    seen = seen_in_indices(pixels, indices, palette) if looks else UNSEEN
    return with_largest(np.concatenate([squared, counts, seen]), largest)
