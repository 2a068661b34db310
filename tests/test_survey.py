"""Where distances are measured, and how colours are taken."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from kmdask import ParameterError, count_colors, encode, fit_palette
from kmdask.fitting.cells import CellCounter
from kmdask.fitting.colors import ColorCounter
from kmdask.fitting.look import Look
from kmdask.fitting.space import LinearSpace, project
from kmdask.fitting.survey import principal_axes, survey


@pytest.fixture(scope="module")
def pixels(scene):
    """Four correlated bands of uint16, the last one ten times as bright."""
    values = scene(60, 70, 4).astype(np.float64)
    mixed = values @ np.array([[9, 5, 3, 20], [1, 7, 2, 10], [0, 1, 4, 50], [2, 0, 0, 10]])
    return mixed.astype(np.uint16)


@pytest.fixture(scope="module")
def lazy(pixels):
    return da.from_array(pixels, chunks=(23, 70, -1))


def mse(pixels, palette, space=None):
    indices = encode(da.from_array(pixels), palette, space=space).compute()
    return ((palette.colors[indices].astype(float) - pixels) ** 2).mean()


# The space


def test_a_space_is_a_linear_map():
    rng = np.random.default_rng(0)
    values, components = rng.normal(size=(50, 4)), rng.normal(size=(2, 4))
    scale = np.array([1.0, 0.5, 2.0, 3.0])
    space = LinearSpace(tuple(scale.tolist()), tuple(map(tuple, components.tolist())))
    np.testing.assert_allclose(space.project(values), (values * scale) @ components.T)
    np.testing.assert_allclose(space.matrix, np.diag(scale) @ components.T)
    assert len(space) == 2
    plain = LinearSpace(tuple(scale.tolist()))
    np.testing.assert_array_equal(plain.project(values), values * scale)
    assert len(plain) == 4
    rows = da.from_array(values, chunks=(13, 4))
    for each in (space, plain):
        features = project(rows, each)
        assert features.shape == (50, len(each))
        np.testing.assert_array_equal(features.compute(), each.project(values))
    assert project(rows, None) is rows


def test_by_default_bands_are_as_they_are(lazy):
    assert survey(lazy).space is None
    assert isinstance(survey(lazy).counter, CellCounter)


@pytest.mark.parametrize("scale", [[1, 2, 0.5, 3], (1, 2, 0.5, 3), np.array([1, 2, 0.5, 3])])
def test_factors(lazy, scale):
    assert survey(lazy, scale=scale).space == LinearSpace((1.0, 2.0, 0.5, 3.0))


def test_reciprocal_deviations(pixels, lazy):
    space = survey(lazy, scale="std").space
    np.testing.assert_allclose(space.scale, 1 / pixels.reshape(-1, 4).std(axis=0), rtol=1e-12)
    assert space.components == ()


def test_a_constant_band_has_no_deviation(pixels):
    flat = pixels.copy()
    flat[:, :, 2] = 9
    space = survey(da.from_array(flat), scale="std").space
    assert np.isfinite(space.scale).all()
    assert space.scale[2] == 1


@pytest.mark.parametrize("n", [1, 3, 4])
@pytest.mark.parametrize("scale", [None, "std", [1, 2, 3, 0.1]])
def test_principal_components(pixels, lazy, n, scale):
    flat = pixels.reshape(-1, 4).astype(np.float64)
    space = survey(lazy, scale=scale, pca=n).space
    factors = 1 / flat.std(axis=0) if scale == "std" else np.array(scale or [1.0] * 4)
    _, axes = np.linalg.eigh(np.cov((flat * factors).T))
    components = np.array(space.components)
    assert components.shape == (n, 4)
    np.testing.assert_allclose(space.scale, factors, rtol=1e-12)
    np.testing.assert_allclose(np.abs(components @ axes[:, ::-1][:, :n]), np.eye(n), atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_axes_of_hardly_any_pixels(n):
    for values in (np.ones((1, 5)), np.ones((50, 5))):
        look = Look(values, da.from_array(values))
        np.testing.assert_array_equal(principal_axes(look, None, n), np.eye(5)[:n])


def test_few_bands_of_8_bits_are_counted(scene):
    image = da.from_array(scene(20, 30))
    assert isinstance(survey(image).counter, ColorCounter)
    assert survey(image).units is None
    weighted = survey(image, scale=[1, 1, 2])
    assert isinstance(weighted.counter, ColorCounter)
    assert weighted.space == LinearSpace((1.0, 1.0, 2.0))
    deviations = survey(image, scale="std", pca=2)
    assert isinstance(deviations.counter, ColorCounter)
    assert len(deviations.space) == 2


@pytest.mark.parametrize(
    "scale",
    [
        "var",
        3,
        [1, 1, 1],
        [1, 1, 1, 0],
        [1, 1, 1, -1],
        [1, 1, 1, np.nan],
        [1, 1, 1, np.inf],
        [1, 1, 1, "1"],
        [1, 1, 1, 1j],
        [1, 1, 1, np.complex64(1)],
        {1, 2, 3, 4},
        np.ones((4, 1)),
        (),
    ],
    ids=repr,
)
def test_what_is_no_scale(lazy, scale):
    with pytest.raises(ParameterError, match=r"scale is 'std' or positive numbers.*4 bands; got"):
        survey(lazy, scale=scale)


@pytest.mark.parametrize("pca", [0, -1, 5, 2.0, "2", True, [2], np.float64(2)], ids=repr)
def test_what_is_no_number_of_components(lazy, pca):
    with pytest.raises(ParameterError, match=r"pca is a number of components from 1 .*4.*; got"):
        survey(lazy, pca=pca)


# What comes of it


@pytest.mark.parametrize("kind", ["uint16", "uint8"])
def test_equal_weights_change_nothing(pixels, kind):
    image = pixels if kind == "uint16" else (pixels[:, :, :3] % 64).astype(np.uint8)
    lazy = da.from_array(image, chunks=(23, 70, -1))
    bands = image.shape[2]
    palettes = []
    for scale in (None, (1.0,) * bands):
        plan = survey(lazy, scale=scale)
        colors = count_colors(lazy, space=plan.space)
        palettes.append(fit_palette(colors, 9, pixels=lazy, space=plan.space))
    assert palettes[0] == palettes[1]


@pytest.mark.parametrize("options", [{"scale": "std"}, {"scale": [1, 1, 1, 0.01]}, {"pca": 2}])
def test_palettes_are_in_the_units_of_the_bands(pixels, lazy, options):
    space = survey(lazy, **options).space
    colors = count_colors(lazy, space=space)
    palette = fit_palette(colors, 9, pixels=lazy, space=space)
    assert palette.colors.dtype == np.uint16
    assert palette.colors.shape == (9, 4)
    # A fixed point of Lloyd's algorithm in the space, nearly: entries are means of their pixels.
    flat = pixels.reshape(-1, 4).astype(np.float64)
    labels = encode(lazy, palette, space=space).compute().ravel()
    for label, entry in enumerate(palette.colors.astype(float)):
        spread = np.ptp(flat, axis=0)
        assert (np.abs(flat[labels == label].mean(axis=0) - entry) < 0.02 * spread + 0.5).all()
    # Measured where it was fitted, it is better than the one that was fitted elsewhere.
    other = fit_palette(count_colors(lazy), 9, pixels=lazy)
    features = space.project(flat)

    def error(palette):
        entries = space.project(palette.colors.astype(float))
        return ((features[:, None] - entries) ** 2).sum(axis=2).min(axis=1).mean()

    # (The two longest axes of this image hold nearly all there is.)
    assert error(palette) < (1.001 if "pca" in options else 1) * error(other)
    assert mse(pixels, other) < 1.001 * mse(pixels, palette, space)


def test_all_components_are_nearly_the_bands(pixels, lazy):
    space = survey(lazy, pca=4).space
    palette = fit_palette(count_colors(lazy, space=space), 9, pixels=lazy, space=space)
    plain = fit_palette(count_colors(lazy), 9, pixels=lazy)
    assert mse(pixels, palette, space) == pytest.approx(mse(pixels, plain), rel=0.01)
