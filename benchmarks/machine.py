"""What a benchmark ran on: the machine, and the versions of what it ran."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

PEERS = ("faiss-cpu",)
"""Packages that kmdask has no need of."""

TOOLS = {
    "vips": ("vips", "--version"),
    "pngquant": ("pngquant", "--version"),
    "gdal": ("gdalinfo", "--version"),
}
IMAGEMAGICK = ("magick", "convert-im6.q16", "convert")
"""Its names, of which one that says it is ImageMagick is taken."""


def machine() -> dict[str, Any]:
    """Cores, memory, processor and system."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of all that is installed of the packages and tools."""
    # Not above: it takes memory, with which every command that is timed from here would begin.
    from kmdask.report import LIBRARIES

    found = {"python": platform.python_version()}
    for package in ("kmdask", *LIBRARIES, *PEERS):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    for name, command in TOOLS.items():
        if said := _first_line(*command):
            found[name] = said
    if magick := imagemagick():
        found["imagemagick"] = _first_line(magick, "-version").partition(" https")[0]
    return found


def imagemagick() -> str | None:
    """The command of ImageMagick, if it is installed."""
    for name in IMAGEMAGICK:
        if "ImageMagick" in _first_line(name, "-version").removeprefix("Version:")[:20]:
            return name
    return None


def _first_line(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout.splitlines() or [""])[0].strip()
