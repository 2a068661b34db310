"""The compressed image, as it is handed out."""

from __future__ import annotations

import base64
import html
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kmdask import store
from kmdask.errors import BundleError
from kmdask.palette import Palette, decode
from kmdask.report import Report

if TYPE_CHECKING:
    from pathlib import Path

    import dask.array as da
    from PIL.Image import Image

    from kmdask.georef import Georef


@dataclass(frozen=True)
class CompressedImage:
    """A bundle on disk, opened lazily. Made by `kmdask.compress` and `kmdask.open`."""

    path: Path
    """The bundle."""

    indices: da.Array
    """Lazy uint8 array of shape (y, x): the palette entry of each pixel."""

    palette: Palette
    """The colours, in order of lightness."""

    nodata: int | None
    """The index of invalid pixels; None if every pixel is valid."""

    georef: Georef
    """Where the image is on the map."""

    report: Report
    """Sizes, quality and timings."""

    @classmethod
    def read(cls, path: Path) -> CompressedImage:
        """Open the bundle at a path.

        Raises
        ------
        BundleError
            If there is no bundle, or it is damaged.
        """
        path = path.absolute()
        indices, palette, header = store.read_image(path)
        try:
            report = Report.read(path / store.REPORT)
        except (OSError, KeyError, TypeError, ValueError) as error:
            msg = f"{str(path)!r} is damaged: {store.REPORT}: {error!r}; compress the image again"
            raise BundleError(msg) from error
        return cls(
            path=path,
            indices=indices,
            palette=palette,
            nodata=palette.nodata if header.masked else None,
            georef=header.georef,
            report=report,
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and bands."""
        height, width = self.indices.shape
        return int(height), int(width), self.palette.bands

    def to_dask(self) -> da.Array:
        """Return the colours, lazily.

        Returns
        -------
        dask array of shape (y, x, band), uint8
            Invalid pixels are 0 in every band.
        """
        return decode(self.indices, self.palette)

    def preview(self) -> Image:
        """Load the preview, at most 2048 pixels on its longest side."""
        from PIL import Image

        with Image.open(self.path / store.PREVIEW) as image:
            image.load()
            return image

    def __repr__(self) -> str:
        height, width, bands = self.shape
        report = self.report
        quality = "exact" if math.isinf(report.psnr) else f"{report.psnr:.1f} dB"
        return (
            f"<CompressedImage {self.path.name!r}: {width} x {height} x {bands}, "
            f"{len(self.palette)} colours, {quality}, {report.bits_per_pixel:.2f} bits/pixel, "
            f"{report.ratio_raw:.1f} x smaller than raw>"
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
            for i, color in enumerate(self.palette.hex)
        )
        return (
            f'<div><img src="data:image/jpeg;base64,{data}" alt="preview"><br>{swatches}<br>'
            f"<code>{html.escape(repr(self))}</code></div>"
        )
