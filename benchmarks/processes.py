"""Commands as processes of their own, timed from outside with everything they import.

The peak of a process is what the system accounts for it when it ends. That of several, a command
that starts workers, is what all of them held at one time, looked up ten times a second; pages that
they share count for each. A process begins with what the one that started it held, so whoever calls
`run` should not be large itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence

EVERY = 0.1
"""Seconds between two looks at a command's processes."""

TOUCH = "import numpy, sys; numpy.ones(int(sys.argv[1]), numpy.uint8)"
"""What writes to so many bytes of memory, in a process that ends then."""


@dataclass(frozen=True)
class Run:
    """What a command took."""

    seconds: float
    cpu_seconds: float
    """Of all cores together, of the command and the processes it waited for."""

    peak_bytes: int

    @property
    def cores(self) -> float:
        """Cores busy on average."""
        return self.cpu_seconds / self.seconds


class FailedError(Exception):
    """A command that did not end well, in a line."""


def run(command: Sequence[str | os.PathLike[str]], *, limit: float | None = None) -> Run:
    """Run a command until it ends; raise `FailedError` if that is not well, or takes too long."""
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        with _Watch(process.pid, limit) as watch:
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if watch.stopped:
            raise FailedError(f"stopped after {limit:.0f} s")
        if process.returncode:
            said.seek(0)
            lines = said.read().decode(errors="replace").split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "without a word")
            raise FailedError(f"{last.strip()} ({process.returncode})")
    peak = max(usage.ru_maxrss * 1024, watch.peak_bytes)
    return Run(seconds, usage.ru_utime + usage.ru_stime, peak)


class _Watch(threading.Thread):
    """Looks at a command's processes together, and ends them when their time is over."""

    def __init__(self, pid: int, limit: float | None) -> None:
        super().__init__(daemon=True)
        self.pid, self.limit = pid, limit
        self.peak_bytes, self.stopped = 0, False
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:  # somebody pressed Ctrl-C, which reaches this process alone
            os.killpg(self.pid, signal.SIGKILL)
        self._ended.set()
        self.join()

    def run(self) -> None:
        start = time.monotonic()
        while not self._ended.wait(EVERY):
            self.peak_bytes = max(self.peak_bytes, _held(self.pid))
            if self.limit is not None and time.monotonic() - start > self.limit:
                self.stopped = True
                os.killpg(self.pid, signal.SIGKILL)
                return


def _held(pid: int) -> int:
    """Bytes that a process and those below it hold now; 0 if it is alone or over."""
    try:
        process = psutil.Process(pid)
        children = process.children(recursive=True)
        return sum(each.memory_info().rss for each in (process, *children)) if children else 0
    except psutil.Error:
        return 0


def warm(path: Path, memory: int) -> Path:
    """Read a file through, so that every run finds it in the system's cache, and touch memory.

    A virtual machine gives its host back what it has not used for some seconds. To have it again
    takes ten times as long as to clear it, and it would be the host that is measured.
    """
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass
    size = min(memory, psutil.virtual_memory().available // 2)
    subprocess.run([sys.executable, "-c", TOUCH, str(size)], check=True)
    return path


def folder_of_outputs(work: Path) -> Path:
    """Make a temporary folder in which one run does not pay for the files that others had there.

    ext4 gives no inode out again within a minute: looking past those of thousands of files that
    were removed just before takes seconds. In a folder with the attribute T the folders inside are
    spread over the disk; where there is no such attribute nothing is changed.
    """
    folder = Path(tempfile.mkdtemp(dir=work))
    if chattr := shutil.which("chattr"):
        subprocess.run([chattr, "+T", str(folder)], check=False, capture_output=True)
    return folder


def written(path: Path) -> int:
    """Bytes of a file, or of all files of a directory."""
    if path.is_file():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
