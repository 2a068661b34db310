"""What tasks have done, kept in files: a run that was cut off is gone on with from there.

A task that writes a part of the output saves what it returns as its last act. Later runs load
that in its place, and what it would have been computed from is not computed again.

A task may run twice, also at the same time: when its worker seemed lost and was not. Everything is
therefore written whole or not at all, and both write the same.
"""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph

from kmdask import npy, storage
from kmdask.errors import OutputError, writing
from kmdask.graphs import block_names

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from kmdask.places import Place


VERSION = 2
"""Raised when receipts of the version before would be taken for those of other chunks."""

CHECKSUM = 4
"""Bytes of the checksum at the end of a receipt; a bit that is wrong would be written on."""


class DamagedReceiptError(OutputError):
    """A receipt is not what was written, and so what it stands for may not be either."""


@dataclass(frozen=True)
class Receipts:
    """The results of finished tasks, an array each."""

    folder: Place
    """Where they are."""

    there: frozenset[str] = field(default=frozenset(), repr=False)
    """Names of those that an earlier run has left."""

    @classmethod
    def found(cls, folder: Place) -> Receipts:
        """Open the receipts of an earlier run; there are none if there is no such folder."""
        return cls(folder, frozenset(storage.names(folder)))

    def map_blocks(
        self, work: Callable[..., npt.NDArray[Any]], array: da.Array, stage: str, **options: Any
    ) -> da.Array:
        """Do work on every block of an array, lazily, and keep what it returns.

        Parameters
        ----------
        work : callable
            Takes a block, and those of the `options` that are none of `dask.array.map_blocks`;
            returns an array.
        array : dask array
        stage : str
            Name of the tasks in the dashboard, and with the array's place in the output of the
            receipts: ``"write-tiles"`` or ``"write-tiles:12"``.
        **options
            As for `dask.array.map_blocks`.

        Returns
        -------
        dask array
            What the work returns. Blocks that an earlier run has finished are loaded.
        """
        result: da.Array = da.map_blocks(
            _keep,
            array,
            work=work,
            receipts=(self.folder, stage),
            token=stage.partition(":")[0],
            **options,
        )
        return self._with_finished(result, stage)

    def task(self, name: str, task: tuple[Any, ...]) -> tuple[Any, ...]:
        """Make a task of a graph, which returns an array, one that keeps it or loads it."""
        path = self.folder / f"{name}.npy"
        return (_load, path) if path.name in self.there else (_kept, path, *task)

    def _with_finished(self, array: da.Array, stage: str) -> da.Array:
        """Replace the blocks of an array that are there already by tasks that load them."""
        keys = list(flatten(array.__dask_keys__()))
        finished = {key: name for key in keys if (name := _name(stage, key[1:])) in self.there}
        if not finished:
            return array
        names = block_names("resume", array.name, 1)[0][0]
        layer: dict[Any, Any] = {
            (names, *key[1:]): (_load, self.folder / finished[key]) if key in finished else key
            for key in keys
        }
        dependencies: list[Any] = [array]
        graph = HighLevelGraph.from_collections(names, layer, dependencies=dependencies)
        return da.Array(graph, names, chunks=array.chunks, meta=array._meta)  # noqa: SLF001  its type


def _keep(
    block: npt.NDArray[Any],
    work: Callable[..., npt.NDArray[Any]],
    receipts: tuple[Place, str],
    block_info: Any = None,
    **options: Any,
) -> npt.NDArray[Any]:
    folder, stage = receipts
    path = folder / _name(stage, block_info[None]["chunk-location"])
    return _kept(path, work, block, block_info=block_info, **options)


def _kept(
    path: Place, work: Callable[..., npt.NDArray[Any]], /, *args: Any, **kwargs: Any
) -> npt.NDArray[Any]:
    """Do work, and keep the result as the last act."""
    result = work(*args, **kwargs)
    file = io.BytesIO()
    np.save(file, result, allow_pickle=False)
    content = file.getvalue()
    with writing(path):
        storage.write_file(path, content + _checksum(content))
    return result


def _load(path: Place) -> npt.NDArray[Any]:
    with writing(path):
        content = memoryview(storage.read_file(path))
    if _checksum(content[:-CHECKSUM]) != content[-CHECKSUM:]:
        raise DamagedReceiptError(
            f"what is left of the run that was cut off is damaged, at {str(path)!r}, and is "
            "removed: run again, which begins at the beginning"
        )
    return npy.load(io.BytesIO(content))


def _checksum(content: bytes | memoryview) -> bytes:
    return zlib.crc32(content).to_bytes(CHECKSUM, "little")


def _name(stage: str, block: tuple[int, ...]) -> str:
    return "-".join([stage.replace(":", "-"), *map(str, block)]) + ".npy"
