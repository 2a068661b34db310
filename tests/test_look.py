"""The first look: the same pixels however the image is chunked, and never none that is there."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from kmdask import EmptyImageError
from kmdask.fitting import look


def first_look(*arguments):
    """The sample, which is on the workers just as it is here."""
    taken = look.first_look(*arguments)
    np.testing.assert_array_equal(taken.rows.compute(), taken.values)
    return taken.values


CHUNKS = [(-1, -1), (512, 512), (1000, 77), (13, 900)]


def lazy(pixels, chunks):
    return da.from_array(pixels, chunks=(*chunks, -1))


@pytest.fixture(scope="module")
def large():
    """Each pixel tells where it is."""
    rows, columns = np.indices((700, 900), np.float64)
    return np.stack([rows, columns], axis=2)


def windows(size):
    if size <= 512:
        return np.arange(size)
    starts = [round(i * (size - 64) / 7 - 0.4999) for i in range(8)]
    return np.concatenate([np.arange(start, start + 64) for start in starts])


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("shape", [(700, 900), (300, 900), (700, 512), (200, 100)])
def test_windows_evenly_spaced(large, chunks, shape):
    pixels = large[: shape[0], : shape[1]]
    sample = first_look(lazy(pixels, chunks), None)
    assert sample.dtype == np.float64
    expected = np.stack(np.meshgrid(*map(windows, shape), indexing="ij"), axis=2).reshape(-1, 2)
    np.testing.assert_array_equal(sample[np.lexsort(sample.T[::-1])], expected)
    np.testing.assert_array_equal(sample, first_look(lazy(pixels, (-1, -1)), None))


@pytest.mark.parametrize("chunks", CHUNKS)
def test_invalid_pixels_are_not_looked_at(large, holes, chunks):
    valid = holes(700, 900)
    mask = da.from_array(valid.astype(np.uint8), chunks=chunks)
    sample = first_look(lazy(large, chunks), mask)
    rows, columns = sample.astype(int).T
    assert valid[rows, columns].all()
    assert len(sample) == valid[np.ix_(windows(700), windows(900))].sum()


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("n", [1, 2, 5000])
def test_nearly_everything_masked(large, chunks, n):
    # Between the windows, so that these see nothing.
    valid = np.zeros((700, 900), np.uint8)
    free_rows = np.setdiff1d(np.arange(700), windows(700))
    free_columns = np.setdiff1d(np.arange(900), windows(900))
    places = np.stack(np.meshgrid(free_rows, free_columns), axis=2).reshape(-1, 2)
    rows, columns = np.random.default_rng(0).permutation(places)[:n].T
    valid[rows, columns] = 1
    sample = first_look(lazy(large, chunks), da.from_array(valid, chunks=chunks))
    # So few that all of them are looked at, in the order of rows and columns.
    if n < look.ENOUGH:
        np.testing.assert_array_equal(sample, np.argwhere(valid))
    else:
        assert 0 < len(sample) <= n
        whole = first_look(lazy(large, (-1, -1)), da.from_array(valid, chunks=-1))
        np.testing.assert_array_equal(sample, whole)


@pytest.mark.parametrize("chunks", CHUNKS)
def test_drawn_pixels_are_a_fair_share_of_the_valid_ones(monkeypatch, large, chunks):
    # Windows as good as none.
    monkeypatch.setattr(look, "SIDE", 1)
    monkeypatch.setattr(look, "WINDOWS", 2)
    monkeypatch.setattr(look, "SPARSER", 10_000)
    valid = np.zeros((700, 900), np.uint8)
    valid[:, 450:] = 1
    sample = first_look(lazy(large, chunks), da.from_array(valid, chunks=chunks))
    share = 4 * 10_000 / (700 * 900)
    expected = share * valid.sum()
    assert abs(len(sample) - expected) < 5 * np.sqrt(expected)
    assert (sample[:, 1] >= 450).all()
    # Evenly from everywhere: the mean of n even places is off by their deviation / sqrt(n).
    middle, deviation = np.array([349.5, 674.5]), np.array([700, 450]) / np.sqrt(12)
    assert (np.abs(sample.mean(axis=0) - middle) < 4 * deviation / np.sqrt(len(sample))).all()
    whole = first_look(lazy(large, (-1, -1)), da.from_array(valid, chunks=-1))
    np.testing.assert_array_equal(sample, whole)


def test_windows_that_the_source_reads_are_taken(large):
    asked = []

    def window(rows, columns):
        asked.append((rows, columns))
        return lazy(large[rows, columns], (-1, -1)), None

    unreadable = da.from_array(large, chunks=-1).map_blocks(lambda _: 1 / 0, dtype=float)
    sample = first_look(unreadable, None, window)
    assert len(asked) == 64
    np.testing.assert_array_equal(sample, first_look(lazy(large, (-1, -1)), None))


@pytest.mark.parametrize("shape", [(1, 1), (30, 40), (700, 900)])
def test_nothing_valid(large, shape):
    pixels = lazy(large[: shape[0], : shape[1]], (300, 300))
    with pytest.raises(EmptyImageError, match="every pixel"):
        first_look(pixels, da.zeros(shape, dtype=np.uint8, chunks=300))
