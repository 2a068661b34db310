"""Whether a bundle is complete and undamaged: every file of it, against what it says of itself."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
import zarr
from dask.delayed import delayed
from PIL import Image

from kmdask import places, storage
from kmdask.chunks import CHUNK, SHARD, TILE, level_shapes
from kmdask.connecting.client import connect
from kmdask.errors import BundleError
from kmdask.image import CompressedImage
from kmdask.progress import chosen
from kmdask.reading.zarr_groups import DECODING_ERRORS
from kmdask.stages import Stages
from kmdask.units import several
from kmdask.writing import store
from kmdask.writing.digests import digest_of, is_signed
from kmdask.writing.whole import whole_store

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    import numpy.typing as npt
    from dask.delayed import Delayed

    from kmdask.connecting.client import Connection
    from kmdask.places import Place
    from kmdask.progress import Progress

INDICES = f"{store.IMAGE}/{store.INDICES}"

PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
"""The last chunk of every PNG, which holds nothing, with its checksum."""

TILES = 256
"""Tiles that one task looks at."""


@dataclass(frozen=True, order=True)
class Problem:
    """Something that is wrong with a bundle."""

    part: str
    """The file, by its name in the bundle."""

    told: str
    """What is wrong with it."""

    def __str__(self) -> str:
        return f"{self.part}: {self.told}"


@dataclass(frozen=True)
class _Box:
    """Some chunks of the indices."""

    rows: range
    """First rows of the chunks."""

    columns: range
    """First columns of the chunks."""


def verify(
    path: str | os.PathLike[str],
    *,
    client: Connection = None,
    progress: Progress | bool | None = None,
) -> tuple[Problem, ...]:
    """Check that a bundle is complete and undamaged.

    Every chunk of the indices is decoded, which checks its checksum, and its entries are counted;
    every tile is there, with the right checksums, size and palette; the digests of all other files
    are those that the report lists; dimensions, palette, sizes and shares agree. The original
    image is not needed.

    Parameters
    ----------
    path : str or path-like
        The bundle, a directory or a URL.
    client : distributed.Client or str, optional
        The cluster, as for `compress`.
    progress : Progress or bool, optional
        Is told how far it is. True shows a bar; by default nothing is shown.

    Returns
    -------
    tuple of Problem
        What is wrong, sorted by file; empty if nothing is.

    Raises
    ------
    BundleError
        If there is no finished bundle.
    ClusterError
        If the cluster cannot be reached.

    Examples
    --------
    >>> from pathlib import Path
    >>> import kmdask
    >>> bundle = kmdask.compress(np.arange(6000, dtype=np.uint8).reshape(60, 100), 4, "a.kmdask")
    >>> kmdask.verify("a.kmdask")
    ()
    >>> Path("a.kmdask/tiles_files/7/0_0.png").unlink()
    >>> [str(problem) for problem in kmdask.verify("a.kmdask")]
    ['tiles_files: takes ... bytes, not ...', 'tiles_files/7/0_0.png: is missing']
    """
    bundle = places.place(path)
    store.check_finished(bundle)
    try:
        image = CompressedImage.read(bundle)
    except BundleError as error:
        if not storage.exists(bundle / store.REPORT):
            raise
        part = store.REPORT if f": {store.REPORT}:" in str(error) else store.IMAGE
        return (Problem(part, str(error)),)
    problems = {*_report_problems(image), *_digest_problems(image)}
    stages = Stages(chosen(progress), pixels=math.prod(image.shape[:2]))
    with connect(client) as connected, stages.on(connected, bundle.name):
        run = partial(stages.run, connected)
        # Chunks say nothing where their metadata are damaged.
        if not any(problem.part.startswith(INDICES) for problem in problems):
            with stages("indices"):
                problems |= _index_problems(image, run)
        stages.pixels = sum(map(math.prod, level_shapes(image.shape[:2])))
        with stages("tiles"):
            problems |= _tile_problems(image, run)
    return tuple(sorted(problems))


def _report_problems(image: CompressedImage) -> Iterator[Problem]:
    """Compare what the report says with the rest."""
    report, bundle = image.report, image.path
    if not is_signed(json.loads(storage.read_file(bundle / store.REPORT))):
        yield Problem(store.REPORT, "is not as it was written")
    if tuple(report.shape) != image.shape:
        told = f"says {report.shape}, but the indices and the palette are {image.shape}"
        yield Problem(store.REPORT, told)
    if not report.k_used == len(report.shares) == len(image.palette):
        says = several(report.k_used, "colour")
        told = f"says {says}, but the palette has {len(image.palette)}"
        yield Problem(store.REPORT, told)
    parts = {
        "zarr": store.IMAGE,
        "tiles": store.TILES_FILES,
        "cog": store.COG,
        "preview": store.PREVIEW,
    }
    for key, name in parts.items():
        size = storage.size_of(bundle / name)
        if size != report.sizes[key]:
            yield Problem(name, f"takes {size} bytes, not {report.sizes[key]}")


def _digest_problems(image: CompressedImage) -> Iterator[Problem]:
    for name, digest in image.report.digests.items():
        try:
            if digest_of(image.path / name) != digest:
                yield Problem(name, "is not as it was written")
        except FileNotFoundError:
            yield Problem(name, "is missing")
        except OSError as error:
            yield Problem(name, f"cannot be read: {error}")


def _index_problems(image: CompressedImage, run: Any) -> set[Problem]:
    """Decode all indices, and compare how often each occurs with the report."""
    height, width, _ = image.shape
    entries = len(image.palette) + (image.nodata is not None)
    boxes = [_Box(*firsts) for firsts in product(_starts(height), _starts(width))]
    tasks = [delayed(_check_chunks)(image.path, box, entries) for box in boxes]
    found, counts = _gathered(run, tasks)
    if found:
        return found
    report = image.report
    pixels = np.rint(np.array(report.shares) * report.valid_pixels)
    if not np.array_equal(pixels, counts[: len(image.palette)]) or counts[-1]:
        told = "its indices are not those that report.json counts"
        return {Problem(INDICES, told)}
    return set()


def _starts(size: int) -> list[range]:
    return [range(start, min(start + SHARD, size), CHUNK) for start in range(0, size, SHARD)]


def _check_chunks(
    bundle: Place, box: _Box, entries: int
) -> tuple[set[Problem], npt.NDArray[np.int64]]:
    """Decode chunks; count their entries, those beyond the palette last."""
    problems, counts = set(), np.zeros(entries + 1, np.int64)
    array: Any = zarr.open_array(whole_store(bundle, INDICES), mode="r")
    for top, left in product(box.rows, box.columns):
        part = f"{INDICES}/{top // CHUNK}/{left // CHUNK}"
        try:
            block = np.asarray(array[top : top + CHUNK, left : left + CHUNK])
        except BundleError:
            problems.add(Problem(part, "is missing"))
        except DECODING_ERRORS as error:
            problems.add(Problem(part, f"is damaged: {error}"))
        else:
            counts += np.bincount(np.minimum(block.ravel(), entries), minlength=entries + 1)
            if counts[-1]:
                problems.add(Problem(part, f"has indices beyond the {entries} there are"))
                counts[-1] = 0
    return problems, counts


def _tile_problems(image: CompressedImage, run: Any) -> set[Problem]:
    """Look at every tile, and for those that should not be there."""
    if not image.report.sizes["tiles"]:
        return set()
    problems: set[Problem] = set()
    tasks: list[Delayed] = []
    shapes = level_shapes(image.shape[:2])
    for level, (height, width) in zip(reversed(range(len(shapes))), shapes, strict=True):
        name = f"{store.TILES_FILES}/{level}"
        sizes = {
            f"{left // TILE}_{top // TILE}.png": (min(TILE, width - left), min(TILE, height - top))
            for top, left in product(range(0, height, TILE), range(0, width, TILE))
        }
        for extra in storage.names(image.path / name) - sizes.keys():
            problems.add(Problem(f"{name}/{extra}", "does not belong there"))
        listed = list(sizes.items())
        tasks += [
            delayed(_check_tiles)(image.path, name, dict(listed[i : i + TILES]), image.colormap.rgb)
            for i in range(0, len(listed), TILES)
        ]
    return problems | _gathered(run, tasks)[0]


def _check_tiles(
    bundle: Place, folder: str, sizes: dict[str, tuple[int, int]], rgb: npt.NDArray[np.uint8]
) -> tuple[set[Problem], int]:
    problems = set()
    for name, size in sizes.items():
        try:
            told = _wrong_with(storage.read_file(bundle / folder / name), size, rgb)
        except FileNotFoundError:
            told = "is missing"
        except (OSError, SyntaxError, ValueError) as error:
            told = f"is damaged: {error}"
        if told:
            problems.add(Problem(f"{folder}/{name}", told))
    return problems, 0


def _wrong_with(png: bytes, size: tuple[int, int], rgb: npt.NDArray[np.uint8]) -> str | None:
    """Say what is wrong with a tile, if anything is."""
    # Pillow stops at the last chunk, before its checksum.
    if not png.endswith(PNG_END):
        return "is damaged at its end"
    with Image.open(io.BytesIO(png)) as tile:
        shown, palette = tile.size, tile.palette
        tile.verify()
    if shown != size:
        return f"is {shown[0]} x {shown[1]} pixels, not {size[0]} x {size[1]}"
    if palette is not None and bytes(palette.palette)[: rgb.size] != rgb.tobytes():
        return "has another palette"
    return None


def _gathered(run: Any, tasks: list[Delayed]) -> tuple[set[Problem], Any]:
    """Run tasks; put the problems that they return together, and add up what else they do."""
    results = dask.compute(*run(*tasks))
    return set().union(*(problems for problems, _ in results)), sum(rest for _, rest in results)
