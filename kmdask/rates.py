"""The rate-distortion table of an image: what numbers of colours cost and give, as it is saved."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from kmdask import places, storage
from kmdask.choosing import knee_of
from kmdask.errors import ParameterError, writing


@dataclass(frozen=True)
class Point:
    """What one number of colours costs and gives."""

    k: int
    """Colours asked for."""

    entries: int
    """Colours found: fewer than `k` where the image has fewer, where centres round to the same
    one, or where the palette before is better."""

    mse: float
    """Mean squared error over valid pixels and bands, in squared units of the image."""

    psnr: float
    """Peak signal-to-noise ratio in dB; infinite where the image is exact."""

    bits_per_pixel: float
    """Entropy of the indices in bits per pixel, that of missing pixels among them."""

    index_bytes: int
    """Bytes of the indices in a code of this entropy, that takes each by itself. What is stored is
    mostly less, as neighbours are alike."""

    stored_bytes: int | None = None
    """Bytes of ``image.zarr``, estimated from the sampled chunks, exact if these are all; None
    without a sample."""

    stored_error: int | None = None
    """Standard error of this estimate; 0 where it is exact."""

    sample_bytes: int | None = None
    """Bytes that the indices of the sampled chunks take as they are stored, measured."""

    seconds: float = field(default=0.0, compare=False)
    """Wall time of the fit; no part of comparisons."""

    delta_e: float | None = None
    """Mean ΔEOK, how large the error looks, of three bands of 8 bits; else None. See `Metrics`."""


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
    """What the PSNR takes for the signal: 255 of 8-bit pixels, else the range of the valid ones."""

    seed: int
    """Seed of the fits."""

    options: dict[str, Any]
    """How the palettes were fitted besides, ready for JSON."""

    codec: str
    """How the indices of the sample were compressed."""

    sample_pixels: int
    """Pixels of the sampled chunks, those that are missing among them; 0 without a sample."""

    points: tuple[Point, ...]
    """A point for each number of colours, ascending. From one to the next the error never rises:
    `Point.mse`, or `Point.delta_e` where colours are compared in OKLab."""

    @property
    def knee(self) -> Point:
        """The point beyond which twice the entries gain less PSNR: ``k="auto"`` of the default ks.

        See `kmdask.choosing.knee_of`.
        """
        return self.points[knee_of([(point.entries, point.psnr) for point in self.points])]

    def rows(self) -> list[dict[str, Any]]:
        """Return the points, ready for JSON or a data frame; an infinite PSNR becomes None."""
        return [
            asdict(point) | {"psnr": point.psnr if math.isfinite(point.psnr) else None}
            for point in self.points
        ]

    def to_json(self) -> bytes:
        """Return all of it as JSON; an infinite PSNR becomes null."""
        return (json.dumps({**asdict(self), "points": self.rows()}, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Sweep:
        """Rebuild from the result of `to_json`.

        Examples
        --------
        >>> point = Point(2, 2, 0.5, 51.1, 1.0, 8, seconds=0.1)
        >>> shape, points = (8, 8, 1), (point,)
        >>> table = Sweep("a.tif", shape, "uint8", 64, 9, True, 255.0, 0, {}, "zstd", 0, points)
        >>> Sweep.from_json(table.to_json()) == table
        True
        """
        kept = json.loads(content)
        names = [each.name for each in fields(Point)]
        points = [
            {name: row[name] for name in names}
            | {"psnr": math.inf if row["psnr"] is None else row["psnr"]}
            for row in kept["points"]
        ]
        kept["points"] = tuple(Point(**point) for point in points)
        return cls(**kept | {"shape": tuple(kept["shape"])})

    def to_csv(self) -> bytes:
        """Return the points as CSV, a line each under a line of names; what is not there is empty.

        An infinite PSNR is ``inf``.
        """
        text = io.StringIO()
        # As floats they are written to the last digit, infinity too.
        rows = [
            row | {"psnr": point.psnr} for row, point in zip(self.rows(), self.points, strict=True)
        ]
        lines = csv.DictWriter(text, [*rows[0]], lineterminator="\n")
        lines.writeheader()
        lines.writerows(rows)
        return text.getvalue().encode()

    def write(
        self,
        *,
        json: str | os.PathLike[str] | None = None,
        csv: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write files, each whole or not at all.

        Parameters
        ----------
        json, csv : str or path-like, optional
            What to write all of it to as JSON, and the points as CSV: paths or URLs.
        overwrite : bool, default False
            Whether to replace files that are there.

        Raises
        ------
        ParameterError
            If both are the same, or one is the image.
        OutputExistsError
            If there is something, and it is not to be replaced.
        OutputError
            If one cannot be written.
        """
        check_files(json, csv, source=self.source, overwrite=overwrite)
        contents = ((json, self.to_json), (csv, self.to_csv))
        for path, made in contents:
            if path is None:
                continue
            place, content = places.output_place(path), made()
            with writing(place):
                storage.write_file(place, content)


def check_files(
    *paths: str | os.PathLike[str] | None, source: Any = None, overwrite: bool = False
) -> None:
    """Raise an error if files cannot be written because of others.

    Parameters
    ----------
    *paths : str or path-like or None
        What is to be written; None is left out.
    source : path or array, optional
        What is read: nothing may take its place.
    overwrite : bool, default False
        Whether to replace files that are there.

    Raises
    ------
    ParameterError
        If two are the same, or one is what is read.
    OutputExistsError
        If there is something that is not to be replaced.
    """
    named = isinstance(source, str | os.PathLike)
    taken = [places.place(source)] if named and not places.is_url(os.fspath(source)) else []
    for path in paths:
        if path is None:
            continue
        place = places.output_place(path)
        if place in taken:
            msg = f"{str(path)!r} is the source, or the other file to write; give another"
            raise ParameterError(msg)
        storage.check_free(place, overwrite=overwrite)
        taken.append(place)
