"""What is known of the bands of an image besides their values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

from kmdask.errors import ParameterError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Band:
    """One band of an image, as the source describes it.

    Examples
    --------
    >>> band = Band(number=4, name="B08", nodata=float("nan"))
    >>> Band.from_dict(band.to_dict()).name
    'B08'
    """

    number: int
    """Its number in the source, from 1."""

    name: str = ""
    """Its description, empty where the source gives none."""

    color: str = "undefined"
    """Its colour interpretation: a name of `rasterio.enums.ColorInterp`."""

    unit: str = ""
    """The unit of ``value * scale + offset``."""

    scale: float = 1.0
    """What a stored value is to be multiplied by; kmdask works on stored values."""

    offset: float = 0.0
    """What is then to be added."""

    nodata: float | None = None
    """The stored value that stands for a missing one; None where a mask or alpha tells, or where
    nothing is missing."""

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, ready for JSON, which has no NaN and no infinity."""
        fields = asdict(self)
        if self.nodata is not None and not math.isfinite(self.nodata):
            fields["nodata"] = str(self.nodata)
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Band:
        """Rebuild from the result of `to_dict`."""
        nodata = fields["nodata"]
        return cls(**{**fields, "nodata": float(nodata) if isinstance(nodata, str) else nodata})


def fill_values(bands: tuple[Band, ...]) -> tuple[float, ...] | None:
    """Return the nodata value of each band; None unless every band has one."""
    values = tuple(band.nodata for band in bands if band.nodata is not None)
    return values if len(values) == len(bands) else None


def choose(
    wanted: object, numbers: Sequence[int], default: tuple[int, ...], path: str
) -> tuple[int, ...]:
    """Check the parameter `bands`: numbers of bands that are there, each once, in any order.

    Parameters
    ----------
    wanted : sequence of int, optional
    numbers : sequence of int
        The numbers there are.
    default : tuple of int
        What is chosen if nothing is wanted.
    path : str
        What to call the image in messages.

    Raises
    ------
    ParameterError
        If they are anything else.

    Examples
    --------
    >>> choose([4, 3, 2], range(1, 12), (1, 2, 3), "scene.tif")
    (4, 3, 2)
    """
    if wanted is None:
        return default
    if isinstance(wanted, str) or not isinstance(wanted, Iterable):
        raise ParameterError(f"bands is a sequence of band numbers, from 1; got {wanted!r}")
    chosen = tuple(wanted)
    whole = all(isinstance(n, Integral) and not isinstance(n, bool) for n in chosen)
    if not chosen or not whole or len(set(chosen)) < len(chosen):
        raise ParameterError(
            f"bands is a sequence of different band numbers, from 1, at least one; got {wanted!r}"
        )
    absent = [n for n in chosen if n not in numbers]
    if absent:
        has = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]} alone"
        raise ParameterError(
            f"bands is {chosen}, but {path!r} has no band {absent[0]}; it has {has}"
        )
    return tuple(int(n) for n in chosen)
