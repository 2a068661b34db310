"""Where k-means starts from: the best of many quick runs on binned colours.

One start of k-means can end a quarter worse than the best of many. A run on all the different
colours of a large image takes seconds, a run on some ten thousand cells of similar colours
milliseconds, and the cells keep the shape of the distribution; so many starts are run to
convergence on the cells, side by side on the workers, and only the best goes on to all colours.
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

CELLS = 1 << 15
"""Cells at most: enough for 256 clusters, few enough for a run of milliseconds."""

STARTS = 32
"""Runs of which the best is taken."""

MAX_ITER = 300


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
    (name,) = block_names("bin", colors.colors.name, 1)
    cells = delayed(bin_colors, pure=True)(colors.colors, colors.counts, dask_key_name=name)
    runs = [
        delayed(_run, pure=True)(cells, k, [seed, i], dask_key_name=name)
        for i, name in enumerate(block_names("seed", token, STARTS))
    ]
    (name,) = block_names("best-seed", token, 1)
    best = delayed(_best, pure=True)(runs, dask_key_name=name)
    _, centers = dask.compute(best)[0]
    return centers  # type: ignore[no-any-return]


def bin_colors(
    colors: npt.NDArray[np.float32], counts: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Join similar colours: cells of a grid, as fine as leaves at most 32,768 of them.

    Parameters
    ----------
    colors : float32 array of shape (n, band)
        8-bit values, sorted by Morton code.
    counts : int64 array of shape (n,)

    Returns
    -------
    means : float64 array of shape (cells, band)
        The mean of the pixels in each occupied cell.
    weights : float64 array of shape (cells,)
        The pixels in each.

    Examples
    --------
    >>> means, weights = bin_colors(np.array([[1], [3]], np.float32), np.array([3, 1]))
    >>> means, weights
    (array([[1.],
           [3.]]), array([3., 1.]))
    """
    codes = kernels.encode_codes(colors.astype(np.uint8))
    for bits in range(0, kernels.CODE_BITS, 3):
        first = np.flatnonzero(np.diff(codes >> bits, prepend=np.uint32(0xFFFFFFFF)))
        if first.size <= CELLS:
            break
    weights = np.add.reduceat(counts, first).astype(np.float64)
    sums = np.add.reduceat(colors * counts[:, None].astype(np.float64), first)
    return sums / weights[:, None], weights


def _run(
    cells: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]], k: int, seed: list[int]
) -> tuple[float, npt.NDArray[np.float64]]:
    means, weights = cells
    centers = plus_plus(means, weights, k, np.random.default_rng(seed))
    centers, inertia, _ = lloyd(means, weights, centers, max_iter=MAX_ITER, tol=0.0)
    return inertia, centers


def _best(
    runs: list[tuple[float, npt.NDArray[np.float64]]],
) -> tuple[float, npt.NDArray[np.float64]]:
    return min(runs, key=lambda run: run[0])
