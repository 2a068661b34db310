"""The errors kmdask raises: one family, each also the built-in that fits it.

Every message says what was asked, the value that was got, the limit, and what to do instead.
"""

from __future__ import annotations

import re
import socket
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kmdask.places import Place

__all__ = [
    "BundleError",
    "ClusterError",
    "EmptyImageError",
    "KmdaskError",
    "OutputError",
    "OutputExistsError",
    "PaletteError",
    "ParameterError",
    "SourceError",
    "SourceNotFoundError",
    "UnsupportedImageError",
    "how_to_install",
    "on_worker",
    "writing",
]


SUPPORTED = "images of one band or more, of integers or floats of 8 to 64 bits"


SECRETS = re.compile(
    r"(?<=://)[^/@\s'\"]+@|(?<=[^\s?])\?[^\s'\"]*(?:sig|token|key|credential)[^\s'\"]*",
    re.IGNORECASE,
)
"""What a URL may hold besides a name: user and password, and the query of a signed one."""


def without_secrets(text: str) -> str:
    """Take passwords and signatures out of the URLs in a text.

    Examples
    --------
    >>> without_secrets("'https://me:word@example.org/a.tif?X-Amz-Signature=f00' is not there")
    "'https://example.org/a.tif' is not there"
    """
    return SECRETS.sub("", text) if "://" in text or "/vsi" in text else text


class KmdaskError(Exception):
    """Base class of every error that kmdask raises on purpose."""

    def __init__(self, *args: object) -> None:
        super().__init__(
            *(without_secrets(each) if isinstance(each, str) else each for each in args)
        )


class ParameterError(KmdaskError, ValueError):
    """A parameter is of the wrong type or out of its range."""


class SourceError(KmdaskError, OSError):
    """The source image cannot be read, wholly or in part."""

    @classmethod
    def within(cls, path: str, rows: slice, columns: slice, error: Exception) -> SourceError:
        """Say that a window cannot be read."""
        return cls(
            f"{path!r} cannot be read at rows {rows.start} to {rows.stop}, columns "
            f"{columns.start} to {columns.stop}{on_worker()}: {error.__cause__ or error}; the file "
            "is damaged or incomplete there, so fetch it again or cut that part off"
        )


class SourceNotFoundError(SourceError, FileNotFoundError):
    """There is nothing at the path of the source image."""


class UnsupportedImageError(KmdaskError, ValueError):
    """The image can be read, but its data type or bands are not supported."""

    @classmethod
    def of(cls, path: str, reason: str) -> UnsupportedImageError:
        """Say what about an image is not supported, and what is."""
        return cls(f"{path!r} is not supported: {reason}; kmdask takes {SUPPORTED}")


class EmptyImageError(KmdaskError, ValueError):
    """The image has no valid pixel to take colours from."""


class OutputError(KmdaskError, OSError):
    """The output cannot be written: no permission, no space, no such directory."""


class OutputExistsError(OutputError, FileExistsError):
    """Something stands at the output path already and overwriting was not asked for."""


class BundleError(KmdaskError, ValueError):
    """The path is not a kmdask bundle, or the bundle is damaged or of another format version."""


class PaletteError(KmdaskError, ValueError):
    """The path is no palette that kmdask saved, or it is damaged or of another format version."""


class ClusterError(KmdaskError, ConnectionError):
    """The Dask cluster cannot be reached or was lost."""


def how_to_install(extra: str) -> str:
    """Say how an extra of kmdask is installed, in the words of the README.

    Examples
    --------
    >>> how_to_install("s3")
    'run pip install ".[s3]" in the directory of kmdask'
    """
    return f'run pip install ".[{extra}]" in the directory of kmdask'


def on_worker() -> str:
    """Say on which worker of a cluster this task runs; nothing where it is within this process."""
    # Where there is a task, Dask is loaded.
    distributed = sys.modules.get("distributed")
    try:
        address = "" if distributed is None else distributed.get_worker().address
    except ValueError:
        return ""
    if not address or address.startswith("inproc://"):
        return ""
    return f" on worker {address} (host {socket.gethostname()})"


@contextmanager
def writing(path: Place) -> Iterator[None]:
    """Turn what the system says against writing into an `OutputError` that names the path."""
    try:
        yield
    except KmdaskError:
        raise
    except Exception as error:
        # The file systems of object stores raise errors of their own.
        if isinstance(path, Path) and not isinstance(error, OSError):
            raise
        told = getattr(error, "strerror", None) or str(error) or type(error).__name__
        advice = (
            "choose an output where there is a directory, permission and space on every machine "
            "that takes part"
            if isinstance(path, Path)
            # What fails for a moment has been tried again.
            else "check that there is such a bucket, that this machine and all workers have "
            "credentials for it, and that it answers"
        )
        msg = f"cannot write {str(path)!r}{on_worker()}: {told}; {advice}"
        raise OutputError(msg) from error
