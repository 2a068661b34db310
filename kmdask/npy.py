"""Files of NumPy, opened where several threads do so."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from typing import BinaryIO, Literal

    import numpy.typing as npt

_parsing = threading.Lock()
"""Python 3.11 now and then fails to parse literals in two threads at once (its issue 106905)."""


def load(file: str | BinaryIO, mmap_mode: Literal["r"] | None = None) -> npt.NDArray[Any]:
    """Open a .npy file, whose header is a piece of Python, as `numpy.load` does; no pickles.

    Parameters
    ----------
    file : str or file object
        The path, or a file that is open for reading.
    mmap_mode : "r", optional
        Map the file, of which a path is given, into memory.

    Returns
    -------
    array

    Raises
    ------
    Exception
        Whatever NumPy raises on damaged files, also of the parser: see `npy_source.ERRORS`.

    Examples
    --------
    >>> np.save("scene.npy", np.zeros((30, 40), np.uint8))
    >>> load("scene.npy", mmap_mode="r").shape
    (30, 40)
    """
    with _parsing:
        array: npt.NDArray[Any] = np.load(file, mmap_mode=mmap_mode, allow_pickle=False)
    return array
