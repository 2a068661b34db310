"""Halving against exact fractions, packing against a bit packer of NumPy's."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kmdask.kernels import tiles as kernels
from kmdask.kernels.views import frozen
from kmdask.pixels import ALL_VALID
from kmdask.writing.levels import SUMS

SHAPES = [(1, 1), (1, 2), (2, 1), (1, 9), (9, 1), (2, 2), (4, 6), (5, 4), (4, 5), (7, 9)]


AT = 2, 3
"""Where halves begin in what they are written to."""


def inside(shape, dtype):
    """An array, and the part of it that is to be filled in."""
    out = np.full((*shape[2:], (shape[0] + 1) // 2 + 4, (shape[1] + 1) // 2 + 4), 77, dtype)
    part = np.zeros(out.shape, bool)
    part[..., AT[0] : -2, AT[1] : -1] = True
    return out, part


def part_of(out, part):
    """What was filled in; nothing else was."""
    assert (out[~part] == 77).all()
    return out[..., AT[0] : -2, AT[1] : -1]


def halve(pixels, mask):
    out, part = inside(pixels.shape, pixels.dtype)
    kernels.halve(pixels, mask, SUMS[pixels.dtype.itemsize](0), out, AT)
    return part_of(out, part)


def halved(pixels, valid):
    """The exact mean of every square, halves rounded to even; (band, y, x)."""
    height, width, bands = pixels.shape
    out = np.zeros((bands, -(-height // 2), -(-width // 2)), pixels.dtype)
    for band, y, x in np.ndindex(out.shape):
        square = slice(2 * y, 2 * y + 2), slice(2 * x, 2 * x + 2)
        values = pixels[(*square, band)][valid[square]].tolist()
        if values:
            out[band, y, x] = round(Fraction(sum(values), len(values)))
    return out


@given(data=st.data(), shape=st.sampled_from(SHAPES), bands=st.sampled_from([1, 3]))
def test_halve_equals_exact_means(data, shape, bands):
    # Few values, so that means of exactly one half are common.
    values = st.sampled_from([0, 1, 2, 3, 4, 127, 128, 254, 255])
    pixels = data.draw(arrays(np.uint8, (*shape, bands), elements=values))
    mask = data.draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 255])))
    everything = np.ones(shape, bool)
    np.testing.assert_array_equal(halve(pixels, ALL_VALID), halved(pixels, everything))
    np.testing.assert_array_equal(halve(pixels, frozen(mask)), halved(pixels, mask != 0))
    np.testing.assert_array_equal(
        halve(pixels, frozen(np.ones(shape, np.uint8))), halved(pixels, everything)
    )


DTYPES = [np.int8, np.uint16, np.int16, np.uint32, np.int32]


@given(data=st.data(), shape=st.sampled_from(SHAPES), dtype=st.sampled_from(DTYPES))
def test_halve_of_other_integers(data, shape, dtype):
    limits = np.iinfo(dtype)
    near = [0, 1, 2, 3, *([-1, -2, -3] if limits.min else [])]
    values = st.sampled_from([*near, limits.min, limits.min + 1, limits.max - 1, limits.max])
    pixels = data.draw(arrays(dtype, (*shape, 2), elements=values))
    mask = data.draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 1, 255])))
    np.testing.assert_array_equal(halve(pixels, ALL_VALID), halved(pixels, np.ones(shape, bool)))
    np.testing.assert_array_equal(halve(pixels, frozen(mask)), halved(pixels, mask != 0))


@given(
    data=st.data(), shape=st.sampled_from(SHAPES), dtype=st.sampled_from([np.float32, np.float64])
)
def test_halve_of_reals(data, shape, dtype):
    numbers = st.sampled_from([0.0, 0.1, -0.1, 1 / 3, -7.25, 1e30, -1e-30, float("nan")])
    pixels = data.draw(arrays(dtype, (*shape, 2), elements=numbers))
    valid = np.isfinite(pixels).all(axis=2)
    valid &= data.draw(arrays(bool, shape))
    out, part = inside(pixels.shape, dtype)
    kernels.halve_reals(pixels, frozen(valid, np.uint8), out, AT)
    out = part_of(out, part)
    for band, y, x in np.ndindex(out.shape):
        square = slice(2 * y, 2 * y + 2), slice(2 * x, 2 * x + 2)
        values = [Fraction(value) for value in pixels[(*square, band)][valid[square]].tolist()]
        scale = max(map(abs, values), default=0)
        # A mean of few values: off by a few last places of the largest at most.
        mean = sum(values) / max(len(values), 1)
        assert abs(Fraction(float(out[band, y, x])) - mean) <= scale * np.finfo(dtype).eps


def test_halve_of_every_sum_of_four():
    total = np.arange(1021)
    parts = [np.clip(total - 255 * i, 0, 255) for i in range(4)]
    pixels = np.stack([np.stack(parts[:2], -1).ravel(), np.stack(parts[2:], -1).ravel()])
    out = halve(pixels[:, :, None].astype(np.uint8), ALL_VALID)
    np.testing.assert_array_equal(out[0, 0], np.rint(total / 4))


@pytest.mark.parametrize("shape", [(64, 64), (63, 65), (1, 65), (63, 1)])
def test_halve_of_planar_views(scene, shape):
    pixels = scene(*shape)
    planar = np.moveaxis(np.ascontiguousarray(np.moveaxis(pixels, 2, 0)), 0, 2)
    expected = halved(pixels, np.ones(shape, bool))
    np.testing.assert_array_equal(halve(planar, ALL_VALID), expected)
    np.testing.assert_array_equal(halve(pixels[::-1, ::-1].copy()[::-1, ::-1], ALL_VALID), expected)


@given(
    st.sampled_from(SHAPES).flatmap(
        lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 0, 0, 1, 255]))
    )
)
def test_halve_mask(mask):
    height, width = mask.shape
    padded = np.pad(mask != 0, [(0, height % 2), (0, width % 2)])
    valid = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2).any(axis=(1, 3))
    out, part = inside(mask.shape, np.uint8)
    kernels.halve_mask(mask, out, AT)
    np.testing.assert_array_equal(part_of(out, part), np.where(valid, 255, 0))


@given(
    data=st.data(),
    bits=st.sampled_from([1, 2, 4, 8]),
    height=st.integers(1, 3),
    width=st.integers(1, 19),
)
def test_pack_rows(data, bits, height, width):
    indices = data.draw(arrays(np.uint8, (height, width), elements=st.integers(0, 2**bits - 1)))
    single = indices[:, :, None] >> np.arange(bits - 1, -1, -1, dtype=np.uint8) & 1
    expected = np.packbits(single.reshape(height, width * bits), axis=1)
    expected = np.pad(expected, [(0, 0), (1, 0)])
    np.testing.assert_array_equal(kernels.pack_rows(indices, bits), expected)
    inside = np.pad(indices, 1, constant_values=255)[1:-1, 1:-1]
    np.testing.assert_array_equal(kernels.pack_rows(inside, bits), expected)
