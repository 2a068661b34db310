import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from kmdask.comparing import _differences
from kmdask.encoding import _look_up, _search
from kmdask.fitting.colors import _count
from kmdask.kernels.views import any_layout, frozen, image_kernel
from kmdask.metrics import _pixel_errors
from kmdask.palette import Palette
from kmdask.similarity import Scale, sums_of_windows
from kmdask.writing.levels import _halve

LAYOUTS = {
    "C": lambda image: image.copy(),
    "F": lambda image: image.copy("F"),
    "planar": lambda image: np.moveaxis(np.moveaxis(image, 2, 0).copy(), 0, 2),
    "upside down": lambda image: image[::-1, ::-1].copy()[::-1, ::-1],
    "part": lambda image: np.pad(image, 3)[3:-3, 3:-3, 3:-3],
    "read-only": frozen,
}


@pytest.fixture
def compiled(monkeypatch):
    """The signatures that are compiled, or taken from a cache, during a test."""
    signatures = []
    compile_here = Dispatcher.compile

    def listen(self, signature):
        signatures.append(signature)
        return compile_here(self, signature)

    monkeypatch.setattr(Dispatcher, "compile", listen)
    return signatures


def test_one_compilation_for_all_layouts(compiled):
    @image_kernel(1)
    def weigh(image, weight):
        total = 0.0
        for y in range(image.shape[1]):
            for x in range(image.shape[2]):
                for band in range(image.shape[3]):
                    total += weight[band] * image[0, y, x, band] * (10 * y + x)
        return total

    image = np.random.default_rng(0).integers(256, size=(4, 5, 3)).astype(np.uint8)
    weight, places = np.array([1.0, 2.0, 4.0]), 10 * np.arange(4)[:, None] + np.arange(5)
    expected = (image * weight * places[:, :, None]).sum()
    assert [weigh(layout(image), weight) for layout in LAYOUTS.values()] == [expected] * len(
        LAYOUTS
    )
    assert len(compiled) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 1), (4, 1, 3), (4, 5, 3)])
def test_views_are_of_one_kind_and_nothing_is_copied(layout, shape):
    image = LAYOUTS[layout](np.arange(np.prod(shape), dtype=np.uint16).reshape(shape))
    view = any_layout(image)
    np.testing.assert_array_equal(view[0], image)
    assert np.shares_memory(view, image)
    assert not view.flags.forc
    assert not view.flags.writeable


def worked_on(pixels, mask):
    """Indices of a block, after all that is done with it in the course of a compression."""
    palette = Palette(np.uint8([[0, 0, 0], [90, 90, 90], [200, 200, 200]]))
    options = {"palette": palette, "index_dtype": np.dtype(np.uint8), "space": None}
    _count(pixels, mask)
    indices = _look_up([pixels], mask, **options, limit=900.0)
    np.testing.assert_array_equal(_search([pixels], mask, **options, limit=900.0), indices)
    _pixel_errors(pixels, indices, palette, looks=True)
    _differences(pixels, pixels, mask, mask)
    _halve([[pixels]], [[mask]])
    sums_of_windows((pixels, pixels, mask), None, Scale(255.0))
    sums_of_windows((pixels, indices, None), palette.colors, Scale(255.0))
    return indices


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_is_compiled_again_for_a_layout(compiled, scene, holes, layout):
    pixels, mask = scene(20, 600), holes(20, 600).astype(np.uint8)
    expected = worked_on(pixels, mask)
    compiled.clear()
    other = {
        "C": lambda values: values.copy(),
        "F": lambda values: values.copy("F"),
        "read-only": frozen,
    }.get(layout, lambda values: np.pad(values, 2)[2:-2, 2:-2])
    np.testing.assert_array_equal(worked_on(LAYOUTS[layout](pixels), other(mask)), expected)
    # Narrow enough to be smoothed as it is.
    worked_on(LAYOUTS[layout](pixels[:, :100]), other(mask[:, :100]))
    assert not compiled
