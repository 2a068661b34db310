"""When kernels are compiled in this process, which the first run on a machine waits for."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from numba.core import event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)


class _Listener(event.Listener):
    """Tells when the first of the kernels that need each other is begun, and the last is done."""

    def __init__(self, tell: Callable[[bool], None]) -> None:
        self.tell, self.begun = tell, 0

    def on_start(self, event: event.Event) -> None:
        if _is_kernel(event):
            self.begun += 1
            if self.begun == 1:
                self._tell(going=True)

    def on_end(self, event: event.Event) -> None:
        # What was begun before anybody listened ends too.
        if _is_kernel(event) and self.begun:
            self.begun -= 1
            if self.begun == 0:
                self._tell(going=False)

    def _tell(self, *, going: bool) -> None:
        try:
            self.tell(going)
        except Exception as error:  # noqa: BLE001  whatever it is, it is not the kernel's
            logger.debug("nobody is told of the compiler: %r", error)


def _is_kernel(event: event.Event) -> bool:
    return str(event.data["dispatcher"].py_func.__module__).startswith("kmdask.")


@contextmanager
def when_compiling(tell: Callable[[bool], None]) -> Iterator[None]:
    """Tell, within a block, when this process begins to compile a kernel and when it has done so.

    What is taken from numba's cache is not compiled. Other processes tell nothing.

    Parameters
    ----------
    tell : callable
        Takes whether something is being compiled; from the thread that does it, which waits.

    Examples
    --------
    >>> from numba import njit
    >>> def kernel(x):
    ...     return x + 1
    >>> kernel.__module__ = "kmdask.kernels.example"
    >>> with when_compiling(print):
    ...     njit(kernel)(1)
    True
    False
    2
    """
    with event.install_listener("numba:compile", _Listener(tell)):
        yield
