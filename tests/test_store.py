"""The bundle on disk: what it holds."""

from __future__ import annotations

import json

import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from kmdask import BundleError, Georef, OutputError, Palette
from kmdask.bands import Band
from kmdask.writing import geozarr, store
from kmdask.writing.store import (
    Header,
    create_image,
    read_arrays,
    read_image,
    write_indices,
)

PALETTE = Palette.from_centers(np.array([[0, 0, 0], [90, 60, 30], [250, 250, 250.0]]))
GEOREF = Georef('LOCAL_CS["here"]', (10.0, 0.0, 5e5, 0.0, -10.0, 6e6))
sizes = st.lists(st.integers(1, 40), min_size=1, max_size=5).map(tuple)

DISPLAY, OPTIONS = {"bands": [4, 3, 2], "stretch": [[0.0, 9.5]]}, {"pca": None, "refine": 2}
BANDS = (Band(4, "red", "red"), Band(3, scale=0.1), Band(2, unit="m", nodata=float("nan")))


def create(folder, shape=(40, 30), palette=PALETTE, *, masked=False, georef=GEOREF):
    folder.mkdir(exist_ok=True)
    create_image(folder, shape, palette, Header(5, 3, masked, georef, BANDS, DISPLAY, OPTIONS))
    return folder


@pytest.fixture
def bundle(tmp_path):
    return create(tmp_path / "old.kmdask")


@pytest.mark.parametrize("masked", [False, True])
def test_layout(tmp_path, masked):
    folder = create(tmp_path / "a", (5000, 700), masked=masked)
    group = zarr.open_consolidated(folder / "image.zarr", zarr_format=2)
    assert group.metadata.zarr_format == 2
    indices = group["indices"]
    assert (indices.shape, indices.dtype) == ((5000, 700), np.uint8)
    assert (indices.chunks, indices.shards) == ((1024, 1024), None)
    assert indices.attrs["_ARRAY_DIMENSIONS"] == ["y", "x"]
    assert indices.metadata.fill_value == (3 if masked else None)
    assert group["palette"].attrs["_ARRAY_DIMENSIONS"] == ["index", "band"]
    np.testing.assert_array_equal(group["palette"][:], PALETTE.colors)
    np.testing.assert_array_equal(group["band"][:], [4, 3, 2])
    assert group["band_name"][:].tolist() == ["red", "", ""]
    attributes = json.loads((folder / "image.zarr" / ".zattrs").read_text())
    assert attributes["kmdask"] == {
        "format_version": 2,
        "k": 5,
        "seed": 3,
        "nodata": 3 if masked else None,
        "crs_wkt": GEOREF.crs_wkt,
        "transform": list(GEOREF.transform),
        "gcps": [],
        "rpcs": {},
        "point": False,
        "bands": [band.to_dict() for band in BANDS],
        "display": DISPLAY,
        "options": OPTIONS,
    }


@pytest.mark.parametrize(
    ("k", "masked", "dtype"),
    [(255, True, "u1"), (256, False, "u1"), (256, True, "u2"), (65_535, True, "u2")],
)
def test_as_many_bits_as_the_palette_needs(tmp_path, k, masked, dtype):
    colors = np.arange(2 * k, dtype=np.float32).reshape(k, 2)
    palette = Palette(colors)
    header = Header(k, 0, masked, Georef(), BANDS[:2])
    create_image(tmp_path, (3, 2), palette, header)
    indices, read, again = read_arrays(tmp_path)
    assert (indices.dtype, again) == (dtype, header)
    assert read == palette


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("georef", [GEOREF, Georef()])
def test_headers_come_back(tmp_path, masked, georef):
    folder = create(tmp_path / "a", masked=masked, georef=georef)
    indices, palette, header = read_image(folder)
    assert repr(header) == repr(Header(5, 3, masked, georef, BANDS, DISPLAY, OPTIONS))  # NaN
    assert palette == PALETTE
    assert isinstance(indices, da.Array)


@settings(max_examples=15)
@given(rows=sizes, columns=sizes, seed=st.integers(0, 9))
def test_indices_come_back_however_they_are_chunked(tmp_path_factory, rows, columns, seed):
    shape = sum(rows), sum(columns)
    indices = np.random.default_rng(seed).integers(0, 3, shape, dtype=np.uint8)
    folder = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        # Many chunks in a small image.
        for module in (store, geozarr):
            patch.setattr(module, "CHUNK", 8)
        patch.setattr(store, "SHARD", 16)
        create(folder, shape)
        written = write_indices(da.from_array(indices, chunks=(rows, columns)), folder).compute()
    stored = zarr.open_array(folder / "image.zarr" / "indices", mode="r")
    assert stored.chunks == (8, 8)
    np.testing.assert_array_equal(stored[:], indices)
    np.testing.assert_array_equal(read_image(folder)[0].compute(), indices)
    assert written.sum() == indices.size


@pytest.mark.parametrize("chunk", [(4096, 4096), (1000, 999), (4096, 1024)])
def test_indices_of_real_size(tmp_path, chunk):
    indices = np.random.default_rng(0).integers(0, 3, (4200, 5000), dtype=np.uint8)
    folder = create(tmp_path / "a", indices.shape)
    write_indices(da.from_array(indices, chunks=chunk), folder).compute()
    lazy, _, _ = read_image(folder)
    assert lazy.chunks == ((4096, 104), (4096, 904))
    np.testing.assert_array_equal(lazy.compute(), indices)


@pytest.mark.parametrize("masked", [False, True])
def test_every_chunk_is_written(tmp_path, masked):
    # One that is not there was lost: also where all pixels are invalid, or of the first entry.
    folder = create(tmp_path / "a", masked=masked)
    value = PALETTE.nodata if masked else 0
    write_indices(da.full((40, 30), value, dtype=np.uint8), folder).compute()
    assert (folder / "image.zarr" / "indices" / "0" / "0").is_file()
    assert (read_image(folder)[0].compute() == value).all()


def test_indices_that_cannot_be_written(tmp_path):
    folder = create(tmp_path / "a")
    (folder / "image.zarr" / "indices" / "0").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        write_indices(da.ones((40, 30), dtype=np.uint8), folder).compute()


def test_what_is_no_bundle(tmp_path):
    file = tmp_path / "scene.tif"
    file.touch()
    for path, told in (
        (tmp_path, "there is no image.zarr in it"),
        (tmp_path / "missing", "it does not exist"),
        (file, "it is a file"),
    ):
        with pytest.raises(BundleError, match=f"no kmdask bundle: {told}; give what"):
            read_image(path)


def edit(bundle, change):
    path = bundle / "image.zarr" / ".zattrs"
    attributes = json.loads(path.read_text())
    change(attributes)
    path.write_text(json.dumps(attributes))


@pytest.mark.parametrize("version", [0, 1, 99])
def test_other_format_versions(bundle, version):
    edit(bundle, lambda attributes: attributes["kmdask"].update(format_version=version))
    with pytest.raises(BundleError, match=f"format version {version}.*reads 2"):
        read_image(bundle)


def test_a_bundle_of_version_1(tmp_path):
    attributes = {"kmdask": {"format_version": 1, "k": 2, "seed": 0, "nodata": None}}
    zarr.create_group(tmp_path / "old" / "image.zarr", zarr_format=3, attributes=attributes)
    with pytest.raises(BundleError, match="format version 1, this kmdask reads 2; install"):
        read_image(tmp_path / "old")


def setting(**values):
    return lambda attributes: attributes["kmdask"].update(values)


def without(name):
    return lambda attributes: attributes["kmdask"].pop(name)


DAMAGES = {
    "no attributes": lambda attributes: attributes.clear(),
    "a list": lambda attributes: attributes.update(kmdask=[]),
    "nothing": lambda attributes: attributes.update(kmdask=None),
    **{
        f"no {name}": without(name)
        for name in ("format_version", "k", "seed", "nodata", "transform", "gcps", "rpcs", "bands")
    },
    "no display": without("display"),
    "no options": without("options"),
    "a word for k": setting(k="many"),
    "a number for a transform": setting(transform=7),
    "a transform of five": setting(transform=[1] * 5),
    "numbers for control points": setting(gcps=[1, 2]),
    "a list for coefficients": setting(rpcs=["LINE_OFF"]),
    "a list for options": setting(options=[]),
    "nothing for display": setting(display=None),
    "numbers for bands": setting(bands=[4, 3, 2]),
    "bands of two": setting(bands=[band.to_dict() for band in BANDS[:2]]),
    "bands that have a colour more": setting(bands=[{**BANDS[0].to_dict(), "hue": 1}] * 3),
    "other nodata": setting(nodata=200),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_attributes(bundle, damage):
    edit(bundle, DAMAGES[damage])
    with pytest.raises(BundleError, match=r"old\.kmdask.*damaged"):
        read_image(bundle)


@pytest.mark.parametrize("damage", ["no json", "empty", "nothing", "no indices", "no palette"])
def test_damaged_files(bundle, damage):
    path = bundle / "image.zarr" / ".zmetadata"
    if damage == "no json":
        path.write_text("{")
    elif damage == "empty":
        path.write_text("")
    elif damage == "nothing":
        for file in (bundle / "image.zarr").glob(".z*"):
            file.unlink()
    else:
        document = json.loads(path.read_text())
        del document["metadata"][f"{damage.removeprefix('no ')}/.zarray"]
        path.write_text(json.dumps(document))
    with pytest.raises(BundleError, match=r"old\.kmdask.*damaged"):
        read_image(bundle)


ARRAYS = {
    "complex palette": ("palette", np.zeros((3, 3), complex)),
    "palette of 2 bands": ("palette", np.zeros((3, 2), np.uint8)),
    "palette of 300": ("palette", np.zeros((300, 3), np.uint8)),
    "no colour": ("palette", np.zeros((0, 3), np.uint8)),
    "float indices": ("indices", np.zeros((40, 30))),
    "3-D indices": ("indices", np.zeros((4, 4, 3), np.uint8)),
}


@pytest.mark.parametrize("damage", ARRAYS)
def test_arrays_of_another_kind(bundle, damage):
    name, array = ARRAYS[damage]
    zarr.create_array(bundle / "image.zarr" / name, data=array, overwrite=True, zarr_format=2)
    zarr.consolidate_metadata(bundle / "image.zarr", zarr_format=2)
    with pytest.raises(BundleError, match=r"old\.kmdask.*damaged"):
        read_image(bundle)


def test_indices_that_are_a_group(bundle):
    zarr.create_group(bundle / "image.zarr" / "indices", overwrite=True, zarr_format=2)
    zarr.consolidate_metadata(bundle / "image.zarr", zarr_format=2)
    with pytest.raises(BundleError, match=r"old\.kmdask.*damaged"):
        read_image(bundle)
