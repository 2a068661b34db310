"""Steps that remember against steps that look at every row."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdask.fitting import lloyd
from kmdask.fitting.lloyd import Steps, step
from kmdask.kernels import bounds
from kmdask.kernels.lloyd import nearest
from kmdask.kernels.memory import forgetful
from kmdask.kernels.views import frozen


@st.composite
def walks(draw):
    """Rows, and centres on their way: in small steps, in leaps, at rest, onto one another."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    n, d, k = draw(st.integers(1, 900)), draw(st.integers(1, 5)), draw(st.integers(1, 40))
    whole = draw(st.booleans())
    X = rng.normal(scale=20, size=(n, d))
    X = X[np.lexsort(np.round(X / 10).T)]
    centers = rng.normal(scale=20, size=(k, d))
    if whole:  # full of ties
        X, centers = np.round(X), np.round(centers)
    scale = draw(st.sampled_from([1.0, 1e-170, 1e150, 2.0**40]))
    way = []
    kinds = st.sampled_from(["near", "tiny", "rest", "one leaps", "all leap", "meet", "back"])
    for kind in draw(st.lists(kinds, min_size=1, max_size=8)):
        way.append(centers * scale)
        size = {"near": 0.5, "tiny": 1e-9, "all leap": 30.0}.get(kind, 0.0)
        centers = centers + rng.normal(size=centers.shape) * size
        if kind == "one leaps":
            centers[rng.integers(k)] += 25
        elif kind == "meet":
            centers[rng.integers(k)] = centers[rng.integers(k)]
        elif kind == "back":
            centers = way[rng.integers(len(way))] / scale
    dtype = draw(st.sampled_from([np.float32, np.float64])) if scale == 1 else np.float64
    return frozen(X * scale, dtype), way, rng


@settings(max_examples=150, deadline=None)
@given(walks())
def test_every_row_has_its_nearest_centre_at_every_step(walk):
    X, way, rng = walk
    weights = frozen(rng.integers(0, 3, len(X)).astype(np.float64))
    memory = forgetful(X, len(way[0]))
    for number, centers in enumerate(way):
        ways = np.stack([np.linalg.norm(centers - then, axis=1) for then in way[: number + 1]])
        bounds.resettle(X, weights, centers, ways, number, memory)
        labels, _ = nearest(X, centers)
        np.testing.assert_array_equal(memory.labels, labels)
        members = np.bincount(labels[weights > 0], minlength=len(centers))
        np.testing.assert_array_equal(memory.members, members)
        found = memory.sums[:, -1].sum(axis=1)
        np.testing.assert_array_equal(found, np.bincount(labels, weights, len(centers)))


def test_a_row_that_has_changed_changes_again_when_the_centres_come_back():
    X = np.concatenate([np.linspace(0, 1, 64), [4.9], np.linspace(9, 10, 63)])[:, np.newaxis]
    steps = Steps(X, np.ones(1), 2)
    counts = [steps(np.array([[0.0], [right]])).weights.tolist() for right in (10.0, 9.0, 10.0)]
    assert counts == [[65, 63], [64, 64], [65, 63]]


def test_a_heavy_row_that_leaves_takes_nothing_with_it():
    X = np.array([[0.0], [1.0], [2.0], [3.0]])
    steps = Steps(X, np.array([1.0, 1.0, 1.0, 1e17]), 2)
    steps(np.array([[1.0], [99.0]]))
    sums = steps(np.array([[1.0], [3.0]]))
    assert sums.weights.tolist() == [3, 1e17]
    assert sums.sums[:, 0].tolist() == [3, 3e17]


@settings(max_examples=50, deadline=None)
@given(walks(), st.sampled_from(["each", "one"]))
def test_sums_are_those_of_a_step_by_itself(walk, kind):
    X, way, rng = walk
    weights = rng.random(1 if kind == "one" else len(X))
    steps = Steps(X, weights, len(way[0]))
    for centers in way:
        sums, alone = steps(centers), step(X, weights, centers)
        np.testing.assert_allclose(sums.weights, alone.weights, rtol=1e-9, atol=1e-12)
        size = np.abs(X).max()
        np.testing.assert_allclose(sums.sums, alone.sums, rtol=1e-9, atol=1e-9 * size)
        np.testing.assert_array_equal(sums.weights == 0, alone.weights == 0)
        np.testing.assert_array_equal(sums.sums[alone.weights == 0], 0)


def colors(n):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 40, (n, 3)).astype(np.float32)
    return X[np.lexsort(X.T)], rng.integers(1, 99, n).astype(np.float64)


def test_long_runs_end_where_those_end_that_look_at_every_row():
    X, weights = colors(20_000)
    start = X[:: len(X) // 30].astype(np.float64)
    ends = [
        lloyd.iterate(take, None, start, max_iter=200, max_shift=1e-9)
        for take in (Steps(X, weights, len(start)), lambda at: step(X, weights, at))
    ]
    ends.append(Steps(X, weights, len(start)).iterate(None, start, max_iter=200, max_shift=1e-9))
    for centers, n_iter in ends:
        assert n_iter == ends[0][1] > lloyd._REMEMBERED
        # To the bit: sums of whole numbers are exact.
        np.testing.assert_array_equal(centers, ends[0][0])


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 1 << 32),
    st.sampled_from([1, 3, 300]),
    st.sampled_from([0.0, 1e-3, 1.0]),
    st.integers(0, 3),
    st.booleans(),
)
def test_steps_in_one_go_are_those_of_one_by_one(seed, max_iter, max_shift, held, whole):
    rng = np.random.default_rng(seed)
    n, d, k = rng.integers(1, 900), rng.integers(1, 5), rng.integers(4, 40)
    X = rng.normal(scale=rng.choice([1, 5, 30]), size=(n, d))
    if whole:  # many are equal
        X = np.round(X)
    X, weights = X[np.lexsort(X.T)], rng.integers(0, 5, n).astype(np.float64)
    weights[0] = 1
    start = X[rng.integers(0, n, k)]  # with centres on one another, which get no rows
    farthest = partial(lloyd.farthest_rows, X, weights)
    limits = {"max_iter": max_iter, "max_shift": max_shift, "held": held}
    centers, n_iter = Steps(X, weights, k).iterate(farthest, start, **limits)
    expected, taken = lloyd.iterate(Steps(X, weights, k), farthest, start, **limits)
    assert n_iter == taken
    np.testing.assert_array_equal(centers, expected)


@pytest.mark.parametrize("before", [1, 2, lloyd._REMEMBERED + 1])
def test_steps_in_one_go_after_others(before):
    X, weights = colors(2_000)
    start = X[:: len(X) // 9].astype(np.float64)
    steps = Steps(X, weights, len(start))
    for number in range(before):
        steps(start + 0.3 * number)
    limits = {"max_iter": 50, "max_shift": 0.0}
    centers, n_iter = steps.iterate(None, start, **limits)
    expected, taken = Steps(X, weights, len(start)).iterate(None, start, **limits)
    assert n_iter == taken > 1
    np.testing.assert_array_equal(centers, expected)


def test_most_rows_are_not_looked_at_again():
    X, weights = colors(50_000)
    start = X[:: len(X) // 9] + np.linspace(0, 0.5, 3)  # nothing is as near to two of them
    memory = forgetful(frozen(X), len(start))
    for number in range(2):
        ways = np.zeros((number + 1, len(start)))
        bounds.resettle(frozen(X), frozen(weights), start, ways, number, memory)
    assert (memory.since == 0).mean() > 0.9


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("one", [False, True])
def test_threads_change_nothing(monkeypatch, threads, one):
    rng = np.random.default_rng(1)
    X, weights = rng.normal(size=(1000, 2)), rng.random(1 if one else 1000)
    monkeypatch.setattr(lloyd, "PART", 130)
    steps, centers = Steps(X, weights, 7, threads), X[:7].copy()
    sums = [steps(centers + 0.01 * i) for i in range(4)]
    other = Steps(X, weights, 7)
    for i, found in enumerate(sums):
        expected = other(centers + 0.01 * i)
        np.testing.assert_array_equal(found.sums, expected.sums)
        np.testing.assert_array_equal(found.weights, expected.weights)
    np.testing.assert_allclose(sums[-1].weights, step(X, weights, centers + 0.03).weights)
