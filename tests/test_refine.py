"""Steps over all pixels against Lloyd's algorithm by brute force in float64."""

from __future__ import annotations

from itertools import pairwise

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdask import ParameterError, count_colors, fit_palette
from kmdask.fitting import refine
from kmdask.fitting.fit import fit_centers
from kmdask.fitting.refine import check_refine, refine_centers
from kmdask.fitting.space import LinearSpace

chunks = st.lists(st.integers(1, 19), min_size=1, max_size=3).map(tuple)
SPACES = {
    "bands": None,
    "scaled": LinearSpace((1.0, 0.25, 3.0, 2.0)),
    "projected": LinearSpace((1.0, 0.5, 1.0, 1.0), ((0.5, 0.5, 0.5, 0.5), (0.7, -0.1, 0.0, -0.7))),
}


@pytest.fixture(scope="module")
def image(scene):
    def make(dtype, height=40, width=50, seed=0):
        values = scene(height, width, 4, seed).astype(np.float64) * [3, 40, 7, 1]
        return (values - 500 if np.dtype(dtype).kind in "if" else values).astype(dtype)

    return make


def lloyd(pixels, valid, centers, space, steps):
    """Exactly Lloyd's algorithm; also the error in the space before each step."""
    values = pixels[valid].astype(np.float64)
    errors = []
    for _ in range(steps):
        features = values if space is None else values @ space.matrix
        there = centers if space is None else centers @ space.matrix
        squared = ((features[:, None] - there) ** 2).sum(axis=2)
        labels = squared.argmin(axis=1)
        errors.append(squared.min(axis=1).sum())
        centers = np.array(
            [
                values[labels == i].mean(axis=0) if (labels == i).any() else center
                for i, center in enumerate(centers)
            ]
        )
    return centers, errors


def start(pixels, k=8):
    flat = pixels.reshape(-1, pixels.shape[2])
    flat = flat[np.isfinite(flat).all(axis=1)]
    return flat[np.random.default_rng(1).permutation(len(flat))[:k]].astype(np.float64) + 0.25


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_step_is_a_step_of_lloyd(image, holes, dtype, space, steps, masked):
    pixels, space = image(dtype), SPACES[space]
    valid = holes(40, 50) if masked else np.ones((40, 50), bool)
    if dtype == "float32":
        pixels[~valid] = np.nan
    mask = da.from_array(valid, chunks=(17, 50)) if masked else None
    centers = start(pixels)
    centers[-1] = 1e6  # gets no pixel, and stays
    lazy = da.from_array(pixels, chunks=(17, 50, -1))
    found = refine_centers(lazy, mask, centers, space=space, steps=steps)
    expected, _ = lloyd(pixels, valid, centers, space, steps)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert found[-1].tolist() == [1e6] * 4
    assert centers[-1].tolist() == [1e6] * 4
    assert found is not centers


def test_no_step_changes_nothing(image):
    pixels = image("uint16")
    centers = start(pixels)
    found = refine_centers(da.from_array(pixels), None, centers, steps=0)
    np.testing.assert_array_equal(found, centers)


def test_going_on_until_it_converges(image):
    pixels = image("uint16")
    valid = np.ones(pixels.shape[:2], bool)
    centers = start(pixels)
    found = refine_centers(
        da.from_array(pixels, chunks=(9, 50, -1)), None, centers, steps="converge"
    )
    _, errors = lloyd(pixels, valid, centers, None, 60)
    gains = -np.diff(errors) / errors[:-1]
    # It stops after the first step that starts from where the last one gained too little.
    steps = int(np.flatnonzero(gains <= refine.TOL)[0]) + 2
    assert 3 < steps < 60
    np.testing.assert_allclose(found, lloyd(pixels, valid, centers, None, steps)[0], rtol=1e-9)


def test_it_ends_even_if_it_does_not_converge(monkeypatch, image):
    monkeypatch.setattr(refine, "TOL", -1)
    monkeypatch.setattr(refine, "MOST_STEPS", 4)
    pixels = image("uint16")
    centers, passes = start(pixels), []

    def run(*collections):
        passes.append(1)
        return dask.persist(*collections)

    found = refine_centers(da.from_array(pixels), None, centers, steps="converge", run=run)
    assert len(passes) == 4
    expected, _ = lloyd(pixels, np.ones(pixels.shape[:2], bool), centers, None, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@settings(max_examples=8)
@given(
    rows=chunks,
    columns=chunks,
    dtype=st.sampled_from(["uint16", "float32"]),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_steps_do_not_depend_on_chunks(image, holes, rows, columns, dtype, masked, seed):
    shape = sum(rows), sum(columns)
    pixels, valid = image(dtype, *shape, seed), holes(*shape, seed)
    valid[-1, -1] = True
    centers = start(pixels, 3)
    results = [
        refine_centers(
            da.from_array(pixels, chunks=(*cut, -1)),
            da.from_array(valid, chunks=cut) if masked else None,
            centers,
        )
        for cut in [(rows, columns), (-1, -1)]
    ]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("k", [1, 5, 30])
def test_steps_never_make_it_worse(image, dtype, k):
    pixels = image(dtype)
    lazy = da.from_array(pixels, chunks=(17, 50, -1))
    centers = fit_centers(count_colors(lazy), k)
    flat = pixels.reshape(-1, 4).astype(np.float64)
    errors = []
    for steps in (0, 1, 2, "converge"):
        found = refine_centers(lazy, None, centers, steps=steps)
        errors.append(((flat[:, None] - found) ** 2).sum(axis=2).min(axis=1).sum())
    assert all(later <= sooner * (1 + 1e-12) for sooner, later in pairwise(errors))


def test_counted_colours_are_not_refined(scene):
    lazy = da.from_array(scene(20, 30), chunks=(7, 30, -1))
    colors = count_colors(lazy)
    palettes = [fit_palette(colors, 5, pixels=lazy, refine=steps) for steps in (0, 3, "converge")]
    assert palettes[0] == palettes[1] == palettes[2]


def test_cells_are_refined(image):
    lazy = da.from_array(image("uint16"), chunks=(17, 50, -1))
    colors = count_colors(lazy)
    fitted = [fit_palette(colors, 5, pixels=lazy, refine=steps).colors.tolist() for steps in (0, 4)]
    centers = refine_centers(lazy, None, fit_centers(colors, 5), steps=4)
    assert sorted(fitted[1]) == sorted(np.rint(centers).astype(int).tolist())


@pytest.mark.parametrize("steps", [0, 7, np.int64(3), "converge"])
def test_numbers_of_steps(steps):
    assert check_refine(steps) == steps
    assert type(check_refine(steps)) in {int, str}


@pytest.mark.parametrize("steps", [-1, 1.0, True, None, "2", "once", [2]], ids=repr)
def test_what_is_no_number_of_steps(steps):
    with pytest.raises(ParameterError, match=r"0 or more, or 'converge'; got"):
        check_refine(steps)
