"""Functions timed in one process, and results kept."""

from __future__ import annotations

import json
import statistics
import time
from typing import TYPE_CHECKING, Any

from machine import machine, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


def in_turn(functions: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each function in each round, all of them in turn; nothing is run beforehand."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return times


def ratio(times: list[float], base: list[float]) -> float:
    """Median of the ratios, round by round."""
    return statistics.median(one / other for one, other in zip(times, base, strict=True))


def save(path: Path | None, result: dict[str, Any]) -> None:
    """Write a result as JSON, with what it was had on."""
    if path:
        told = {"machine": machine(), "versions": versions()}
        path.write_text(json.dumps(told | result, indent=2) + "\n")
