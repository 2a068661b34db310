"""A palette by itself, in a small file: fitted once, and then used for any number of images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kmdask import __version__, color_exports, palette_json, places, storage
from kmdask.display import Display
from kmdask.errors import ParameterError, writing
from kmdask.fitted import Fitted
from kmdask.free import check_free
from kmdask.palette import Palette
from kmdask.units import several
from kmdask.writing import publish

if TYPE_CHECKING:
    import os

    import numpy as np
    import numpy.typing as npt

    from kmdask.bands import Band
    from kmdask.fitting.space import Space
    from kmdask.places import Place
    from kmdask.reading.raster import Raster


FILE = publish.Kind("palette that kmdask saved", palette_json.is_saved)
"""What a palette may take the place of. Of ``fit a.tif b.tif`` the last is the output."""


@dataclass(frozen=True)
class SavedPalette:
    """A palette with all that it takes to use it for another image: what `kmdask.fit` returns.

    `kmdask.compress` takes one, or the path of one, as ``palette=``. (A `Palette` is the colours
    alone, as `kmdask.fit_palette` chooses them for arrays.)

    Examples
    --------
    >>> import numpy as np
    >>> from kmdask import Band
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

    plain: bool = False
    """Whether these are colours as such, red, green and blue of 8 bits, fitted to no image: for
    images of three such bands, whatever their numbers, or of one if all are grey."""

    version: str = __version__
    """The version of kmdask that fitted it."""

    path: str | None = field(default=None, compare=False)
    """Where it was read; None if it was not."""

    def __post_init__(self) -> None:
        if self.palette.bands != len(self.bands):
            has = several(self.palette.bands, "band")
            msg = f"the palette has {has}, {len(self.bands)} are described"
            raise ParameterError(msg)
        if self.plain and not (self.palette.displayable and self.palette.bands == 3):
            raise ParameterError(f"plain are three bands of uint8; got {self.palette!r}")

    @property
    def rgb(self) -> npt.NDArray[np.uint8]:
        """The colours as they are shown, an array of shape (k, 3)."""
        return self.display.rgb(self.palette, self.numbers)

    @property
    def labels(self) -> list[str]:
        """What each entry is in legends: its values."""
        return [", ".join(f"{v:.6g}" for v in row) for row in self.palette.colors.tolist()]

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
        if self.plain and len(raster.bands) == 1 and (self.rgb == self.rgb[:, :1]).all():
            return self._grey().fitted(raster)
        dtype = self.palette.colors.dtype
        others = len(raster.bands) != len(self.bands)
        if others or raster.pixels.dtype != dtype:
            choose = "choose bands (bands=, --bands), or " if others else ""
            msg = (
                f"the palette has {several(len(self.bands), 'band')} of {dtype}, of "
                f"{raster.source!r} are taken {len(raster.bands)} of {raster.pixels.dtype}: they "
                f"must agree; {choose}fit a palette to images of this kind"
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

    def _grey(self) -> SavedPalette:
        return replace(
            self,
            palette=Palette(self.palette.colors[:, :1]),
            bands=self.bands[:1],
            display=Display((1,), (0.0,), (255.0,)),
            plain=False,
        )

    def to_json(self) -> bytes:
        """Return what is in the file."""
        return palette_json.dumped(self)

    @classmethod
    def from_json(cls, content: bytes, path: str | None = None) -> SavedPalette:
        """Rebuild from the result of `to_json`; `path` is where that was read.

        Raises
        ------
        PaletteError
            If it is nothing that `to_json` returned.
        """
        return cls(**palette_json.loaded(content, path), path=path)

    def write(self, path: str | os.PathLike[str] | Place, *, overwrite: bool = False) -> None:
        """Write a file, whole or not at all.

        Parameters
        ----------
        path : str or path-like
            A path, or a URL (``s3://``, ``gs://``, ``az://``).
        overwrite : bool, default False
            Whether to replace a file that is there, if that is a saved palette too.

        Raises
        ------
        OutputExistsError
            If there is something, and it is not to be replaced.
        OutputError
            If it cannot be written.
        """
        place = places.place(path)
        with writing(place):
            publish.check_free(place, FILE, overwrite=overwrite)
            storage.write_file(place, self.to_json())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> SavedPalette:
        """Read the palette in a file, or that of a bundle.

        Parameters
        ----------
        path : str or path-like
            A path, or a URL: a file that `write` or `export` wrote, a bundle, or colours from
            elsewhere, which keep their order: a GIMP palette, a text of one hexadecimal colour a
            line, a colour map (.clr) or paletted style (.qml) of QGIS, in the order of its values,
            or a raster with a colour table. Transparent colours are left out, as are two or more
            black ones at the end of a colour table.

        Raises
        ------
        PaletteError
            If there is nothing, or no palette, or it is damaged.
        BundleError
            If it is a damaged bundle.
        """
        from kmdask import palette_source

        return palette_source.read(places.place(path))

    def export(
        self,
        path: str | os.PathLike[str] | Place,
        format: str | None = None,  # noqa: A002  what it is called everywhere
        *,
        overwrite: bool = False,
    ) -> None:
        """Write the colours, as they are shown, for other programs; whole or not at all.

        Parameters
        ----------
        path : str or path-like
            A path, or a URL (``s3://``, ``gs://``, ``az://``).
        format : {"hex", "gpl", "png", "qml", "clr", "json"}, optional
            By default what the ending of `path` says. A hexadecimal colour a line; a palette of
            GIMP, Inkscape and Krita; squares, sixteen a row, in a PNG with this very palette if
            they are 256 at most; a layer style of QGIS, or a colour map of QGIS and ArcGIS, which
            paint the indices of a bundle and leave out missing pixels; and, as `write`, all of it.
        overwrite : bool, default False
            Whether to replace a file that is there, by JSON only another palette in JSON.

        Raises
        ------
        ParameterError
            If there is no such format.
        OutputExistsError
            If there is something, and it is not to be replaced.
        OutputError
            If it cannot be written.

        Examples
        --------
        >>> import kmdask
        >>> import numpy as np
        >>> palette = kmdask.fit(np.uint8([[[0, 9, 0], [200, 9, 9]]]), 2)
        >>> palette.export("two.gpl")
        >>> kmdask.SavedPalette.read("two.gpl").palette
        Palette(['#000900', '#c80909'])
        """
        place = places.place(path)
        kind = color_exports.format_of(place.name, format)
        if kind == "json":
            self.write(path, overwrite=overwrite)
            return
        check_free(place, overwrite=overwrite)
        with writing(place):
            storage.write_file(place, self.exported(kind, place.stem))

    def exported(self, kind: str, name: str = "palette") -> bytes:
        """Return what is in a file that `export` writes, in which the palette has a name."""
        if kind == "json":
            return self.to_json()
        return color_exports.write(kind, color_exports.Named(self.rgb, name, self.labels))
