"""The threads of a worker that runs one task while there is little else to do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from dask.system import CPU_COUNT
from distributed import get_worker

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")

PART = 1 << 18
"""Rows that one thread works on: what is made of them stays in its cache."""


def threads_here() -> int:
    """Threads of the worker that runs this task, which a run leaves idle until it is done."""
    try:
        return int(get_worker().state.nthreads)
    except ValueError:
        return CPU_COUNT


def in_parts(work: Callable[[slice], R], n: int) -> list[R]:
    """Do work on `n` rows part by part, on all threads of this worker.

    Parts are the same whatever threads there are; results come in the order of rows.

    Examples
    --------
    >>> in_parts(lambda rows: rows.stop - rows.start, PART + 1)
    [262144, 1]
    """
    parts = [slice(start, min(start + PART, n)) for start in range(0, n, PART)]
    if len(parts) <= 1:
        return list(map(work, parts))
    with ThreadPoolExecutor(min(threads_here(), len(parts))) as pool:
        return list(pool.map(work, parts))
