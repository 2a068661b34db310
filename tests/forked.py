"""Commands of Python's in processes that are forked from one that has imported what they need.

A process by itself takes seconds of processor time for its imports. Where these are tested, or how
Python starts and ends, it has to be one of `subprocess`.
"""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import dask
from distributed.utils import get_mp_context


class Forked:
    """A command, as `subprocess.Popen` has it, of ``python -m`` or ``python -c``.

    What it says goes to the files given, without them to where the tests' own output goes.
    """

    def __init__(self, command, *, env=None, cwd=None, stdout=None, stderr=None):
        assert command[0] == sys.executable
        words = [str(word) for word in command[1:]]
        files = [str(file) if file else None for file in (stdout, stderr)]
        self._process = get_mp_context().Process(
            target=run_here, args=(words, dict(os.environ if env is None else env), cwd, files)
        )
        self._process.start()
        self.pid = self._process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wait()

    @property
    def returncode(self):
        return self._process.exitcode

    def poll(self):
        return self.returncode

    def wait(self, timeout=None):
        self._process.join(timeout)
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        self._process.kill()

    def terminate(self):
        self._process.terminate()


def run(command, **options):
    """Run a command to its end; what `subprocess.run` would return, with all that it said."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("stdout", "stderr")]
        code = Forked(command, stdout=files[0], stderr=files[1], **options).wait()
        return subprocess.CompletedProcess(command, code, *(file.read_text() for file in files))


def run_here(words, environment, cwd, files):
    """Be the process of a command."""
    for number, file in enumerate(files, 1):
        if file is not None:
            os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY), number)
    os.environ.clear()
    os.environ.update(environment)
    dask.config.refresh()
    if cwd is not None:
        os.chdir(cwd)
    how, what, *sys.argv[1:] = words
    if how == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        assert how == "-c"
        exec(what, {"__name__": "__main__"})  # noqa: S102  what python would be given
