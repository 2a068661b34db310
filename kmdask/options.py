"""What a compression is asked to do, checked before anything is read or written."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from kmdask.display import check_stretch
from kmdask.errors import ParameterError
from kmdask.fitting.fit import check_k
from kmdask.fitting.refine import check_refine
from kmdask.fitting.survey import check_pca, check_scale, check_space
from kmdask.fixed import check_fixed
from kmdask.palette import ENTRIES
from kmdask.smoothing import check_smooth
from kmdask.targets import Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kmdask.fitting.refine import Refine
    from kmdask.fitting.survey import Scale, SpaceName
    from kmdask.fixed import Fixed
    from kmdask.reading.window import Window
    from kmdask.saved_palette import SavedPalette
    from kmdask.targets import Kind

FORMATS = ("zarr", "tiles", "cog")

DEFAULT_FORMATS = ("zarr", "tiles")

TARGETS: tuple[Kind, ...] = ("psnr", "max_bytes", "ratio")
"""What may be given in place of k; see `kmdask.targets`."""

FITTING = ("seed", "scale", "pca", "space", "refine", "display", "stretch", "fixed")
"""What a fit has decided once there is a palette."""

CODECS = ("zstd", "bz2")
"""How indices are compressed; see `kmdask.writing.codecs`."""


@dataclass(frozen=True)
class Options:
    """The parameters of `kmdask.compress` that decide what comes out; they are explained there."""

    k: int | Literal["auto"] | None
    """None if there is a palette already, or another target."""

    seed: int = 0
    bands: Sequence[int] | None = None
    nodata: float | None = None
    scale: Scale = None
    pca: int | None = None
    space: SpaceName = "rgb"
    refine: Refine = 2
    display: Sequence[int] | None = None
    stretch: Sequence[float] | None = None
    formats: Sequence[str] = DEFAULT_FORMATS
    codec: str = "zstd"
    window: Window | None = None
    palette: SavedPalette | None = field(default=None, repr=False)
    """What to encode with, in place of a palette that is fitted."""

    psnr: float | None = None
    max_bytes: int | None = None
    ratio: float | None = None
    target_bpp: float | None = None
    fixed: Fixed = None
    """Colours that have to be in the palette."""

    smooth: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "fixed", check_fixed(self.fixed))
        if self.palette is None:
            self._check_one_target()
        else:
            self._check_unasked()
        object.__setattr__(self, "seed", _checked_seed(self.seed))
        object.__setattr__(self, "refine", check_refine(self.refine))
        object.__setattr__(self, "smooth", check_smooth(self.smooth))
        check_scale(self.scale)
        check_pca(self.pca)
        check_space(self.space, self.scale, self.pca)
        check_stretch(self.stretch)
        _check_formats(self.formats)
        _check_codec(self.codec)

    @property
    def target(self) -> Target | None:
        """What a number of colours is to be chosen for; None if it is given, or a palette is."""
        if isinstance(self.k, str) and self.k == "auto":
            return Target("auto")
        asked = {name: getattr(self, name) for name in TARGETS}
        return next((Target(n, value) for n, value in asked.items() if value is not None), None)

    @property
    def sampled(self) -> bool:
        """Whether chunks have to be encoded to say if a target is met; see `kmdask.stored`."""
        target = self.target
        return target is not None and (target.sized or (target.kind == "psnr" and self.smooth > 0))

    @property
    def asked(self) -> dict[str, Any] | None:
        """What was asked for in place of a number of colours, ready for JSON."""
        if self.target_bpp is not None:
            return {"target_bpp": self.target_bpp}
        return None if self.target is None else self.target.to_dict()

    @property
    def wanted_bands(self) -> Sequence[int] | None:
        """The numbers of the bands to take: by default those of the palette, if it has some."""
        if self.bands is None and self.palette is not None and not self.palette.plain:
            return self.palette.numbers
        return self.bands

    def _check_one_target(self) -> None:
        """Raise a `ParameterError` unless exactly one thing says how many colours there are."""
        asked = {name: getattr(self, name) for name in ("k", *TARGETS)}
        given = [f"{name}={value!r}" for name, value in asked.items() if value is not None]
        if self.target_bpp is not None:
            self._check_rate(given)
            return
        if len(given) != 1:
            msg = (
                f"give k, the number of colours from 1 to {ENTRIES:,} (-k) or 'auto', or one of "
                "psnr= (--psnr), max_bytes= (--max-bytes), ratio= (--ratio) and palette= "
                f"(--palette), exactly one of them; got {' and '.join(given) or 'none'}"
            )
            raise ParameterError(msg)
        target = self.target
        if target is None:
            object.__setattr__(self, "k", check_k(self.k))
            self._check_fixed_fit()
        elif target.kind != "auto":
            # The same target, however its number is written, is the same request.
            object.__setattr__(self, target.kind, target.value)

    def _check_rate(self, given: list[str]) -> None:
        """Check `target_bpp`, and that nothing is given besides but a number of colours."""
        rate: Any = self.target_bpp
        number = isinstance(rate, int | float | np.integer | np.floating)
        if not number or isinstance(rate, bool) or not 0 < rate < math.inf:
            msg = (
                "target_bpp is the entropy that the indices may have at most, in bits for each "
                f"valid pixel, a number above 0; got {self.target_bpp!r}"
            )
            raise ParameterError(msg)
        if self.target is not None:
            msg = (
                "target_bpp says how many colours are left of those to begin with, so k is a "
                f"number or left out; got target_bpp={self.target_bpp} and {' and '.join(given)}"
            )
            raise ParameterError(msg)
        if self.fixed is not None:
            msg = (
                "fixed is given, and target_bpp, for which entries move and starve: leave one of "
                "them out"
            )
            raise ParameterError(msg)
        object.__setattr__(self, "target_bpp", float(rate))
        if self.k is not None:
            object.__setattr__(self, "k", check_k(self.k))

    def _check_fixed_fit(self) -> None:
        """Raise a `ParameterError` if there are more fixed colours than colours."""
        fixed = len(self.fixed or ())
        if fixed > cast("int", self.k):
            msg = (
                f"k is {self.k}, and {fixed} colours are fixed, each of which takes an entry; ask "
                f"for k={fixed} or more"
            )
            raise ParameterError(msg)

    def check_estimator(self, estimator: object) -> None:
        """Raise a `ParameterError` if an estimator is given that has nothing to decide."""
        if estimator is None:
            return
        if self.palette is not None:
            raise ParameterError("there is a palette already: leave it out, or the estimator")
        if self.fixed is not None:
            msg = (
                "fixed is given, and an estimator, which moves all of its centres: leave one of "
                "them out"
            )
            raise ParameterError(msg)

    def _check_unasked(self) -> None:
        """Raise a `ParameterError` if something is asked for that the palette has decided."""
        for name in ("k", *TARGETS, "target_bpp", *FITTING):
            value, usual = getattr(self, name), getattr(type(self), name, None)
            if value is not usual if usual is None else value != usual:
                msg = (
                    f"{name} is {value!r}, and there is a palette already, whose fit decided that: "
                    f"leave {name} or the palette out"
                )
                raise ParameterError(msg)

    def to_dict(self) -> dict[str, Any]:
        """What has to be known of the fit besides k and seed, ready for JSON."""
        scale, fixed = self.scale, self.fixed
        decided: dict[str, Any] = {
            "scale": scale if scale is None or isinstance(scale, str) else list(map(float, scale)),
            "pca": self.pca,
            "refine": self.refine,
            **({} if self.target_bpp is None else {"target_bpp": self.target_bpp}),
        }
        if fixed is not None:
            decided["fixed"] = [each if isinstance(each, str) else list(each) for each in fixed]
        return decided


def _checked_seed(seed: object) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ParameterError(f"seed is an integer, 0 or greater; got {seed!r}")
    return int(seed)


def _check_formats(formats: object) -> None:
    listed = formats if isinstance(formats, list | tuple | set) else ()
    if "zarr" not in listed or any(name not in FORMATS for name in listed):
        msg = f"formats is a sequence of {FORMATS}, with 'zarr' among them; got {formats!r}"
        raise ParameterError(msg)


def _check_codec(codec: object) -> None:
    if codec not in CODECS:
        msg = (
            f"codec is one of {CODECS}, how the indices are compressed, fast and for every reader "
            f"or small; got {codec!r}"
        )
        raise ParameterError(msg)
