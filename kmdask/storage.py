"""Files at places, in directories of this machine or buckets of an object store: one door to both.

Requests that fail for a moment are made again by the file systems of `kmdask.places`, with growing
pauses: by s3fs five times in some ten seconds, by gcsfs and adlfs as often as they see fit;
``AWS_MAX_ATTEMPTS`` and the like change that.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from kmdask.errors import KmdaskError
from kmdask.places import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kmdask.places import Place

PARTIAL = ".partial"
"""Ending of files that are being written, by `write_files` and by zarr."""

TOGETHER = 64
"""Objects that are written at once by one task: what is waited for is mostly the way there."""


@contextmanager
def reaching(place: Place) -> Iterator[None]:
    """Turn what a file system raises on a place into an `OSError`, if it is not one.

    Each of them has errors of its own: for a missing password, a wrong host, a time-out.
    """
    try:
        yield
    except (OSError, KmdaskError):
        raise
    except Exception as error:
        if not is_remote(place):
            raise
        raise OSError(f"{type(error).__name__}: {error}") from error


def make_folder(place: Place) -> None:
    """Make a directory, and those that it is in; an object store has none."""
    if isinstance(place, Path):
        place.mkdir(parents=True, exist_ok=True)


def write_files(folder: Place, files: Mapping[str, bytes]) -> int:
    """Write files into a folder that is there, each whole or not at all.

    Parameters
    ----------
    folder : Path or UPath
    files : mapping of str to bytes
        Names, and what is to be in them. Files of these names are replaced.

    Returns
    -------
    int
        Number of bytes.

    Raises
    ------
    OSError
        If one cannot be written.

    Examples
    --------
    >>> from kmdask.places import place
    >>> folder = place("memory://tiles")
    >>> write_files(folder, {"0_0.png": b"...", "1_0.png": b"......"})
    9
    >>> sorted(names(folder))
    ['0_0.png', '1_0.png']
    """
    if isinstance(folder, Path):
        for name, content in files.items():
            # Two workers may write the same: one that seemed lost, and the one that took its place.
            partial = folder / f".{name}.{uuid4().hex}{PARTIAL}"
            try:
                partial.write_bytes(content)
                partial.replace(folder / name)
            except OSError:
                partial.unlink(missing_ok=True)
                raise
    else:
        with reaching(folder):
            contents = {f"{folder.path}/{name}": content for name, content in files.items()}
            folder.fs.pipe(contents, batch_size=TOGETHER)
    return sum(map(len, files.values()))


def write_file(path: Place, content: bytes) -> int:
    """Write one file, as `write_files` does."""
    return write_files(path.parent, {path.name: content})


@contextmanager
def written_locally(path: Place) -> Iterator[Path]:
    """Give a file of this machine to write in any order, and put it at a place at the end.

    Yields
    ------
    Path
        The place itself, or a temporary file whose content becomes that of the object.
    """
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="kmdask-") as folder:
        file = Path(folder) / path.name
        yield file
        upload(file, path)


def upload(source: Path, place: Place) -> None:
    """Copy a file, or a folder with all that is in it, from this machine to an object store."""
    if isinstance(place, Path):
        raise TypeError(f"{place} is a path of this machine")
    with reaching(place):
        if source.is_dir():
            found = {name: str(source / name) for name in files(source)}
            place.fs.put(list(found.values()), [f"{place.path}/{name}" for name in found])
        else:
            place.fs.put_file(str(source), place.path)


def read_file(path: Place) -> bytes:
    """Read a small file whole; raise an `OSError` if that cannot be done."""
    with reaching(path):
        content: bytes = path.read_bytes()
        return content


def read_files(folder: Place, names: Sequence[str]) -> dict[str, bytes]:
    """Read small files of a folder whole; raise an `OSError` if one of them cannot be.

    Examples
    --------
    >>> from kmdask.places import place
    >>> folder = place("memory://level")
    >>> write_files(folder, {"0_0.png": b"...", "1_0.png": b"......"})
    9
    >>> read_files(folder, ["1_0.png", "0_0.png"])
    {'1_0.png': b'......', '0_0.png': b'...'}
    """
    if isinstance(folder, Path):
        return {name: read_file(folder / name) for name in names}
    with reaching(folder):
        paths = [f"{folder.path}/{name}" for name in names]
        # Not `cat`, which takes brackets in a name for a pattern.
        found = folder.fs.cat_ranges(paths, None, None, on_error="raise")
        return dict(zip(names, found, strict=True))


def read_start(path: Place, size: int) -> bytes:
    """Read the first bytes of a file; raise an `OSError` if that cannot be done."""
    with reaching(path), path.open("rb") as file:
        content: bytes = file.read(size)
        return content


def exists(place: Place) -> bool:
    """Whether there is a file or a folder; raise an `OSError` if that cannot be found out."""
    with reaching(place):
        if isinstance(place, Path):
            return os.path.exists(place)  # noqa: PTH110  does not raise where it may not look
        return bool(place.fs.exists(place.path))


def is_file(place: Place) -> bool:
    """Whether there is a file, and no folder."""
    with reaching(place):
        return place.is_file()


def names(folder: Place) -> set[str]:
    """Names of what is in a folder; none if there is no such folder."""
    with reaching(folder):
        if isinstance(folder, Path):
            return set(os.listdir(folder)) if folder.is_dir() else set()  # noqa: PTH208  faster
        try:
            listed = folder.fs.ls(folder.path, detail=False)
        except FileNotFoundError:
            return set()
        return {path.rstrip("/").rpartition("/")[2] for path in listed}


def files(folder: Place) -> set[str]:
    """Names of all files in a folder and the folders in it, relative to it."""
    with reaching(folder):
        if isinstance(folder, Path):
            found = (path for path in folder.rglob("*") if path.is_file())
            return {path.relative_to(folder).as_posix() for path in found}
        start = len(folder.path.rstrip("/")) + 1
        return {path[start:] for path in folder.fs.find(folder.path)}


def size_of(place: Place) -> int:
    """Size in bytes of a file, or of all files in a folder; 0 if there is nothing."""
    with reaching(place):
        if not isinstance(place, Path):
            # `du` would ask for each object by itself.
            found = place.fs.find(place.path, detail=True)
            return sum(int(info["size"]) for info in found.values())
        if place.is_dir():
            return _size_below(place)
        return place.stat().st_size if place.exists() else 0


def _size_below(folder: str | Path) -> int:
    # Not rglob: it makes a path of each of thousands of tiles, and takes three times as long.
    size = 0
    with suppress(PermissionError), os.scandir(folder) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                size += _size_below(entry.path)
            # A link may lead nowhere, or to itself, which only a path takes for no file.
            elif not entry.is_symlink() or Path(entry).is_file():
                size += entry.stat().st_size
    return size


def remove_file(path: Place) -> None:
    """Remove a file that is there; raise an `OSError` if that cannot be done."""
    with reaching(path):
        if isinstance(path, Path):
            path.unlink()
        else:
            # Not `rm`, which takes brackets in a name for a pattern.
            path.fs.rm_file(path.path)


def remove(place: Place) -> None:
    """Remove a file, or a folder with all that is in it, if it is there."""
    with reaching(place):
        if not isinstance(place, Path):
            if place.exists():
                place.fs.rm(place.path, recursive=True)
        elif place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)


def sweep(folder: Place) -> None:
    """Remove what processes that were killed while they wrote a file have left beside it."""
    if isinstance(folder, Path):
        with reaching(folder):
            for file in folder.rglob(f"*{PARTIAL}"):
                file.unlink(missing_ok=True)


def version_of(place: Place) -> str:
    """Return what changes when the content of a file or a folder does; "" if that is not known."""
    with suppress(OSError, NotImplementedError), reaching(place):
        if not isinstance(place, Path):
            told = place.fs.info(place.path)
            if told["type"] != "directory":
                return _tags(told)
            below = place.fs.find(place.path, detail=True).items()
            tags = [(name, _tags(each)) for name, each in below]
            return hashlib.sha256(repr(tags).encode()).hexdigest()
        files = [place, *place.rglob("*")] if place.is_dir() else [place]
        facts = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
        return str(
            (len(facts), sum(size for size, _ in facts), max((t for _, t in facts), default=0))
        )
    return ""


def _tags(told: dict[str, Any]) -> str:
    """What a file system says of an object that changes with its content; "" if nothing does."""
    changing = {"etag", "content-md5", "md5", "lastmodified", "last_modified", "updated", "created"}
    told = {name.lower().replace("last-m", "lastm"): fact for name, fact in told.items()}
    tags = [str(told[name]) for name in sorted(changing & told.keys()) if told[name]]
    return " ".join([*tags, str(told.get("size"))]) if tags else ""
