from __future__ import annotations

import json
import math
from dataclasses import fields, replace

import pytest

from kmdask.report import Report, versions

REPORT = Report(
    source="scene é.tif",
    shape=(100, 200, 3),
    dtype="uint8",
    valid_pixels=19_000,
    colors=1234,
    exact_colors=True,
    k=16,
    k_used=15,
    seed=7,
    mse=1 / 3,
    peak=255.0,
    psnr=52.9,
    shares=(0.25, 0.75),
    sizes={"source": 50_000, "raw": 60_000, "zarr": 5000, "tiles": 7000, "cog": 0, "preview": 900},
    seconds={"open": 0.1, "count": 1.5},
    versions={"python": "3.11.0"},
)


@pytest.mark.parametrize("psnr", [52.9, 0.0, -1.5, math.inf])
def test_json_round_trip(psnr):
    report = replace(REPORT, psnr=psnr)
    content = report.to_json()

    def constant(name):
        pytest.fail(f"{name} is no JSON")

    document = json.loads(content, parse_constant=constant)
    assert document["psnr"] == (None if psnr == math.inf else psnr)
    assert set(document) >= {field.name for field in fields(Report)}
    again = Report.from_json(content)
    assert again == report
    assert [type(getattr(again, field.name)) for field in fields(Report)] == [
        type(getattr(report, field.name)) for field in fields(Report)
    ]


def test_a_report_from_before_there_were_dashboards():
    document = REPORT.to_dict()
    del document["dashboard"]
    assert Report.from_json(json.dumps(document).encode()) == REPORT


def test_ratios():
    assert REPORT.ratio_source == 10
    assert REPORT.ratio_raw == 12
    assert REPORT.bits_per_pixel == 2
    document = REPORT.to_dict()
    assert (document["ratio_source"], document["ratio_raw"]) == (10, 12)
    assert document["bits_per_pixel"] == 2


def test_no_ratio_to_a_source_of_unknown_size():
    # A window of a file, or an array.
    report = replace(REPORT, sizes=REPORT.sizes | {"source": 0})
    assert report.ratio_source is None
    assert json.loads(report.to_json())["ratio_source"] is None
    assert Report.from_json(report.to_json()) == report


def test_versions_are_those_that_run():
    import dask
    import numpy as np
    import rasterio

    found = versions()
    assert found["numpy"] == np.__version__
    assert found["dask"] == dask.__version__
    assert found["rasterio"] == rasterio.__version__
