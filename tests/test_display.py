"""Which bands are shown, and how values become colours."""

from __future__ import annotations

import json

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdask import Palette, ParameterError, count_colors
from kmdask.bands import Band
from kmdask.display import Colormap, Display, check_stretch, choose_display
from kmdask.fitting.colors import WeightedColors

SIX = tuple(Band(i) for i in range(1, 7))
UINT16 = np.dtype(np.uint16)


@pytest.fixture(scope="module")
def values():
    """Few values, each many times: percentiles fall on and between them."""
    rng = np.random.default_rng(0)
    shares = [0.3, 0.2, 0.2, 0.2, 0.09, 0.01]
    return rng.choice([0, 3, 500, 501, 9000, 60_000], (30, 40, 6), p=shares)


@pytest.fixture(scope="module")
def colors(values):
    rows, counts = np.unique(values.reshape(-1, 6), axis=0, return_counts=True)
    parts = [rows.astype(np.float64), counts, np.arange(len(rows), dtype=np.uint32)]
    columns = [da.from_array(part, chunks=100) for part in parts]
    return WeightedColors(*columns, pixels=1200, low=0, high=60_000, exact=False)


def percentile(values, share):
    """The least value that as many percent of all are not greater than."""
    ordered = sorted(values.ravel().tolist())
    needed = share / 100 * len(ordered)
    return next(value for i, value in enumerate(ordered, start=1) if i >= needed)


@pytest.mark.parametrize("stretch", [None, (2, 98), (0, 100), [0.1, 99.5], np.array([20, 50.0])])
@pytest.mark.parametrize("display", [None, (6,), [4, 3, 2], np.array([1, 1, 6])])
def test_percentiles(values, colors, stretch, display):
    chosen = choose_display(SIX, colors, UINT16, display=display, stretch=stretch)
    bands = [1, 2, 3] if display is None else list(display)
    ends = (2.0, 98.0) if stretch is None else tuple(stretch)
    assert chosen.bands == tuple(bands)
    assert chosen.stretch == ends
    for band, low, high in zip(bands, chosen.low, chosen.high, strict=True):
        assert low == percentile(values[:, :, band - 1], ends[0])
        assert high == percentile(values[:, :, band - 1], ends[1])
        shown = values[:, :, band - 1]
        assert [low, high] == np.percentile(shown, ends, method="inverted_cdf").tolist()
    again = Display.from_dict(json.loads(json.dumps(chosen.to_dict())))
    assert again == chosen


def test_8_bit_pixels_are_shown_as_they_are(scene):
    pixels = scene(20, 30, 4)
    colors = count_colors(da.from_array(pixels))
    chosen = choose_display(SIX[:4], colors, np.dtype(np.uint8))
    assert chosen == Display((1, 2, 3), (0.0,) * 3, (255.0,) * 3)
    palette = Palette(pixels[:5, 0])
    np.testing.assert_array_equal(chosen.rgb(palette, (1, 2, 3, 4)), palette.colors[:, :3])
    stretched = choose_display(SIX[:4], colors, np.dtype(np.uint8), stretch=(0, 100))
    assert stretched.low == tuple(map(float, pixels.min(axis=(0, 1))[:3]))


RED, GREEN, BLUE, OTHER = "red", "green", "blue", "undefined"


@pytest.mark.parametrize(
    ("interpretations", "shown"),
    [
        ((BLUE, GREEN, RED, OTHER), (3, 2, 1)),
        ((OTHER, BLUE, GREEN, RED), (4, 3, 2)),
        ((RED, GREEN, BLUE, RED), (1, 2, 3)),
        ((RED, GREEN, OTHER, OTHER), (1, 2, 3)),
        ((OTHER,) * 5, (1, 2, 3)),
        ((OTHER, OTHER), (1,)),
        (("gray",), (1,)),
    ],
)
def test_bands_by_their_colours(interpretations, shown):
    bands = tuple(Band(i, color=color) for i, color in enumerate(interpretations, start=1))
    pixels = da.from_array(np.arange(6 * len(bands), dtype=np.uint16).reshape(2, 3, -1))
    assert choose_display(bands, count_colors(pixels), UINT16).bands == shown
    moved = tuple(Band(band.number + 10, color=band.color) for band in bands)
    chosen = choose_display(moved, count_colors(pixels), UINT16)
    assert chosen.bands == tuple(number + 10 for number in shown)


@pytest.mark.parametrize(
    "display", [(), (1, 2), (7,), (0, 1, 2), (1, 2, 3, 4), 1, "123", [[1]], (1.0,), {1}], ids=repr
)
def test_bands_that_are_not_there(colors, display):
    with pytest.raises(
        ParameterError, match=r"one or three of the bands of this image, 1, 2, 3, 4, 5, 6;"
    ):
        choose_display(SIX, colors, UINT16, display=display)


@pytest.mark.parametrize(
    "stretch",
    [(2,), (98, 2), (5, 5), (-1, 50), (0, 101), (np.nan, 98), ("2", "98"), (2, None), 2, "28"],
    ids=repr,
)
def test_what_is_no_stretch(colors, stretch):
    with pytest.raises(ParameterError, match="two percentiles from 0 to 100"):
        check_stretch(stretch)
    with pytest.raises(ParameterError, match="two percentiles from 0 to 100"):
        choose_display(SIX, colors, UINT16, stretch=stretch)


@settings(max_examples=40)
@given(
    entries=st.lists(st.integers(-30_000, 30_000), min_size=1, max_size=9, unique=True),
    low=st.integers(-30_000, 30_000),
    span=st.integers(0, 5000),
)
def test_values_become_colours(entries, low, span):
    palette = Palette(np.array(entries, np.int16)[:, None])
    shown = Display((3,), (float(low),), (float(low + span),)).rgb(palette, (3,))
    assert shown.dtype == np.uint8
    assert shown.shape == (len(entries), 3)
    assert (shown == shown[:, :1]).all()
    for value, grey in zip(entries, shown[:, 0].tolist(), strict=True):
        if value <= low:
            assert grey == 0 or span == 0
        elif value >= low + span:
            assert grey == 255
        else:
            assert abs(grey - 255 * (value - low) / span) <= 0.5 + 1e-9


@pytest.mark.parametrize("nodata", [0, 1, 3, -1])
def test_the_index_of_invalid_pixels_comes_after_the_colours(nodata):
    with pytest.raises(ParameterError, match="2 colours"):
        Colormap(np.zeros((2, 3), np.uint8), nodata)


def test_colormaps():
    colormap = Colormap(np.uint8([[1, 2, 3], [255, 16, 0]]), 2)
    assert colormap.entries == 3
    assert colormap.rgba.tolist() == [[1, 2, 3, 255], [255, 16, 0, 255], [0, 0, 0, 0]]
    assert colormap.hex == ["#010203", "#ff1000"]
    assert Colormap(colormap.rgb).rgba.tolist() == [[1, 2, 3, 255], [255, 16, 0, 255]]
