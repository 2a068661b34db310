"""OKLab against what its author published, NumPy and scikit-learn; runs in it from end to end."""

from __future__ import annotations

import json

import dask.array as da
import numpy as np
import pytest
from click.testing import CliRunner
from ottosson import CONES_TO_LAB, RGB_TO_CONES
from sklearn.cluster import KMeans

import kmdask
from kmdask import LinearSpace, Oklab, Palette, ParameterError, SavedPalette, Space
from kmdask.cli import main
from kmdask.fitting.fit import fit_centers
from kmdask.kernels.oklab import from_oklab, to_oklab

CONES = np.array([
    [0.8189330101, 0.3618667424, -0.1288597137],
    [0.0329845436, 0.9293118715, 0.0361456387],
    [0.0482003018, 0.2643662691, 0.6338517070],
])  # fmt: skip
"""From XYZ, as Ottosson gives it first; what kmdask uses is his matrix from linear sRGB."""
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
"""From linear sRGB, as IEC 61966-2-1 gives it."""

PUBLISHED = {
    (0.950, 1.000, 1.089): (1.000, 0.000, 0.000),
    (1.000, 0.000, 0.000): (0.450, 1.236, -0.019),
    (0.000, 1.000, 0.000): (0.922, -0.671, 0.263),
    (0.000, 0.000, 1.000): (0.153, -1.415, -0.449),
}
"""XYZ and OKLab in the table of Ottosson's text."""

PRIMARIES = {
    (255, 255, 255): (1.0, 0.0, 0.0),
    (255, 0, 0): (0.627955, 0.224863, 0.125846),
    (0, 255, 0): (0.866440, -0.233888, 0.179498),
    (0, 0, 255): (0.452014, -0.032457, -0.311528),
    (0, 128, 0): (0.519752, -0.140302, 0.107676),
    (128, 128, 128): (0.599871, 0.0, 0.0),
}
"""sRGB and OKLab as implementations of CSS Color 4 agree on them."""


def of_xyz(xyz):
    return np.cbrt(np.asarray(xyz) @ CONES.T) @ CONES_TO_LAB.T


def linear(colors):
    shares = np.asarray(colors) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def squared(features, centers):
    """Squared distances of every row from every centre, added up in order."""
    gaps = (features[:, None] - centers) ** 2
    return gaps[:, :, 0] + gaps[:, :, 1] + gaps[:, :, 2]


def seen(pixels, decoded):
    """Mean distance in OKLab."""
    flat = (Oklab().project(values.reshape(-1, 3)) for values in (pixels, decoded))
    return np.linalg.norm(next(flat) - next(flat), axis=1).mean()


@pytest.fixture(scope="module")
def picture(scene):
    """Three bands, one of which hardly varies: dark and saturated colours."""
    return (scene(48, 70).astype(float) * [0.3, 1, 0.7]).astype(np.uint8)


@pytest.fixture(scope="module")
def colors(picture):
    return kmdask.count_colors(da.from_array(picture, chunks=(20, 40, 3)))


# The map


def test_the_oracle_is_what_was_published():
    np.testing.assert_allclose(of_xyz(list(PUBLISHED)), list(PUBLISHED.values()), atol=6e-4)


def test_colors_equal_the_oracle():
    rng = np.random.default_rng(0)
    some = np.concatenate([rng.uniform(0, 255, (9000, 3)), rng.integers(0, 256, (9000, 3))])
    np.testing.assert_allclose(to_oklab(some), of_xyz(linear(some) @ XYZ.T), atol=6e-4)


def test_colors_are_those_that_others_find():
    found = Oklab().project(np.array(list(PRIMARIES), np.uint8))
    np.testing.assert_allclose(found, list(PRIMARIES.values()), atol=1e-6)


def test_roots_are_those_of_numpy_to_the_last_digits():
    rng = np.random.default_rng(1)
    some = np.concatenate([[[0, 0, 0], [1e-6, 0, 0], [0, 0, 1e-3]], rng.uniform(0, 255, (9000, 3))])
    expected = np.cbrt(linear(some) @ RGB_TO_CONES.T) @ CONES_TO_LAB.T
    np.testing.assert_allclose(to_oklab(some), expected, rtol=0, atol=4e-15)


def test_whole_values_of_any_type_are_alike():
    colors = np.random.default_rng(2).integers(0, 256, (700, 3))
    expected = Oklab().project(colors.astype(np.uint8))
    for dtype in (np.float32, np.float64, np.int64):
        np.testing.assert_array_equal(Oklab().project(colors.astype(dtype)), expected)
    # Nor does it matter what stands beside them.
    np.testing.assert_array_equal(Oklab().project(colors[3:260]), expected[3:260])


def test_colors_come_back():
    levels = np.append(np.arange(0, 256, 5), [1, 2, 9, 10, 11, 12, 254]).astype(np.float64)
    cube = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
    greys = np.repeat(np.arange(256.0)[:, None], 3, axis=1)
    for colors in (cube, greys):
        np.testing.assert_allclose(from_oklab(to_oklab(colors)), colors, atol=1e-3)


def test_what_srgb_cannot_show_is_clipped():
    far = np.array([[1.2, 0, 0], [-0.1, 0, 0], [0.6, 0.4, 0.2], [0.5, -0.3, 0.1], [0.3, 0, -0.5]])
    light = (far @ np.linalg.inv(CONES_TO_LAB).T) ** 3 @ np.linalg.inv(CONES @ XYZ).T
    assert ((light < 0) | (light > 1)).any(axis=1).all()
    values = from_oklab(far)
    np.testing.assert_allclose(linear(values), light.clip(0, 1), atol=5e-3)


def test_what_is_no_number_stays_so():
    rows = np.array([[np.nan, 3, 5], [1, 2, 3]])
    for turned in (to_oklab(rows), from_oklab(rows)):
        assert np.isnan(turned).any(axis=1).tolist() == [True, False]


# Encoding


@pytest.mark.parametrize("k", [30, 600])
def test_every_color_gets_the_nearest_entry(k):
    rng = np.random.default_rng(k)
    palette = Palette(rng.integers(0, 256, (k, 3), dtype=np.uint8))
    near = palette.colors[rng.integers(k, size=2000)] + rng.integers(-6, 7, (2000, 3))
    some = np.concatenate([near.clip(0, 255), rng.integers(0, 256, (2000, 3))]).astype(np.uint8)
    found = kmdask.encode(da.from_array(some[None]), palette, space=Oklab()).compute()
    features, entries = (Oklab().project(values) for values in (some, palette.colors))
    np.testing.assert_array_equal(found[0], squared(features, entries).argmin(axis=1))


def test_ties_go_to_the_lowest_index_and_missing_pixels_to_their_own():
    palette = Palette(np.array([[9, 9, 9], [70, 0, 0], [70, 0, 0]], np.uint8))
    pixels = da.from_array(np.array([[[80, 0, 0], [0, 0, 0], [1, 2, 3]]], np.uint8))
    mask = da.from_array(np.array([[1, 1, 0]], np.uint8))
    found = kmdask.encode(pixels, palette, mask, space=Oklab())
    assert found.compute().tolist() == [[1, 0, 3]]


# Fitting and measuring


def test_a_center_is_a_mean_in_oklab():
    pixels = np.array([[[0, 0, 0], [80, 0, 0], [80, 0, 0], [255, 255, 255]]], np.uint8)
    counted = kmdask.count_colors(da.from_array(pixels))
    palette = kmdask.fit_palette(counted, 2, space=Oklab())
    mean = to_oklab(pixels[0, :3].astype(float)).mean(axis=0)
    dark = np.rint(from_oklab(mean[None]))
    assert palette.colors.tolist() == [*dark.tolist(), [255, 255, 255]]
    assert dark.tolist() != np.rint(pixels[0, :3].mean(axis=0)).tolist()


@pytest.mark.parametrize("k", [4, 12])
def test_the_fit_is_as_good_as_that_of_scikit_learn(colors, k):
    features, counts = Oklab().project(colors.colors.compute()), colors.counts.compute()
    model = KMeans(k, n_init=5, random_state=0).fit(features, sample_weight=counts)
    centers = Oklab().project(fit_centers(colors, k, space=Oklab()))
    inertia = squared(features, centers).min(axis=1) @ counts
    assert inertia < 1.01 * model.inertia_
    plain = Oklab().project(fit_centers(colors, k))
    assert inertia < 0.95 * (squared(features, plain).min(axis=1) @ counts)


def test_another_estimator_fits_in_oklab(colors):
    model = KMeans(n_init=1, random_state=0)
    palette = kmdask.fit_palette(colors, 5, space=Oklab(), estimator=model)
    features, counts = Oklab().project(colors.colors.compute()), colors.counts.compute()
    model.set_params(n_clusters=5).fit(features, sample_weight=counts)
    assert palette == Palette.from_centers(from_oklab(model.cluster_centers_))


@pytest.mark.parametrize("space", [None, Oklab(), LinearSpace((1.0, 0.1, 3.0))])
def test_the_error_is_told_as_it_is_and_as_it_is_seen(picture, colors, space):
    palette = Palette(picture[::9, 5])
    pixels = da.from_array(picture)
    decoded = kmdask.decode(kmdask.encode(pixels, palette, space=space), palette).compute()
    measured = kmdask.measure(colors, palette, space=space)
    assert measured.delta_e == pytest.approx(seen(picture, decoded))
    assert measured.mse == pytest.approx(((picture.astype(float) - decoded) ** 2).mean())


@pytest.mark.parametrize("bands", [1, 2, 4])
def test_other_pixels_are_not_seen_in_colors(scene, bands):
    image = da.from_array(scene(20, 30, bands))
    palette = Palette(scene(20, 30, bands)[4])
    assert kmdask.measure(kmdask.count_colors(image), palette).delta_e is None


# End to end


def test_compress_fit_sweep_and_palettes_agree(compress, client, picture, tmp_path):
    options = {"space": "oklab", "seed": 3}
    bundle = compress(picture, 6, tmp_path / "a.kmdask", **options)
    decoded = bundle.to_dask().compute()
    report = bundle.report
    assert report.delta_e == pytest.approx(seen(picture, decoded))
    assert report.mse == pytest.approx(((picture.astype(float) - decoded) ** 2).mean())
    rgb = compress(picture, 6, tmp_path / "rgb.kmdask", seed=3, formats=("zarr",)).report
    assert rgb.delta_e > report.delta_e
    assert rgb.mse < report.mse

    saved = kmdask.fit(picture, 6, tmp_path / "a.json", client=client, **options)
    assert saved.space == Oklab()
    assert saved.palette == bundle.palette
    for place in ("a.json", "a.kmdask"):
        assert SavedPalette.read(tmp_path / place).space == Oklab()
        again = compress(
            picture, out=tmp_path / "b.kmdask", palette=tmp_path / place, overwrite=True
        )
        np.testing.assert_array_equal(again.indices, bundle.indices)

    table = kmdask.sweep(picture, (2, 3, 6, 20), sample=0, client=client, **options)
    errors = [point.delta_e for point in table.points]
    assert errors == sorted(errors, reverse=True)
    assert table.options["space"] == "oklab"
    counted = kmdask.count_colors(da.from_array(picture))
    palette = kmdask.fit_palette(counted, 2, seed=3, space=Oklab())
    first = kmdask.measure(counted, palette, space=Oklab())
    assert (table.points[0].delta_e, table.points[0].psnr) == (first.delta_e, first.psnr)
    assert table.points[2].delta_e <= report.delta_e


def test_a_target_is_met_in_oklab(compress, picture, tmp_path):
    options = {"space": "oklab", "formats": ("zarr",)}
    found = compress(picture, psnr=28, out=tmp_path / "a.kmdask", **options)
    assert found.report.psnr >= 28
    counted = kmdask.count_colors(da.from_array(picture))
    for k in (found.report.k, found.report.k - 1):
        palette = kmdask.fit_palette(counted, k, space=Oklab())
        assert (palette == found.palette) == (k == found.report.k)
    assert kmdask.measure(counted, palette, space=Oklab()).psnr < 28


def test_the_command_line(client, picture, tmp_path, write_raster):
    path = str(write_raster(tmp_path / "a.tif", picture))
    asked = ["compress", path, "-k", "3", "--space", "oklab", "--json", "--no-tiles", "-q"]
    with client.as_current():
        run = CliRunner().invoke(main, asked)
    assert run.exit_code == 0, run.output
    bundle = kmdask.open(json.loads(run.stdout)["path"])
    assert bundle.report.delta_e == pytest.approx(seen(picture, bundle.to_dask().compute()))
    assert "delta E" in CliRunner().invoke(main, ["info", str(bundle.path)]).output
    wrong = CliRunner().invoke(main, ["sweep", path, "--space", "lab"])
    assert wrong.exit_code != 0
    assert "'oklab'; got 'lab'" in wrong.output


# What it is not for


@pytest.mark.parametrize(
    ("image", "options", "told"),
    [
        (np.ones((6, 7, 5), np.uint8), {}, "5 bands of uint8"),
        (np.ones((4, 5, 3), np.uint16), {}, "3 bands of uint16"),
        (np.ones((4, 5), np.uint8), {}, "1 band of uint8"),
        (np.ones((4, 5, 3), np.uint8), {"scale": "std"}, "scale='std'"),
        (np.ones((4, 5, 3), np.uint8), {"pca": 2}, "pca=2"),
        (np.ones((4, 5, 3), np.uint8), {"space": "lab"}, "got 'lab'"),
        (np.ones((4, 5, 3), np.uint8), {"space": ["oklab"]}, "got .'oklab'."),
    ],
)
def test_other_images_and_spaces_are_refused(compress, tmp_path, image, options, told):
    with pytest.raises(ParameterError, match=told):
        compress(image, 2, tmp_path / "a.kmdask", **{"space": "oklab"} | options)
    assert list(tmp_path.iterdir()) == []


def test_a_palette_has_its_space(compress, client, picture, tmp_path):
    saved = kmdask.fit(picture, 2, client=client)
    with pytest.raises(ParameterError, match="space is 'oklab', and there is a palette"):
        compress(picture, out=tmp_path / "a.kmdask", palette=saved, space="oklab")


def test_arrays_of_other_kinds_are_refused(colors):
    space, grey = Oklab(), da.zeros((4, 5, 1), dtype=np.uint8)
    deep = da.from_array(np.arange(60, dtype=np.float32).reshape(4, 5, 3))
    doors = [
        lambda: kmdask.count_colors(grey, space=space),
        lambda: kmdask.fit_palette(kmdask.count_colors(deep), 2, space=space),
        lambda: kmdask.measure(kmdask.count_colors(grey), Palette(np.uint8([[1]])), space=space),
        lambda: kmdask.encode(deep, Palette(np.zeros((1, 3), np.float32)), space=space),
        lambda: kmdask.encode(grey, Palette(np.zeros((1, 1), np.uint8)), space=LinearSpace((1, 2))),
        lambda: kmdask.refine_centers(deep, None, np.zeros((1, 3)), space=space),
        lambda: kmdask.fit_palette(colors, 2, space=LinearSpace((1.0,))),
    ]
    for door in doors:
        with pytest.raises(ParameterError, match=r"OKLab|LinearSpace|space has"):
            door()


def test_a_space_comes_back_from_json():
    for space in (Oklab(), LinearSpace((1.0, 1 / 3), ((0.5, 1.0),))):
        assert Space.from_dict(json.loads(json.dumps(space.to_dict()))) == space
