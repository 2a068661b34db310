"""How kernels are compiled: every one alike.

The first run on a machine waits for it, so what nobody asks for is left out: of each function Numba
would make one more that C can call, which takes a sixth of the time. For the same reason kernels
copy arrays in loops (a slice that is assigned brings three seconds of code for the message that
shapes disagree) and leave sorting to NumPy. Divisions are IEEE's (``error_model``): a check for
zero keeps loops from being vectorised, those of OKLab six times as slow. There is no ``fastmath``:
every machine gives the same bits.

Numba's cache knows a kernel by the file it stands in: when something changes here, or in a kernel
of another file, empty ``__pycache__``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from numba import njit

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["inlined", "kernel"]

F = TypeVar("F", bound="Callable[..., object]")

OPTIONS: dict[str, Any] = {"cache": True, "error_model": "numpy", "no_cfunc_wrapper": True}


def kernel(function: F) -> F:
    """Compile a function, to run without the GIL and be kept on disk."""
    return cast("F", njit(nogil=True, **OPTIONS)(function))


def inlined(function: F) -> F:
    """Compile a short function as a part of those that call it, before loops are vectorised."""
    return cast("F", njit(inline="always", **OPTIONS)(function))
