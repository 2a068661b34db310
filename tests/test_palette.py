"""The palette, and the way from pixels to indices and back."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from dask.base import tokenize
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import kmdask
from kmdask import Palette, ParameterError, decode, encode

chunks = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple)

FEW = Palette.from_centers(
    np.array([[0, 0, 0], [30, 60, 90], [128, 128, 128], [200, 40, 40], [250, 250, 250.0]])
)


def lazy(pixels, rows=-1, columns=-1):
    return da.from_array(pixels, chunks=(rows, columns, -1))


def brute(pixels, palette):
    difference = pixels[:, :, None, :].astype(int) - palette.colors.astype(int)
    return (difference**2).sum(axis=3).argmin(axis=2)


@given(rows=chunks, columns=chunks, masked=st.booleans())
def test_indices_do_not_depend_on_chunks(scene, holes, rows, columns, masked):
    shape = sum(rows), sum(columns)
    pixels, valid = scene(*shape), holes(*shape)
    mask = da.from_array(valid, chunks=(rows, columns)) if masked else None

    indices = encode(lazy(pixels, rows, columns), FEW, mask)

    assert indices.chunks == (rows, columns)
    assert indices.dtype == np.uint8
    expected = np.where(valid | (not masked), brute(pixels, FEW), FEW.nodata)
    np.testing.assert_array_equal(indices.compute(), expected)


@pytest.mark.parametrize(("k", "bands"), [(1, 1), (7, 1), (1, 3), (7, 3), (256, 3)])
def test_every_pixel_gets_its_nearest_entry(scene, bands, k):
    centers = np.random.default_rng(k).uniform(0, 255, (k, bands))
    palette = Palette.from_centers(centers)
    pixels = scene(70, 90, bands)
    np.testing.assert_array_equal(encode(lazy(pixels), palette).compute(), brute(pixels, palette))


def test_ties_go_to_the_lowest_index():
    palette = Palette(np.array([[4, 4, 4], [2, 2, 2], [2, 2, 6], [6, 2, 2]], np.uint8))
    pixels = np.array([[[3, 3, 3], [4, 2, 2], [2, 2, 4], [4, 2, 4]]], np.uint8)
    # Squared distances: (3, 3, ..), (8, 4, .., 4), (8, 4, 4, ..), (4, 8, 8, 8).
    assert encode(lazy(pixels), palette).compute().tolist() == [[0, 1, 1, 0]]


@pytest.mark.parametrize("bands", [1, 3])
def test_encoding_what_was_decoded_changes_nothing(bands):
    colors = np.random.default_rng(0).permutation(256).astype(np.uint8)
    palette = Palette(np.stack([colors, colors[::-1], colors // 2][:bands], axis=1).copy())
    indices = da.from_array(np.arange(256, dtype=np.uint8).reshape(16, 16), chunks=(5, 16))
    again = encode(decode(indices, palette), palette)
    np.testing.assert_array_equal(again.compute(), indices.compute())


@settings(max_examples=8)
@given(data=st.data(), bands=st.sampled_from([1, 3]), k=st.integers(1, 12))
def test_images_of_few_colours_come_back_exactly(data, bands, k):
    values = data.draw(arrays(np.uint8, (k, bands)))
    which = data.draw(arrays(np.uint8, (5, 6), elements=st.integers(0, k - 1)))
    pixels = values[which]
    used = np.unique(pixels.reshape(-1, bands), axis=0)
    palette = Palette.from_centers(used.astype(float))
    assert len(palette) == len(used)
    back = decode(encode(lazy(pixels, 2, 5), palette), palette)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back.compute(), pixels)


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_invalid_pixels(scene, holes, dtype):
    pixels, valid = scene(20, 30), holes(20, 30)
    mask = da.from_array(valid.astype(dtype), chunks=(20, 7))
    indices = encode(lazy(pixels, 20, 7), FEW, mask)
    np.testing.assert_array_equal(indices.compute() == FEW.nodata, ~valid)
    np.testing.assert_array_equal(decode(indices, FEW).compute()[~valid], 0)


def test_nodata_is_the_index_after_the_palette():
    assert (FEW.nodata, len(FEW)) == (5, 5)


@pytest.mark.parametrize("bands", [1, 3])
def test_decode_equals_indexing(bands):
    palette = Palette.from_centers(np.linspace([0, 9, 5][:bands], [250, 240, 99][:bands], 9))
    indices = np.random.default_rng(0).integers(0, 9, (11, 13), dtype=np.uint8)
    colors = decode(da.from_array(indices, chunks=(4, 13)), palette)
    assert colors.shape == (11, 13, bands)
    assert colors.chunks == ((4, 4, 3), (13,), (bands,))
    np.testing.assert_array_equal(colors.compute(), palette.colors[indices])


def test_bands_must_agree(scene):
    with pytest.raises(ParameterError, match=r"1 band.* 3"):
        encode(lazy(scene(4, 4, 1)), FEW)


def test_invalid_pixels_need_an_index(scene):
    full = Palette.from_centers(np.arange(65536.0)[:, None], np.dtype(np.uint16))
    pixels = lazy(scene(4, 4, 1))
    with pytest.raises(ParameterError, match="k=65535"):
        encode(pixels, full, da.ones((4, 4), dtype=bool))
    assert encode(pixels, full).dtype == np.uint16
    np.testing.assert_array_equal(encode(pixels, full).compute(), scene(4, 4, 1)[:, :, 0])


@pytest.mark.parametrize(
    "colors",
    [
        np.zeros((0, 3), np.uint8),
        np.zeros((65_537, 3), np.uint8),
        np.zeros((2, 0), np.uint8),
        np.zeros(3, np.uint8),
        np.zeros((1, 3), bool),
        np.zeros((1, 3), np.complex64),
        np.zeros((1, 3), object),
    ],
    ids=["none", "65537", "0 bands", "1-D", "bool", "complex", "object"],
)
def test_what_is_no_palette(colors):
    with pytest.raises(ParameterError, match=r"numbers of shape \(k, band\).*65,536; got"):
        Palette(colors)


@pytest.mark.parametrize(
    "centers",
    [np.array([[np.nan, 0, 0]]), np.array([[1.0, np.inf]]), np.array([1.0, 2.0])],
    ids=["nan", "inf", "1-D"],
)
def test_centers_that_are_no_colours(centers):
    with pytest.raises(ParameterError):
        Palette.from_centers(centers)


def test_centers_are_rounded_clipped_and_taken_once():
    centers = np.array([[10.4, 0, 0], [9.6, -0.4, 0.2], [300, 255.2, 254.6], [0.5, 1.5, 2.5]])
    assert Palette.from_centers(centers).colors.tolist() == [[0, 2, 2], [10, 0, 0], [255, 255, 255]]


@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 40), st.sampled_from([1, 3])),
        elements=st.floats(0, 255),
    )
)
def test_palettes_are_ordered_by_lightness(centers):
    palette = Palette.from_centers(centers)
    weights = [299, 587, 114] if centers.shape[1] == 3 else [1]
    lightness = palette.colors.astype(int) @ weights
    assert (np.diff(lightness) >= 0).all()
    rounded = np.unique(np.rint(centers), axis=0)
    assert sorted(palette.colors.tolist()) == rounded.astype(int).tolist()
    shuffled = centers[np.random.default_rng(0).permutation(len(centers))]
    assert Palette.from_centers(shuffled) == palette


def test_grey_palettes_show_as_rgb():
    palette = Palette.from_centers(np.array([[255.0], [16.0]]))
    assert palette.bands == 1
    assert palette.hex == ["#101010", "#ffffff"]
    assert palette.rgb.tolist() == [[16] * 3, [255] * 3]


def test_equality_and_hash():
    same = Palette(FEW.colors.copy())
    assert same == FEW
    assert hash(same) == hash(FEW)
    assert Palette(FEW.colors[:4].copy()) != FEW
    assert Palette(np.uint8([[1, 2, 3]])) != Palette(np.uint8([[1], [2], [3]]))
    assert FEW.colors.tolist() != FEW  # no error, no array


def test_palettes_are_read_only_and_leave_the_given_array_alone():
    colors = np.array([[1, 2, 3]], np.uint8)
    palette = Palette(colors)
    with pytest.raises(ValueError, match="read-only"):
        palette.colors[0] = 0
    colors[0] = 9
    assert palette.colors.tolist() == [[1, 2, 3]]


def test_palettes_pickle():
    again = pickle.loads(pickle.dumps(FEW))  # noqa: S301  our own bytes
    assert again == FEW
    assert hash(again) == hash(FEW)
    # Look-up tables are kept by palette: one that changes would get the wrong table.
    assert not again.colors.flags.writeable


def test_tokens_are_the_same_in_another_process():
    code = (
        "import numpy as np; from dask.base import tokenize; from kmdask.palette import Palette;"
        f"print(tokenize(Palette(np.array({FEW.colors.tolist()}, np.uint8))))"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(kmdask.__file__).parents[1],  # a checkout that is not installed is found too
        check=True,
        capture_output=True,
        text=True,
    )
    assert there.stdout.strip() == tokenize(FEW)
    assert tokenize(FEW) != tokenize(Palette(FEW.colors[:4].copy()))
