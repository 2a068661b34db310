"""Colours that have to be in the palette, and the others fitted around them."""

import itertools

import dask
import dask.array as da
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import kmdask
from kmdask import Band, ParameterError, count_colors
from kmdask.cli import main
from kmdask.fitting.fit import fit_centers
from kmdask.fitting.grey import best_levels, best_levels_with
from kmdask.fitting.kmeans_blocks import Blocks
from kmdask.fitting.lloyd import lloyd, step
from kmdask.fitting.refine import refine_images
from kmdask.fitting.seeding import best_start
from kmdask.fixed import check_fixed, fixed_values

RED, TEAL = (255, 0, 0), (0, 128, 128)


def constrained(X, weights, start, held, steps=300):
    """Lloyd's algorithm whose first centres do not move, in a few lines."""
    centers = np.array(start, np.float64)
    for _ in range(steps):
        labels = ((X[:, None] - centers[None]) ** 2).sum(2).argmin(1)
        moved = centers.copy()
        for i in range(held, len(centers)):
            if weights[labels == i].sum() > 0:
                moved[i] = np.average(X[labels == i], axis=0, weights=weights[labels == i])
        if (moved == centers).all():
            break
        centers = moved
    squared = ((X[:, None] - centers[None]) ** 2).sum(2).min(1)
    return centers, float((weights * squared).sum())


@pytest.fixture(scope="module")
def clouds():
    rng = np.random.default_rng(3)
    X = np.concatenate([rng.normal(m, 20, (400, 3)) for m in (40, 100, 180, 220)])
    return X, rng.integers(1, 9, len(X)).astype(np.float64)


# The algorithm.


@settings(max_examples=12)
@given(held=st.integers(1, 6), k=st.integers(6, 9), seed=st.integers(0, 99), far=st.booleans())
def test_as_a_few_lines_of_numpy_do(clouds, held, k, seed, far):
    X, weights = clouds
    start = np.random.default_rng(seed).permutation(X)[:k]
    if far:
        start[0] = 1e6  # held, and takes no row
    expected, error = constrained(X, weights, start, held)
    centers, inertia, _ = lloyd(X, weights, start, tol=0, held=held)
    assert (centers[:held] == start[:held]).all()
    np.testing.assert_allclose(centers, expected, rtol=1e-9)
    assert inertia == pytest.approx(error, rel=1e-9)


def test_an_empty_cluster_is_moved_and_a_held_one_is_not(clouds):
    X, weights = clouds
    start = np.concatenate([np.full((2, 3), 1e6), X[:2], np.full((1, 3), -1e6)])
    centers, inertia, _ = lloyd(X, weights, start, held=2)
    assert (centers[:2] == 1e6).all()
    assert (np.abs(centers[2:]) < 300).all()
    assert inertia < constrained(X, weights, start[2:4], 0)[1]


def test_free_centres_without_a_row_to_go_to_join_a_held_one():
    X = np.array([[0.0], [1.0]])
    centers, _, _ = lloyd(X, np.array([5.0, 1.0]), np.array([[0.0], [1.0], [9.0]]), held=2)
    assert centers.ravel().tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("rows", [(1600,), (700, 900)])
def test_one_block_or_many(clouds, rows):
    X, weights = clouds
    lazy = [da.from_array(each, chunks=(rows, *each.shape[1:])) for each in clouds]
    blocks = Blocks(*dask.persist(*lazy))
    centers, _ = blocks.iterate(X[:7], max_iter=300, max_shift=0, held=3)
    expected, _ = constrained(X, weights, X[:7], 3)
    np.testing.assert_allclose(centers, expected, rtol=1e-9)


def test_the_best_start_is_around_what_is_held(scene):
    colors = count_colors(da.from_array(scene(60, 80)))
    held = np.array([RED, TEAL], np.float64)
    where = (colors.colors, colors.counts, colors.codes)
    start = best_start(*where, 8, 0, held=held)
    assert start.shape == (8, 3)
    assert (start[:2] == held).all()
    # Another client, or the same: what is held is part of what a task is called.
    assert not np.array_equal(start, best_start(*where, 8, 0, held=held + 1))


@settings(max_examples=12)
@given(data=st.data())
def test_grey_levels_are_the_best_there_are(data):
    values = np.array(sorted(data.draw(st.sets(st.integers(0, 12), min_size=1, max_size=7))))
    counts = np.array(data.draw(st.lists(st.integers(1, 9), min_size=len(values), max_size=7)))
    counts = np.resize(counts, len(values))
    fixed = np.array(sorted(data.draw(st.sets(st.integers(0, 14), min_size=1, max_size=3))))
    k = len(fixed) + data.draw(st.integers(0, 2))

    def error(levels):
        return (counts * ((values[:, None] - np.array(levels)) ** 2).min(1)).sum()

    found = best_levels_with(values, counts, k, fixed)
    free = itertools.combinations(range(15), k - len(fixed))
    assert error(found) == min(error([*fixed, *others]) for others in free)
    assert found[: len(fixed)].tolist() == fixed.tolist()
    assert len(set(found.tolist())) == k


def test_grey_levels_of_the_ends_and_of_the_best():
    values, counts = np.arange(256), np.random.default_rng(1).integers(1, 99, 256)
    best = best_levels(values, counts, 9)

    def error(levels):
        return (counts * ((values[:, None] - levels) ** 2).min(1)).sum()

    assert error(best_levels_with(values, counts, 9, best[4:5])) == error(best)
    assert {0, 255} < set(best_levels_with(values, counts, 9, np.array([255, 0])).tolist())


def test_refining_holds_them(scene):
    pixels = scene(30, 40, bands=4).astype(np.uint16)
    lazy = da.from_array(pixels, chunks=(16, 40, 4))
    survey = kmdask.survey(lazy)
    start = np.random.default_rng(0).permutation(pixels.reshape(-1, 4))[:6].astype(np.float64)
    start[0] = 60_000  # nobody's

    def run(*collections):
        return collections

    found = refine_images(
        [(lazy, None)], start, space=None, steps=3, units=survey.units, run=run, held=2
    )
    expected, _ = constrained(pixels.reshape(-1, 4), np.ones(1200), start, 2, steps=3)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert (found[:2] == start[:2]).all()


# The palette.


@pytest.fixture(params=["rgb", "grey", "cells", "float", "scale", "pca", "oklab"])
def image(request, scene):
    """Pixels, options, and two colours, the second of which is none of the image's."""
    options = {
        "scale": {"scale": (1, 0.5, 2)},
        "pca": {"pca": 2},
        "oklab": {"space": "oklab"},
    }.get(request.param, {})
    pixels = scene(60, 70, {"grey": 1, "cells": 5}.get(request.param, 3))
    if request.param == "cells":
        pixels = pixels.astype(np.uint16) * 40
    if request.param == "float":
        pixels = (pixels / 300).astype(np.float32)
    far = np.iinfo(pixels.dtype).max if pixels.dtype.kind == "u" else -7.3
    fixed = [tuple(pixels[50, 60].tolist()), (*[far] * (pixels.shape[2] - 1), 0)]
    return pixels, options, fixed


def error(pixels, palette, options):
    colors = np.array(palette, np.float64)
    scale = np.array(options.get("scale", 1.0))
    flat = pixels.reshape(-1, pixels.shape[2]).astype(np.float64) * scale
    return ((flat[:, None] - colors * scale) ** 2).sum(2).min(1).sum()


def test_every_fixed_colour_is_in_the_palette(tmp_path, compress, image):
    pixels, options, fixed = image
    bundle = compress(pixels, 7, tmp_path / "a.kmdask", fixed=fixed, **options)
    colors = bundle.palette.colors
    rows = {tuple(row) for row in colors.tolist()}
    assert {tuple(np.array(color, pixels.dtype).tolist()) for color in fixed} <= rows
    assert len(colors) == 7
    # In order of lightness, as all palettes are.
    assert bundle.palette == kmdask.Palette.from_centers(colors.astype(np.float64), pixels.dtype)
    # Never worse than the best of fewer with these as further entries.
    if not options.keys() & {"pca", "space"}:
        plain = compress(pixels, 5, tmp_path / "b.kmdask", **options).palette.colors
        joined = np.concatenate([plain, np.array(fixed, pixels.dtype)])
        assert error(pixels, colors, options) <= error(pixels, joined, options) * 1.001


def test_the_free_ones_are_where_constrained_k_means_leaves_them(scene):
    pixels = scene(80, 90)
    colors = count_colors(da.from_array(pixels))
    fixed = np.array([RED, TEAL], np.float64)
    found = fit_centers(colors, 8, fixed=fixed)
    assert (found[:2] == fixed).all()
    rows, counts = (
        np.asarray(each.compute(), np.float64) for each in (colors.colors, colors.counts)
    )
    _, rest = constrained(rows, counts, found, 2)
    here = step(rows, counts, found).inertia
    assert here <= rest * 1.001, "a fixed point, but for the tolerance"
    # As good as the best of some starts of the few lines.
    rng = np.random.default_rng(0)
    starts = [np.concatenate([fixed, rng.permutation(rows)[:6]]) for _ in range(10)]
    assert here <= min(constrained(rows, counts, s, 2, 40)[1] for s in starts) * 1.01


def test_few_colours(tmp_path, compress):
    pixels = np.uint8([[[0, 0, 0], [9, 9, 9], [200, 0, 0]]]).repeat(4, axis=0)
    one = compress(pixels, 4, tmp_path / "a.kmdask", fixed=["#c80000", RED])
    assert one.palette.hex == ["#000000", "#090909", "#c80000", "#ff0000"]
    assert np.isinf(one.report.psnr)
    assert one.report.shares == (1 / 3, 1 / 3, 1 / 3, 0.0)
    # All of them fixed, and one more than there are.
    two = compress(pixels, 2, tmp_path / "b.kmdask", fixed=[RED, TEAL])
    assert two.palette.hex == ["#ff0000", "#008080"]
    three = compress(pixels, 3, tmp_path / "c.kmdask", fixed=[RED, TEAL])
    assert set(three.palette.hex) > {"#ff0000", "#008080"}
    assert kmdask.open(tmp_path / "c.kmdask").palette == three.palette


@pytest.mark.parametrize(
    ("target", "met"),
    [
        ({"psnr": 30}, lambda image: image.report.psnr >= 30),
        ({"k": "auto"}, lambda image: image.report.k >= 2),
        ({"psnr": 1}, lambda image: image.report.k == 2),
    ],
)
def test_targets(tmp_path, compress, scene, target, met):
    image = compress(scene(50, 60), out=tmp_path / "a.kmdask", fixed=[RED, "#008080"], **target)
    assert met(image)
    assert {"#ff0000", "#008080"} <= set(image.palette.hex)
    again = compress(scene(50, 60), image.report.k, tmp_path / "b.kmdask", fixed=[RED, TEAL])
    assert again.palette == image.palette


def test_a_sweep_and_a_fit_of_many(client, scene):
    pixels = scene(50, 60)
    table = kmdask.sweep(pixels, (2, 4, 8), fixed=[RED, TEAL], sample=0, client=client)
    errors = [point.mse for point in table.points]
    assert errors == sorted(errors, reverse=True)
    assert table.options["fixed"] == [[255, 0, 0], [0, 128, 128]]
    exact = np.array([RED, TEAL])
    assert errors[0] == pytest.approx(error(pixels, exact, {}) / pixels.size, rel=1e-9)
    both = kmdask.fit([pixels, pixels[::2]], 6, fixed="#f00,008080", client=client)
    assert {"#ff0000", "#008080"} < set(both.palette.hex)
    assert both.options["fixed"] == ["#ff0000", "#008080"]


def test_the_same_whatever_the_chunks(tmp_path, compress, scene):
    pixels = da.from_array(scene(64, 64, 4).astype(np.uint16), chunks=(64, 64, 4))
    given = {"fixed": [(9, 9, 9, 60_000), (0, 0, 0, 1)], "k": 6}
    one = compress(pixels, out=tmp_path / "a.kmdask", **given)
    two = compress(pixels.rechunk((17, 40, 4)), out=tmp_path / "b.kmdask", **given)
    assert one.palette == two.palette


BANDS = tuple(map(Band, (1, 2, 3)))


@pytest.mark.parametrize(
    ("fixed", "bands", "dtype", "message"),
    [
        (["#fff"], BANDS, "uint16", "hexadecimal colours are those of three bands"),
        (["#ffe"], BANDS[:1], "uint8", "hexadecimal colours are those of three bands"),
        ([(1, 2)], BANDS, "uint8", "give a value for each"),
        ([(1, 2, 256)], BANDS, "uint8", r"the nearest is \(1, 2, 255\)"),
        ([(1, 2, 2.5)], BANDS, "int16", "no pixel of int16 can be"),
        ([(2**53 + 1,)], BANDS[:1], "int64", "no pixel of int64 can be"),
        ([(1e300,)], BANDS[:1], "float32", "no pixel of float32 can be"),
        ([(7,)], (Band(1, nodata=7.0),), "uint8", "nodata"),
        ([(0.1,)], (Band(1, nodata=0.1),), "float32", "nodata"),
    ],
)
def test_no_such_colour_in_the_image(fixed, bands, dtype, message):
    with pytest.raises(ParameterError, match=message):
        fixed_values(check_fixed(fixed), bands, np.dtype(dtype))


@pytest.mark.parametrize("fixed", [3, "#ff", ["red"], [()], [(True,)], [("a", 1)], [(np.nan,)]])
def test_no_colours(fixed):
    with pytest.raises(ParameterError, match="colour"):
        check_fixed(fixed)


def test_what_goes_and_what_does_not():
    array = np.zeros((4, 4, 3), np.uint8)
    assert check_fixed([]) is None
    assert check_fixed([np.array([1, 2]), (1, 2)]) == ((1, 2),)
    with pytest.raises(ParameterError, match="k is 1, and 2 colours are fixed"):
        kmdask.compress(array, 1, "a", fixed="#fff,#000")
    with pytest.raises(ParameterError, match="k is 1, and 2 colours are fixed"):
        kmdask.sweep(array, (1, 8), fixed="#fff,#000")
    with pytest.raises(ParameterError, match="estimator"):
        kmdask.compress(array, 3, "a", fixed="#fff", estimator=object())
    with pytest.raises(ParameterError, match="fixed is"):
        kmdask.compress(array, out="a", fixed="#fff", palette="#fff,#000")


def test_on_the_command_line(tmp_path, client, write_raster, scene):
    source = write_raster(tmp_path / "a.tif", scene(30, 40))
    for name, fixed in [("h", ["#ff0000,#088"]), ("n", ["255,0,0", "0,136,136"])]:
        options = [part for each in fixed for part in ("--fixed", each)]
        out = str(tmp_path / f"{name}.kmdask")
        arguments = ["compress", str(source), out, "-k", "5", "-q", *options]
        with client.as_current():
            done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
    one, two = (kmdask.open(tmp_path / f"{name}.kmdask").palette for name in "hn")
    assert one == two
    assert {"#ff0000", "#008888"} < set(one.hex)
    wrong = CliRunner().invoke(main, ["compress", str(source), "-k", "5", "--fixed", "red"])
    assert wrong.exit_code == 2
    assert "neither colours such as" in wrong.output
