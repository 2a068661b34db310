"""One row of the rate-distortion table of an image."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Point:
    """What one number of colours costs and gives."""

    k: int
    """Colours asked for."""

    entries: int
    """Colours found: fewer than `k` where the image has fewer, where centres round to the same
    one, or where the palette before is better."""

    mse: float
    """Mean squared error over valid pixels and bands, in squared units of the image."""

    psnr: float
    """Peak signal-to-noise ratio in dB; infinite where the image is exact."""

    bits_per_pixel: float
    """Entropy of the indices in bits per pixel, that of missing pixels among them."""

    index_bytes: int
    """Bytes of the indices in a code of this entropy, that takes each by itself. What is stored is
    mostly less, as neighbours are alike."""

    stored_bytes: int | None = None
    """Bytes of ``image.zarr``, estimated from the sampled chunks, exact if these are all; None
    without a sample."""

    stored_error: int | None = None
    """Standard error of this estimate; 0 where it is exact."""

    sample_bytes: int | None = None
    """Bytes that the indices of the sampled chunks take as they are stored, measured."""

    seconds: float = field(default=0.0, compare=False)
    """Wall time of the fit; no part of comparisons."""

    sample_mse: float | None = None
    """Mean squared error on the sampled chunks alone; None without other codecs."""

    delta_e: float | None = None
    """Mean ΔEOK, how large the error looks, of three bands of 8 bits; else None. See `Metrics`."""

    target_bpp: float | None = None
    """The entropy asked for, in bits for each valid pixel, if the palette is entropy-constrained;
    None of plain k-means. `k` is then what the fit began with."""
