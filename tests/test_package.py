"""What `import kmdask` gives, and what it does not cost."""

import importlib.metadata
import importlib.resources
import inspect
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kmdask
from kmdask import errors

ERRORS = {
    "BundleError": ValueError,
    "ClusterError": ConnectionError,
    "EmptyImageError": ValueError,
    "OutputError": OSError,
    "OutputExistsError": FileExistsError,
    "PaletteError": ValueError,
    "ParameterError": ValueError,
    "SourceError": OSError,
    "SourceNotFoundError": FileNotFoundError,
    "UnsupportedImageError": ValueError,
}
HEAVY = (
    "dask",
    "dask_ml",
    "distributed",
    "matplotlib",
    "numba",
    "numpy",
    "PIL",
    "rasterio",
    "sklearn",
    "zarr",
)

FUNCTIONS = sorted(
    name for name in kmdask.__all__ if inspect.isfunction(getattr(kmdask, name))
)  # fmt: skip


@pytest.mark.parametrize("name", kmdask.__all__)
def test_public_names(name):
    assert name in dir(kmdask)
    value = getattr(kmdask, name)
    assert value.__name__ == name
    assert value.__module__.startswith("kmdask.")
    assert inspect.getdoc(value)


def test_what_the_issue_asks_for_is_public():
    assert {"compress", "open", "KMeans", "Palette", "CompressedImage"} <= set(kmdask.__all__)
    assert {"count_colors", "fit_palette", "encode", "decode"} <= set(kmdask.__all__)
    assert set(ERRORS) | {"KmdaskError"} <= set(kmdask.__all__)


def test_dir_is_sorted_and_has_no_more():
    assert dir(kmdask) == sorted(set(kmdask.__all__))
    assert "__version__" not in kmdask.__all__, "import * does not bring it"


def test_other_names():
    with pytest.raises(AttributeError, match="nothing"):
        _ = kmdask.nothing


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_name_every_parameter(name):
    function = getattr(kmdask, name)
    document = inspect.getdoc(function)
    assert re.search(r"^(Returns|Yields)\n-+$", document, re.MULTILINE)
    section = re.search(
        r"^Parameters\n-+\n(.*?)(?=^\w+\n-+$|\Z)", document, re.MULTILINE | re.DOTALL
    )
    described = re.findall(r"^(\w[\w, ]*?) : ", section.group(1), re.MULTILINE)
    named = [parameter for line in described for parameter in line.split(", ")]
    assert named == list(inspect.signature(function).parameters)


def test_functions_are_found():
    assert {"compress", "open", "encode", "decode", "count_colors"} <= set(FUNCTIONS)


def modules_after(*arguments):
    """The top-level modules that a Python of its own has loaded after some code."""
    told = "print(*{name.split('.')[0] for name in sys.modules})"
    code = "\n".join([*arguments, "import sys", told])
    root = str(Path(kmdask.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_import_is_light():
    loaded = modules_after("import kmdask", "dir(kmdask)", "kmdask.__version__")
    assert "kmdask" in loaded
    assert not loaded & {*HEAVY, "click", "rich"}


def test_errors_are_light():
    assert not modules_after("from kmdask import ParameterError") & set(HEAVY)


def test_the_probe_sees_heavy_modules():
    assert "numpy" in modules_after("from kmdask import Palette")


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    kind = getattr(kmdask, name)
    assert issubclass(kind, kmdask.KmdaskError)
    assert issubclass(kind, ERRORS[name])
    error = pickle.loads(pickle.dumps(kind("what was asked, got, and what to do")))  # noqa: S301
    assert type(error) is kind
    assert str(error) == "what was asked, got, and what to do"


def test_every_error_is_known_here():
    kinds = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.KmdaskError)
    }
    assert kinds == {*ERRORS, "KmdaskError"}


def test_typed():
    assert (importlib.resources.files("kmdask") / "py.typed").is_file()


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", kmdask.__version__)
    try:
        installed = importlib.metadata.version("kmdask")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("kmdask is not installed here, so there are no metadata to compare with")
    assert kmdask.__version__ == installed
