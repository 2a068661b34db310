"""What numbers of colours cost and give: the rate-distortion table of an image."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from kmdask.counted import count
from kmdask.errors import ParameterError, without_secrets
from kmdask.fitting.fit import check_k
from kmdask.metrics import entropy_of
from kmdask.opening import opened
from kmdask.options import Options
from kmdask.palette import check_room
from kmdask.progress import Progress, chosen
from kmdask.rates import Sweep
from kmdask.reading.window import check_window
from kmdask.rivals import WIDEST, check_against, check_codable
from kmdask.swept import (
    bytes_of,
    entropy_constrained_palettes,
    plain_palettes,
    point_of,
    timed,
)
from kmdask.targets import KS
from kmdask.writing.rival_files import measure_palette, measure_rivals, palette_pngs
from kmdask.writing.sampled import SAMPLE, affordable

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

    from kmdask.connecting.client import Connection
    from kmdask.counted import Counted, Trial
    from kmdask.fitting.refine import Refine
    from kmdask.fitting.survey import Scale, SpaceName
    from kmdask.fixed import Fixed
    from kmdask.rivals import Rival


def sweep(
    path: str | os.PathLike[str] | Any,
    ks: Iterable[int] = KS,
    *,
    fixed: Fixed = None,
    seed: int = 0,
    bands: Sequence[int] | None = None,
    nodata: float | None = None,
    scale: Scale = None,
    pca: int | None = None,
    space: SpaceName = "rgb",
    refine: Refine = 0,
    window: Sequence[int] | None = None,
    codec: str = "zstd",
    sample: int | None = None,
    against: Sequence[str] = (),
    entropy_constrained: bool = False,
    client: Connection = None,
    progress: Progress | bool | None = None,
) -> Sweep:
    """Try several numbers of colours on an image: what each costs, and what it gives.

    The image is read once, to count its colours; palettes are fitted to the counts, and the counts
    tell error and entropy. The pixels of some chunks are kept, to see what their indices take
    as they are stored. The same image, `ks` and `seed` give the same numbers, whatever the cluster;
    only the seconds tell runs apart.

    Each palette is the better of two: the one that ``kmdask.compress(path, k)`` would find, and one
    grown from the palette before. So the error never rises with k: the mean squared error, or in
    OKLab the mean ΔEOK. Where colours are counted one by one, up to three bands of 8 bits, it is
    exact, and at most the one in the report of that run.

    Parameters
    ----------
    path : str or path-like, or Dask, NumPy or xarray array
        As for `kmdask.compress`.
    ks : iterable of int, default (2, 4, 8, 16, 32, 64, 128, 256)
        Numbers of colours, each from 1 to 65,536 (65,535 if pixels are missing), in any order; no
        fewer than are fixed.
    fixed, seed, bands, nodata, scale, pca, space : optional
        As for `kmdask.compress`.
    refine : int or "converge", default 0
        Steps of k-means over all pixels, where these are gathered in cells, for each of `ks`. Each
        is a pass over the image, and one more then measures error and entropy over all pixels. By
        default none: numbers are then estimates from the cells. Of no effect on up to three 8-bit
        bands, where all is exact.
    window : sequence of int or rasterio.windows.Window, optional
        As for `kmdask.compress`.
    codec : {"zstd", "bz2"}, default "zstd"
        How indices are compressed; see `kmdask.compress`.
    sample : int, optional
        Chunks of 1024 x 1024 pixels to measure the bytes of stored indices on; 0 for none. Of an
        image that has no more the bytes are exact. The workers keep their pixels, at most 256 MiB:
        of many bands there are fewer. By default 64, or 8 if there are codecs to compare with.
    against : sequence of str, default ()
        Other codecs to compare with on these chunks: "jpeg", "webp", "jxl" (with the extra
        "codecs"), "avif", each at six to eight qualities, for one or three bands of 8 bits; and
        "png", which codes the indices of up to 256 entries. JPEG XL takes some 5 s of a core for a
        chunk, AVIF as many, the others half a second.
    entropy_constrained : bool, default False
        Whether to fit besides, for each of `ks`, what ``kmdask.compress(path, target_bpp=...)``
        would at the entropy of that palette, from no fewer colours than it has:
        `Sweep.entropy_constrained`. Not with `fixed`.
    client, progress : optional
        As for `kmdask.compress`.

    Returns
    -------
    Sweep

    Raises
    ------
    KmdaskError
        One of its kinds, as for `kmdask.compress`.

    Examples
    --------
    >>> import numpy as np
    >>> import kmdask
    >>> table = kmdask.sweep(np.tile(np.arange(16, dtype=np.uint8) * 17, (32, 2)), ks=(2, 4, 16))
    >>> for point in table.points:
    ...     print(point.k, point.entries, round(point.psnr, 1), point.bits_per_pixel)
    2 2 16.3 1.0
    4 4 22.5 2.0
    16 16 inf 4.0
    >>> table.write(json="rates.json", csv="rates.csv")

    What colours that pay for their bits gain, in dB, over plain k-means of the same entropy:

    >>> grey = np.random.default_rng(0).laplace(128, 20, (100, 100)).clip(0, 255).astype(np.uint8)
    >>> table = kmdask.sweep(grey, ks=(4, 8), entropy_constrained=True)
    >>> for plain, rated in zip(table.points, table.entropy_constrained):
    ...     print(plain.entries, rated.entries, round(rated.psnr - plain.psnr, 1))
    4 8 1.1
    8 11 1.3
    """
    wanted = _checked_ks(ks)
    against = check_against(against)
    _check_constrained(fixed, entropy_constrained=entropy_constrained)
    sample = _checked_sample(sample, against)
    options = Options(
        k=wanted[0],
        seed=seed,
        bands=bands,
        nodata=nodata,
        scale=scale,
        pca=pca,
        space=space,
        refine=refine,
        codec=codec,
        window=check_window(window),
        fixed=fixed,
    )
    with opened(
        [path],
        options,
        client=client,
        progress=chosen(progress),
        name="sweep",
        scratch=iter([None]),
    ) as images:
        with images.stages("count"):
            check_codable(against, images.rasters[0])
            keep = images.can_keep(options)
            n = affordable(images.rasters[0].pixels, sample) if sample else 0
            counted = count(images.rasters, options, images.run, keep=keep, sample=n)
            check_room(wanted[-1], masked=counted.masked, colors=counted.entries)
        with images.stages("fit"):
            trials = list(timed(plain_palettes(counted, wanted, options, images)))
            rates = [entropy_of(t.metrics.shares) for t, _ in trials] if entropy_constrained else []
            plain = len(trials)
            trials += timed(entropy_constrained_palettes(counted, rates, wanted, options, images))
        found = [trial for trial, _ in trials]
        asked: list[float | None] = [*[None] * plain, *rates]
        with images.stages("sample"):
            images.stages.pixels = 0
            taken = bytes_of(counted, found, asked, options, images)
            errors, rivals = _compared(counted, found, plain, against, images.run)
        seconds = [took for _, took in trials]
        points = tuple(map(partial(point_of, counted), found, seconds, asked, taken, errors))
    raster, colors = counted.rasters[0], counted.colors
    return Sweep(
        source=without_secrets(raster.source),
        shape=(*raster.shape, len(raster.bands)),
        dtype=str(raster.pixels.dtype),
        valid_pixels=colors.pixels,
        colors=len(colors),
        exact=colors.exact,
        peak=colors.high - colors.low,
        seed=options.seed,
        options={
            **options.to_dict(),
            "space": options.space,
            "window": options.window and [*options.window],
        },
        codec=options.codec,
        sample_pixels=sum(math.prod(pixels.shape[:2]) for pixels, _ in counted.sample),
        points=points[:plain],
        rivals=rivals,
        entropy_constrained=points[plain:],
    )


def _compared(
    counted: Counted,
    trials: Sequence[Trial],
    plain: int,
    against: Sequence[str],
    run: Callable[..., tuple[Any, ...]],
) -> tuple[Sequence[float | None], tuple[Rival, ...]]:
    """Errors of the palettes on the sample, and what other codecs make of it and of plain ones."""
    if not against:
        return [None] * len(trials), ()
    chunks, space = counted.sample, counted.survey.space
    peak = counted.colors.high - counted.colors.low
    errors = [measure_palette(chunks, trial.palette, space, run) for trial in trials]
    rivals = measure_rivals(chunks, against, peak, run)
    if "png" in against:
        known = zip(trials[:plain], errors[:plain], strict=True)
        palettes = [(trial.k, trial.palette, error) for trial, error in known]
        rivals += palette_pngs(chunks, palettes, space, peak, run)
    return errors, tuple(rivals)


def _checked_ks(ks: object) -> list[int]:
    """Return numbers of colours in order, each once, or raise a `ParameterError`."""
    listed = list(ks) if hasattr(ks, "__iter__") and not isinstance(ks, str) else []
    if not listed:
        raise ParameterError(f"ks are numbers of colours, at least one, as (2, 4, 8); got {ks!r}")
    return sorted({check_k(k) for k in listed})


def _check_constrained(fixed: Fixed, *, entropy_constrained: object) -> None:
    if not isinstance(entropy_constrained, bool):
        msg = f"entropy_constrained is True or False; got {entropy_constrained!r}"
        raise ParameterError(msg)
    if entropy_constrained and fixed is not None:
        msg = (
            "fixed is given, and entropy_constrained, for which entries move and starve: leave one "
            "of them out"
        )
        raise ParameterError(msg)


def _checked_sample(sample: Any, against: Sequence[str]) -> int:
    if sample is None:
        return WIDEST if against else SAMPLE
    whole = isinstance(sample, int | np.integer) and not isinstance(sample, bool)
    if not whole or sample < 0:
        msg = f"sample is a number of chunks to measure on, 0 for none; got {sample!r}"
        raise ParameterError(msg)
    if against and not sample:
        msg = f"codecs are compared on a sample, and sample=0 is none; give 1 or more, or {WIDEST}"
        raise ParameterError(msg)
    return int(sample)
