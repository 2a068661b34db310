"""The compressed image, as it is handed out."""

from __future__ import annotations

import base64
import html
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kmdask import places, storage
from kmdask.display import Colormap, Display
from kmdask.encoding import decode
from kmdask.errors import BundleError
from kmdask.reading.missing import fill_of
from kmdask.report import Report
from kmdask.units import several, times_smaller
from kmdask.writing import store

if TYPE_CHECKING:
    import os

    import dask.array as da
    from matplotlib.figure import Figure
    from PIL.Image import Image

    from kmdask.bands import Band
    from kmdask.georef import Georef
    from kmdask.palette import Palette
    from kmdask.places import Place


SWATCHES = 256
"""Colours that a notebook shows at most."""


@dataclass(frozen=True)
class CompressedImage:
    """A bundle on disk, opened lazily. Made by `kmdask.compress` and `kmdask.open`."""

    path: Place
    """The bundle: a path, or of a URL a `upath.UPath`."""

    indices: da.Array
    """Lazy uint8 array of shape (y, x): the palette entry of each pixel."""

    palette: Palette
    """The colours, in order of lightness."""

    bands: tuple[Band, ...]
    """What is known of the bands, in the order of the palette's columns."""

    nodata: int | None
    """The index of invalid pixels; None if every pixel is valid."""

    georef: Georef
    """Where the image is on the map."""

    display: Display
    """What tiles, preview and GeoTIFF show."""

    report: Report
    """Sizes, quality and timings."""

    @classmethod
    def read(cls, path: Place) -> CompressedImage:
        """Open the bundle at a place.

        Raises
        ------
        BundleError
            If there is no bundle, or it is damaged or not finished.
        """
        store.check_finished(path)
        indices, palette, header = store.read_image(path)
        part = store.IMAGE
        try:
            display = Display.from_dict(header.display)
            display.rgb(palette, [band.number for band in header.bands])
            part = store.REPORT
            report = Report.from_json(storage.read_file(path / part))
        except (OSError, KeyError, TypeError, ValueError) as error:
            msg = f"{str(path)!r} is damaged: {part}: {error!r}; compress the image again"
            raise BundleError(msg) from error
        return cls(
            path=path,
            indices=indices,
            palette=palette,
            bands=header.bands,
            nodata=palette.nodata if header.masked else None,
            georef=header.georef,
            display=display,
            report=report,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and bands."""
        height, width = self.indices.shape
        return int(height), int(width), self.palette.bands

    @property
    def colormap(self) -> Colormap:
        """The 8-bit colours that the palette is shown in."""
        return Colormap(
            self.display.rgb(self.palette, [band.number for band in self.bands]), self.nodata
        )

    def to_dask(self) -> da.Array:
        """Return the colours, lazily.

        Returns
        -------
        dask array of shape (y, x, band), of the data type of the source
            Invalid pixels have its nodata values, or 0 if it has none.
        """
        return decode(self.indices, self.palette, fill_of(self.bands, self.palette.colors.dtype))

    def preview(self) -> Image:
        """Load the preview, at most 2048 pixels on its longest side."""
        from PIL import Image

        with Image.open(io.BytesIO(storage.read_file(self.path / store.PREVIEW))) as image:
            image.load()
            return image

    def plot(
        self,
        original: str | os.PathLike[str] | Any = None,
        path: str | os.PathLike[str] | None = None,
        *,
        overwrite: bool = False,
    ) -> Figure:
        """Draw the image beside its original, where they differ most, and the palette.

        Overviews of both, windows of 256 x 256 pixels with the largest errors among twenty-five
        that are spread over the image, the palette by shares, and a cloud of pixels with the
        palette in it. However large the image is, no more is read than these windows and overviews:
        of the original its own overview, if it has one, or all if it takes no more
        than 64 MiB. Without an overview of the original that of the compressed image stands alone.

        Parameters
        ----------
        original : str or path-like, or NumPy, Dask or xarray array, optional
            What was compressed. By default the source that the report names, if it is still there
            and the same; without it there are no crops and no pixels.
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
            If `original` cannot be opened, is no image of this size, is further off than the report
            says, or can only be decoded from its first row on and is larger than 64 MiB; if the
            file cannot be written, or is there.

        Examples
        --------
        >>> import numpy as np
        >>> import kmdask
        >>> pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
        >>> result = kmdask.compress(pixels, k=4, out="noise.kmdask")
        >>> figure = result.plot(original=pixels, path="noise.png")
        """
        from kmdask.plotting.compared import draw_image
        from kmdask.plotting.sheets import drawn

        return drawn(lambda: draw_image(self, original), path, overwrite=overwrite)

    def __repr__(self) -> str:
        height, width, bands = self.shape
        report = self.report
        kind = "" if report.dtype == "uint8" else f" {report.dtype}"
        quality = "exact" if math.isinf(report.psnr) else f"{report.psnr:.1f} dB"
        colors = several(len(self.palette), "colour")
        return (
            f"<CompressedImage {self.path.name!r}: {width} x {height} x {bands}{kind}, "
            f"{colors}, {quality}, {report.bits_per_pixel:.2f} bits/pixel, "
            f"{times_smaller(report.ratio_raw)} than raw>"
        )

    def _repr_html_(self) -> str:
        image = self.preview()
        image.thumbnail((600, 600))
        jpeg = io.BytesIO()
        image.save(jpeg, format="JPEG")
        data = base64.b64encode(jpeg.getvalue()).decode()
        swatches = "".join(
            f'<span style="display:inline-block;width:14px;height:14px;background:{color}" '
            f'title="{i}: {color}"></span>'
            for i, color in enumerate(self.colormap.hex[:SWATCHES])
        )
        return (
            f'<div><img src="data:image/jpeg;base64,{data}" alt="preview"><br>{swatches}<br>'
            f"<code>{html.escape(repr(self))}</code></div>"
        )


def open(path: str | os.PathLike[str]) -> CompressedImage:
    """Open a bundle that `kmdask.compress` wrote, lazily.

    Parameters
    ----------
    path : str or path-like
        The bundle.

    Returns
    -------
    CompressedImage

    Raises
    ------
    BundleError
        If there is no bundle at the path, or it is damaged or of another format version.
    """
    return CompressedImage.read(places.place(path))
