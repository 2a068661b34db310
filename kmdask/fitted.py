"""What is known of an image once its palette is: all that writing needs besides the pixels."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from kmdask.display import Colormap
from kmdask.fitting.space import Space
from kmdask.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kmdask.bands import Band
    from kmdask.display import Display
    from kmdask.palette import Palette


@dataclass(frozen=True)
class Fitted:
    """A palette, and how it is to be used and judged."""

    palette: Palette

    k: int
    """Colours that were asked for, or chosen for a target."""

    display: Display
    """What tiles, preview and GeoTIFF show."""

    masked: bool
    """Whether there are invalid pixels, which take the index after the palette."""

    space: Space | None
    """Where the nearest entry is looked for; None for the bands as they are."""

    peak: float
    """What the peak signal-to-noise ratio takes for the signal."""

    colors: int | None = None
    """Different colours of the valid pixels, or cells of similar ones; None if nobody counted."""

    exact: bool | None = None
    """Whether these are the different colours; None if nobody counted."""

    metrics: Metrics | None = None
    """The error, where the colours tell it; None if it has to be added up over the pixels."""

    def colormap(self, bands: Sequence[Band]) -> Colormap:
        """Return the 8-bit colours of the palette of an image of these bands."""
        rgb = self.display.rgb(self.palette, [band.number for band in bands])
        return Colormap(rgb, self.palette.nodata if self.masked else None)

    def to_dict(self) -> dict[str, Any]:
        """Return what `from_dict` takes, ready for JSON; palette and display are kept elsewhere."""
        return {
            "k": self.k,
            "masked": self.masked,
            "space": None if self.space is None else self.space.to_dict(),
            "peak": self.peak,
            "colors": self.colors,
            "exact": self.exact,
            "metrics": None if self.metrics is None else asdict(self.metrics),
        }

    @classmethod
    def from_dict(cls, fields: dict[str, Any], palette: Palette, display: Display) -> Fitted:
        """Rebuild from the result of `to_dict`."""
        space, metrics = fields["space"], None
        rest = {name: fields[name] for name in ("k", "masked", "peak", "colors", "exact")}
        if fields["metrics"] is not None:
            told: dict[str, Any] = fields["metrics"]
            lists = {name: tuple(told[name]) for name in told if isinstance(told[name], list)}
            metrics = Metrics(**told | lists)
        return cls(
            palette=palette,
            display=display,
            space=None if space is None else Space.from_dict(space),
            metrics=metrics,
            **rest,
        )
