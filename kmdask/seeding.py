"""Where k-means starts from: the best of many quick runs, taken from coarse to fine.

One start of k-means can end a quarter worse than the best of many. A run on all the different
colours of a large image takes seconds, a run on some ten thousand cells of similar colours
milliseconds, and the cells keep the shape of the distribution. So many starts run to convergence on
coarse cells, side by side on the workers, and the best goes on from there on fine cells. On all
colours it then has only a few steps left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dask
import numpy as np
from dask.delayed import delayed

from kmdask.graphs import block_names
from kmdask.kernels import colors as kernels
from kmdask.lloyd import lloyd, plus_plus

if TYPE_CHECKING:
    import numpy.typing as npt

    from kmdask.colors import WeightedColors

COARSE = 1 << 15
"""Cells at most for the many starts: a run takes 5 ms for 16 clusters, 60 ms for 256 (measured)."""

FINE = 1 << 18
"""Cells at most for the run that goes on from the best start."""

STARTS = 32
"""Runs of which the best is taken."""

MAX_ITER = 300
TOL = 1e-7


def best_start(colors: WeightedColors, k: int, seed: int) -> npt.NDArray[np.float64]:
    """Find good initial centres for k-means over the colours of an image.

    Parameters
    ----------
    colors : WeightedColors
        More than `k` colours.
    k : int
        Number of centres.
    seed : int
        The same seed gives the same centres.

    Returns
    -------
    float64 array of shape (k, band)
    """
    token = (colors.colors.name, k, seed)
    blocks = [column.to_delayed().ravel().tolist() for column in (colors.colors, colors.counts)]
    names = block_names("bin", token, 2)
    fine = delayed(_bin_blocks, pure=True)(*blocks, dask_key_name=names[0])
    coarse = delayed(_bin_again, pure=True)(fine, dask_key_name=names[1])
    runs = [
        delayed(_run, pure=True)(coarse, k, [seed, i], dask_key_name=name)
        for i, name in enumerate(block_names("seed", token, STARTS))
    ]
    (name,) = block_names("refine", token, 1)
    refined = delayed(_refine_best, pure=True)(runs, fine, dask_key_name=name)
    centers: npt.NDArray[np.float64] = dask.compute(refined)[0]
    return centers


def bin_colors(
    colors: npt.NDArray[np.floating], counts: npt.NDArray[np.number], limit: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Join similar colours: cells of a grid, as fine as leaves at most `limit` of them.

    Parameters
    ----------
    colors : float array of shape (n, band)
        From 0 to 255, sorted by the Morton code of their whole parts.
    counts : array of shape (n,)
    limit : int

    Returns
    -------
    means : float64 array of shape (cells, band)
        The mean of the pixels in each occupied cell.
    weights : float64 array of shape (cells,)
        The pixels in each.

    Examples
    --------
    >>> means, weights = bin_colors(np.array([[1.0], [3.0]]), np.array([3, 1]), limit=1)
    >>> means, weights
    (array([[1.5]]), array([4.]))
    """
    codes = kernels.encode_codes(colors.astype(np.uint8))
    bits, first = 0, np.arange(codes.size)
    while first.size > limit:
        bits += 3
        first = np.flatnonzero(np.diff(codes >> bits, prepend=np.uint32(0xFFFFFFFF)))
    weights = np.add.reduceat(counts, first).astype(np.float64)
    sums = [np.add.reduceat(band * counts.astype(np.float64), first) for band in colors.T]
    return np.stack(sums, axis=1) / weights[:, None], weights


def _bin_blocks(
    colors: list[npt.NDArray[np.float32]], counts: list[npt.NDArray[np.int64]]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return bin_colors(np.concatenate(colors), np.concatenate(counts), FINE)


def _bin_again(
    cells: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    # A mean lies in its cell, so the cells of cells are those of the colours.
    return bin_colors(*cells, COARSE)


def _run(
    cells: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]], k: int, seed: list[int]
) -> tuple[float, npt.NDArray[np.float64]]:
    means, weights = cells
    centers = plus_plus(means, weights, k, np.random.default_rng(seed))
    centers, inertia, _ = lloyd(means, weights, centers, max_iter=MAX_ITER, tol=TOL)
    return inertia, centers


def _refine_best(
    runs: list[tuple[float, npt.NDArray[np.float64]]],
    cells: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
) -> npt.NDArray[np.float64]:
    _, centers = min(runs, key=lambda run: run[0])
    return lloyd(*cells, centers, max_iter=MAX_ITER, tol=TOL)[0]
