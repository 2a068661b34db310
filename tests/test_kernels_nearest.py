"""The kernels for pixels of any kind against trying every centre on every pixel."""

from __future__ import annotations

from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdask.kernels import search as prepared
from kmdask.kernels import strips
from kmdask.kernels.nearest import moments_of_pixels, nearest_pixels, search_of

NO_MASK = np.empty((0, 0), np.uint8)
NO_PROJECT = np.empty((0, 0))
KINDS = [
    ("u1", "interleaved"),
    ("u2", "planar"),
    ("i2", "backwards"),
    ("f4", "planar"),
    ("f8", "fortran"),
]
"""Of pixels: each is compiled, which takes seconds, but for the types that are converted."""
VALUES = [1, 1 << 17]
"""Of a strip that is converted: eight rows, and all there are."""


class Case(NamedTuple):
    pixels: np.ndarray
    mask: np.ndarray
    project: np.ndarray
    scale: np.ndarray
    centers: np.ndarray


def features(case):
    values = case.pixels.astype(np.float64)
    if not case.project.size:
        return case.scale * values
    total = np.zeros((*values.shape[:2], case.project.shape[1]))
    for band in range(values.shape[2]):
        total += values[:, :, band, np.newaxis] * case.project[band]
    return total


def brute_force(case):
    """Labels and squared distances, adding up the features in the order of the kernels."""
    with np.errstate(over="ignore", under="ignore"):
        X = features(case)
        total = np.zeros((*X.shape[:2], len(case.centers)))
        for j in range(X.shape[2]):
            total += (X[:, :, j, np.newaxis] - case.centers[:, j]) ** 2
    return total.argmin(axis=2), total.min(axis=2)


def is_valid(case):
    return case.mask != 0 if case.mask.size else np.ones(case.pixels.shape[:2], bool)


def nearest(case, search, dtype=np.uint16):
    indices = np.full(case.pixels.shape[:2], 77, dtype)
    nodata = np.iinfo(dtype).max
    pixels, mask, project, scale, _ = case
    nearest_pixels(pixels, mask, project, scale, search, nodata, indices)
    return indices


def expected_indices(case, dtype=np.uint16):
    return np.where(is_valid(case), brute_force(case)[0], np.iinfo(dtype).max).astype(dtype)


def laid_out(values, layout):
    """The same (y, x, band) values with other strides."""
    if layout == "planar":
        return np.moveaxis(np.moveaxis(values, 2, 0).copy(), 0, 2)
    if layout == "backwards":
        return values[::-1, ::-1, ::-1].copy()[::-1, ::-1, ::-1]
    if layout == "window":
        wide = np.zeros(
            (values.shape[0] + 3, values.shape[1] * 2, values.shape[2] + 1), values.dtype
        )
        view = wide[2:-1, ::2, 1:]
        view[:] = values
        return view
    if layout == "fortran":
        return np.asfortranarray(values)
    if layout == "readonly":
        values = values.copy()
        values.flags.writeable = False
    return values


@st.composite
def cases(draw):
    """Images, noisy or smooth or full of ties, with centres near the pixels or far away."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    rows, columns = draw(st.integers(1, 20)), draw(st.integers(1, 40))
    bands, k = draw(st.integers(1, 33)), draw(st.integers(1, 300))
    name, layout = draw(st.sampled_from(KINDS))
    dtype = np.dtype(name)
    kind = draw(st.sampled_from(["noise", "smooth", "grid", "same", "huge", "tiny"]))
    values = rng.normal(size=(rows, columns, bands))
    if kind in {"smooth", "huge", "tiny"}:
        values = 0.1 * values + np.linspace(-1, 1, columns)[:, None] + rng.normal(size=bands)
    elif kind == "grid":
        values = rng.integers(-1, 2, values.shape).astype(float)
    elif kind == "same":
        values[:] = values[0, 0]
    if dtype.kind == "f":
        powers = {"huge": {4: 38, 8: 300}, "tiny": {4: -44, 8: -320}}
        # Squares of such numbers overflow and vanish: all or most centres are tied.
        exponent = powers.get(kind, {4: 0, 8: 0})[dtype.itemsize]
        exponent = draw(st.sampled_from([0, exponent // 2, exponent]))
        pixels = (
            np.clip(values * 10.0**exponent, -1e38, 1e38)
            if dtype.itemsize == 4
            else (values * 10.0**exponent)
        )
        pixels = pixels.astype(dtype)
    else:
        limits = np.iinfo(dtype)
        size = 40.0 if kind != "huge" else limits.max / 4
        middle = 0 if dtype.kind == "i" else min(100, limits.max // 2)
        pixels = np.clip(np.rint(values * size + middle), limits.min, limits.max * 0.99).astype(
            dtype
        )
    project, scale = NO_PROJECT, np.ones(bands)
    if draw(st.booleans()):
        scale = rng.uniform(0.01, 3, bands)
    if kind != "huge" and draw(st.booleans()):
        project = rng.normal(size=(bands, draw(st.integers(1, 7))))
    mask = NO_MASK
    if draw(st.booleans()):
        mask = (rng.random((rows, columns)) < draw(st.sampled_from([0.0, 0.5, 0.95]))) * np.uint8(
            255
        )
    pixels = laid_out(pixels, layout)
    case = Case(pixels, mask, project, scale, np.empty((0, 0)))
    X = features(case).reshape(rows * columns, -1)
    centers = X[rng.integers(len(X), size=k)]
    if kind != "grid":
        centers = (
            centers
            + rng.normal(size=centers.shape) * draw(st.sampled_from([0, 1])) * np.abs(X).max() / 3
        )
    centers[: k // 3] = centers[k - k // 3 :]
    if dtype.kind == "f" and mask.size:
        pixels = pixels.copy()
        pixels[mask == 0] = np.nan
        pixels = laid_out(pixels, layout)
    return case._replace(pixels=pixels, centers=centers)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid:RuntimeWarning")
@settings(max_examples=60, deadline=None)
@given(cases(), st.booleans(), st.sampled_from(VALUES))
def test_every_pixel_gets_its_nearest_centre(case, grouped, values):
    with mock.patch.object(prepared, "UNGROUPED", 0 if grouped else 512):
        search = search_of(case.centers)
    with mock.patch.object(strips, "VALUES", values):
        np.testing.assert_array_equal(nearest(case, search), expected_indices(case))


@settings(max_examples=60, deadline=None)
@given(
    cases(),
    st.sampled_from([1.0, 0.125, 3.0]),
    st.sampled_from([2.0**40, 50.0]),
    st.booleans(),
    st.sampled_from(VALUES),
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid:RuntimeWarning")
def test_moments_are_exact(case, quantum, limit, grouped, values):
    k, bands = len(case.centers), case.pixels.shape[2]
    with mock.patch.object(prepared, "UNGROUPED", 0 if grouped else 512):
        search = search_of(case.centers)
    offset = np.linspace(-5, 5, bands)
    sums, counts = np.full((k, bands), 3), np.full(k, 4)
    pixels, mask, project, scale, _ = case
    given = pixels, mask, project, scale, search, offset, np.full(bands, quantum), limit
    with mock.patch.object(strips, "VALUES", values):
        total = moments_of_pixels(*given, sums, counts)
    labels, squared = brute_force(case)
    valid = is_valid(case)
    whole = np.rint((pixels[valid].astype(np.float64) - offset) / quantum)
    expected = np.full((k, bands), 3)
    np.add.at(expected, labels[valid], np.clip(whole, -limit, limit).astype(np.int64))
    np.testing.assert_array_equal(sums, expected)
    np.testing.assert_array_equal(counts, 4 + np.bincount(labels[valid], minlength=k))
    np.testing.assert_allclose(total, squared[valid].sum(), rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(cases(), st.data())
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid:RuntimeWarning")
def test_a_part_of_an_image_is_labelled_like_the_whole(case, data):
    rows, columns = case.pixels.shape[:2]
    y, x = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    part = case._replace(pixels=case.pixels[y:, x:], mask=case.mask[y:, x:])
    search = search_of(case.centers)
    np.testing.assert_array_equal(nearest(part, search), nearest(case, search)[y:, x:])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_indices_of_both_widths_and_nodata(dtype):
    pixels = np.array([[[0], [100], [40], [60]]], np.int16)
    case = Case(
        pixels,
        np.array([[1, 1, 0, 7]], np.uint8),
        NO_PROJECT,
        np.ones(1),
        np.array([[0.0], [99.0]]),
    )
    indices = nearest(case, search_of(case.centers), dtype)
    assert indices.tolist() == [[0, 1, np.iinfo(dtype).max, 1]]


def test_an_image_without_pixels():
    search = search_of(np.zeros((2, 3)))
    indices = np.empty((0, 5), np.uint8)
    nearest_pixels(np.empty((0, 5, 3)), NO_MASK, NO_PROJECT, np.ones(3), search, 2, indices)


@pytest.mark.parametrize("kind", ["scattered", "ties", "same"])
def test_as_many_centres_as_there_can_be(kind):
    rng = np.random.default_rng(3)
    centers = rng.integers(0, 1 << 16, (65_536, 4)).astype(np.float64)
    pixels = rng.integers(0, 1 << 16, (9, 15, 4)).astype(np.uint16)
    if kind == "ties":
        centers, pixels = np.floor(centers / 8192), pixels // 8192
    elif kind == "same":
        centers[:] = 7
    case = Case(pixels, NO_MASK, NO_PROJECT, np.ones(4), centers)
    np.testing.assert_array_equal(nearest(case, search_of(centers)), expected_indices(case))


def test_threads_share_a_search_that_cannot_be_written_to():
    rng = np.random.default_rng(4)
    case = Case(rng.random((16, 16, 5)), NO_MASK, NO_PROJECT, np.ones(5), rng.random((20, 5)))
    search = search_of(case.centers)
    for part in search:
        part.flags.writeable = False
    np.testing.assert_array_equal(nearest(case, search), expected_indices(case))
