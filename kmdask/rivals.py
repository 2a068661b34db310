"""Other codecs on the sampled chunks of an image: what its palettes have to be held against.

Each chunk is coded as an image of its own, as tiles are, at a ladder of qualities, decoded, and
compared on its valid pixels. Codecs know nothing of missing pixels: these are coded with the values
that they are stored with. Errors are squared differences of the bands, which JPEG XL, WebP and AVIF
do not try to keep small in the first place: they save where the eye sees least.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kmdask.errors import ParameterError, how_to_install, on_worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import dask.array as da

    from kmdask.reading.raster import Raster

LADDERS: dict[str, tuple[int | None, ...]] = {
    "jpeg": (5, 15, 30, 50, 70, 85, 95, 99),
    "webp": (5, 25, 50, 75, 90, 100, None),
    "jxl": (5, 25, 50, 70, 85, 95, 99, None),
    "avif": (5, 20, 40, 60, 80, 95, 99),
    "png": (None,),
}
"""The qualities of each codec, of 100 as Pillow takes them, ascending; None is without loss."""

WIDEST = 8
"""Chunks that are sampled by default where codecs are compared: these are slow."""


@dataclass(frozen=True)
class Rival:
    """What another codec makes of the sampled chunks."""

    codec: str
    """"jpeg", "webp", "jxl", "avif" or "png"."""

    quality: int | None
    """Of 100, as Pillow takes it; None is without loss."""

    k: int | None
    """The palette whose indices are coded, of palette PNGs; None where the pixels are."""

    sample_bytes: int
    """Bytes of the sampled chunks, each a file by itself."""

    mse: float
    """Mean squared error over the valid pixels of these chunks and their bands."""

    psnr: float
    """Peak signal-to-noise ratio in dB of these; infinite without loss."""


def check_against(against: Any) -> tuple[str, ...]:
    """Return names of codecs, each once; raise a `ParameterError` unless they can be used here.

    Examples
    --------
    >>> check_against(["webp", "jpeg", "webp"])
    ('webp', 'jpeg')
    """
    names = () if isinstance(against, str) or not hasattr(against, "__iter__") else tuple(against)
    if (not names and against not in ((), [])) or not set(names) <= set(LADDERS):
        msg = f"against names codecs, as ('jpeg', 'webp'), of {', '.join(LADDERS)}; got {against!r}"
        raise ParameterError(msg)
    for name in names:
        check_codec(name)
    return tuple(dict.fromkeys(names))


def check_codable(against: Sequence[str], raster: Raster) -> None:
    """Raise a `ParameterError` if the codecs do not take the pixels of an image."""
    asked = [name for name in against if name != "png"]
    if asked and not codable(raster.pixels):
        msg = (
            f"{asked[0]} takes one or three bands of 8 bits; {raster.source!r} has "
            f"{len(raster.bands)} of {raster.pixels.dtype}: choose bands (bands=, --bands), or "
            "compare palettes with 'png' alone, which codes their indices"
        )
        raise ParameterError(msg)


def psnr_at(rivals: Iterable[Rival], codec: str, size: float) -> float | None:
    """Say what PSNR a codec reaches in so many bytes of the sampled chunks.

    Between its qualities PSNR is taken to be linear in the logarithm of the bytes.

    Parameters
    ----------
    rivals : iterable of Rival
    codec : str
    size : float
        Bytes.

    Returns
    -------
    float or None
        In dB; infinite if the bytes are enough without loss. With more bytes than its best lossy
        quality takes it is that of this quality: a lower bound. None if it takes more bytes at the
        least quality.

    Examples
    --------
    >>> lossy = [Rival("jpeg", 10, None, 100, 9.0, 30.0), Rival("jpeg", 90, None, 400, 1.0, 40.0)]
    >>> [psnr_at(lossy, "jpeg", size) for size in (50, 200, 900)]
    [None, 35.0, 40.0]
    """
    own = [each for each in rivals if each.codec == codec and each.k is None]
    if any(math.isinf(each.psnr) and each.sample_bytes <= size for each in own):
        return math.inf
    lossy = sorted((each.sample_bytes, each.psnr) for each in own if math.isfinite(each.psnr))
    if not lossy or size < lossy[0][0]:
        return None
    sizes, values = zip(*lossy, strict=True)
    return float(np.interp(math.log2(size), np.log2(sizes), values))


def is_bound(rivals: Iterable[Rival], codec: str, size: float) -> bool:
    """Whether `psnr_at` of these is a lower bound: a codec's best lossy quality takes fewer bytes.

    Examples
    --------
    >>> lossy = [Rival("jpeg", 10, None, 100, 9.0, 30.0), Rival("jpeg", 90, None, 400, 1.0, 40.0)]
    >>> [is_bound(lossy, "jpeg", size) for size in (200, 900)]
    [False, True]
    """
    own = [each for each in rivals if each.codec == codec and each.k is None]
    reached = psnr_at(own, codec, size)
    if reached is None or math.isinf(reached):
        return False
    return size > max(each.sample_bytes for each in own if math.isfinite(each.psnr))


def codable(pixels: da.Array) -> bool:
    """Whether pixels are what all codecs take: one or three bands of 8 bits."""
    return pixels.dtype == np.uint8 and int(pixels.shape[2]) in {1, 3}


def check_codec(name: str) -> None:
    """Raise a `ParameterError` if what codes is not installed in this process."""
    from PIL import features

    if name == "jxl":
        try:
            import pillow_jxl  # noqa: F401  Pillow knows JPEG XL from then on
        except ImportError as error:
            msg = (
                f"against='jxl' needs a package that is not installed{on_worker()}; "
                f"{how_to_install('codecs')}, or leave jxl out"
            )
            raise ParameterError(msg) from error
    elif name in {"avif", "webp"} and not features.check(name):
        msg = (
            f"against={name!r} needs a Pillow that is built with it{on_worker()}; install a newer "
            f"one, or leave {name} out"
        )
        raise ParameterError(msg)
