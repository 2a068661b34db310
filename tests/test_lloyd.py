"""K-means in memory, against scikit-learn."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans as Reference

from kmdask.errors import ParameterError
from kmdask.fitting.lloyd import farthest_rows, lloyd, step, updated_centers
from kmdask.fitting.moments import Farthest, Moments
from kmdask.fitting.plus_plus import plus_plus


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    d=st.integers(1, 6),
    k=st.integers(1, 9),
    tol=st.sampled_from([0.0, 1e-4, 1e-2]),
    max_iter=st.sampled_from([1, 3, 300]),
)
def test_equals_scikit_learn(seed, d, k, tol, max_iter):
    rng = np.random.default_rng(seed)
    X, weights = rng.normal(size=(300, d)), rng.random(300) + 0.01
    start = X[rng.choice(300, k, replace=False)]
    expected = Reference(k, init=start, n_init=1, tol=tol, max_iter=max_iter)
    expected.fit(X, sample_weight=weights)
    centers, inertia, n_iter = lloyd(X, weights, start, tol=tol, max_iter=max_iter)
    np.testing.assert_allclose(centers, expected.cluster_centers_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(inertia, expected.inertia_, rtol=1e-6, atol=1e-9)
    assert n_iter == expected.n_iter_


def test_weights_are_repetitions():
    rng = np.random.default_rng(1)
    X, counts = rng.normal(size=(200, 3)), rng.integers(0, 5, 200)
    start = X[:4]
    weighted = lloyd(X, counts, start, tol=0)
    repeated = lloyd(np.repeat(X, counts, axis=0), np.ones(counts.sum()), start, tol=0)
    np.testing.assert_allclose(weighted[0], repeated[0], rtol=1e-12)
    assert weighted[1] == pytest.approx(repeated[1], rel=1e-12)


def test_inertia_is_that_of_the_returned_centers_before_convergence():
    rng = np.random.default_rng(2)
    X, weights = rng.normal(size=(500, 2)), rng.random(500)
    centers, inertia, n_iter = lloyd(X, weights, X[:5], max_iter=2)
    assert n_iter == 2
    squared = ((X[:, np.newaxis] - centers) ** 2).sum(axis=2).min(axis=1)
    assert inertia == pytest.approx((weights * squared).sum(), rel=1e-12)


@pytest.mark.parametrize("far", [1, 2, 3])
def test_empty_clusters_move_as_in_scikit_learn(far):
    rng = np.random.default_rng(far)
    X, weights = rng.normal(size=(200, 2)), rng.random(200) + 0.1
    start = np.vstack([X[:2], np.full((far, 2), 1e3) + np.arange(far)[:, np.newaxis]])
    expected = Reference(len(start), init=start, n_init=1, max_iter=1)
    expected.fit(X, sample_weight=weights)
    centers, _, _ = lloyd(X, weights, start, max_iter=1)
    # Which of several empty clusters takes which far row is arbitrary in scikit-learn.
    np.testing.assert_allclose(centers[:2], expected.cluster_centers_[:2], rtol=1e-9)
    np.testing.assert_allclose(
        np.sort(centers[2:], axis=0), np.sort(expected.cluster_centers_[2:], axis=0), rtol=1e-9
    )


def test_rows_without_weight_never_become_centers():
    X = np.array([[0.0], [1.0], [1e6]])
    centers, inertia, _ = lloyd(X, np.array([1.0, 1.0, 0.0]), np.array([[0.0], [1e9]]))
    np.testing.assert_array_equal(np.sort(centers, axis=0), [[0.0], [1.0]])
    assert inertia == 0


def test_surplus_clusters_join_the_heaviest():
    X = np.array([[0.0], [5.0], [5.0]])
    moments = step(X, np.ones(1), np.array([[0.0], [5.0], [9.0]]))
    moved = updated_centers(
        moments,
        np.array([[0.0], [5.0], [9.0]]),
        lambda centers, n: farthest_rows(X, np.ones(1), centers, n),
    )
    np.testing.assert_array_equal(moved, [[0.0], [5.0], [5.0]])


def test_a_cluster_that_gave_all_its_rows_away_is_empty_not_noise():
    weights = np.array([0.1, 0.2])
    X = np.array([[3.0], [4.0]])
    centers = np.array([[0.0], [1e3], [2e3]])
    moments = step(X, weights, centers)
    moved = updated_centers(moments, centers, lambda at, n: farthest_rows(X, weights, at, n))
    np.testing.assert_allclose(np.unique(np.rint(moved)), [3, 4])
    np.testing.assert_allclose(moved, np.rint(moved), rtol=1e-12)


def test_farthest_rows_come_in_order_and_ties_by_index():
    X = np.array([[1.0], [-3.0], [3.0], [0.0], [9.0]])
    weights = np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    found = farthest_rows(X, weights, np.zeros((1, 1)), 2)
    np.testing.assert_array_equal(found.rows, [[-3.0], [3.0]])
    found = farthest_rows(X, weights, np.zeros((1, 1)), 5)
    np.testing.assert_array_equal(found.rows, [[-3.0], [3.0], [1.0]])
    parts = [farthest_rows(X[i : i + 1], weights[i : i + 1], np.zeros((1, 1)), 2) for i in range(5)]
    np.testing.assert_array_equal(Farthest.merge(parts, 2).rows, [[-3.0], [3.0]])


def test_moments_add_up():
    rng = np.random.default_rng(3)
    X, weights, centers = rng.normal(size=(300, 4)), rng.random(300), rng.normal(size=(6, 4))
    whole = step(X, weights, centers)
    parts = [step(X[i : i + 70], weights[i : i + 70], centers) for i in range(0, 300, 70)]
    merged = Moments.merge(parts)
    np.testing.assert_allclose(merged.sums, whole.sums, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(merged.weights, whole.weights, rtol=1e-12)
    assert merged.inertia == pytest.approx(whole.inertia, rel=1e-12)


def test_plus_plus_repeats_itself_and_returns_rows():
    X = np.random.default_rng(4).normal(size=(1000, 3)).astype(np.float32)
    first, second = (plus_plus(X, np.ones(1000), 16, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.float64
    assert set(map(tuple, first)) <= set(map(tuple, X.astype(np.float64)))
    assert len(set(map(tuple, first))) == 16


def test_plus_plus_without_weight_is_an_error():
    with pytest.raises(ParameterError, match="weights"):
        plus_plus(np.ones((3, 1)), np.zeros(3), 2, np.random.default_rng(0))


def test_counting_and_fitting_import_neither_dask_ml_nor_scikit_learn():
    # Four bands are gathered in cells, along the principal axes of a sample.
    code = (
        "import sys, dask.array as da, numpy as np; from kmdask import count_colors, fit_palette; "
        "from kmdask.fitting import kmeans_blocks, kmeans_init; "
        "pixels = np.random.default_rng(0).integers(999, size=(30, 40, 4), dtype=np.uint16); "
        "assert len(fit_palette(count_colors(da.from_array(pixels)), 3)) == 3; "
        "print({'dask_ml', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
