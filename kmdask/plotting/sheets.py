"""The paper that plots are on: sizes in inches, colours, and files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from kmdask import places, storage
from kmdask.errors import ParameterError, writing
from kmdask.free import check_free

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from matplotlib.axes import Axes

INK, MUTED, LINES, PAPER = "#1c1e22", "#6b7079", "#dfe2e7", "#ffffff"

ACCENT = "#0072b2"
"""Of palettes; it and those of other codecs are told apart by the colour-blind, after M. Okabe and
K. Ito, "Color universal design", 2008."""

RIVALS = {
    "jpeg": ("#d55e00", "s"),
    "webp": ("#009e73", "^"),
    "jxl": ("#cc79a7", "D"),
    "avif": ("#e69f00", "v"),
    "png": ("#56b4e9", "x"),
}
"""Colour and marker of each codec."""

DPI = 150

ENDINGS = (".png", ".svg", ".pdf")
"""Of files that plots are written to."""


class Sheet(Figure):
    """A figure that needs no pyplot, measured in inches from its upper left corner."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), dpi=DPI, facecolor=PAPER)
        self.inches = width, height

    def place(self, left: float, top: float, width: float, height: float, **kwargs: Any) -> Axes:
        """Add axes at a place in inches."""
        wide, tall = self.inches
        box = (left / wide, 1 - (top + height) / tall, width / wide, height / tall)
        # Whatever style the session has.
        return self.add_axes(box, facecolor=PAPER, **kwargs)

    def write(self, left: float, top: float, text: str, **kwargs: Any) -> None:
        """Write a line of text, by default small and grey, its upper left corner at a place."""
        style: dict[str, Any] = {"color": MUTED, "fontsize": 9, "va": "top", "ha": "left"}
        wide, tall = self.inches
        # Names of files may have dollars in them, which would begin a formula.
        self.text(left / wide, 1 - top / tall, text, parse_math=False, **style | kwargs)

    def _repr_png_(self) -> bytes:
        # A notebook shows figures by itself only once pyplot has been imported.
        return picture(self, "notebook.png")


def number(value: float) -> str:
    """Three digits at least, and never an exponent of a large one."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def bare(axes: Axes) -> None:
    """Leave only a thin frame of axes that show pixels."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color=LINES, linewidth=0.8)


def picture(figure: Figure, name: str) -> bytes:
    """Return a figure as a file of the form that the ending of a name says."""
    file = io.BytesIO()
    figure.savefig(file, format=form_of(name), dpi=figure.dpi)
    return file.getvalue()


def form_of(name: str) -> str:
    """Return the form that the ending of a name says.

    Raises
    ------
    ParameterError
        If it says none that plots are written in.

    Examples
    --------
    >>> form_of("s3://bucket/Rates.PNG")
    'png'
    """
    ending = next((end for end in ENDINGS if name.lower().endswith(end)), None)
    if ending is None:
        msg = f"a plot is written to a file that ends in {', '.join(ENDINGS)}; got {name!r}"
        raise ParameterError(msg)
    return ending.removeprefix(".")


def check_file(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Raise, before anything is drawn, what `drawn` would raise of a path."""
    place = places.output_place(path)
    form_of(place.name)
    check_free(place, overwrite=overwrite)


def drawn(
    draw: Callable[[], Figure], path: str | os.PathLike[str] | None, *, overwrite: bool
) -> Figure:
    """Draw, and with a path write a file as well, whole or not at all; see `kmdask.Sweep.plot`."""
    if path is None:
        return draw()
    check_file(path, overwrite=overwrite)
    figure = draw()
    place = places.output_place(path)
    content = picture(figure, place.name)
    with writing(place):
        storage.write_file(place, content)
    return figure
