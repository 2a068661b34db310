"""Small helpers to build Dask graphs whose task names read well in the dashboard."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.delayed import delayed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from dask.delayed import Delayed

FAN_IN = 8
"""Partial results merged by one task."""


def block_names(stage: str, token: object, n: int) -> list[tuple[str, int]]:
    """Keys of the ``n`` tasks of a stage: Dask groups them under the stage's name."""
    group = f"{stage}-{tokenize(stage, token)}"
    return [(group, i) for i in range(n)]


def tree_merge(merge: Callable[[list[Any]], Any], parts: Sequence[Delayed], stage: str) -> Delayed:
    """Merge partial results in a tree, always in the same order.

    Parameters
    ----------
    merge : callable
        Takes a list of up to `FAN_IN` partial results, in order, and returns one of the same kind.
    parts : sequence of Delayed
        At least one.
    stage : str
        Name of the merging tasks in the dashboard.

    Returns
    -------
    Delayed
        The only part left, itself if there is but one.
    """
    merged = list(parts)
    while len(merged) > 1:
        groups = [merged[i : i + FAN_IN] for i in range(0, len(merged), FAN_IN)]
        names = block_names(stage, merged[0].key, len(groups))
        merged = [
            delayed(merge, pure=True)(group, dask_key_name=name)
            for group, name in zip(groups, names, strict=True)
        ]
    return merged[0]


def write_blocks(
    write: Callable[..., npt.NDArray[np.int64]], indices: da.Array, stage: str, **kwargs: Any
) -> da.Array:
    """Write an array by one task per chunk, lazily.

    Parameters
    ----------
    write : callable
        Takes a block, and these `kwargs`; returns its number of bytes, of shape (1, 1).
    indices : dask array of shape (y, x)
    stage : str
        Name of the writing tasks in the dashboard.

    Returns
    -------
    dask array of int64
        When computed, the chunks are written; one number for each.
    """
    written: da.Array = da.map_blocks(
        write,
        indices,
        chunks=tuple((1,) * n for n in indices.numblocks),
        dtype=np.int64,
        meta=np.empty((0, 0), np.int64),
        token=stage,
        **kwargs,
    )
    return written
