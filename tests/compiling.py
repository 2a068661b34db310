"""Kernels are compiled by one of the processes of the tests; the others wait and take its result.

Several that begin together would all compile the same, which takes minutes of a new machine.
"""

import fcntl
import hashlib
import tempfile
from pathlib import Path

from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

LOCKS = Path(tempfile.gettempdir()) / "kmdask-compiling"

compile_here = Dispatcher.compile


def compile_once(self, sig):
    function = self.py_func
    name = hashlib.sha256(f"{function.__code__.co_filename} {function.__qualname__}".encode())
    # In this order: a thread that has the file and waits for the compiler would stop one that has
    # the compiler and waits for the file.
    with global_compiler_lock, (LOCKS / name.hexdigest()).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        return compile_here(self, sig)


def install():
    """Have it so in this process."""
    LOCKS.mkdir(exist_ok=True)
    Dispatcher.compile = compile_once
