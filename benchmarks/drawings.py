"""Pictures that are drawn: a map, the same map scanned, and an image of classes.

What palettes are for, and no data of others: the same pixels wherever numbers are drawn alike, but
for the letters, which are those of Pillow's own font as FreeType sets them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8]

SIDE = 2048
"""Of a picture in pixels: four of the chunks that indices are stored in."""

FINER = 2
"""The map is drawn that much larger and resampled, which smooths its edges."""

LAND = ("#a8cfe6", "#c9e4f2", "#dcebc8", "#c6dfae", "#e8dcb5", "#d9c39a")
"""Colours of heights, water first."""

HEIGHTS = (0.25, 0.32, 0.45, 0.6, 0.75)
ROADS = ("#f4d35e", "#ffffff", "#ee964b")
CLASSES = (
    (0, 70, 200), (80, 160, 40), (200, 220, 90), (250, 230, 120), (180, 120, 60),
    (220, 60, 40), (130, 200, 140), (60, 100, 60), (190, 190, 190), (250, 170, 60),
)  # fmt: skip


def land_map(side: int = SIDE) -> Picture:
    """Areas of one colour each, contours, roads, houses and names, with smooth edges."""
    random = np.random.default_rng(7)
    size = FINER * side
    heights = terrain(random, size)
    colors = np.array([tuple(bytes.fromhex(color[1:])) for color in LAND], np.uint8)
    land = colors[np.digitize(heights, HEIGHTS)]
    land[edges(np.floor((heights - HEIGHTS[1]) / 0.04)) & (heights > HEIGHTS[1])] = (169, 131, 79)
    image = Image.fromarray(land)
    pen = ImageDraw.Draw(image)
    for i in range(14):
        draw_road(pen, random.uniform(0, size, (4, 2)), ROADS[i % 3])
    for left, top, wide, tall in zip(
        *random.uniform(0, size, (2, 400)), *random.uniform(6, 36, (2, 400)), strict=True
    ):
        box = (left, top, left + wide, top + tall)
        pen.rectangle(box, fill="#b5a9a0", outline="#6d625b", width=FINER)
    letters = list("abdeilmnorstu")
    for x, y in random.uniform(0, size, (120, 2)):
        name = "".join(random.choice(letters, random.integers(4, 9))).title()
        font = ImageFont.load_default(FINER * int(random.integers(14, 30)))
        pen.text((x, y), name, fill="#222222", font=font)
    drawn: Picture = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
    return drawn


def scan(side: int = SIDE) -> Picture:
    """The map out of a scanner: blurred, paler, with noise in every pixel."""
    random = np.random.default_rng(8)
    seen = gaussian_filter(land_map(side).astype(float), (0.7, 0.7, 0)) * 0.93 + 8
    noisy = seen + random.normal(0, 2.5, seen.shape)
    scanned: Picture = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return scanned


def classes(side: int = SIDE) -> Picture:
    """Fields of ten kinds with ragged edges, and single pixels that are taken for another kind."""
    random = np.random.default_rng(9)
    fields = random.uniform(0, side, (max(side * side // 4000, 20), 2))
    kinds = random.integers(0, len(CLASSES), len(fields))
    ragged = np.stack([gaussian_filter(random.normal(size=(side, side)), 3) for _ in "yx"])
    places = np.mgrid[:side, :side] + 40 * ragged
    found = kinds[cKDTree(fields).query(places.reshape(2, -1).T)[1]].reshape(side, side)
    mistaken = random.random(found.shape) < 0.03
    found[mistaken] = random.integers(0, len(CLASSES), int(mistaken.sum()))
    colors: Picture = np.array(CLASSES, np.uint8)[found]
    return colors


def terrain(random: np.random.Generator, size: int) -> npt.NDArray[np.float64]:
    """Hills of several sizes, from 0 to 1."""
    # On a coarse grid, drawn out: wide filters are slow.
    grid = -(-size // 4)
    hills = np.zeros((grid, grid))
    for wide in (8, 20, 60):
        hills += gaussian_filter(random.normal(size=(grid, grid)), wide) * wide**1.6
    hills = (hills - hills.min()) / np.ptp(hills)
    coarse = Image.fromarray(hills.astype(np.float32))
    smooth = coarse.resize((size, size), Image.Resampling.BICUBIC)
    return np.array(smooth, np.float64)


def edges(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Pixels whose right or lower neighbour is of another level."""
    found = np.zeros(levels.shape, bool)
    found[:-1] |= levels[:-1] != levels[1:]
    found[:, :-1] |= levels[:, :-1] != levels[:, 1:]
    return found


def draw_road(pen: ImageDraw.ImageDraw, corners: npt.NDArray[np.float64], color: str) -> None:
    """Draw a Bézier curve of four points as a road with a rim."""
    t = np.linspace(0, 1, 200)
    weights = np.array([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3])
    points = [(float(x), float(y)) for x, y in weights.T @ corners]
    for ink, width in (("#555555", 10 * FINER), (color, 7 * FINER)):
        pen.line(points, fill=ink, width=width, joint="curve")


DRAWN: dict[str, Callable[[int], Picture]] = {"map": land_map, "scan": scan, "classes": classes}
