"""A palette by itself, in a small file: fitted once, and then used for any number of images.

The file is JSON; numbers come back to the last bit.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from kmdask import __version__, places, storage
from kmdask.bands import Band
from kmdask.display import Display
from kmdask.errors import PaletteError, ParameterError, writing
from kmdask.fitted import Fitted
from kmdask.fitting.space import Space
from kmdask.image import CompressedImage
from kmdask.palette import Palette
from kmdask.writing import store

if TYPE_CHECKING:
    from kmdask.places import Place
    from kmdask.reading.raster import Raster

KIND = "kmdask palette"

FORMAT_VERSION = 1
"""Raised when a palette could no longer be read by the version before."""

DAMAGED = (LookupError, TypeError, ValueError, ArithmeticError, RecursionError)
"""What damaged files make Python raise."""


@dataclass(frozen=True)
class SavedPalette:
    """A palette with all that it takes to use it for another image: what `kmdask.fit` returns.

    `kmdask.compress` takes one, or the path of one, as ``palette=``. (A `Palette` is the colours
    alone, as `kmdask.fit_palette` chooses them for arrays.)

    Examples
    --------
    >>> saved = SavedPalette(
    ...     palette=Palette(np.array([[0.1], [0.7]], np.float32)),
    ...     bands=(Band(number=1, name="height"),),
    ...     display=Display(bands=(1,), low=(0.1,), high=(0.7,)),
    ...     k=2,
    ...     peak=0.6,
    ... )
    >>> saved.write("heights.json")
    >>> SavedPalette.read("heights.json") == saved
    True
    """

    palette: Palette
    """The colours, of the data type of the images it is for."""

    bands: tuple[Band, ...]
    """What is known of the bands, as columns of the palette."""

    display: Display
    """What tiles, preview and GeoTIFF show."""

    k: int
    """Colours asked for."""

    peak: float
    """What the peak signal-to-noise ratio takes for the signal: the range of the pixels that the
    palette was fitted to, 255 of 8-bit ones. The same for all images, so that they compare."""

    space: Space | None = None
    """Where the nearest entry is looked for; None for the bands as they are."""

    seed: int = 0
    """Seed of the fit."""

    options: dict[str, Any] = field(default_factory=dict)
    """How the palette was fitted besides, ready for JSON."""

    sources: tuple[str, ...] = ()
    """The images that it was fitted to."""

    version: str = __version__
    """The version of kmdask that fitted it."""

    path: str | None = field(default=None, compare=False)
    """Where it was read; None if it was not."""

    def __post_init__(self) -> None:
        if self.palette.bands != len(self.bands):
            msg = f"the palette has {self.palette.bands} band(s), {len(self.bands)} are described"
            raise ParameterError(msg)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The numbers that the bands had in the images it was fitted to."""
        return tuple(band.number for band in self.bands)

    @property
    def origin(self) -> dict[str, Any]:
        """Where the palette is from, ready for the report of an image."""
        return {"path": self.path, "sources": list(self.sources)}

    def fitted(self, raster: Raster) -> Fitted:
        """Return what is known of an image that is to have this palette.

        Raises
        ------
        ParameterError
            If its bands or their data type are others than the palette's.
        """
        dtype = self.palette.colors.dtype
        if len(raster.bands) != len(self.bands) or raster.pixels.dtype != dtype:
            msg = (
                f"the palette has {len(self.bands)} band(s) of {dtype}, {raster.source!r} has "
                f"{len(raster.bands)} of {raster.pixels.dtype}: they must agree; choose bands "
                "(bands=, --bands), or fit another palette"
            )
            raise ParameterError(msg)
        # The same bands may have other numbers in another file.
        numbers = dict(zip(self.numbers, raster.bands, strict=True))
        shown = tuple(numbers[number].number for number in self.display.bands)
        return Fitted(
            palette=self.palette,
            k=self.k,
            display=replace(self.display, bands=shown),
            # Nobody has counted: as far as is known there are invalid pixels where there can be.
            masked=raster.mask is not None,
            space=self.space,
            peak=self.peak,
        )

    def to_json(self) -> bytes:
        """Return what is in the file."""
        added = self.palette.penalties
        fields = {
            "kind": KIND,
            "format_version": FORMAT_VERSION,
            "kmdask": self.version,
            "dtype": self.palette.colors.dtype.name,
            "colors": self.palette.colors.tolist(),
            "penalties": added if added is None else added.tolist(),
            "bands": [band.to_dict() for band in self.bands],
            "display": asdict(self.display),
            "space": None if self.space is None else self.space.to_dict(),
            "peak": self.peak,
            "k": self.k,
            "seed": self.seed,
            "options": self.options,
            "sources": list(self.sources),
        }
        return (json.dumps(fields) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes, path: str | None = None) -> SavedPalette:
        """Rebuild from the result of `to_json`; `path` is where that was read.

        Raises
        ------
        PaletteError
            If it is nothing that `to_json` returned.
        """
        try:
            fields = json.loads(content)
            kind, version = fields["kind"], fields["format_version"]
        except DAMAGED as error:
            msg = f"{path!r} is no palette that kmdask saved: {error!r}; make one with kmdask fit"
            raise PaletteError(msg) from error
        if (kind, version) != (KIND, FORMAT_VERSION):
            msg = (
                f"{path!r} is a {kind!r} of format version {version!r}, this kmdask reads a "
                f"{KIND!r} of {FORMAT_VERSION}; use the version of kmdask that wrote it"
            )
            raise PaletteError(msg)
        try:
            return cls._rebuilt(fields, path)
        except DAMAGED as error:
            msg = f"the palette {path!r} is damaged: {error!r}; fit it again"
            raise PaletteError(msg) from error

    @classmethod
    def _rebuilt(cls, fields: dict[str, Any], path: str | None) -> SavedPalette:
        colors = np.array(fields["colors"], np.dtype(fields["dtype"]))
        if not np.isfinite(colors).all() or colors.tolist() != fields["colors"]:
            raise ValueError(f"colors are no {fields['dtype']}")
        space = None if fields["space"] is None else Space.from_dict(fields["space"])
        display = Display.from_dict(fields["display"])
        saved = cls(
            palette=Palette(colors, fields.get("penalties")),
            bands=tuple(map(Band.from_dict, fields["bands"])),
            display=display,
            k=int(fields["k"]),
            peak=float(fields["peak"]),
            space=space,
            seed=int(fields["seed"]),
            options=dict(fields["options"]),
            sources=tuple(map(str, fields["sources"])),
            version=str(fields["kmdask"]),
            path=path,
        )
        display.rgb(saved.palette, saved.numbers)
        if space is not None:
            space.check(saved.palette.bands, colors.dtype)
        return saved

    def write(self, path: str | os.PathLike[str] | Place, *, overwrite: bool = False) -> None:
        """Write a file, whole or not at all.

        Parameters
        ----------
        path : str or path-like
            A path, or a URL (``s3://``, ``gs://``, ``az://``).
        overwrite : bool, default False
            Whether to replace a file that is there.

        Raises
        ------
        OutputExistsError
            If there is something, and it is not to be replaced.
        OutputError
            If it cannot be written.
        """
        place = places.place(path)
        storage.check_free(place, overwrite=overwrite)
        with writing(place):
            storage.write_file(place, self.to_json())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> SavedPalette:
        """Read the palette in a file, or that of a bundle.

        Parameters
        ----------
        path : str or path-like
            A path, or a URL.

        Raises
        ------
        PaletteError
            If there is nothing, or no palette, or it is damaged.
        BundleError
            If it is a damaged bundle.
        """
        place = places.place(path)
        try:
            if store.IMAGE in storage.names(place):
                return cls._of_bundle(place)
            content = storage.read_file(place)
        except OSError as error:
            msg = (
                f"there is no palette at {str(place)!r}: {error}; give a file that kmdask fit "
                "wrote, or a bundle"
            )
            raise PaletteError(msg) from error
        return cls.from_json(content, str(place))

    @classmethod
    def _of_bundle(cls, place: Place) -> SavedPalette:
        image, (_, _, header) = CompressedImage.read(place), store.read_arrays(place)
        options = {name: value for name, value in header.options.items() if name != "smooth"}
        if "space" not in options:
            msg = (
                f"the bundle {str(place)!r} does not say where its colours are compared; compress "
                "the image again"
            )
            raise PaletteError(msg)
        space = options.pop("space")
        shared = options.pop("shared", False)
        report = image.report
        sources = report.palette["sources"] if shared and report.palette else [report.source]
        return cls(
            palette=image.palette,
            bands=image.bands,
            display=image.display,
            k=header.k,
            peak=report.peak,
            space=None if space is None else Space.from_dict(space),
            seed=header.seed,
            options=options,
            sources=tuple(sources),
            version=report.versions["kmdask"],
            path=str(place),
        )


def as_saved(palette: object) -> SavedPalette | None:
    """Return a palette that is given as such, or by its path; None for None."""
    if palette is None or isinstance(palette, SavedPalette):
        return palette
    if isinstance(palette, str | os.PathLike):
        return SavedPalette.read(palette)
    msg = (
        "palette is what kmdask.fit returns, or the path of one or of a bundle; got "
        f"{type(palette).__name__}"
    )
    raise ParameterError(msg)
