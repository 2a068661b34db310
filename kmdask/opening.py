"""Images that are open on a cluster, to look at them and to write nothing."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kmdask.connecting.checks import check_readers
from kmdask.connecting.client import Connection, connect
from kmdask.connecting.machines import can_keep, workers_of
from kmdask.pixels import countable
from kmdask.reading.raster import found_at, open_raster
from kmdask.stages import Stages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from distributed import Client

    from kmdask.options import Options
    from kmdask.places import Place
    from kmdask.progress import Progress
    from kmdask.reading.raster import Raster


@dataclass(frozen=True)
class Opened:
    """Images that are open, and where to work on them."""

    rasters: list[Raster]
    client: Client
    stages: Stages

    def can_keep(self, options: Options) -> bool:
        """Whether pixels are needed again once they are counted, and the workers can keep them."""
        again = options.refine != 0 and not countable(self.rasters[0].pixels)
        return again and can_keep(self.client, self.rasters)

    def run(self, *collections: Any) -> tuple[Any, ...]:
        """Compute lazy collections on the cluster and return them persisted."""
        return self.stages.run(self.client, *collections)


@contextmanager
def opened(
    paths: Sequence[Any],
    options: Options,
    *,
    client: Connection,
    progress: Progress,
    name: str,
    scratch: Iterator[Place | None],
) -> Iterator[Opened]:
    """Open images on a cluster, to look at them and to write nothing.

    Parameters
    ----------
    paths : sequence of paths or arrays
    options : Options
        What is asked.
    client : Connection
        Which cluster.
    progress : Progress
    name : str
        What to call the work there.
    scratch : iterator of Path or None
        Directories for temporary copies, one for each image.
    """
    stages = Stages(progress)
    kind: dict[str, Any] = {
        "bands": options.bands,
        "nodata": options.nodata,
        "window": options.window,
    }
    found = [found_at(each, **kind) for each in paths]
    with connect(client) as connected, stages.on(connected, name):
        check_readers(connected, found)
        with stages("open"):
            rasters = [
                open_raster(each, **kind, scratch=folder, workers=workers_of(connected, source))
                for each, source, folder in zip(paths, found, scratch, strict=False)
            ]
            stages.pixels = sum(math.prod(raster.shape) for raster in rasters)
        yield Opened(rasters, connected, stages)
