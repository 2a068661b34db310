"""Small helpers to build Dask graphs whose task names read well in the dashboard."""

from __future__ import annotations

from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.core import flatten
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph

from kmdask.chunks import ceil_div

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from kmdask.writing.receipts import Receipts

SMALL = 1 << 12
"""Bytes that may well be sent with every task."""

FAN_IN = 8
"""Partial results merged by one task, if they are small."""


def block_names(stage: str, token: object, n: int) -> list[tuple[str, int]]:
    """Keys of the ``n`` tasks of a stage: Dask groups them under the stage's name."""
    group = f"{stage}-{tokenize(stage, token)}"
    return [(group, i) for i in range(n)]


def merge_tasks(
    merge: Callable[[list[Any]], Any], keys: Sequence[Any], stage: str, fan_in: int = FAN_IN
) -> tuple[Any, dict[Any, Any]]:
    """Tasks that merge partial results in a tree, always in the same order.

    They are plain tuples in one layer: a `Delayed` each would be a layer each, and Dask needs
    minutes to put the layers of some ten thousand chunks together.

    Parameters
    ----------
    merge : callable
        Takes a list of up to `fan_in` partial results, in order, and returns one of the same kind.
    keys : sequence
        Keys of the partial results, at least one.
    stage : str
        Name of the merging tasks in the dashboard.
    fan_in : int, default 8
        Partial results that one task merges, which are all in memory then; 2 or more.

    Returns
    -------
    root : key
        Of the only result left; that of the only part, if there is but one.
    tasks : dict
    """
    level = list(keys)
    tasks: dict[Any, Any] = {}
    while len(level) > 1:
        groups = [level[i : i + fan_in] for i in range(0, len(level), fan_in)]
        level = block_names(stage, level[0], len(groups))
        tasks.update({key: (merge, group) for key, group in zip(level, groups, strict=True)})
    return level[0], tasks


def shared(value: Any) -> Any:
    """Make a task of a large value that many tasks take.

    Every worker then asks for it once, and it is made again if it is lost; otherwise it would be
    sent with each task. Dask takes the result for the value.
    """
    # Not traversed: it would be taken apart in search of tasks.
    small = getattr(value, "nbytes", 0) <= SMALL
    return value if small else delayed(value, pure=True, traverse=False)


def over_chunks(
    stage: str,
    function: Callable[..., Any],
    merge: Callable[[list[Any]], Any],
    arrays: Sequence[da.Array | None],
    *common: Any,
    places: bool = False,
    finish: Callable[..., Any] | None = None,
    receipts: Receipts | None = None,
    fan_in: int = FAN_IN,
) -> tuple[Delayed, da.Array]:
    """One pass over the chunks of an image: a task for each, and a tree that merges their results.

    Parameters
    ----------
    stage : str
        Name of the tasks in the dashboard.
    function : callable
        Takes a chunk of each array (None for an array that is None), and what is shared.
    merge : callable
        Takes a list of results, returns one.
    arrays : sequence of dask arrays or None
        The first one, with rows and columns, says where the chunks are; the others have the same.
    *common : object
        What is the same for all chunks.
    places : bool, default False
        Whether the function also takes the row and the column of the chunk's first pixel, a tuple.
    finish : callable, optional
        Takes the results of a chunk and of those right of it, below it, and right below it, None
        where there is none, and what is shared; returns what is merged in place of the first.
    receipts : Receipts, optional
        Where the results of finished chunks are kept; these are arrays then.
    fan_in : int, default 8
        As for `merge_tasks`.

    Returns
    -------
    result : Delayed
        The merged result.
    done : dask array of shape (chunks,), int64
        Ones, each known when its chunk has been worked on.
    """
    there: list[Any] = [array for array in arrays if array is not None]
    first: da.Array = there[0]
    columns = [
        [None] * first.npartitions if array is None else list(flatten(array.__dask_keys__()))
        for array in arrays
    ]
    corners: list[Any] = [()] * first.npartitions
    if places:
        starts = [np.cumsum((0, *sizes[:-1])).tolist() for sizes in first.chunks[:2]]
        corners = [(corner,) for corner in product(*starts)]
    token = ([array.name for array in there], common)
    names = block_names(stage, token, first.npartitions)
    # A large array is an entry of its own, lest it be sent with every chunk's task.
    graph: dict[Any, Any] = {}
    sent = list(common)
    for i, key in enumerate(block_names(f"{stage}-shared", token, len(common))):
        if getattr(common[i], "nbytes", 0) > SMALL:
            graph[key], sent[i] = common[i], key
    graph |= {
        name: (function, *blocks, *sent, *corner)
        for name, corner, *blocks in zip(names, corners, *columns, strict=True)
    }
    if receipts is not None:
        graph |= {name: receipts.task(f"{stage}-{name[1]}", graph[name]) for name in names}
    merged = names
    if finish is not None:
        merged = block_names(f"{stage}-finish", token, len(names))
        around = _neighbours(names, int(first.numblocks[1]))
        graph |= {key: (finish, *four, *sent) for key, four in zip(merged, around, strict=True)}
    root, merging = merge_tasks(merge, merged, "merge", fan_in)
    ticks = block_names(f"{stage}-done", token, len(names))
    graph |= merging | {tick: (_tick, name) for tick, name in zip(ticks, names, strict=True)}
    whole = HighLevelGraph.from_collections(ticks[0][0], graph, dependencies=there)
    done = da.Array(whole, ticks[0][0], chunks=((1,) * len(ticks),), dtype=np.int64)
    return Delayed(root, whole, layer=ticks[0][0]), done


def _neighbours(names: list[Any], columns: int) -> list[list[Any]]:
    """Each of the names of chunks, with those right of it, below it, and right below it."""
    rows = [names[start : start + columns] for start in range(0, len(names), columns)]
    # Beyond the last ones there is nothing.
    padded = [[*row, None] for row in [*rows, [None] * columns]]
    return [
        [here[x], here[x + 1], below[x], below[x + 1]]
        for here, below in pairwise(padded)
        for x in range(columns)
    ]


def _tick(_result: Any) -> npt.NDArray[np.int64]:
    return np.ones(1, np.int64)


def write_blocks(
    write: Callable[..., npt.NDArray[np.int64]],
    indices: da.Array,
    stage: str,
    *,
    pieces: int | None = None,
    receipts: Receipts | None = None,
    **kwargs: Any,
) -> da.Array:
    """Write an array by one task per chunk, lazily.

    Parameters
    ----------
    write : callable
        Takes a block, and these `kwargs`; returns its number of bytes, of shape (1, 1), or those
        of its pieces.
    indices : dask array of shape (y, x)
    stage : str
        Name of the writing tasks in the dashboard; what follows a colon tells arrays that are
        written by the same stage apart.
    pieces : int, optional
        Side of the square pieces of a block that have a number each; by default the block has one.
    receipts : Receipts, optional
        Where is kept which chunks are written; those that were before are not written again.

    Returns
    -------
    dask array of int64
        When computed, the chunks are written; one number for each, or for each piece.
    """
    map_blocks = plain_map_blocks if receipts is None else receipts.map_blocks
    return map_blocks(
        write,
        indices,
        stage,
        chunks=tuple(
            tuple(1 if pieces is None else ceil_div(size, pieces) for size in sizes)
            for sizes in indices.chunks
        ),
        dtype=np.int64,
        meta=np.empty((0, 0), np.int64),
        **kwargs,
    )


def plain_map_blocks(
    work: Callable[..., npt.NDArray[Any]], array: da.Array, stage: str, **options: Any
) -> da.Array:
    """`dask.array.map_blocks`, with the name of the tasks as `Receipts.map_blocks` takes it."""
    result: da.Array = da.map_blocks(work, array, token=stage.partition(":")[0], **options)
    return result
