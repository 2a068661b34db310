import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from kmdask.kernels.views import any_layout, frozen, image_kernel

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
    assert [weigh(layout(image), weight) for layout in LAYOUTS.values()] == [expected] * 6
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
