"""Structural similarity of two images, across chunks.

Windows that lie within a chunk are compared where the chunk is. Those that reach over its edge are
compared from the outermost pixels of the chunks around, which each chunk returns with its sums: no
chunk waits for another, and what is sent is small. A sum is a whole number, so the chunks do not
change it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from kmdask.graphs import over_chunks
from kmdask.kernels.ssim import GRAIN, SIDE, WINDOW, add_similarities
from kmdask.kernels.strips import COMMON, strips
from kmdask.pixels import ALL_VALID, valid_or_all

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import dask.array as da
    import numpy.typing as npt
    from dask.delayed import Delayed

    from kmdask.palette import Palette
    from kmdask.writing.receipts import Receipts

    Arrays = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any] | None]
    """Both images and what is valid."""

EDGE = SIDE - 1
"""Rows and columns of a chunk that windows share with those of its neighbours."""

K1, K2 = 0.01, 0.03
"""The constants of the definition."""

TINY = 1e-280
"""What squares of values have to be above, lest their last digits be lost."""


@dataclass(frozen=True)
class Scale:
    """What similarity is relative to."""

    peak: float
    """The range of the values."""

    middle: float = 0.0
    """A value amid them; of no account for integers of 8 and 16 bits, whose sums are exact."""

    @property
    def constants(self) -> tuple[float, float]:
        """The constants that keep quotients finite, as the kernel takes them."""
        first, second = K1 * self.peak, K2 * self.peak
        # Over variances that are divided by one less than the pixels of a window. Not by powers,
        # which raise where products are infinite.
        return first * first * WINDOW**2, second * second * WINDOW * (WINDOW - 1)

    @property
    def usable(self) -> bool:
        """Whether anything can be said: not if all values are equal, or no squares are floats."""
        return all(TINY <= constant < math.inf for constant in self.constants)


def palette_scale(palette: Palette, peak: float) -> Scale:
    """Return the scale of an image whose palette is known."""
    colors = palette.colors
    return Scale(peak, (float(colors.min()) + float(colors.max())) / 2)


def similarities(
    first: da.Array,
    second: da.Array,
    scale: Scale,
    *,
    palette: Palette | None = None,
    valid: da.Array | None = None,
    receipts: Receipts | None = None,
) -> tuple[Delayed, da.Array]:
    """Add up the structural similarity of two images, lazily.

    By the definition of `skimage.metrics.structural_similarity` with its defaults [1]_: means,
    variances and covariance over 7 x 7 pixels that weigh the same, divided by 48 of them, at every
    place where such a window lies within the image, of each band for itself. Windows with an
    invalid pixel are left out.

    Parameters
    ----------
    first : dask array of shape (y, x, band)
    second : dask array of shape (y, x, band), or (y, x) with a palette
        The other image, or the indices of its pixels.
    scale : Scale
    palette : Palette, optional
        The colours of the indices; those from k on are of invalid pixels.
    valid : dask array of shape (y, x), optional
        0 where a pixel is invalid in one of the images.
    receipts : Receipts, optional
        Where the sums of each chunk are kept.

    Returns
    -------
    sums : Delayed
        What `similarity_of` takes.
    done : dask array of shape (chunks,), int64
        Ones.

    References
    ----------
    .. [1] Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli, "Image quality assessment: from
       error visibility to structural similarity", IEEE Transactions on Image Processing 13 (2004)
       600-612.
    """
    # No window reaches beyond the next chunk.
    rows, columns = (_joined(sizes) for sizes in first.chunks[:2])
    arrays = [
        None if array is None else array.rechunk({0: rows, 1: columns})
        for array in (first, second, valid)
    ]
    colors = None if palette is None else palette.colors
    return over_chunks(
        "ssim", _within, _sum, arrays, colors, scale, finish=_across, receipts=receipts
    )


def similarity_of(sums: npt.NDArray[Any], scale: Scale) -> float | None:
    """Return the mean over all windows and bands; None if there is none, or no scale.

    Parameters
    ----------
    sums : array of shape (1 + band,), of whole numbers
        The number of windows, then the sum of the similarities of each band, in units of
        ``2**-GRAIN``.
    scale : Scale
    """
    windows, *totals = map(int, sums)
    if not windows or not scale.usable:
        return None
    return sum(totals) / (windows * len(totals) << GRAIN)


def _joined(sizes: Sequence[int]) -> tuple[int, ...]:
    """Join chunks until none but the last is narrower than an edge."""
    joined = [0]
    for size in sizes:
        if joined[-1] < EDGE:
            joined[-1] += size
        else:
            joined.append(size)
    return tuple(joined)


def _within(
    first: npt.NDArray[Any],
    second: npt.NDArray[Any],
    valid: npt.NDArray[np.uint8] | None,
    colors: npt.NDArray[Any] | None,
    scale: Scale,
) -> npt.NDArray[np.void]:
    """Add up the windows within a chunk; return the sums with its edges."""
    arrays = [first, second, valid]
    cuts = {
        "top": (slice(EDGE), slice(None)),
        "bottom": (slice(-EDGE, None), slice(None)),
        "left": (slice(None), slice(EDGE)),
        "right": (slice(None), slice(-EDGE, None)),
    }
    edges = {
        f"{side}{i}": array[cut]
        for (side, cut), (i, array) in product(cuts.items(), enumerate(arrays))
        if array is not None
    }
    sums = sums_of_windows((first, second, valid), colors, scale)
    fields = [("sums", sums.dtype, sums.shape)]
    fields += [(name, edge.dtype, edge.shape) for name, edge in edges.items()]
    part = np.empty((), fields)
    for name, values in {"sums": sums, **edges}.items():
        part[name] = values
    return part


def _across(  # noqa: PLR0917  as `over_chunks` gives them
    part: npt.NDArray[np.void],
    right: npt.NDArray[np.void] | None,
    below: npt.NDArray[np.void] | None,
    corner: npt.NDArray[np.void] | None,
    colors: npt.NDArray[Any] | None,
    scale: Scale,
) -> npt.NDArray[np.object_]:
    """Add up all windows whose first pixel lies in a chunk."""
    # Python's integers, which do not overflow.
    sums = part["sums"].astype(object)
    if right is not None:
        seam = [_beside(_side(part, "right"), _side(right, "left"))]
        if below is not None and corner is not None:
            ends = (slice(-EDGE, None), slice(EDGE))
            tops = (_side(each, "top") for each in (below, corner))
            seam.append(_beside(*(_cut(top, end) for top, end in zip(tops, ends, strict=True))))
        sums = sums + sums_of_windows(_stacked(seam, axis=0), colors, scale)
    if below is not None:
        seam = [_side(part, "bottom"), _side(below, "top")]
        sums = sums + sums_of_windows(_stacked(seam, axis=0), colors, scale)
    return sums


def _side(part: npt.NDArray[np.void], side: str) -> Arrays:
    valid = f"{side}2"
    there = valid in (part.dtype.names or ())
    return part[f"{side}0"], part[f"{side}1"], part[valid] if there else None


def _cut(arrays: Arrays, columns: slice) -> Arrays:
    first, second, valid = arrays
    cut = None if valid is None else valid[:, columns]
    return first[:, columns], second[:, columns], cut


def _beside(left: Arrays, right: Arrays) -> Arrays:
    return _stacked([left, right], axis=1)


def _stacked(parts: Sequence[Arrays], axis: int) -> Arrays:
    """Join each array of several places."""
    first, second, valid = zip(*parts, strict=True)
    joined = None if valid[0] is None else np.concatenate(valid, axis)
    return np.concatenate(first, axis), np.concatenate(second, axis), joined


def sums_of_windows(
    arrays: Arrays, colors: npt.NDArray[Any] | None, scale: Scale
) -> npt.NDArray[np.int64]:
    """Add up all windows within two images; see `similarity_of`."""
    first, second, valid = arrays
    types = [first.dtype, second.dtype if colors is None else colors.dtype]
    exact = all(each.kind in "ui" and each.itemsize <= 2 for each in types)
    offset: Any = np.float64(0 if exact else scale.middle)
    zero: Any = np.float64(0)
    if all(each.itemsize == 1 for each in types):
        # Whole numbers up to 2 * (49 * 255)**2.
        offset, zero = np.int16(0), np.int32(0)
    entries = np.empty((0, 0), offset.dtype)
    if colors is not None:
        entries = np.zeros((colors.shape[1], len(colors) + 1), offset.dtype)
        entries[:, :-1] = colors.T.astype(offset.dtype) - offset
        beyond = second.max(initial=0) >= len(colors)
        valid = (second < len(colors)).astype(np.uint8) if beyond else None
        second = second[:, :, None]
    windows, totals = 0, np.zeros(first.shape[2], np.int64)
    mask = ALL_VALID if valid is None else valid_or_all(valid)
    options = offset, zero, *scale.constants, totals
    for y, part, other in _parts(first, second, offset.dtype, indices=colors is not None):
        shown = mask[y : y + len(part)]
        windows += add_similarities(part, other, entries, shown, *options, exact=exact)
    return np.array([windows, *totals])


def _parts(
    first: npt.NDArray[Any], second: npt.NDArray[Any], dtype: np.dtype[Any], *, indices: bool
) -> Iterator[tuple[int, npt.NDArray[Any], npt.NDArray[Any]]]:
    """Images of common types as they are, of others in strips of a type; with their first rows."""
    if first.dtype in COMMON and (indices or first.dtype == second.dtype):
        yield 0, first, second
        return
    for y, part in strips(first, overlap=EDGE):
        other = second[y : y + len(part)]
        yield y, part.astype(dtype), other if indices else other.astype(dtype)


def _sum(parts: list[npt.NDArray[np.object_]]) -> npt.NDArray[np.object_]:
    total: npt.NDArray[np.object_] = np.sum(parts, axis=0)
    return total
