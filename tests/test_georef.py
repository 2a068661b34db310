from __future__ import annotations

import json
import pickle

import pytest

from kmdask import Georef

GEOREFS = [
    Georef(),
    Georef(crs_wkt='LOCAL_CS["é"]'),
    Georef(transform=(0.1, 1e-17, -5e5, 1 / 3, -30.0, 4e6)),
    Georef('LOCAL_CS["here"]', (10.0, 0.0, 5e5, 0.0, -10.0, 6e6)),
]


@pytest.mark.parametrize("georef", GEOREFS)
def test_json_keeps_every_digit(georef):
    again = Georef.from_dict(json.loads(json.dumps(georef.to_dict())))
    assert again == georef
    assert hash(again) == hash(georef)


@pytest.mark.parametrize("georef", GEOREFS)
def test_pickle(georef):
    assert pickle.loads(pickle.dumps(georef)) == georef  # noqa: S301  our own bytes
