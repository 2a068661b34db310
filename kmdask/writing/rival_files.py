"""Other codecs at work on the sampled chunks of an image, each coded and decoded by a task."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import dask
import numpy as np
from dask.delayed import Delayed, delayed

from kmdask.display import Colormap
from kmdask.encoding import encode
from kmdask.errors import ParameterError
from kmdask.graphs import block_names
from kmdask.metrics import merged, metrics_of, pixel_errors, psnr_of
from kmdask.rivals import LADDERS, Rival, check_codec, codable
from kmdask.units import several
from kmdask.writing.png import ENTRIES, encode_png

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import dask.array as da
    import numpy.typing as npt

    from kmdask.fitting.space import Space
    from kmdask.palette import Palette

FULL_COLOR = 85
"""From this quality on JPEG keeps colour at full resolution, as most programs have it."""

PNG_LEVEL = 12
"""Of libdeflate: the smallest, and slowest."""


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
    taken = codable(windows[0][0])
    asked = [(name, quality) for name in against if taken for quality in LADDERS[name]]
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
    if asked and not sums[:, 2].all():
        msg = (
            f"every pixel of {several(len(windows), 'sampled chunk')} is missing, so there is "
            "nothing to compare; sample more of them (sample=, --sample)"
        )
        raise ParameterError(msg)
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
        pixel_errors(pixels, encode(pixels, palette, mask, space=space), palette, looks=False)[0]
        for pixels, mask in windows
    ]
    total = merged(dask.compute(*run(*errors)))
    return metrics_of(total, palette.bands, peak=0).mse


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


def _rival(codec: str, quality: int | None, k: int | None, *totals: float, peak: float) -> Rival:
    size, squared, samples = totals
    mse = squared / samples
    return Rival(codec, quality, k, int(size), mse, psnr_of(mse, peak))


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

    check_codec(codec)
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
