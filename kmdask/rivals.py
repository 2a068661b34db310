"""Other codecs on the sampled chunks of an image: what its palettes have to be held against.

Each chunk is coded as an image of its own, as tiles are, at a ladder of qualities, decoded, and
compared on its valid pixels. Codecs know nothing of missing pixels: these are coded with the values
that they are stored with. Errors are squared differences of the bands, which JPEG XL, WebP and AVIF
do not try to keep small in the first place: they save where the eye sees least.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from dask.delayed import Delayed, delayed

from kmdask.display import Colormap
from kmdask.encoding import encode
from kmdask.errors import ParameterError, on_worker
from kmdask.graphs import block_names
from kmdask.metrics import Metrics, pixel_errors
from kmdask.writing.png import ENTRIES, encode_png

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import dask.array as da
    import numpy.typing as npt

    from kmdask.fitting.space import Space
    from kmdask.palette import Palette
    from kmdask.reading.raster import Raster

LADDERS: dict[str, tuple[int | None, ...]] = {
    "jpeg": (5, 15, 30, 50, 70, 85, 95),
    "webp": (5, 25, 50, 75, 90, 98, None),
    "jxl": (5, 25, 50, 70, 85, 95, None),
    "avif": (5, 20, 40, 60, 80, 95),
    "png": (None,),
}
"""The qualities of each codec, of 100 as Pillow takes them, ascending; None is without loss."""

FULL_COLOR = 85
"""From this quality on JPEG keeps colour at full resolution, as most programs have it."""

PNG_LEVEL = 12
"""Of libdeflate: the smallest, and slowest."""

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
        _check_codec(name)
    return tuple(dict.fromkeys(names))


def check_codable(against: Sequence[str], raster: Raster) -> None:
    """Raise a `ParameterError` if the codecs do not take the pixels of an image."""
    asked = [name for name in against if name != "png"]
    if asked and not _codable(raster.pixels):
        msg = (
            f"{asked[0]} takes one or three bands of 8 bits; {raster.source!r} has "
            f"{len(raster.bands)} of {raster.pixels.dtype}: choose bands (bands=, --bands), or "
            "compare palettes with 'png' alone, which codes their indices"
        )
        raise ParameterError(msg)


def measure_rivals(
    windows: Sequence[tuple[da.Array, da.Array | None]],
    against: Sequence[str],
    peak: float,
    run: Callable[..., tuple[Any, ...]],
) -> list[Rival]:
    """Code the pixels of windows by each codec at each of its qualities.

    Parameters
    ----------
    windows : sequence of tuple
        Pixels and mask of each, in one chunk.
    against : sequence of str
        Codecs, as `check_against` returns them. Of "png" only what pixels without loss take, if
        they are 8-bit ones of one or three bands.
    peak : float
        What the PSNR takes for the signal.
    run : callable
        Computes lazy collections on the cluster and returns them persisted.

    Returns
    -------
    list of Rival
    """
    codable = _codable(windows[0][0])
    asked = [(name, quality) for name in against if codable for quality in LADDERS[name]]
    names = block_names("rivals", [*(p.name for p, _ in windows), asked], len(asked) * len(windows))
    tasks: list[Delayed] = [
        delayed(_coded, pure=True)(
            pixels.to_delayed(optimize_graph=False).item(),
            None if mask is None else mask.to_delayed(optimize_graph=False).item(),
            name,
            quality,
            dask_key_name=names[i * len(windows) + j],
        )
        for i, (name, quality) in enumerate(asked)
        for j, (pixels, mask) in enumerate(windows)
    ]
    done = np.array(dask.compute(*run(*tasks)) if tasks else [])
    sums = done.reshape(len(asked), len(windows), 3).sum(axis=1)
    return [
        _rival(name, quality, None, *totals, peak=peak)
        for (name, quality), totals in zip(asked, sums.tolist(), strict=True)
    ]


def measure_palette(
    windows: Sequence[tuple[da.Array, da.Array | None]],
    palette: Palette,
    space: Space | None,
    run: Callable[..., tuple[Any, ...]],
) -> float:
    """Return the mean squared error of a palette on windows, over valid pixels and bands."""
    errors = [
        pixel_errors(pixels, encode(pixels, palette, mask, space=space), palette)[0]
        for pixels, mask in windows
    ]
    total = sum(dask.compute(*run(*errors)))
    bands = palette.bands
    return float(total[:bands].sum() / (max(total[bands:].sum(), 1) * bands))


def palette_pngs(
    windows: Sequence[tuple[da.Array, da.Array | None]],
    palettes: Iterable[tuple[int, Palette, float]],
    space: Space | None,
    peak: float,
    run: Callable[..., tuple[Any, ...]],
) -> list[Rival]:
    """Write the indices of windows as palette PNGs, as small as libdeflate makes them.

    Parameters
    ----------
    windows : sequence of tuple
        Pixels and mask of each, in one chunk.
    palettes : iterable of (int, Palette, float)
        Colours asked for, the palette, and its error on these windows. Of those with more entries
        than a palette PNG holds there is nothing.
    space : Space, optional
        Where the nearest entry is looked for.
    peak : float
        What the PSNR takes for the signal.
    run : callable
        Computes lazy collections on the cluster and returns them persisted.

    Returns
    -------
    list of Rival
    """
    masked = windows[0][1] is not None
    found = []
    for k, palette, mse in palettes:
        if len(palette) + masked > ENTRIES:
            continue
        # Which colours they are makes no difference to the bytes.
        colormap = Colormap(
            np.zeros((len(palette), 3), np.uint8), palette.nodata if masked else None
        )
        indices = [encode(pixels, palette, mask, space=space) for pixels, mask in windows]
        parts = [each.to_delayed(optimize_graph=False).item() for each in indices]
        sizes = run(*(delayed(_png_bytes, pure=True)(part, colormap) for part in parts))
        found.append(Rival("png", None, k, sum(dask.compute(*sizes)), mse, psnr_of(mse, peak)))
    return found


def psnr_of(mse: float, peak: float) -> float:
    """Peak signal-to-noise ratio in dB."""
    return Metrics(mse, (), peak).psnr


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
        In dB; infinite if the bytes are enough without loss. Between its best lossy quality and
        those it is that of this quality. None if it takes more bytes at the least quality.

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


def _codable(pixels: da.Array) -> bool:
    return pixels.dtype == np.uint8 and int(pixels.shape[2]) in {1, 3}


def _rival(codec: str, quality: int | None, k: int | None, *totals: float, peak: float) -> Rival:
    size, squared, samples = totals
    mse = squared / max(samples, 1)
    return Rival(codec, quality, k, int(size), mse, psnr_of(mse, peak))


def _check_codec(name: str) -> None:
    """Raise a `ParameterError` if what codes is not installed in this process."""
    from PIL import features

    if name == "jxl":
        try:
            import pillow_jxl  # noqa: F401  Pillow knows JPEG XL from then on
        except ImportError as error:
            msg = (
                f"against='jxl' needs a package that is not installed{on_worker()}; run pip "
                'install "kmdask[codecs]", or leave jxl out'
            )
            raise ParameterError(msg) from error
    elif name in {"avif", "webp"} and not features.check(name):
        msg = (
            f"against={name!r} needs a Pillow that is built with it{on_worker()}; install a newer "
            f"one, or leave {name} out"
        )
        raise ParameterError(msg)


def _options(codec: str, quality: int | None) -> dict[str, Any]:
    """What Pillow is told: one thread each, as there are other tasks beside it."""
    if codec == "png":
        return {"optimize": True}
    loss: dict[str, Any] = {"lossless": True} if quality is None else {"quality": quality}
    if codec == "jpeg":
        full = quality is not None and quality >= FULL_COLOR
        return loss | {"optimize": True, "subsampling": 0 if full else 2}
    own: dict[str, dict[str, Any]] = {
        "webp": {"method": 4},
        "jxl": {"effort": 7, "num_threads": 1},
        "avif": {"max_threads": 1},
    }
    return loss | own[codec]


def _coded(
    pixels: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8] | None,
    codec: str,
    quality: int | None,
) -> tuple[int, int, int]:
    """Bytes of one window, the sum of its squared differences, and the samples that are valid."""
    from PIL import Image

    _check_codec(codec)
    picture = np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, codec.upper(), **_options(codec, quality))
    size = file.tell()
    mode = "L" if pixels.shape[2] == 1 else "RGB"
    with Image.open(file) as coded:
        back = np.asarray(coded.convert(mode)).reshape(pixels.shape)
    different = back.astype(np.int32) - pixels
    if mask is not None:
        different = different[mask != 0]
    return size, int(np.square(different, dtype=np.int64).sum()), different.size


def _png_bytes(indices: npt.NDArray[Any], colormap: Colormap) -> int:
    return len(encode_png(indices, colormap, PNG_LEVEL))
