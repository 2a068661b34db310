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
from kmdask.fitting.space import LinearSpace

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


def test_numpy_takes_a_palette_for_its_colours():
    np.testing.assert_array_equal(np.asarray(FEW), FEW.colors, strict=True)
    assert np.shares_memory(np.asarray(FEW), FEW.colors)
    assert not np.asarray(FEW).flags.writeable
    own = np.array(FEW)
    own[0] = 7
    assert not np.shares_memory(own, FEW.colors)
    assert np.asarray(FEW, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="copy"):
        np.array(FEW, np.float64, copy=False)


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


# Pixels of any type


DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int64", "uint64", "float32", "float64"]


def values_of(dtype, shape, seed=0):
    """Whole numbers over the range of a type, as far as their squares are exact in float64."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return np.round(rng.normal(0, 1000, shape) * 8).astype(dtype) / np.dtype(dtype).type(8)
    limits = np.iinfo(dtype)
    # Near each other in the types whose squares do not fit: differences are exact again.
    low, high = (limits.min, limits.max) if limits.bits < 32 else (limits.max // 2, 0)
    high = high or low + 2**20
    if limits.bits == 64:
        low, high = 2**50, 2**50 + 2**20
    return rng.integers(low, high, shape, dtype=dtype, endpoint=True)


def exact_nearest(pixels, colors):
    """In Python's integers: no difference overflows, no square is rounded."""
    flat = pixels.reshape(-1, pixels.shape[2]).astype(np.float64)
    squared = ((flat[:, None].astype(object) - colors.astype(np.float64).astype(object)) ** 2).sum(
        axis=2
    )
    best = [row.index(min(row)) for row in squared.tolist()]
    return np.array(best).reshape(pixels.shape[:2])


@pytest.mark.parametrize("bands", [1, 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pixels_of_every_type_get_their_nearest_entry(holes, dtype, bands):
    pixels, valid = values_of(dtype, (20, 23, bands)), holes(20, 23)
    palette = Palette(np.unique(values_of(dtype, (9, bands), seed=1), axis=0))
    indices = encode(lazy(pixels, 20, 9), palette, da.from_array(valid, chunks=(20, 9)))
    assert indices.dtype == np.uint8
    expected = np.where(valid, exact_nearest(pixels, palette.colors), len(palette))
    np.testing.assert_array_equal(indices.compute(), expected)
    decoded = decode(indices, palette)
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded.compute()[valid], palette.colors[expected[valid]])


@pytest.mark.parametrize("bands", [2, 3, 4])
@pytest.mark.parametrize("k", [255, 256, 257, 1000])
def test_indices_of_16_bits(holes, k, bands):
    rng = np.random.default_rng(k)
    colors = np.unique(rng.integers(256, size=(2 * k, bands), dtype=np.uint8), axis=0)
    palette = Palette(rng.permutation(colors)[:k])
    pixels, valid = rng.integers(256, size=(30, 31, bands), dtype=np.uint8), holes(30, 31)
    every = encode(lazy(pixels), palette)
    assert every.dtype == (np.uint8 if k <= 256 else np.uint16)
    np.testing.assert_array_equal(every.compute(), brute(pixels, palette))
    some = encode(lazy(pixels), palette, da.from_array(valid))
    assert some.dtype == (np.uint8 if k <= 255 else np.uint16)
    expected = np.where(valid, brute(pixels, palette), k)
    np.testing.assert_array_equal(some.compute(), expected)


def test_65536_entries():
    # Each pixel is an entry or next to one; entries are two apart in every band.
    grid = np.stack(np.meshgrid(*[np.arange(0, 32, 2)] * 4, indexing="ij"), axis=4).reshape(-1, 4)
    palette = Palette.from_centers(grid.astype(float), np.dtype(np.int16))
    assert len(palette) == palette.nodata == 65_536
    places = np.random.default_rng(0).permutation(65_536)[:5000]
    pixels = palette.colors[places].reshape(50, 100, 4)
    pixels[25:, :, 0] += np.where(pixels[25:, :, 0] == 30, 1, -1).astype(np.int16)
    ties = (pixels[25:, :, 0] > 0) & (pixels[25:, :, 0] < 30)
    indices = encode(lazy(pixels, 30), palette)
    assert indices.dtype == np.uint16
    found = indices.compute().ravel()
    np.testing.assert_array_equal(found[:2500], places[:2500])
    # Of the two that are as near the first in the palette, which is the darker one.
    same = ~ties.ravel()
    np.testing.assert_array_equal(found[2500:][same], places[2500:][same])
    expected = pixels[25:][ties] - np.array([1, 0, 0, 0])
    np.testing.assert_array_equal(palette.colors[found[2500:][~same]], expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_the_nearest_entry_in_a_space(dtype):
    pixels = values_of(dtype, (20, 23, 3))
    palette = Palette(np.unique(values_of(dtype, (9, 3), seed=1), axis=0))
    for space in [
        LinearSpace((1.0, 0.25, 4.0)),
        LinearSpace((0.5, 1.0, 2.0), ((0.5, 0.25, 1.0), (1.0, -0.5, 0.0))),
    ]:
        features = pixels.reshape(-1, 3).astype(float) @ space.matrix
        entries = palette.colors.astype(float) @ space.matrix
        squared = ((features[:, None] - entries) ** 2).sum(axis=2)
        found = encode(lazy(pixels, 7), palette, space=space).compute()
        np.testing.assert_array_equal(found.ravel(), squared.argmin(axis=1))
        assert (found != brute_float(pixels, palette)).any()


def brute_float(pixels, palette):
    difference = pixels[:, :, None, :].astype(float) - palette.colors.astype(float)
    return (difference**2).sum(axis=3).argmin(axis=2)


# Centres become entries of any type


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounding(dtype):
    dtype = np.dtype(dtype)
    centers = np.array([[0.5], [1.5], [2.49], [3.0], [1e300], [-1e300]])
    if dtype.kind == "f":
        centers = centers[:4]
        expected = centers.astype(dtype).ravel().tolist()
    else:
        limits = np.iinfo(dtype)
        # The last 64-bit integers are none of float64's.
        top = limits.max if limits.bits < 64 else limits.max - (2047 if limits.min == 0 else 1023)
        expected = sorted({limits.min, 0, 2, 3, top})
    palette = Palette.from_centers(centers, dtype)
    assert palette.colors.dtype == dtype
    assert palette.colors.ravel().tolist() == expected


@pytest.mark.parametrize("dtype", ["uint16", "float32", "int16"])
def test_entries_are_in_the_order_of_their_means(dtype):
    centers = values_of(dtype, (50, 7)).astype(float)
    palette = Palette.from_centers(centers, np.dtype(dtype))
    means = palette.colors.astype(float).mean(axis=1)
    assert (np.diff(means) >= 0).all()
    assert sorted(palette.colors.tolist()) == sorted(np.unique(centers, axis=0).tolist())


@pytest.mark.parametrize(
    ("dtype", "missing", "moved"),
    [
        ("uint8", (7, 9), [8, 9]),
        ("uint8", (255, 255), [254, 255]),
        ("uint16", (0, 0), [1, 0]),
        ("uint16", (65535, 3), [65534, 3]),
        ("int16", (-32768, -32768), [-32767, -32768]),
        ("int16", (-1, 0), [0, 0]),
        ("uint32", (2**32 - 1, 0), [2**32 - 2, 0]),
        ("int64", (-(2**63), 0), [-(2**63) + 1, 0]),
        ("float64", (-9999.0, 0.0), [np.nextafter(-9999.0, 0), 0]),
        ("float64", (0.0, 0.0), [np.nextafter(0.0, 1), 0]),
        ("float32", (0.1, 5.0), [float(np.nextafter(np.float32(0.1), np.float32(1))), 5]),
        ("float32", (3.0e38, 5.0), [float(np.nextafter(np.float32(3e38), np.float32(3.3e38))), 5]),
    ],
)
def test_no_entry_is_taken_for_a_missing_pixel(dtype, missing, moved):
    centers = np.array([missing, (100, 101), (50, missing[1])], float)
    palette = Palette.from_centers(centers, np.dtype(dtype), avoid=missing)
    assert len(palette) == 3
    assert moved in palette.colors.tolist()
    filled = np.array(missing).astype(dtype)
    assert not (palette.colors == filled).all(axis=1).any()
    kept = Palette.from_centers(centers, np.dtype(dtype))
    assert filled.tolist() in kept.colors.tolist()


def test_a_moved_entry_that_is_another_one_is_one_entry():
    centers = np.array([[0.0, 0.0], [1.0, 0.0]])
    palette = Palette.from_centers(centers, np.dtype(np.uint16), avoid=(0, 0))
    assert palette.colors.tolist() == [[1, 0]]


@pytest.mark.parametrize("avoid", [None, (np.nan, np.nan), (np.nan, 0), (0, 1)])
def test_nothing_to_avoid(avoid):
    centers = np.array([[0.0, 0.0], [1.0, 0.0]])
    palette = Palette.from_centers(centers, np.dtype(np.float32), avoid=avoid)
    assert palette == Palette(centers.astype(np.float32))


# Indices become colours


@pytest.mark.parametrize("fill", [None, (-9999, 7), np.array([3.0, 4.0])])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_missing_pixels_are_filled(dtype, fill):
    palette = Palette(np.array([[1, 2], [3, 5]], dtype))
    indices = da.from_array(np.array([[0, 1, 2]], np.uint8))
    decoded = decode(indices, palette, fill).compute()
    assert decoded.dtype == dtype
    expected = [0, 0] if fill is None else list(map(float, fill))
    assert decoded.tolist() == [[[1, 2], [3, 5], expected]]
    nothing = decode(indices, palette, np.full(2, np.nan)) if dtype == "float32" else None
    assert nothing is None or np.isnan(nothing.compute()[0, 2]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_damaged_indices_are_missing_pixels(dtype):
    palette = Palette(np.array([[1, 2], [3, 4]], np.uint16))
    indices = da.from_array(np.array([[1, 2, 3, np.iinfo(dtype).max]], dtype))
    assert decode(indices, palette).compute().tolist() == [[[3, 4], [0, 0], [0, 0], [0, 0]]]


def test_palettes_of_other_pixels_are_not_shown():
    palette = Palette(np.array([[1, 2, 3, 4]], np.uint8))
    assert not palette.displayable
    assert repr(palette) == "Palette(1 colour, 4 bands of uint8)"
    with pytest.raises(ParameterError, match=r"4 band.*uint8"):
        _ = palette.hex
    assert not Palette(np.array([[1]], np.uint16)).displayable


def test_palettes_of_different_types_are_different():
    assert Palette(np.array([[1]], np.uint8)) != Palette(np.array([[1]], np.uint16))
    again = pickle.loads(pickle.dumps(Palette(np.array([[1.5]], np.float32))))  # noqa: S301
    assert again == Palette(np.array([[1.5]], np.float32))
    assert again.colors.dtype == np.float32
