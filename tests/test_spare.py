"""Memory used again: never while anything still looks at it, and not too much of it."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdask import spare


@pytest.fixture(autouse=True)
def _nothing_left(monkeypatch):
    monkeypatch.setattr(spare, "_left", type(spare._left)())


def address(array):
    return array.__array_interface__["data"][0]


def test_memory_is_used_again_for_the_same_size_in_any_shape():
    first = spare.empty((1 << 10, 1 << 10), np.uint8)
    there = address(first)
    del first
    assert address(spare.empty((1 << 18, 2), np.uint16)) == there
    assert address(spare.empty((1 << 21,), np.uint8)) != there


@pytest.mark.parametrize(
    "look",
    [
        lambda array: array[5:, ::2],
        lambda array: np.moveaxis(array, 0, 1)[3],
        lambda array: array.view(np.int8).reshape(-1)[1:],
        memoryview,
        lambda array: pickle.PickleBuffer(array[1:]),
        lambda array: np.asarray(memoryview(array))[2:],
    ],
)
def test_memory_is_left_alone_while_anything_looks_at_it(look):
    array = spare.empty((1 << 10, 1 << 11), np.uint8)
    there = address(array)
    view = look(array)
    del array
    assert address(spare.empty((1 << 10, 1 << 11), np.uint8)) != there
    del view
    # Last in, first out: what was just left is taken.
    assert address(spare.empty((1 << 10, 1 << 11), np.uint8)) == there


def test_small_arrays_are_the_allocators():
    assert spare.empty((spare.LEAST - 1,), np.uint8).flags.owndata
    assert not spare._left


def test_what_was_left_first_goes_first(monkeypatch):
    monkeypatch.setattr(spare, "MOST", 5 * spare.LEAST)
    arrays = [spare.empty((factor * spare.LEAST,), np.uint8) for factor in (1, 2, 1, 3, 1)]
    while arrays:
        arrays.pop(0)
    assert [each.nbytes // spare.LEAST for each in spare._left] == [1, 3, 1]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("+-"), st.integers(1, 3)), max_size=30))
def test_no_two_arrays_share_memory(steps):
    alive = []
    for number, (step, size) in enumerate(steps):
        if step == "+":
            array = spare.empty((size, spare.LEAST), np.uint8)
            array[:, ::4096] = number
            alive.append((number, array[:, ::4096]))
        elif alive:
            alive.pop(size % len(alive))
        assert all((view == kept).all() for kept, view in alive)


def test_threads_never_get_the_same_memory():
    wrong = []

    def work(number):
        for _ in range(200):
            array = spare.empty((spare.LEAST,), np.uint8)
            array[::4096] = number
            wrong.extend(value for value in array[::4096] if value != number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
