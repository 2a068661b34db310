"""Damage of every kind to every file of a bundle is found, and named."""

import json
import shutil

import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import kmdask
from kmdask import storage
from kmdask.cli import main
from kmdask.writing.digests import signed


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, client, scene, holes, write_raster):
    """A bundle of every format, of four chunks, with a piece that is all invalid."""
    folder = tmp_path_factory.mktemp("verify")
    valid = holes(1100, 1300)
    valid[:, 1024:] = False
    source = write_raster(folder / "scene.tif", scene(1100, 1300), valid)
    formats = ("zarr", "tiles", "cog")
    return kmdask.compress(source, 7, folder / "a.kmdask", formats=formats, client=client).path


@pytest.fixture(scope="module")
def names(bundle):
    return sorted(storage.files(bundle))


@pytest.fixture(scope="module")
def many(tmp_path_factory, client, scene):
    """More colours than a palette PNG holds, of deep bands, nothing invalid."""
    pixels = scene(600, 700, 4).astype(np.uint16) * 200
    path = tmp_path_factory.mktemp("many") / "b.kmdask"
    return kmdask.compress(pixels, 300, path, refine=0, client=client).path


def told(bundle, client):
    return [str(problem) for problem in kmdask.verify(bundle, client=client)]


@pytest.fixture(params=["bundle", "many"])
def intact(request):
    return request.getfixturevalue(request.param)


def test_nothing_is_wrong(intact, client):
    assert kmdask.verify(intact, client=client) == ()


def damaged(content, kind, place):
    if kind == "truncated":
        return content[: int(place * len(content))]
    if kind == "longer":
        return content + b"\0"
    flipped = bytearray(content)
    flipped[int(place * len(content))] ^= 1 << int(place * 8191) % 8
    return bytes(flipped)


@settings(max_examples=50, deadline=None)
@given(
    which=st.floats(0, 1, exclude_max=True),
    kind=st.sampled_from(["missing", "truncated", "flipped", "longer"]),
    place=st.floats(0, 1, exclude_max=True),
)
def test_damage_is_found_and_named(bundle, client, names, which, kind, place):
    name = names[int(which * len(names))]
    path = bundle / name
    content = path.read_bytes()
    try:
        if kind == "missing":
            path.unlink()
        else:
            path.write_bytes(damaged(content, kind, place))
        if name == "report.json" and kind == "missing":
            with pytest.raises(kmdask.BundleError, match=r"is damaged: there is no report\.json"):
                kmdask.verify(bundle, client=client)
        else:
            # Damaged metadata may make it impossible to look further, and a byte too many
            # changes no more than the size of all tiles.
            small = name.startswith("image.zarr/") and "/indices/" not in name
            whole = small or kind == "longer"
            part = name.partition("/")[0] if whole else name
            problems = told(bundle, client)
            assert any(part in problem for problem in problems), problems
    finally:
        path.write_bytes(content)


def rewrite(bundle, **fields):
    """Change what the report says, and sign it anew."""
    path = bundle / "report.json"
    before = path.read_bytes()
    report = json.loads(before)
    del report["sha256"]
    path.write_text(json.dumps(signed(report | fields)))
    return before


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("shares", [1.0, 0, 0, 0, 0, 0, 0], "image.zarr/indices: its indices are not those"),
        ("shares", [1.0], "report.json: says 7 colours"),
        ("k_used", 6, "report.json: says 6 colours, but the palette has 7"),
        ("shape", [1100, 1299, 3], "report.json: says (1100, 1299, 3), but"),
    ],
)
def test_a_report_of_another_image(bundle, client, field, value, expected):
    before = rewrite(bundle, **{field: value})
    try:
        assert [problem for problem in told(bundle, client) if problem.startswith(expected)]
    finally:
        (bundle / "report.json").write_bytes(before)


def test_a_tile_of_another_place_palette_or_nobody(bundle, client, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    level = copy / "tiles_files" / "11"
    shutil.copy(level / "0_0.png", level / "9_9.png")
    shutil.copy(level / "0_0.png", level / "2_2.png")
    with Image.open(level / "1_1.png") as tile:
        tile.putpalette([1, 2, 3] * 8)
        tile.save(level / "1_1.png")
    problems = told(copy, client)
    assert "tiles_files/11/9_9.png: does not belong there" in problems
    assert "tiles_files/11/2_2.png: is 512 x 512 pixels, not 276 x 76" in problems
    assert "tiles_files/11/1_1.png: has another palette" in problems


def test_indices_beyond_the_palette(bundle, client, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy")
    array = zarr.open_array(copy / "image.zarr" / "indices", mode="r+")
    array[1030, 1200] = 8
    (problem,) = [found for found in told(copy, client) if "indices/" in found]
    assert problem == "image.zarr/indices/1/1: has indices beyond the 8 there are"


def test_no_bundle(tmp_path, client):
    with pytest.raises(kmdask.BundleError, match="no kmdask bundle"):
        kmdask.verify(tmp_path / "nothing", client=client)


def test_the_command(bundle, tmp_path):
    run = CliRunner().invoke
    intact = run(main, ["verify", str(bundle), "-q"])
    assert (intact.exit_code, intact.stdout) == (0, f"{bundle} is complete and undamaged\n")
    copy = shutil.copytree(bundle, tmp_path / "copy")
    (copy / "tiles_files" / "0" / "0_0.png").unlink()
    (copy / "preview.jpg").write_bytes(b"")
    found = run(main, ["verify", str(copy), "-q"])
    assert found.exit_code == 1
    assert "preview.jpg: is not as it was written\n" in found.stdout
    as_json = run(main, ["verify", str(copy), "-q", "--json"])
    problems = json.loads(as_json.stdout)["problems"]
    assert {"part": "tiles_files/0/0_0.png", "told": "is missing"} in problems
    assert as_json.exit_code == 1
    nothing = run(main, ["verify", str(tmp_path), "-q"])
    assert nothing.exit_code == 1
    assert nothing.stderr.startswith("Error: ")
