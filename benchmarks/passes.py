"""The passes of a compression as graphs that nobody computes: how large they are, of what.

The image is one that GDAL opens but that has no pixels: a VRT of any size without sources.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from dask._task_spec import Task, TaskRef, convert_legacy_graph
from dask.base import collections_to_expr
from dask.sizeof import sizeof
from dask.utils import key_split
from distributed.protocol.serialize import serialize, to_serialize

import kmdask
from kmdask.display import Display
from kmdask.fitted import Fitted
from kmdask.fitting.survey import survey
from kmdask.metrics import Metrics
from kmdask.options import Options
from kmdask.reading.describe import describe
from kmdask.writing.outputs import write_outputs
from kmdask.writing.staging import Staging

if TYPE_CHECKING:
    from collections.abc import Sequence

BAND = (
    '<VRTRasterBand dataType="Byte" band="{}" blockXSize="512" blockYSize="512">{}</VRTRasterBand>'
)
NODATA = "<NoDataValue>0</NoDataValue>"
K = 16


@dataclass(frozen=True)
class Pass:
    """One pass over an image."""

    name: str
    stages: dict[str, int]
    """Tasks of each stage."""

    graph_bytes: int
    """As Dask sends it to the scheduler."""

    seconds: float
    """Until the client has sent it."""

    scheduler_seconds: float
    """Until the scheduler has taken it apart and put its tasks in order."""

    graph: dict[Any, Any]
    """Its tasks."""

    wanted: list[Any]
    """The keys whose results are waited for."""

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return len(self.graph)


class _Built(Exception):  # noqa: N818  no error: it says that the graph is there
    """Carries the collections of a pass out of the code that would compute them."""


def blank(path: Path, pixels: float, *, masked: bool = False) -> Path:
    """Write a square RGB image of about that many pixels, of which there are none."""
    side = int(pixels**0.5)
    bands = "".join(BAND.format(number, NODATA if masked else "") for number in (1, 2, 3))
    path.write_text(
        f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}">{bands}</VRTDataset>',
        encoding="utf-8",
    )
    return path


def passes(path: Path, formats: Sequence[str] = ("zarr", "tiles")) -> list[Pass]:
    """Build the graphs of counting and of writing an 8-bit image."""
    start = time.perf_counter()
    raster = kmdask.open_raster(path)
    counter = survey(raster.pixels, raster.mask, window=raster.window).counter
    counting = _taken("count", counter.table(raster.pixels, raster.mask), start)
    start = time.perf_counter()
    grey = np.linspace(0, 255, K).astype(np.uint8)[:, None]
    fitted = Fitted(
        palette=kmdask.Palette(np.repeat(grey, len(raster.bands), axis=1)),
        k=K,
        display=Display((1,), (0.0,), (255.0,)),
        masked=raster.mask is not None,
        space=None,
        peak=255.0,
        metrics=Metrics(0.0, (1.0,)),
    )
    with tempfile.TemporaryDirectory() as folder:
        staging = Staging(Path(folder), {})
        staging.start()
        try:
            options = Options(K, formats=formats)
            write_outputs(raster, fitted, options, staging=staging, run=_caught)
        except _Built as built:
            return [counting, _taken("write", built.args, start)]
    raise RuntimeError("nothing was to be computed")


def _caught(*collections: Any) -> tuple[Any, ...]:
    raise _Built(*collections)


def _taken(name: str, collections: Sequence[Any], start: float) -> Pass:
    """Do with collections what Dask's client and scheduler do before the first task runs."""
    expression = collections_to_expr(list(collections), optimize_graph=False).optimize()
    header, frames = serialize(to_serialize(expression), on_error="raise")
    sent = time.perf_counter()
    graph = convert_legacy_graph(dict(expression.__dask_graph__()))
    dask.order.order(graph)
    return Pass(
        name=name,
        stages=dict(Counter(key_split(key) for key in graph).most_common()),
        graph_bytes=sizeof(header) + sum(memoryview(frame).nbytes for frame in frames),
        seconds=sent - start,
        scheduler_seconds=time.perf_counter() - sent,
        graph=graph,
        wanted=[key for keys in expression.__dask_keys__() for key in dask.core.flatten([keys])],
    )


def hollow(graph: dict[Any, Any]) -> dict[Any, Any]:
    """Return the same tasks, on the same other ones, that do nothing."""
    return {
        key: Task(key, _nothing, *(TaskRef(needed) for needed in task.dependencies))
        for key, task in graph.items()
    }


def _nothing(*_results: object) -> None:
    """Do nothing."""


def refusal(pixels: float) -> dict[str, str]:
    """Return what kmdask says against an image of that many pixels, if it takes none such."""
    with tempfile.TemporaryDirectory() as folder:
        path = blank(Path(folder) / "blank.vrt", pixels)
        try:
            describe(path)
        except kmdask.UnsupportedImageError as error:
            return {"refused": str(error).replace(repr(str(path)), "it")}
    return {}


def dry_run(pixels: float) -> dict[str, Any]:
    """Build the passes of an image of that many pixels, in a process of its own."""
    row: dict[str, Any] = {"pixels": pixels} | refusal(pixels)
    if "refused" in row:
        return row
    with tempfile.TemporaryDirectory() as folder:
        path = blank(Path(folder) / "blank.vrt", pixels)
        seen = describe(path)
        before = _peak()
        built = passes(path)
        after = _peak()
    return row | {
        "chunks": seen.chunks,
        "tasks": sum(one.tasks for one in built),
        "graph_bytes": sum(one.graph_bytes for one in built),
        "plan_seconds": sum(one.seconds for one in built),
        "scheduler_seconds": sum(one.scheduler_seconds for one in built),
        "graph_peak_bytes": after - before,
        "worker_bytes": seen.worker_bytes + seen.thread_bytes,
        "stages": {one.name: one.stages for one in built},
    }


def _peak() -> int:
    """Return the most bytes that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():
        # What `getrusage` says on Linux begins with what the process that started this one holds.
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
