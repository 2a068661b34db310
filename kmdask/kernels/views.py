"""How arrays are handed to kernels, so that each is compiled for few kinds of them.

Numba compiles a kernel for every data type, memory layout and permission to write that it meets,
which takes seconds each. Views that cannot be written to and have no layout are of one kind,
however an image came to be in memory.
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from kmdask.kernels.compiled import kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = ["any_layout", "frozen", "image_kernel"]

P = ParamSpec("P")
R = TypeVar("R")


def frozen(array: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> npt.NDArray[Any]:
    """Read-only contiguous view, or copy, of an array."""
    view = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


def any_layout(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Read-only view with an axis in front along which nothing changes; nothing is copied.

    Such a view is never contiguous, unless it is empty: its strides are read when a kernel runs.

    Examples
    --------
    >>> view = any_layout(np.zeros((4, 5, 3), np.uint8))
    >>> view.shape, view.flags.c_contiguous, view.flags.writeable
    ((2, 4, 5, 3), False, False)
    """
    return np.broadcast_to(image, (2, *image.shape))


def image_kernel(images: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a function whose first arguments are images that it only reads.

    Parameters
    ----------
    images : int
        How many. They are given by position, and the function gets them by `any_layout`:
        ``pixels[0]`` is the image of shape (y, x, ...) that the caller gave. Other arrays should
        always be of one layout, masks `frozen`.

    Returns
    -------
    callable
        A decorator. What it returns is a function of Python's, which other kernels cannot call.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        compiled: Callable[..., R] = kernel(function)

        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            given: tuple[Any, ...] = args
            return compiled(*map(any_layout, given[:images]), *given[images:], **kwargs)

        return run

    return decorate
