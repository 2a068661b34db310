"""When kernels are compiled in this process, which the first run on a machine waits for."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from numba.core import event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class _Compiler(event.Listener):
    """Tells when the first of the kernels that need each other is begun, and the last is done."""

    def __init__(self, tell: Callable[[bool], None]) -> None:
        self.tell, self.begun = tell, 0

    def on_start(self, event: event.Event) -> None:  # noqa: ARG002  as numba calls it
        self.begun += 1
        if self.begun == 1:
            self.tell(True)  # noqa: FBT003  compiling, or not

    def on_end(self, event: event.Event) -> None:  # noqa: ARG002  as numba calls it
        self.begun -= 1
        if self.begun == 0:
            self.tell(False)  # noqa: FBT003  compiling, or not


@contextmanager
def when_compiling(tell: Callable[[bool], None]) -> Iterator[None]:
    """Tell, within a block, when this process begins to compile a kernel and when it has done so.

    What is taken from numba's cache is not compiled. Other processes tell nothing.

    Parameters
    ----------
    tell : callable
        Takes whether something is being compiled; from the thread that does it.

    Examples
    --------
    >>> from numba import njit
    >>> with when_compiling(print):
    ...     njit(lambda x: x + 1)(1)
    True
    False
    2
    """
    with event.install_listener("numba:compile", _Compiler(tell)):
        yield
