"""The estimator: against scikit-learn, across schedulers, and as a drop-in for dask_ml's."""

from __future__ import annotations

import pickle

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from sklearn.base import clone
from sklearn.cluster import KMeans as Reference
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from kmdask.errors import ParameterError
from kmdask.fitting import kmeans_blocks
from kmdask.fitting.kmeans import KMeans
from kmdask.fitting.kmeans_blocks import Summary

INITS = ["k-means||", "k-means++", "random"]


@pytest.fixture(params=[np.float32, np.float64])
def data(request):
    rng = np.random.default_rng(0)
    centers = rng.normal(scale=8, size=(6, 4))
    X = centers[rng.integers(6, size=3000)] + rng.normal(size=(3000, 4))
    return X.astype(request.param), rng.random(3000) + 0.01


def fitted(X, weights, k=6, chunks=700, **parameters):
    X = da.from_array(X, chunks=(chunks, -1))
    weights = None if weights is None else da.from_array(weights, chunks=chunks)
    return KMeans(k, **{"random_state": 0, **parameters}).fit(X, sample_weight=weights)


def state(model):
    return pickle.dumps((model.cluster_centers_, model.inertia_, model.n_iter_))


@parametrize_with_checks([KMeans()])
@pytest.mark.filterwarnings("ignore:SCIPY_ARRAY_API")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_is_an_estimator_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("tol", "max_iter"), [(1e-4, 300), (0.0, 300), (1e-4, 3), (0.5, 300)])
def test_equals_scikit_learn(data, weighted, tol, max_iter):
    X, weights = data
    weights = weights if weighted else None
    start = X[:6]
    parameters = {"init": start, "tol": tol, "max_iter": max_iter}
    expected = Reference(6, n_init=1, **parameters).fit(X, sample_weight=weights)
    found = fitted(X, weights, **parameters)
    loose = 1e-4 if X.dtype == np.float32 else 1e-6
    np.testing.assert_allclose(found.cluster_centers_, expected.cluster_centers_, rtol=loose)
    assert found.cluster_centers_.dtype == expected.cluster_centers_.dtype
    assert found.inertia_ == pytest.approx(expected.inertia_, rel=loose)
    assert found.n_iter_ == expected.n_iter_
    assert found.labels_.dtype == expected.labels_.dtype
    if X.dtype == np.float64:
        np.testing.assert_array_equal(found.labels_.compute(), expected.labels_)
    assert set(vars(found)) - set(found.get_params()) == {
        "cluster_centers_",
        "inertia_",
        "labels_",
        "n_features_in_",
        "n_iter_",
    }


@pytest.mark.parametrize("init", INITS)
def test_seeding_is_as_good_as_scikit_learns(data, init):
    X, weights = data
    expected = Reference(6, n_init=10, random_state=0).fit(X, sample_weight=weights)
    found = fitted(X, weights, init=init, n_init=10)
    assert found.inertia_ <= expected.inertia_ * 1.01


@pytest.mark.cluster
@pytest.mark.parametrize("init", INITS)
def test_a_seed_gives_the_same_whatever_runs_it(init):
    rng = np.random.default_rng(13)
    X, weights = rng.normal(size=(3000, 4)).astype(np.float32), rng.random(3000)
    expected = state(fitted(X, weights, init=init, max_iter=5))
    with dask.config.set(scheduler="synchronous"):
        assert state(fitted(X, weights, init=init, max_iter=5)) == expected
    for workers in (1, 3):
        with (
            LocalCluster(
                n_workers=workers,
                threads_per_worker=2,
                processes=False,
                dashboard_address="127.0.0.1:0",
            ) as cluster,
            Client(cluster),
        ):
            assert state(fitted(X, weights, init=init, max_iter=5)) == expected


@pytest.mark.parametrize("init", INITS)
def test_chunks_change_only_the_last_bits(data, init):
    X, weights = data
    one, many = (fitted(X, weights, init=init, chunks=chunks) for chunks in (3000, 97))
    np.testing.assert_allclose(one.cluster_centers_, many.cluster_centers_, rtol=1e-6)


def test_sums_of_integers_do_not_depend_on_chunks_at_all():
    rng = np.random.default_rng(5)
    X, counts = rng.integers(0, 256, (2000, 3)).astype(np.float32), rng.integers(1, 900, 2000)
    one, many = (fitted(X, counts, k=9, init=X[:9], chunks=chunks) for chunks in (2000, 31))
    np.testing.assert_array_equal(one.cluster_centers_, many.cluster_centers_)


def test_weights_are_repetitions():
    rng = np.random.default_rng(6)
    X, counts = rng.normal(size=(500, 3)), rng.integers(0, 4, 500)
    weighted = fitted(X, counts, init=X[:6])
    repeated = fitted(np.repeat(X, counts, axis=0), None, init=X[:6])
    np.testing.assert_allclose(weighted.cluster_centers_, repeated.cluster_centers_, rtol=1e-6)
    assert weighted.inertia_ == pytest.approx(repeated.inertia_, rel=1e-9)


def test_an_empty_cluster_takes_the_farthest_row():
    rng = np.random.default_rng(7)
    X = rng.normal(size=(900, 3))
    start = np.vstack([X[:4], [[1e4, 0, 0]]])
    expected = Reference(5, init=start, n_init=1).fit(X)
    found = fitted(X, None, k=5, init=start, chunks=200)
    np.testing.assert_allclose(found.cluster_centers_, expected.cluster_centers_, rtol=1e-6)
    assert found.n_iter_ == expected.n_iter_


@pytest.mark.parametrize("init", INITS)
def test_fewer_different_rows_than_clusters(init):
    X = np.repeat([[0.0, 1.0], [5.0, 5.0], [9.0, 9.0]], 20, axis=0)
    with pytest.warns(ConvergenceWarning, match="found 3 different clusters"):
        found = fitted(X, None, k=5, init=init, chunks=7)
    assert found.cluster_centers_.shape == (5, 2)
    assert set(map(tuple, found.cluster_centers_)) == set(map(tuple, X))
    assert found.inertia_ == 0


@pytest.mark.parametrize("init", INITS)
def test_rows_without_weight_do_not_count(init):
    rng = np.random.default_rng(8)
    X = np.vstack([rng.normal(size=(100, 2)), np.full((100, 2), 1e6)])
    weights = np.repeat([1.0, 0.0], 100)
    assert (fitted(X, weights, k=3, init=init).cluster_centers_ < 10).all()


def test_oversampling_may_find_too_few_and_is_topped_up():
    X = np.random.default_rng(9).normal(size=(400, 2))
    for parameters in ({"init_max_iter": 0}, {"oversampling_factor": 0.01}):
        assert len(np.unique(fitted(X, None, k=20, **parameters).cluster_centers_)) == 40


def test_integers_are_widened():
    X = np.random.default_rng(10).integers(0, 255, (500, 3)).astype(np.uint8)
    found = fitted(X, None, k=3, init=X[:3].astype(float))
    expected = Reference(3, init=X[:3].astype(float), n_init=1).fit(X)
    np.testing.assert_allclose(found.cluster_centers_, expected.cluster_centers_)
    assert found.cluster_centers_.dtype == np.float64


def test_predict_transform_and_score_agree_with_scikit_learn(data):
    X, weights = data
    model = fitted(X, weights, init=X[:6])
    expected = Reference(6, init=X[:6], n_init=1).fit(X, sample_weight=weights)
    expected.cluster_centers_ = model.cluster_centers_
    new = da.from_array(X[::-1], chunks=(500, 2))
    np.testing.assert_array_equal(model.predict(new), expected.predict(X[::-1]))
    np.testing.assert_allclose(model.transform(new), expected.transform(X[::-1]), rtol=1e-3)
    assert model.transform(new).compute().dtype == model.transform(new).dtype == X.dtype
    assert model.score(X, sample_weight=weights) == pytest.approx(-model.inertia_, rel=1e-12)
    np.testing.assert_array_equal(model.predict(X), model.labels_)
    assert clone(model).get_params().keys() == model.get_params().keys()


def test_mixed_precision_transforms_to_the_wider_type(data):
    X, _ = data
    model = fitted(X, None)
    for other in (np.float32, np.float64):
        distances = model.transform(da.from_array(X.astype(other)))
        assert distances.dtype == distances.compute().dtype == np.result_type(X.dtype, other)


def test_predict_and_transform_compute_nothing(data):
    X, _ = data
    model = fitted(X, None)

    def explode(_block):
        raise AssertionError

    lazy = da.from_array(X).map_blocks(explode, meta=np.empty((0, 0), X.dtype))
    table = pd.DataFrame(X)
    frame = dd.from_pandas(table, npartitions=2).map_partitions(explode, meta=table)
    for rows in (lazy, frame):
        assert model.predict(rows).ndim == 1
        assert model.transform(rows).shape[1] == 6


@pytest.mark.parametrize(
    "convert",
    [
        np.asarray,
        np.ndarray.tolist,
        pd.DataFrame,
        lambda X: da.from_array(X, chunks=(700, 2)),
        lambda X: dd.from_pandas(pd.DataFrame(X), npartitions=3),
        lambda X: dd.from_pandas(pd.DataFrame(X), npartitions=3).to_dask_array(),
        lambda X: da.concatenate([X[:0], X[:5], X[:0], X[5:]]),
    ],
)
def test_takes_rows_of_many_kinds(convert):
    X = np.random.default_rng(11).normal(size=(300, 3))
    expected = fitted(X, np.arange(300), init=X[:4], k=4)
    model = KMeans(4, init=X[:4])
    labels = model.fit_predict(convert(X), sample_weight=np.arange(300))
    np.testing.assert_allclose(model.cluster_centers_, expected.cluster_centers_)
    np.testing.assert_array_equal(labels.compute(), expected.labels_.compute())
    assert model.fit_transform(convert(X)).compute().shape == (300, 4)
    assert model.score(convert(X)) < 0


@pytest.mark.parametrize(
    "convert",
    [
        list,
        pd.Series,
        lambda w: da.from_array(w, chunks=77),
        lambda w: dd.from_pandas(pd.Series(w), npartitions=3),
    ],
)
def test_takes_weights_of_many_kinds(convert):
    X, weights = np.random.default_rng(12).normal(size=(300, 3)), np.arange(300)
    expected = fitted(X, weights, init=X[:4], k=4)
    found = KMeans(4, init=X[:4]).fit(X, sample_weight=convert(weights))
    np.testing.assert_allclose(found.cluster_centers_, expected.cluster_centers_)
    same = KMeans(4, init=X[:4]).fit(X, sample_weight=3).cluster_centers_
    np.testing.assert_allclose(same, KMeans(4, init=X[:4]).fit(X).cluster_centers_)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rows_must_be_finite(bad):
    X = np.ones((10, 2))
    X[7, 1] = bad
    model = KMeans(1).fit(np.ones((10, 2)))
    for rows in (X, da.from_array(X, chunks=(4, 2))):
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            KMeans(1).fit(rows)
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            model.score(rows)
        for method in (model.predict, model.transform):
            with pytest.raises(ValueError, match=r"NaN|infinity"):
                method(rows).compute()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(10), "zero"),
        (-np.ones(10), "negative"),
        (np.full(10, np.nan), "finite"),
        (np.ones(9), "shape"),
        (np.ones((10, 1)), "shape"),
    ],
)
def test_weights_must_be_usable(weights, message):
    with pytest.raises(ParameterError, match=message):
        KMeans(2).fit(np.random.default_rng(0).normal(size=(10, 2)), sample_weight=weights)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_clusters": 0}, "n_clusters"),
        ({"n_clusters": 2.5}, "n_clusters"),
        ({"n_clusters": 11}, "n_samples=10"),
        ({"max_iter": 0}, "max_iter"),
        ({"tol": -1}, "tol"),
        ({"oversampling_factor": "2"}, "oversampling_factor"),
        ({"n_init": 0}, "n_init"),
        ({"init_max_iter": -1}, "init_max_iter"),
        ({"algorithm": "elkan"}, "algorithm"),
        ({"init": "best"}, "'best'"),
        ({"init": 2}, "got 2"),
        ({"init": np.ones((2, 2))}, r"shape \(2, 2\)"),
        ({"init": np.ones((3, 1))}, r"shape \(3, 1\)"),
        ({"init": np.full((3, 2), np.nan)}, "init contains NaN"),
    ],
)
def test_parameters_must_be_in_range(parameters, message):
    with pytest.raises(ParameterError, match=message):
        KMeans(**{"n_clusters": 3, **parameters}).fit(np.ones((10, 2)))


@pytest.mark.parametrize("shape", [(0, 1), (1, 0), (5,)])
def test_rows_must_be_a_table(shape):
    for X in (np.empty(shape), da.empty(shape)):
        with pytest.raises(ValueError, match=r"0 sample|0 feature|2D array"):
            KMeans(1).fit(X)


def test_predict_wants_a_fit_and_the_same_features():
    with pytest.raises(NotFittedError):
        KMeans().predict(np.ones((3, 2)))
    model = KMeans(1).fit(np.ones((3, 2)))
    with pytest.raises(ValueError, match="3 features"):
        model.predict(da.ones((3, 3)))


def test_tasks_read_well_in_the_dashboard(data):
    X, weights = data
    seen = set()

    class Names(dask.callbacks.Callback):
        def _posttask(self, key, *_):
            seen.add(dask.utils.key_split(key))

    with Names():
        fitted(X, weights)
    assert {"lloyd-step", "lloyd-merge"} <= seen


def test_the_start_is_not_changed(data):
    X, weights = data
    start = X[:6].copy()
    model = fitted(X, weights, init=start)
    np.testing.assert_array_equal(start, X[:6])
    assert not np.shares_memory(model.cluster_centers_, start)


@pytest.mark.parametrize("part", [1, 7, 1000])
def test_a_block_is_summarised_in_parts(monkeypatch, data, part):
    X, weights = data[0][:500], data[1][:500]
    monkeypatch.setattr(kmeans_blocks, "PART", part)
    summary = Summary.of(X, weights)
    exact = X.astype(np.longdouble)
    assert summary.n == 500
    np.testing.assert_allclose(summary.mean, exact.mean(axis=0).astype(float), rtol=1e-12)
    squares = ((exact - exact.mean(axis=0)) ** 2).sum(axis=0).astype(float)
    np.testing.assert_allclose(summary.squares, squares, rtol=1e-12)
    assert summary.weight == pytest.approx(weights.sum(), rel=1e-12)
    assert summary.least_weight == weights.min()
    assert (summary.finite_rows, summary.finite_weights) == (True, True)

    X[7, 1], weights[499] = np.inf, np.nan
    summary = Summary.of(X, weights)
    assert (summary.finite_rows, summary.finite_weights) == (False, False)
    assert Summary.of(X[8:], np.ones(1)).weight == 492
