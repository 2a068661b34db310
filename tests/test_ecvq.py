"""Entropy-constrained palettes, against brute force and a small independent implementation."""

import json
import math
from itertools import pairwise
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
from bundles import contents
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

import kmdask
from kmdask import choosing
from kmdask.cli import main
from kmdask.encoding import encode
from kmdask.errors import ParameterError
from kmdask.fitting.ecvq import Descent, Entries
from kmdask.fitting.space import LinearSpace
from kmdask.kernels import colors as kernels
from kmdask.kernels import table as tables
from kmdask.options import Options
from kmdask.palette import Palette
from kmdask.smoothing import spacing


def nearest(X, centers, penalties):
    """The entry of least squared distance and penalty, the first of equals, by trying all."""
    squared = ((X[:, None].astype(float) - centers[None]) ** 2).sum(axis=2)
    return (squared + np.sqrt(penalties) ** 2).argmin(axis=1)


def lagrangian(X, weights, centers, masses, price):
    """Squared errors and the price of all bits, with the best assignment; the paper's formula."""
    bits = -np.log2(masses / masses.sum())
    labels = nearest(X, centers, price * bits)
    errors = ((X - centers[labels]) ** 2).sum(axis=1)
    return float(weights @ (errors + price * bits[labels]))


def entropy_of(indices):
    """Bits of an index, by counting."""
    _, counts = np.unique(indices, return_counts=True)
    return float(-(counts / counts.sum() * np.log2(counts / counts.sum())).sum())


def cloud(height, width):
    """Pixels with a dense middle, as scenes have: far out entries are rare, and dear."""
    rng = np.random.default_rng(3)
    return np.clip(rng.laplace(128, 20, (height, width, 3)), 0, 254).astype(np.uint8)


@pytest.fixture
def drawn():
    """Weighted rows in three clouds."""
    rng = np.random.default_rng(1)
    X = np.concatenate(
        [rng.normal(m, s, (n, 3)) for m, s, n in ((0, 1, 300), (9, 3, 200), (4, 9, 99))]
    )
    return X, rng.integers(1, 50, len(X)).astype(float), X[rng.permutation(len(X))[:24]].copy()


# The rule


@settings(max_examples=12)
@given(st.data())
def test_encoding_is_brute_force(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    bands, k = data.draw(st.sampled_from([1, 2, 3])), data.draw(st.integers(1, 40))
    entries = np.unique(rng.integers(0, 256, (k, bands), dtype=np.uint8), axis=0)
    # Whole numbers, so that many are equally good.
    penalties = rng.integers(0, 9, len(entries)) ** 2 * data.draw(
        st.sampled_from([0.0, 1.0, 900.0])
    )
    palette = Palette(entries, penalties)
    pixels = rng.integers(0, 256, (30, 40, bands), dtype=np.uint8)
    expected = nearest(pixels.reshape(-1, bands), entries, penalties).reshape(30, 40)
    lazy = da.from_array(pixels, chunks=(16, 40, bands))
    # By the search, by the search in a space, and by the table if it is worth its time.
    found = [
        encode(lazy.astype(np.uint16), palette),
        encode(lazy, palette, space=LinearSpace((1.0,) * bands)),
        encode(lazy, palette, space=LinearSpace((1.0,) * bands, tuple(map(tuple, np.eye(bands))))),
    ]
    for indices in found:
        np.testing.assert_array_equal(indices.compute(), expected)


@pytest.mark.parametrize("k", [7, 700])
def test_table_is_brute_force(k):
    rng = np.random.default_rng(k)
    entries = np.unique(rng.integers(0, 256, (k, 3), dtype=np.uint8), axis=0)
    # Of few entries any, of many whole numbers, so that many are equally good.
    penalties = rng.exponential(500, len(entries)) if k == 7 else 64.0 * (entries[:, 0] % 9)
    table = np.zeros(1 << 24, np.uint16)
    tables.nearest_table(entries, penalties, table)
    codes = rng.integers(0, 1 << 24, 3000, dtype=np.uint32)
    colors = kernels.decode_codes(codes, 3)
    expected = nearest(colors, entries, penalties)
    np.testing.assert_array_equal(table[codes], expected)
    pixels = da.from_array(colors[None].astype(np.uint16))
    found = encode(pixels, Palette(entries, penalties)).compute()[0]
    np.testing.assert_array_equal(found, expected)


def test_metrics_count_by_the_rule(scene):
    pixels = da.from_array(scene(40, 50))
    palette = Palette(
        np.uint8([[9, 9, 9], [120, 120, 120], [200, 90, 20]]), np.array([0, 2e3, 900])
    )
    indices = encode(pixels, palette).compute()
    shares = np.bincount(indices.ravel(), minlength=3) / indices.size
    colors = kmdask.count_colors(pixels)
    assert kmdask.measure(colors, palette).shares == pytest.approx(tuple(shares))
    assert kmdask.measure(colors, Palette(palette.colors)).shares != pytest.approx(tuple(shares))


def test_a_palette_is_another_with_other_penalties():
    colors = np.uint8([[1], [2]])
    plain, dear = Palette(colors), Palette(colors, np.array([0.0, 2.0]))
    assert plain != dear
    assert hash(plain) != hash(dear)
    assert dear == Palette(colors, np.array([0.0, 2.0]))
    # Of centres that round to the same colour the less dear one counts.
    centers = np.array([[2.4], [1.0], [1.6]])
    assert Palette.from_centers(centers, penalties=np.array([3.0, 1.0, 2.0])) == Palette(
        colors, np.array([1.0, 2.0])
    )
    for wrong in ([1.0], [1.0, -1.0], [1.0, math.nan], [math.inf, 0.0]):
        with pytest.raises(ParameterError, match="one for each of the 2 entries"):
            Palette(colors, np.array(wrong))


# The fit


@pytest.mark.parametrize("price", [0.5, 5.0, 200.0])
def test_steps_are_those_of_the_paper(drawn, price):
    X, weights, centers = drawn
    descent = Descent(X, weights, len(centers))
    entries = descent.step(Entries(centers, np.ones(len(centers))), 0.0)
    alive = np.arange(len(centers))
    means, masses = entries.centers, entries.masses
    costs = []
    for _ in range(30):
        entries = descent.step(entries, price)
        costs.append(entries.cost)
        # The same in a few lines, without what has starved.
        used = masses > 0
        alive, means, masses = alive[used], means[used], masses[used]
        labels = nearest(X, means, -price * np.log2(masses / masses.sum()))
        masses = np.bincount(labels, weights, len(means))
        sums = [np.bincount(labels, weights * band, len(means)) for band in X.T]
        means = np.where(
            masses[:, None] > 0, np.stack(sums, 1) / np.maximum(masses, 1)[:, None], means
        )
        np.testing.assert_allclose(entries.masses[alive], masses)
        np.testing.assert_allclose(entries.centers[alive[masses > 0]], means[masses > 0])
    # No step raises the Lagrangian, and the next assignment only lowers it.
    assert all(after <= before * (1 + 1e-9) for before, after in pairwise(costs))
    used = masses > 0
    assert lagrangian(X, weights, means[used], masses[used], price) <= costs[-1] * (1 + 1e-9)


@pytest.mark.parametrize("rate", [1.0, 2.5])
def test_the_rate_is_met_and_used(drawn, rate):
    X, weights, centers = drawn
    found = Descent(X, weights, len(centers)).reach(centers, rate)
    labels = nearest(X, found.centers[found.masses > 0], found.penalties[found.masses > 0])
    shares = np.bincount(labels, weights) / weights.sum()
    assert found.rate <= rate
    assert found.rate > 0.9 * rate
    assert -(shares[shares > 0] * np.log2(shares[shares > 0])).sum() == pytest.approx(
        found.rate, abs=0.02
    )
    # Whatever the threads.
    twice = Descent(X, weights, len(centers), threads=2).reach(centers, rate)
    np.testing.assert_array_equal(twice.centers, found.centers)


def test_less_error_than_plain_palettes_of_the_rate(compress, tmp_path):
    pixels = cloud(40, 50)

    def reported(name, *arguments, **options):
        path = tmp_path / f"{name}.kmdask"
        return compress(pixels, *arguments, out=path, formats=("zarr",), **options).report

    plain = reported("plain", 12)
    rate = entropy_of(kmdask.open(tmp_path / "plain.kmdask").indices.compute())
    assert reported("rated", 40, target_bpp=rate).mse < 0.97 * plain.mse


# compress


@pytest.mark.parametrize("kind", ["counted", "oklab", "cells", "components"])
def test_compress(compress, client, holes, tmp_path, kind):
    pixels = cloud(40, 60)
    pixels[~holes(40, 60)] = 255
    options = {"formats": ("zarr",), "nodata": 255, "ssim": False}
    if kind == "oklab":
        options["space"] = "oklab"
    if kind in {"cells", "components"}:
        pixels = np.concatenate([pixels, pixels[:, :, :1]], axis=2).astype(np.uint16)
        options |= {"refine": 1, "pca": 2 if kind == "components" else None}
        options["scale"] = (1.0, 0.5, 2.0, 1.0)
    image = compress(pixels, 32, tmp_path / "a.kmdask", target_bpp=2.5, **options)
    report, indices = image.report, image.indices.compute()
    valid = indices != image.nodata
    assert report.asked == {"target_bpp": 2.5}
    assert report.k == 32 >= report.k_used
    got = entropy_of(indices[valid])
    assert got <= (2.5 if kind in {"counted", "oklab"} else 2.7)
    assert got > 2.3
    if kind in {"counted", "oklab"}:
        assert report.attained == pytest.approx(got)
    assert not kmdask.verify(image.path, client=client)
    # The rule is in the bundle: what is encoded with its palette is encoded alike.
    assert image.palette.penalties.max() > 0
    again = compress(
        pixels, out=tmp_path / "b.kmdask", palette=image.path, nodata=255, formats=("zarr",)
    )
    np.testing.assert_array_equal(again.indices.compute(), indices)
    assert again.palette == image.palette
    if kind == "counted":
        mse = ((image.to_dask().compute()[valid] - pixels[valid].astype(float)) ** 2).mean()
        assert report.mse == pytest.approx(mse)
        chunked = da.from_array(pixels, chunks=(32, 33, 3))
        same = compress(chunked, 32, tmp_path / "c.kmdask", target_bpp=2.5, **options)
        assert contents(same.path) == contents(image.path)


def test_smoothed_by_the_rule_and_measured_so(compress, tmp_path):
    pixels = cloud(40, 50)
    options = {"target_bpp": 2.5, "formats": ("zarr",), "smooth": 0.3}
    image = compress(pixels, 20, tmp_path / "a.kmdask", **options)
    # What a pixel takes costs it no more than is allowed, with what is added.
    palette, indices = image.palette, image.indices.compute()
    costs = ((pixels[..., None, :].astype(float) - palette.colors) ** 2).sum(axis=-1)
    costs += palette.penalties
    taken = np.take_along_axis(costs, indices[..., None].astype(int), axis=-1)[..., 0]
    gap = taken - costs.min(axis=-1)
    assert 0 < gap.max() <= 0.3 * spacing(palette) * (1 + 1e-9)
    # Sizes are met with what smoothing makes of the indices.
    options = {"formats": ("zarr",), "smooth": 0.3}
    pixels = pixels[:, :, 0]
    allowed = compress(pixels, 6, tmp_path / "b.kmdask", **options).report.sizes["zarr"]
    image = compress(pixels, out=tmp_path / "c.kmdask", max_bytes=allowed, **options)
    more = compress(pixels, image.report.k + 1, tmp_path / "d.kmdask", **options)
    assert image.report.attained <= allowed < more.report.sizes["zarr"]


def test_the_same_bits_whatever_the_threads():
    # A matrix product of many rows is added up as its threads are.
    rng = np.random.default_rng(0)
    X, weights = rng.random((50_000, 3)), rng.integers(1, 99, 50_000).astype(float)
    found = []
    for threads in (1, 4):
        with threadpool_limits(threads):
            descent = Descent(X, weights, 16, threads)
            found.append(descent.step(Entries(X[:16], np.ones(16)), 0.001))
    assert found[0].cost == found[1].cost
    np.testing.assert_array_equal(found[0].centers, found[1].centers)


def test_a_rate_exceeded_by_next_to_nothing():
    # The same palette comes again and again, until twice what was left before is left.
    asked = []

    def trial(shares):
        return SimpleNamespace(palette=shares, metrics=SimpleNamespace(shares=shares))

    def rated(_, rate):
        asked.append(rate)
        return trial((0.5, 0.5))

    def fit(k):
        return trial((1 / k,) * k)

    rate = float(np.nextafter(1, 0))
    found = choosing._rated(SimpleNamespace(rated=rated), rate, 2, fit)
    assert found.palette == (1.0,)
    assert len(asked) < 20


def test_few_bits_are_needed_or_none_starves(compress, tmp_path):
    # Two colours take a bit at most: what is allowed is more, and the palette is the plain one.
    halves = np.repeat(np.uint8([[10, 200]]), 64, axis=0)
    image = compress(halves, out=tmp_path / "a.kmdask", target_bpp=3, formats=("zarr",))
    assert image.palette == Palette(np.uint8([[10], [200]]))
    # Equally frequent colours are equally dear at any price: fewer are begun with.
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    image = compress(ramp, out=tmp_path / "c.kmdask", target_bpp=1.5, formats=("zarr",))
    assert entropy_of(image.indices.compute()) <= 1.5
    assert len(image.palette) >= 2
    image = compress(halves, out=tmp_path / "d.kmdask", target_bpp=0.5, formats=("zarr",))
    assert len(image.palette) == 1


def test_saved_palette_has_the_rule(tmp_path):
    from kmdask.bands import Band
    from kmdask.display import Display

    saved = kmdask.SavedPalette(
        palette=Palette(np.uint8([[3], [9]]), np.array([0.1, 7.0])),
        bands=(Band(number=1, name="a"),),
        display=Display(bands=(1,), low=(0.0,), high=(255.0,)),
        k=2,
        peak=255.0,
    )
    saved.write(tmp_path / "a.json")
    assert kmdask.SavedPalette.read(tmp_path / "a.json") == saved
    fields = json.loads((tmp_path / "a.json").read_text()) | {"penalties": [1.0]}
    (tmp_path / "b.json").write_text(json.dumps(fields))
    with pytest.raises(kmdask.PaletteError, match="damaged"):
        kmdask.SavedPalette.read(tmp_path / "b.json")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"target_bpp": 0}, "a number above 0; got 0"),
        ({"target_bpp": -1.5}, "got -1.5"),
        ({"target_bpp": math.nan}, "got nan"),
        ({"target_bpp": "2"}, "got '2'"),
        ({"target_bpp": 2, "k": "auto"}, "k is a number or left out"),
        ({"target_bpp": 2, "psnr": 30}, "got target_bpp=2 and psnr=30"),
        ({"target_bpp": 2, "k": 0}, "from 1 to 65,536; got 0"),
    ],
)
def test_refused(asked, told):
    with pytest.raises(ParameterError, match=told):
        Options(**{"k": None} | asked)


def test_command_line(tmp_path, client, scene, write_raster):
    source = write_raster(tmp_path / "scene.tif", scene(30, 40))

    def run(*arguments):
        with client.as_current():
            done = CliRunner().invoke(main, ["compress", *map(str, arguments), "--no-tiles"])
        return done.exit_code, done.stdout + done.stderr

    code, told = run(source, "--target-bpp", 1.25, "-k", 20)
    assert code == 0, told
    assert kmdask.open(tmp_path / "scene.kmdask").report.asked == {"target_bpp": 1.25}
    assert "target_bpp=1.25" in told
    assert run(source, "--target-bpp", 0, "--overwrite")[0] == 1
    assert run(source, "--target-bpp", 2, "--ratio", 3)[0] == 2
