"""A chunk of a bundle that is not there is an error to all who read it, and never a fill value."""

import pickle
import shutil

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from distributed import Client, LocalCluster

import kmdask
from kmdask.cli import main
from kmdask.errors import BundleError
from kmdask.writing import store
from kmdask.writing.decompress import Decoded, decompress

LOST = "indices/1/0"
NAMED = rf"\.kmdask.* is damaged: image\.zarr/{LOST} is missing; bring that file back"


@pytest.fixture(scope="module")
def source(tmp_path_factory, scene, write_raster):
    return write_raster(tmp_path_factory.mktemp("lost") / "a.tif", scene(1100, 1300) & 0xF0)


@pytest.fixture(scope="module")
def whole(source, compress):
    """A bundle of four chunks."""
    return compress(source, 5).path


@pytest.fixture
def bundle(whole, tmp_path):
    """The same without one of them."""
    copy = shutil.copytree(whole, tmp_path / "copy.kmdask")
    (copy / "image.zarr" / LOST).unlink()
    return copy


def test_chunk_by_chunk_and_when_it_is_read(bundle, whole):
    lazy, intact = kmdask.open(bundle).indices, kmdask.open(whole).indices.compute()
    for part in (np.s_[:1024], np.s_[:, 1024:]):
        np.testing.assert_array_equal(lazy[part].compute(scheduler="threads"), intact[part])
    image = kmdask.open(bundle)
    for part in (lazy, lazy[1050:, :9], image.to_dask(), image.to_dask()[-1, 0]):
        with pytest.raises(BundleError, match=NAMED):
            part.compute(scheduler="threads")


def test_names_of_tasks_and_values_are_the_same_each_time(whole):
    first, second = kmdask.open(whole), kmdask.open(whole)
    assert first.indices.name == second.indices.name
    stored = zarr.open_array(whole / "image.zarr" / "indices", mode="r")
    np.testing.assert_array_equal(first.indices.compute(), stored[:])


@pytest.mark.cluster
def test_from_a_worker_of_another_process(bundle):
    image = kmdask.open(bundle)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(BundleError, match=NAMED),
    ):
        client.compute(image.to_dask()).result()


def test_errors_and_arrays_can_be_pickled(bundle):
    indices, _, _ = store.read_arrays(bundle)
    again = pickle.loads(pickle.dumps(indices))  # noqa: S301  our own
    with pytest.raises(BundleError, match=NAMED) as caught:
        again[1030, 3]
    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  our own
    assert (type(error), str(error)) == (BundleError, str(caught.value))


@pytest.mark.parametrize("ending", ["tif", "zarr"])
def test_nothing_is_decompressed(bundle, tmp_path, ending):
    out = tmp_path / f"colors.{ending}"
    with pytest.raises(BundleError, match=NAMED):
        decompress(Decoded.open(bundle), out)
    assert {path.name for path in tmp_path.iterdir()} == {"copy.kmdask"}


def test_comparing_and_drawing(bundle, source, client, tmp_path):
    for pair in ((source, bundle), (bundle, kmdask.open(bundle))):
        with pytest.raises(BundleError, match=NAMED):
            kmdask.compare(*pair, client=client)
    with pytest.raises(BundleError, match=NAMED):
        kmdask.open(bundle).plot(source, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


@pytest.mark.parametrize("command", ["compare", "decompress", "plot"])
def test_the_command_line(bundle, source, tmp_path, command):
    rest = {
        "compare": [source, bundle],
        "decompress": [bundle, tmp_path / "b.tif"],
        "plot": [bundle, "--to", tmp_path / "b.png"],
    }
    done = CliRunner().invoke(main, [command, "-q", *map(str, rest[command])])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: '{bundle}' is damaged: image.zarr/{LOST} is missing")


def test_the_palette(bundle):
    (bundle / "image.zarr" / "palette" / "0" / "0").unlink()
    with pytest.raises(BundleError, match=r"image\.zarr/palette/0/0 is missing"):
        kmdask.open(bundle)


def test_every_one_is_found_by_verify(bundle, client):
    (bundle / "image.zarr" / "indices" / "0" / "1").unlink()
    told = [str(problem) for problem in kmdask.verify(bundle, client=client)]
    assert [each for each in told if "indices/" in each] == [
        "image.zarr/indices/0/1: is missing",
        "image.zarr/indices/1/0: is missing",
    ]
