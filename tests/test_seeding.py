"""The rounds of runs that find where k-means starts from."""

from __future__ import annotations

from itertools import pairwise

import dask.array as da
import numpy as np
import pytest

from kmdask import count_colors
from kmdask.fitting import seeding
from kmdask.fitting.lloyd import step
from kmdask.fitting.seeding import Cells, Run, best_start, rounds_of


@pytest.fixture
def cells():
    means = np.array([[0.0], [1.0], [10.0], [11.0], [30.0], [32.0]])
    return Cells(np.arange(6, dtype=np.uint32), means, np.ones(6))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("k", [1, 24, 25, 256, 257, 65_536])
def test_rounds_get_finer_and_end_with_one_run(k, exact):
    rounds = rounds_of(k, exact=exact)
    assert rounds[-1].runs == 1
    for before, after in pairwise(rounds):
        assert before.cells <= after.cells
        assert before.runs >= after.runs
        assert before.tol >= after.tol
    assert all(each.cells >= 8 * k for each in rounds)


def test_the_best_go_on_by_rank_and_each_once(cells):
    def run(inertia, *centers):
        return Run(inertia, np.array(centers)[:, None])

    # Told apart by how many centres they have.
    runs = [
        [run(9.0, 0.0, 10.0, 30.0), run(2.0, 0.4, 20.0)],
        [run(2.00001, 0.5, 10.0, 20.0, 30.0), run(5.0, 5.0)],
    ]
    none = np.empty((0, 1))
    first, third = seeding._go_on(runs, [0, 2], cells, 0.0, none)
    (second,) = seeding._go_on(runs, [1], cells, 0.0, none)
    assert [len(each.centers) for each in (first, second, third)] == [2, 1, 3]
    np.testing.assert_array_equal(second.centers, [[14.0]])
    assert seeding._go_on(runs, [3, 4], cells, 0.0, none) == []


@pytest.mark.parametrize("k", [1, 5, 24, 25])
def test_more_starts_are_no_worse_than_one(monkeypatch, scene, k):
    colors = count_colors(da.from_array(scene(60, 70)))
    where = colors.colors, colors.counts, colors.codes
    rows, weights = colors.colors.compute(), colors.counts.compute().astype(float)
    many = best_start(*where, k, 0)
    assert many.shape == (k, 3)
    monkeypatch.setattr(seeding, "STARTS", 1)
    monkeypatch.setattr(seeding, "FINALISTS", 1)
    one = best_start(*where, k, 0)
    assert step(rows, weights, many).inertia <= 1.001 * step(rows, weights, one).inertia


def test_tasks_change_nothing(monkeypatch, scene):
    colors = count_colors(da.from_array(scene(60, 70)))
    where = colors.colors, colors.counts, colors.codes
    expected = best_start(*where, 7, 3)
    monkeypatch.setattr(seeding, "TASKS", 3)
    np.testing.assert_array_equal(best_start(*where, 7, 3), expected)
