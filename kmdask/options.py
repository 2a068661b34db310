"""What a compression is asked to do, checked before anything is read or written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from kmdask.display import check_stretch
from kmdask.errors import ParameterError
from kmdask.fitting.fit import check_k
from kmdask.fitting.refine import check_refine
from kmdask.fitting.survey import check_pca, check_scale
from kmdask.palette import ENTRIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kmdask.fitting.refine import Refine
    from kmdask.fitting.survey import Scale
    from kmdask.reading.window import Window
    from kmdask.saved_palette import SavedPalette

FORMATS = ("zarr", "tiles", "cog")

DEFAULT_FORMATS = ("zarr", "tiles")

CODECS = ("zstd", "bz2")
"""How indices are compressed; see `kmdask.writing.codecs`."""


@dataclass(frozen=True)
class Options:
    """The parameters of `kmdask.compress` that decide what comes out; they are explained there."""

    k: int | None
    """None if there is a palette already."""

    seed: int = 0
    bands: Sequence[int] | None = None
    nodata: float | None = None
    scale: Scale = None
    pca: int | None = None
    refine: Refine = 2
    display: Sequence[int] | None = None
    stretch: Sequence[float] | None = None
    formats: Sequence[str] = DEFAULT_FORMATS
    codec: str = "zstd"
    window: Window | None = None
    palette: SavedPalette | None = field(default=None, repr=False)
    """What to encode with, in place of a palette that is fitted."""

    def __post_init__(self) -> None:
        if self.palette is None:
            object.__setattr__(self, "k", _checked_k(self.k))
        else:
            self._check_unasked()
        object.__setattr__(self, "seed", _checked_seed(self.seed))
        object.__setattr__(self, "refine", check_refine(self.refine))
        check_scale(self.scale)
        check_pca(self.pca)
        check_stretch(self.stretch)
        _check_formats(self.formats)
        _check_codec(self.codec)

    @property
    def colors(self) -> int:
        """How many colours are asked for, or were when the palette was fitted."""
        # One of the two is there.
        return cast("int", self.k if self.palette is None else self.palette.k)

    def _check_unasked(self) -> None:
        """Raise a `ParameterError` if something is asked for that the palette has decided."""
        for name in ("k", "seed", "scale", "pca", "refine", "display", "stretch"):
            value, usual = getattr(self, name), getattr(type(self), name, None)
            if value is not usual if usual is None else value != usual:
                msg = (
                    f"{name} is {value!r}, and there is a palette already, whose fit decided that: "
                    f"leave {name} or the palette out"
                )
                raise ParameterError(msg)

    def to_dict(self) -> dict[str, Any]:
        """What has to be known of the fit besides k and seed, ready for JSON."""
        scale = self.scale
        return {
            "scale": scale if scale is None or isinstance(scale, str) else list(map(float, scale)),
            "pca": self.pca,
            "refine": self.refine,
        }


def _checked_k(k: object) -> int:
    if k is None:
        msg = f"give k, the number of colours from 1 to {ENTRIES:,} (-k), or palette= (--palette)"
        raise ParameterError(msg)
    return check_k(k)


def _checked_seed(seed: object) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ParameterError(f"seed is an integer, 0 or greater; got {seed!r}")
    return int(seed)


def _check_formats(formats: object) -> None:
    listed = isinstance(formats, list | tuple | set)
    known = listed and all(name in FORMATS for name in formats)  # type: ignore[attr-defined]
    if not known or "zarr" not in formats:  # type: ignore[operator]
        msg = f"formats is a sequence of {FORMATS}, with 'zarr' among them; got {formats!r}"
        raise ParameterError(msg)


def _check_codec(codec: object) -> None:
    if codec not in CODECS:
        msg = (
            f"codec is one of {CODECS}, how the indices are compressed, fast and for every reader "
            f"or small; got {codec!r}"
        )
        raise ParameterError(msg)
