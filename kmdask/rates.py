"""The rate-distortion table of an image: what numbers of colours cost and give, as it is saved."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from kmdask import places, storage
from kmdask.choosing import bend_of, knee_of
from kmdask.errors import writing
from kmdask.free import check_files
from kmdask.metrics import psnr_of
from kmdask.point import Point
from kmdask.rivals import Rival, is_bound, psnr_at

if TYPE_CHECKING:
    import os

    from matplotlib.figure import Figure


_Row = TypeVar("_Row", Point, Rival)


@dataclass(frozen=True)
class Sweep:
    """The rate-distortion table of an image: what `kmdask.sweep` returns.

    Errors and entropies are exact for up to three bands of 8 bits, whose colours are counted one by
    one. Of other images they are estimates from cells of similar colours (unless these were
    refined over all pixels): errors leave out how far pixels are from the mean of their cell.
    """

    source: str
    """Path of the image."""

    shape: tuple[int, int, int]
    """Rows, columns and bands."""

    dtype: str
    """Data type of the pixels."""

    valid_pixels: int
    """Pixels that are not transparent, masked or nodata."""

    colors: int
    """Different colours among the valid pixels, or cells of similar ones."""

    exact: bool
    """Whether `colors` are the different colours, and errors and entropies therefore exact."""

    peak: float
    """What the PSNR takes for the signal: 255 of uint8, else the range of the valid pixels."""

    seed: int
    """Seed of the fits."""

    options: dict[str, Any]
    """How the palettes were fitted besides, ready for JSON."""

    sample_pixels: int
    """Pixels of the sampled chunks, those that are missing among them; 0 without a sample."""

    points: tuple[Point, ...]
    """A point for each number of colours, ascending. From one to the next the error never rises:
    `Point.mse`, or `Point.delta_e` where colours are compared in OKLab."""

    rivals: tuple[Rival, ...] = ()
    """What other codecs make of the sampled chunks."""

    codec: str = "zstd"
    """How the indices of the sample were compressed."""

    entropy_constrained: tuple[Point, ...] = ()
    """For each of `points` an entropy-constrained palette whose indices have no more entropy; empty
    if nobody asked for them."""

    @property
    def knee(self) -> Point:
        """The point beyond which twice the entries gain less PSNR: ``k="auto"`` of the default ks.

        Where the curve has none, `bends` is False, and this is the first point of the greatest
        PSNR that counts. See `kmdask.choosing.bend_of`.
        """
        return self.points[knee_of(self._curve)]

    @property
    def bends(self) -> bool:
        """Whether the curve has a knee: is anywhere above the line from its beginning to its end.

        Of fewer than three different numbers of entries it never is.
        """
        return bend_of(self._curve) is not None

    @property
    def _curve(self) -> list[tuple[int, float]]:
        return [(point.entries, point.psnr) for point in self.points]

    def sample_psnr(self, point: Point) -> float | None:
        """PSNR in dB of a point on the sampled chunks alone; None if nobody measured it."""
        return None if point.sample_mse is None else psnr_of(point.sample_mse, self.peak)

    def rival_psnr(self, point: Point, codec: str) -> float | None:
        """Say what PSNR another codec reaches on the sampled chunks in the bytes of a point.

        Parameters
        ----------
        point : Point
        codec : str
            One of those compared.

        Returns
        -------
        float or None
            In dB, to hold against `sample_psnr`; see `kmdask.rivals.psnr_at`.
        """
        if point.sample_bytes is None:
            return None
        return psnr_at(self.rivals, codec, point.sample_bytes)

    def rival_is_bound(self, point: Point, codec: str) -> bool:
        """Whether `rival_psnr` of these is a lower bound, as the point has bytes to spare."""
        return point.sample_bytes is not None and is_bound(self.rivals, codec, point.sample_bytes)

    def rows(self) -> list[dict[str, Any]]:
        """Return the points, ready for JSON or a data frame; an infinite PSNR becomes None."""
        return [_finite(asdict(point)) for point in self.points]

    def rival_rows(self) -> list[dict[str, Any]]:
        """Return the rivals, ready for JSON or a data frame."""
        return [_finite(asdict(rival)) for rival in self.rivals]

    def to_json(self) -> bytes:
        """Return all of it as JSON; an infinite PSNR becomes null."""
        rows = {
            "points": self.rows(),
            "rivals": self.rival_rows(),
            "entropy_constrained": [_finite(asdict(point)) for point in self.entropy_constrained],
        }
        return (json.dumps({**asdict(self), **rows}, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Sweep:
        """Rebuild from the result of `to_json`.

        Examples
        --------
        >>> point = Point(2, 2, 0.5, 51.1, 1.0, 8, seconds=0.1)
        >>> shape, points = (8, 8, 1), (point,)
        >>> table = Sweep("a.tif", shape, "uint8", 64, 9, True, 255.0, 0, {}, 0, points)
        >>> Sweep.from_json(table.to_json()) == table
        True
        """
        kept = json.loads(content)
        for name in ("points", "entropy_constrained"):
            kept[name] = tuple(_rebuilt(Point, row) for row in kept.get(name, []))
        kept["rivals"] = tuple(_rebuilt(Rival, row) for row in kept.get("rivals", []))
        return cls(**kept | {"shape": tuple(kept["shape"])})

    def to_csv(self) -> bytes:
        """Return points and rivals as CSV under a line of names; an infinite PSNR is ``inf``."""
        text = io.StringIO()
        # As floats they are written to the last digit, infinity too.
        points = (*self.points, *self.entropy_constrained)
        rows = [*map(asdict, points), *map(asdict, self.rivals)]
        names = [*self.rows()[0], "codec", "quality"]
        lines = csv.DictWriter(text, names, restval="", lineterminator="\n")
        lines.writeheader()
        lines.writerows(rows)
        return text.getvalue().encode()

    def plot(
        self, path: str | os.PathLike[str] | None = None, *, overwrite: bool = False
    ) -> Figure:
        """Draw PSNR over bits per pixel: a point for each palette, the knee, and other codecs.

        Entropy-constrained palettes are a curve of their own.

        Bits are those that the sampled chunks take as they are stored; without a sample the
        entropy. With other codecs, PSNR too is that of the sampled chunks; along dotted lines it is
        a lower bound. What is without loss is at the upper edge.

        Parameters
        ----------
        path : str or path-like, optional
            A file or URL to write as well, whose ending names the form: .png, .svg, .pdf.
        overwrite : bool, default False
            Whether to replace a file that is there.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it by itself.

        Raises
        ------
        KmdaskError
            If there is no such form, or `path` is there already, or cannot be written.

        Examples
        --------
        >>> point = Point(2, 2, 0.5, 51.1, 1.0, 8, 7, 0.1)
        >>> table = Sweep("a.tif", (8, 8, 1), "uint8", 64, 9, True, 255.0, 0, {}, 64, (point,))
        >>> figure = table.plot("rates.png")
        """
        from kmdask.plotting.curves import draw_sweep
        from kmdask.plotting.sheets import drawn

        return drawn(lambda: draw_sweep(self), path, overwrite=overwrite)

    def write(
        self,
        *,
        json: str | os.PathLike[str] | None = None,
        csv: str | os.PathLike[str] | None = None,
        plot: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write files, each whole or not at all.

        Parameters
        ----------
        json, csv, plot : str or path-like, optional
            Paths or URLs to write all of it to: as JSON, as CSV, and drawn as by `plot`.
        overwrite : bool, default False
            Whether to replace files that are there.

        Raises
        ------
        ParameterError
            If two are the same, one is the image, or there is no such form of a plot.
        OutputExistsError
            If there is something, and it is not to be replaced.
        OutputError
            If one cannot be written.
        """
        check_files(json, csv, plot, source=self.source, overwrite=overwrite)

        def plotted() -> bytes:
            from kmdask.plotting.sheets import picture

            return picture(self.plot(), str(plot))

        contents = ((json, self.to_json), (csv, self.to_csv), (plot, plotted))
        files = [(places.output_place(path), made()) for path, made in contents if path is not None]
        for place, content in files:
            with writing(place):
                storage.write_file(place, content)


def _finite(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields ready for JSON, which knows no infinite PSNR."""
    return fields | {"psnr": fields["psnr"] if math.isfinite(fields["psnr"]) else None}


def _rebuilt(kind: type[_Row], row: dict[str, Any]) -> _Row:
    """Undo `_finite`; fields that are not there, or not a field, are left out."""
    known = {each.name: row[each.name] for each in fields(kind) if each.name in row}
    return kind(**known | {"psnr": math.inf if row["psnr"] is None else row["psnr"]})
