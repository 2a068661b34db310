"""Memory of large arrays that is used again.

What an allocator gives back to the system has to be cleared when it is asked for again: fresh pages
cost halving a chunk, or looking its colours up, about as much as the work itself.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

LEAST = 1 << 20
"""Bytes below which an allocator has memory at hand itself."""

MOST = 1 << 28
"""Bytes that a process keeps at most; what has been left there longest goes first."""

_left: deque[npt.NDArray[np.uint8]] = deque()
# Taken again by the same thread, if an array is freed while another is looked for.
_looking = RLock()


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Do what `numpy.empty` does, in memory that an earlier one of that size had, if there is any.

    Parameters
    ----------
    shape : tuple of int
    dtype : data type

    Returns
    -------
    array
        Its memory is kept for the next one when it and all views of it are gone.

    Examples
    --------
    >>> empty((2, 3), np.uint8).shape
    (2, 3)
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size < LEAST:
        return np.empty(shape, dtype)
    memory = _taken(size)
    # Of a memoryview, so that it is this array that views hold, not the memory under it.
    array = np.frombuffer(memory.data, dtype)
    weakref.finalize(array, _leave, memory).atexit = False
    return array.reshape(shape)


def _taken(size: int) -> npt.NDArray[np.uint8]:
    with _looking:
        for i in reversed(range(len(_left))):
            if _left[i].nbytes == size:
                memory = _left[i]
                del _left[i]
                return memory
    return np.empty(size, np.uint8)


def _leave(memory: npt.NDArray[np.uint8]) -> None:
    with _looking:
        _left.append(memory)
        while sum(each.nbytes for each in _left) > MOST:
            _left.popleft()
