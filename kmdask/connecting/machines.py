"""What the machines of a cluster have, against what a run needs: libraries, memory, disk."""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from kmdask.chunks import TABLE, TILE, UNKNOWN, Workers, is_smaller, process_bytes, task_bytes
from kmdask.connecting.checks import in_process, told_of
from kmdask.errors import ClusterError
from kmdask.reading.plans import plan_source, sample_bytes
from kmdask.report import LIBRARIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from distributed import Client

    from kmdask.connecting.probes import Seen
    from kmdask.reading.raster import Raster
    from kmdask.reading.sources import Source

Finding: TypeAlias = "tuple[Literal['ok', 'warn', 'fail'], str]"
"""How something is, and what to say of it."""

STRICT = ("python", "dask", "distributed")
"""What has to be the same for the machines to understand each other at all."""


def check_libraries(client: Client) -> Finding:
    """Compare the libraries of all machines with those of this one, by their names alone."""
    told: Any = client.get_versions(packages=list(LIBRARIES))
    here = _names(told["client"])
    machines: list[tuple[str, dict[str, str | None], tuple[str, ...]]] = [
        (f"worker {who}", _names(each), LIBRARIES) for who, each in told["workers"].items()
    ]
    machines.append(("scheduler", _names(told["scheduler"]), STRICT[1:]))
    failing, differing = {}, {}
    for who, there, needed in machines:
        absent = [name for name in needed if not there.get(name)]
        other = [name for name in ("python", *needed) if there.get(name) != here[name]]
        strict = [name for name in other if name in STRICT and name not in absent]
        if absent:
            failing[who] = f"lacks {', '.join(absent)}"
        elif strict:
            failing[who] = _compared(strict, there, here)
        elif other:
            differing[who] = _compared(other, there, here)
    if failing:
        return "fail", f"{told_of(failing)}; install the same versions on every machine"
    if differing:
        return "warn", f"{told_of(differing)}; files may differ in bytes from run to run"
    return "ok", f"the same {len(LIBRARIES)} on every machine"


def _names(told: Mapping[str, Any]) -> dict[str, str | None]:
    packages: dict[str, str | None] = dict(told["packages"])
    # Code travels between releases of one minor version, not further.
    packages["python"] = ".".join(str(packages["python"]).split(".")[:2])
    return packages


def _compared(
    names: list[str], there: Mapping[str, str | None], here: Mapping[str, str | None]
) -> str:
    pairs = ", ".join(f"{name} {there[name]} (here {here[name]})" for name in names)
    return f"has {pairs}"


def check_memory(client: Client, source: Source) -> Finding:
    """Compare the memory of workers with what a run takes of it."""
    try:
        workers = workers_of(client, source)
    except ClusterError as error:
        return "fail", str(error)
    plan = plan_source(source, workers)
    usual = plan_source(source, replace(workers, room=None))
    height, width = source.shape
    pixels = min(plan.chunk[0], height) * min(plan.chunk[1], width)
    process = process_bytes(height * width * sample_bytes(source))
    task = task_bytes(pixels, len(source.bands), source.dtype.itemsize, masked=source.masked)
    need = f"up to {_megabytes(process)} and {_megabytes(task)} for each thread"
    if not is_smaller(plan, usual):
        return "ok", f"enough for {need}"
    chunks = [f"{rows} x {columns}" for rows, columns in (plan.chunk, usual.chunk)]
    return "warn", (
        f"enough for {need}, with chunks of {chunks[0]} pixels instead of {chunks[1]}: more of it, "
        "or fewer threads, would be faster"
    )


def workers_of(client: Client, source: Source | None) -> Workers:
    """Return how many threads there may be, and the memory of each on the worker that has least.

    Parameters
    ----------
    client : distributed.Client
    source : Source or None
        What is going to be read; None for arrays.

    Returns
    -------
    Workers

    Raises
    ------
    ClusterError
        If a worker has too little for the smallest chunks: it would stand still for ever.
    """
    raw = 0 if source is None else source.shape[0] * source.shape[1] * sample_bytes(source)
    process, least = process_bytes(raw), TABLE
    if source is not None:
        bands, itemsize = len(source.bands), source.dtype.itemsize
        pixels = min(TILE * TILE, source.shape[0] * source.shape[1])
        least = task_bytes(pixels, bands, itemsize, masked=source.masked)
    rooms, short, all_threads = [], {}, 0
    for who, (limit, threads) in client.run(_limits, on_error="ignore").items():
        all_threads += threads
        if limit is None:
            continue
        rooms.append((limit - process) // threads)
        if rooms[-1] < least:
            short[f"worker {who}"] = f"stops at {_megabytes(limit)} of memory"
    if short:
        need = f"{_megabytes(process)} and {_megabytes(least)} for each thread"
        raise ClusterError(
            f"{told_of(short)}; this image takes at least {need}: give workers more memory, or "
            "fewer threads"
        )
    # What is no part of this process may grow during the run, which keeps to its chunks.
    if not (all_threads and in_process(client)):
        all_threads = max(all_threads, UNKNOWN.threads)
    return Workers(all_threads, min(rooms, default=None))


def _limits(dask_worker: Any = None) -> tuple[int | None, int]:
    memory = dask_worker.memory_manager
    limit = memory.memory_limit
    # Above this part of its limit a worker takes no more tasks.
    part = memory.memory_pause_fraction or 1.0
    return int(limit * part) if limit else None, dask_worker.state.nthreads


def can_keep(client: Client, rasters: Sequence[Raster]) -> bool:
    """Whether the workers can keep all chunks of images in memory, so that none is read twice.

    They take no more than half of a worker's memory, and of what is free where it runs, and leave
    it, with what it holds already, below the line where Dask begins to write to disk. Workers get
    chunks as they have threads.
    """
    raw = sum(int(chunks.nbytes) for raster in rasters for chunks in raster.chunks)
    task = max(_task_bytes(raster) for raster in rasters)
    workers = list(client.run(_memory, on_error="ignore").values())
    if not workers:
        return False
    hosts = Counter(host for host, *_ in workers)
    each = raw / sum(threads for *_, threads in workers)
    return all(
        each * threads <= min(limit - held, free / hosts[host]) / 2
        and held + process_bytes(raw) + threads * (task + each) <= line
        for host, limit, line, held, free, threads in workers
    )


def _task_bytes(raster: Raster) -> int:
    rows, columns, bands = map(int, raster.pixels.chunksize)
    itemsize = raster.pixels.dtype.itemsize
    return task_bytes(rows * columns, bands, itemsize, masked=raster.mask is not None)


def _memory(dask_worker: Any = None) -> tuple[str, float, float, int, float, int]:
    """Host, memory limit, where trouble begins, results held, what is free now, and threads."""
    import psutil

    memory, state = dask_worker.memory_manager, dask_worker.state
    free = psutil.virtual_memory().available
    limit = memory.memory_limit or free
    parts = (
        memory.memory_target_fraction,
        memory.memory_spill_fraction,
        memory.memory_pause_fraction,
    )
    line = limit * min((part for part in parts if part), default=1.0)
    return socket.gethostname(), limit, line, state.nbytes, free, state.nthreads


def check_disk(source: Source, seen: Mapping[str, Seen]) -> Finding:
    """Compare the space where the output is to be with what it takes at most at 256 colours."""
    height, width = source.shape
    pixels = height * width
    # An index a pixel in the array, and one in every tile of a pyramid, if nothing compresses.
    need = pixels * 7 // 3
    if plan_source(source).spool:
        need += pixels * sample_bytes(source)
    short = {
        who: f"has {_megabytes(each.free)} of disk free where the output is to be"
        for who, each in seen.items()
        if each.free is not None and each.free < need
    }
    if short:
        return "warn", f"{told_of(short)}; noise in 256 colours would take {_megabytes(need)}"
    known = any(each.free is not None for each in seen.values())
    return "ok", f"up to {_megabytes(need)} needed" + (", and free" if known else "")


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB" if size < 1e10 else f"{size / 1e9:,.0f} GB"
