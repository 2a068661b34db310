"""Rate-aware encoding against a plain search through all rows there can be."""

from itertools import product

import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kmdask
from kmdask import Palette, ParameterError, encode
from kmdask.chunks import TILE
from kmdask.fitting.space import LinearSpace, Oklab
from kmdask.metrics import metrics_of, pixel_errors
from kmdask.options import Options
from kmdask.smoothing import spacing

DTYPES = ("uint8", "int16", "float32")
SPACES = {
    "bands": None,
    "scale": LinearSpace((1.0, 0.5)),
    "pca": LinearSpace((1.0, 2.0), ((0.6, 0.8),)),
}


def features_of(values, space):
    values = np.asarray(values, np.float64)
    return values if space is None else values @ space.matrix


def squares(pixels, palette, space=None):
    """Squared distances of all pixels to all entries."""
    gaps = features_of(pixels, space)[..., None, :] - features_of(palette.colors, space)
    return (gaps**2).sum(axis=-1)


def price(row, labels, y, nearest, far, limit):
    """What a row costs, as the documentation of `encode` says; `nearest` has nodata as None."""
    cost = 0.0
    for x, c in enumerate(row):
        if c is None:
            continue
        cost += far[y, x, c]
        if x > 0 and row[x - 1] not in (None, c):
            cost += 0.4 * limit
        if y > 0 and labels[y - 1][x] not in (None, c):
            cost += 0.1 * limit
        if y + 1 < len(nearest) and nearest[y + 1][x] not in (None, c):
            cost += 0.1 * limit
    return cost


def check_block(found, nearest, far, limit):
    """Every row of a block costs no more than any other that could be taken."""
    height, width = len(nearest), len(nearest[0])
    for y in range(height):
        allowed = []
        for x, own in enumerate(nearest[y]):
            around = [nearest[y][u] for u in (x - 1, x + 1) if 0 <= u < width]
            around += [found[y - 1][x]] if y > 0 else []
            around += [nearest[y + 1][x]] if y + 1 < height else []
            allowed.append([None] if own is None else sorted({own, *around} - {None}))
        assert all(c in entries for c, entries in zip(found[y], allowed, strict=True))
        best = min(price(row, found, y, nearest, far, limit) for row in product(*allowed))
        assert price(found[y], found, y, nearest, far, limit) == pytest.approx(best, rel=1e-9)


def named(indices, k):
    return [[None if c >= k else int(c) for c in row] for row in indices]


@settings(max_examples=40)
@given(
    data=st.data(),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 6)),
    k=st.integers(1, 5),
    dtype=st.sampled_from(DTYPES),
    space=st.sampled_from(sorted(SPACES)),
    smooth=st.sampled_from([0.05, 0.25, 0.7, 1.5, 8.0]),
    masked=st.booleans(),
)
def test_rows_are_the_cheapest_there_are(data, shape, k, dtype, space, smooth, masked):
    rng, space = np.random.default_rng(data.draw(st.integers(0, 2**32))), SPACES[space]
    palette = Palette.from_centers(rng.uniform(0, 100, (k, 2)), np.dtype(dtype))
    noisy = palette.colors[rng.integers(len(palette), size=shape)] + rng.normal(0, 25, (*shape, 2))
    pixels = np.clip(noisy, 0, 120).astype(dtype)
    valid = rng.random(shape) > 0.2 * masked
    mask = da.from_array(valid) if masked else None

    plain = encode(da.from_array(pixels), palette, mask, space=space).compute()
    found = encode(da.from_array(pixels), palette, mask, space=space, smooth=smooth).compute()

    assert found.dtype == plain.dtype
    np.testing.assert_array_equal(found == palette.nodata, ~valid)
    limit, far = smooth * spacing(palette, space), squares(pixels, palette, space)
    k = len(palette)
    check_block(named(found, k), named(plain, k), far, limit)
    taken = np.take_along_axis(far, np.minimum(found, k - 1)[..., None].astype(int), axis=2)
    assert (taken[valid, 0] <= far[valid].min(axis=1) + limit * (1 + 1e-9)).all()


def test_noise_is_smoothed():
    palette = Palette(np.array([[0], [100]], np.uint8))
    pixels = np.full((5, 9, 1), 40, np.uint8)
    pixels[2, 4] = 58  # as near as that to the second: 58² - 42² = 1600, of a spacing of 10,000
    for smooth, expected in ((0.15, 1), (0.17, 0)):
        indices = encode(da.from_array(pixels), palette, smooth=smooth).compute()
        assert indices[2, 4] == expected
        assert indices.sum() == expected


@pytest.mark.parametrize("smooth", [0, 0.0, np.float32(0)])
def test_none_changes_nothing(scene, smooth):
    palette = Palette.from_centers(np.linspace([0, 9, 5], [250, 240, 99], 9))
    pixels = da.from_array(scene(40, 50), chunks=(7, 50, 3))
    indices = encode(pixels, palette, smooth=smooth)
    assert indices.chunks == ((*[7] * 5, 5), (50,))
    np.testing.assert_array_equal(indices.compute(), encode(pixels, palette).compute())


@pytest.mark.parametrize("bands", [3, 5])
def test_chunks_make_no_difference(scene, holes, bands):
    shape = (TILE + 30, TILE + 70)
    pixels, valid = scene(*shape, bands), holes(*shape)
    palette = Palette.from_centers(pixels[5::97, 3::101].reshape(-1, bands).astype(float))
    found = []
    for chunks in (shape, (TILE, TILE), (300, 90), (25, 600)):
        mask = da.from_array(valid, chunks=chunks)
        indices = encode(da.from_array(pixels, chunks=(*chunks, -1)), palette, mask, smooth=0.3)
        found.append(indices.compute())
    assert all(np.array_equal(found[0], other) for other in found[1:])
    plain = encode(da.from_array(pixels), palette, da.from_array(valid)).compute()
    assert 0 < np.mean(found[0] != plain) < 0.5
    # Each square by itself.
    square = np.s_[TILE:, TILE:]
    alone = encode(da.from_array(pixels[square]), palette, da.from_array(valid[square]), smooth=0.3)
    np.testing.assert_array_equal(found[0][square], alone.compute())


def test_as_it_is_seen(scene):
    pixels, palette = scene(4, 5), Palette.from_centers(scene(40, 50)[::9, ::9].reshape(-1, 3))
    entries, values = (Oklab().project(each.reshape(-1, 3)) for each in (palette.colors, pixels))
    far = ((values[:, None] - entries) ** 2).sum(axis=2).reshape(4, 5, -1)
    indices = [
        encode(da.from_array(pixels), palette, space=Oklab(), smooth=smooth).compute()
        for smooth in (0, 0.6)
    ]
    assert (indices[0] != indices[1]).any()
    taken, near = (np.take_along_axis(far, i[..., None].astype(int), axis=2) for i in indices[::-1])
    assert (taken <= near + 0.6 * spacing(palette, Oklab()) * (1 + 1e-9)).all()
    plain, found = (named(i, len(palette)) for i in indices)
    check_block(found, plain, far, 0.6 * spacing(palette, Oklab()))


@pytest.mark.parametrize("space", sorted(SPACES))
def test_spacing(space):
    colors = np.random.default_rng(3).integers(0, 40, (30, 2)).astype(np.uint8)
    palette, space = Palette(np.unique(colors, axis=0)), SPACES[space]
    far = squares(palette.colors, palette, space)
    np.fill_diagonal(far, np.inf)
    assert spacing(palette, space) == pytest.approx(far.min(axis=1).mean())


def test_spacing_of_one_and_of_two_in_one_place():
    assert spacing(Palette(np.array([[7]], np.uint8))) == 0
    one_place = LinearSpace((1.0, 0.0))
    assert spacing(Palette(np.array([[1, 2], [1, 5], [1, 8]], np.uint8)), one_place) == 0


@pytest.mark.parametrize("smooth", [-0.1, np.nan, np.inf, "much", None, True])
def test_what_is_no_smoothing(smooth):
    palette = Palette(np.array([[0], [9]], np.uint8))
    with pytest.raises(ParameterError, match="number from 0"):
        encode(da.zeros((4, 4, 1), np.uint8), palette, smooth=smooth)
    with pytest.raises(ParameterError, match="number from 0"):
        kmdask.compress(np.zeros((4, 4), np.uint8), 2, "a.kmdask", smooth=smooth)


def test_it_is_part_of_what_is_asked():
    assert repr(Options(4)) == repr(Options(4, smooth=0))
    assert repr(Options(4)) != repr(Options(4, smooth=0.1))


@pytest.mark.cluster
def test_compress(tmp_path, scene, write_raster, compress, client):
    path = write_raster(tmp_path / "a.tif", scene(600, 700), tiled=True)
    plain = compress(path, 8, tmp_path / "plain.kmdask")
    smooth = compress(path, 8, tmp_path / "smooth.kmdask", smooth=0.4)

    assert kmdask.verify(tmp_path / "smooth.kmdask", client=client) == ()
    assert smooth.palette == plain.palette
    pixels, report = scene(600, 700), smooth.report
    indices = smooth.indices.compute()
    expected = encode(da.from_array(pixels), plain.palette, smooth=0.4).compute()
    np.testing.assert_array_equal(indices, expected)
    squared = (plain.palette.colors[indices].astype(float) - pixels) ** 2
    assert report.mse == pytest.approx(squared.mean())
    assert plain.report.mse < report.mse < 1.2 * plain.report.mse
    assert report.shares == tuple(np.bincount(indices.ravel(), minlength=8) / indices.size)
    assert report.valid_pixels == indices.size
    assert (report.smooth, plain.report.smooth) == (0.4, 0)
    assert report.sizes["zarr"] < 0.95 * plain.report.sizes["zarr"]
    assert report.sizes["tiles"] < 0.95 * plain.report.sizes["tiles"]

    # With the palette of a smoothed bundle, the same again; and it knows nothing of smoothing.
    again = compress(
        path, out=tmp_path / "again.kmdask", palette=tmp_path / "smooth.kmdask", smooth=0.4
    )
    np.testing.assert_array_equal(again.indices.compute(), indices)
    assert again.report.mse == report.mse
    read = [kmdask.SavedPalette.read(tmp_path / f"{name}.kmdask") for name in ("smooth", "plain")]
    assert read[0].options == read[1].options


def test_errors_are_those_of_the_pixels(scene):
    pixels = da.from_array(scene(30, 40))
    palette = Palette.from_centers(np.linspace([0, 9, 5], [250, 240, 99], 9))
    indices = encode(pixels, palette, smooth=1)
    errors, _ = pixel_errors(pixels, indices, palette)
    squared = (palette.colors[indices.compute()].astype(float) - scene(30, 40)) ** 2
    assert metrics_of(errors.compute(), 3, 255).mse == pytest.approx(squared.mean())
