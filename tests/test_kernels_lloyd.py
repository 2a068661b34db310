"""The pruned kernels against trying every centre on every row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdask.kernels import lloyd as kernels
from kmdask.kernels import plus_plus as seeding
from kmdask.kernels.views import frozen


def squared_distances(X, centers):
    """All of them, adding up the features in the order of the kernels."""
    total = np.zeros((len(X), len(centers)))
    for j in range(X.shape[1]):
        total += (X[:, j, np.newaxis].astype(np.float64) - centers[:, j]) ** 2
    return total


def along_a_line(X):
    return X[np.lexsort(X.T)]


@st.composite
def clouds(draw):
    """Rows and centres: scattered, sorted, on a grid full of ties, or all alike."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    n, d, k = draw(st.integers(1, 700)), draw(st.integers(1, 12)), draw(st.integers(1, 40))
    kind = draw(st.sampled_from(["scattered", "sorted", "grid", "same", "far"]))
    X = rng.normal(size=(n, d))
    centers = rng.normal(size=(k, d))
    if kind == "sorted":
        X = along_a_line(X)
    elif kind == "grid":
        X, centers = along_a_line(np.round(X)), np.round(centers * 2) / 2
    elif kind == "same":
        X[:], centers[:] = X[0], centers[0]
    elif kind == "far":
        X, centers = along_a_line(X) * 1e6 + 1e9, centers * 1e6 + 1e9
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return frozen(X, dtype), centers, rng


@settings(max_examples=150, deadline=None)
@given(clouds())
def test_labels_and_distances_are_those_of_trying_every_centre(cloud):
    X, centers, _ = cloud
    expected = squared_distances(X, centers)
    labels, squared = kernels.nearest(X, centers)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, expected.argmin(axis=1))
    np.testing.assert_array_equal(squared, expected.min(axis=1))


@settings(max_examples=100, deadline=None)
@given(clouds(), st.sampled_from(["each", "one", "some zero"]))
def test_step_sums_up_the_rows_of_each_centre(cloud, kind):
    X, centers, rng = cloud
    weights = rng.random(1 if kind == "one" else len(X))
    if kind == "some zero":
        weights[::2] = 0
    sums, totals, inertia = kernels.lloyd_step(X, frozen(weights), centers)
    expected = squared_distances(X, centers)
    own = np.eye(len(centers))[expected.argmin(axis=1)] * np.broadcast_to(weights, len(X))[:, None]
    np.testing.assert_allclose(totals, own.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(sums, own.T @ X.astype(np.float64), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(inertia, (own * expected).sum(), rtol=1e-12)


def test_no_rows_give_nothing():
    X, one, centers = frozen(np.empty((0, 3))), frozen(np.ones(1)), np.zeros((2, 3))
    labels, squared = kernels.nearest(X, centers)
    assert labels.shape == squared.shape == (0,)
    sums, totals, inertia = kernels.lloyd_step(X, one, centers)
    assert not sums.any()
    assert not totals.any()
    assert inertia == 0


@settings(max_examples=60, deadline=None)
@given(clouds(), st.booleans())
def test_cover_is_the_distance_to_the_nearest_chosen_centre(cloud, weighted):
    X, centers, rng = cloud
    weights = rng.random(len(X)) if weighted else np.ones(1)
    cover = seeding.uncovered(X)
    for part in (centers[:1], centers[1:]):
        if len(part):
            seeding.extend(cover, X, frozen(weights), part.copy())
    closest = squared_distances(X, centers).min(axis=1)
    np.testing.assert_array_equal(cover.closest, closest)
    np.testing.assert_allclose(cover.potential.sum(), (weights * closest).sum(), rtol=1e-12)
    candidates = X[rng.integers(len(X), size=3)].astype(np.float64)
    better = np.minimum(closest[:, np.newaxis], squared_distances(X, candidates))
    expected = (np.broadcast_to(weights, len(X))[:, np.newaxis] * better).sum(axis=0)
    potentials = seeding.trial(cover, X, frozen(weights), candidates)
    np.testing.assert_allclose(potentials, expected, rtol=1e-12)


def greedy_plus_plus(X, weights, uniforms):
    """The definition, row by row."""

    def pick(masses, target):
        running = np.cumsum(masses)
        return min(np.searchsorted(running, target, side="right"), np.flatnonzero(masses)[-1])

    chosen = [pick(weights, uniforms[0, 0] * weights.sum())]
    for trials in uniforms[1:]:
        closest = squared_distances(X, X[chosen]).min(axis=1)
        masses = weights * closest
        if masses.sum() == 0:
            break
        rows = [pick(masses, u * masses.sum()) for u in trials]
        left = [(weights * np.minimum(closest, squared_distances(X, X[[r]])[:, 0])) for r in rows]
        chosen.append(rows[int(np.argmin([mass.sum() for mass in left]))])
    return np.array(chosen)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("order", [np.asarray, along_a_line])
def test_plus_plus_chooses_as_defined(seed, order):
    rng = np.random.default_rng(seed)
    X = order(rng.normal(size=(500, 3)))
    weights = rng.random(500) * (rng.random(500) < 0.8)
    uniforms = rng.random((20, 4))
    chosen = seeding.plus_plus(frozen(X), frozen(weights), uniforms)
    np.testing.assert_array_equal(chosen, greedy_plus_plus(X, weights, uniforms))
    assert (weights[chosen] > 0).all()


def test_plus_plus_finds_all_different_rows_and_stops():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 2, (1000, 3)).astype(np.float64)
    chosen = seeding.plus_plus(frozen(X), frozen(np.ones(1000)), rng.random((50, 4)))
    assert sorted(map(tuple, X[chosen])) == sorted(set(map(tuple, X)))


def test_draws_are_as_frequent_as_weight_times_squared_distance():
    X = frozen(np.arange(300.0)[:, np.newaxis])
    weights = np.zeros(300)
    weights[[0, 1, 2, 150, 299]] = 9, 4, 1, 0, 0
    weights[200] = 3e-4
    cover = seeding.uncovered(X)
    seeding.extend(cover, X, frozen(weights), np.zeros((1, 1)))
    targets = (np.arange(1000) + 0.5) / 1000 * cover.potential.sum()
    drawn = [seeding.draw(cover, frozen(weights), target) for target in targets]
    masses = weights * X[:, 0] ** 2
    expected = np.rint(1000 * masses / masses.sum())
    np.testing.assert_allclose(np.bincount(drawn, minlength=300), expected, atol=1)
