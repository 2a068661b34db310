"""From sRGB to OKLab and back.

Roots are found by additions, multiplications, divisions and square roots alone, which IEEE 754
rounds in one way only: every machine gives the same bits, which those of its library need not be.

References
----------
.. [1] B. Ottosson, "A perceptual color space for image processing", 2020,
   https://bottosson.github.io/posts/oklab/
.. [2] IEC 61966-2-1:1999, "Colour measurement and management in multimedia systems and equipment -
   Part 2-1: Default RGB colour space - sRGB".
.. [3] T. R. Scavo and J. B. Thoo, "On the geometry of Halley's method", The American Mathematical
   Monthly 102 (1995) 417-426.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from kmdask.kernels.compiled import kernel

if TYPE_CHECKING:
    from kmdask.kernels.room import Floats

__all__ = ["from_oklab", "lab_of", "light_of_values", "to_oklab"]

STRIP = 256
"""Colours that are taken together: their loops vectorise, and a cache holds them."""
TINY = 1e-300
"""What keeps the root of 0 from being 0 / 0."""

TO_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
"""Shares of linear red, green and blue in what long, middle and short cones see [1]_."""
TO_LAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
"""Shares of the cube roots of these in L, a and b [1]_."""
FROM_LAB = (
    (1.0, 0.3963377774, 0.2158037573),
    (1.0, -0.1055613458, -0.0638541728),
    (1.0, -0.0894841775, -1.2914855480),
)
"""Undoes `TO_LAB` [1]_."""
FROM_CONES = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)
"""Undoes `TO_CONES` [1]_."""


@kernel
def _clipped(value: float, high: float) -> float:
    """Clip a number to between 0 and another; what is not a number stays so."""
    return 0.0 if value < 0.0 else high if value > high else value


@kernel
def _closer(x: float, root: float, degree: int) -> float:
    """Take a step of Halley's method to a root of x: three times as many digits are right [3]_."""
    power = root
    for _ in range(degree - 1):
        power *= root
    up, down = degree + 1, degree - 1
    return root * (down * power + up * x) / (up * power + down * x + TINY)


@kernel
def _cube_root(x: float) -> float:
    """Cube root of a number from 0 to 1, right but for the last digits."""
    # 1/4 + 1/16 is nearly 1/3. From there four steps are enough down to 1e-12, and no light of
    # whole values but 0 is below 1e-5.
    fourth = math.sqrt(math.sqrt(x))
    root = fourth * math.sqrt(math.sqrt(fourth))
    for _ in range(4):
        root = _closer(x, root, 3)
    return root


@kernel
def _light(value: float) -> float:
    """Turn a value of sRGB from 0 to 255 into linear light from 0 to 1 [2]_."""
    share = value / 255.0
    if share <= 0.04045:
        return share / 12.92
    x = (share + 0.055) / 1.055
    # To the power of 2.4: its square, times that of its fifth root. 3/16 is nearly 1/5.
    sixteenth = math.sqrt(math.sqrt(math.sqrt(math.sqrt(x))))
    root = sixteenth * sixteenth * sixteenth
    for _ in range(3):
        root = _closer(x, root, 5)
    return x * x * root * root


@kernel
def _value(light: float) -> float:
    """Undo `_light`; clip what is below 0 or above 1."""
    light = _clipped(light, 1.0)
    if light <= 0.0031308:
        return 255.0 * 12.92 * light
    # To the power of 5/12: the cube root of that of 5/4.
    fourth = math.sqrt(math.sqrt(light))
    return 255.0 * (1.055 * _cube_root(light * fourth) - 0.055)


@kernel
def _mix(rows: tuple[tuple[float, ...], ...], columns: Floats, out: Floats) -> None:
    """Multiply a matrix of 3 x 3 by three columns, each an array of its own."""
    x, y, z = columns[0], columns[1], columns[2]
    for j in range(3):
        a, b, c = rows[j]
        row = out[j]
        for i in range(STRIP):
            row[i] = a * x[i] + b * y[i] + c * z[i]


@kernel
def light_of_values() -> Floats:
    """Linear light of the values from 0 to 255."""
    whole = np.empty(256)
    for i in range(256):
        whole[i] = _light(float(i))
    return whole


@kernel
def to_oklab(colors: Floats) -> Floats:
    """Turn colours into OKLab.

    Parameters
    ----------
    colors : float64 array of shape (n, 3)
        Red, green and blue of sRGB, from 0 to 255, whole numbers or not.

    Returns
    -------
    float64 array of shape (n, 3)
        Lightness L, from 0 to 1, and a and b.
    """
    return lab_of(colors, light_of_values())


@kernel
def lab_of(colors: Floats, whole: Floats) -> Floats:
    """Do so with what `light_of_values` returns."""
    result = np.empty(colors.shape)
    # What a strip leaves at its end from the one before is computed for nothing.
    light, cones, lab = np.zeros((3, STRIP)), np.empty((3, STRIP)), np.empty((3, STRIP))
    for start in range(0, colors.shape[0], STRIP):
        part, out = colors[start : start + STRIP], result[start : start + STRIP]
        for i in range(part.shape[0]):
            for j in range(3):
                value = _clipped(part[i, j], 255.0)
                floor = int(value) if value >= 0.0 else 0
                light[j, i] = whole[floor] if floor == value else _light(value)
        _mix(TO_CONES, light, cones)
        for j in range(3):
            cone = cones[j]
            for i in range(STRIP):
                cone[i] = _cube_root(cone[i])
        _mix(TO_LAB, cones, lab)
        for i in range(part.shape[0]):
            for j in range(3):
                out[i, j] = lab[j, i]
    return result


@kernel
def from_oklab(features: Floats) -> Floats:
    """Turn OKLab into colours.

    Parameters
    ----------
    features : float64 array of shape (n, 3)
        L, a and b.

    Returns
    -------
    float64 array of shape (n, 3)
        Red, green and blue of sRGB, from 0 to 255, not rounded. What sRGB cannot show is clipped.
    """
    result = np.empty(features.shape)
    lab, cones, light = np.zeros((3, STRIP)), np.empty((3, STRIP)), np.empty((3, STRIP))
    for start in range(0, features.shape[0], STRIP):
        part, out = features[start : start + STRIP], result[start : start + STRIP]
        for i in range(part.shape[0]):
            for j in range(3):
                lab[j, i] = part[i, j]
        _mix(FROM_LAB, lab, cones)
        for j in range(3):
            for i in range(STRIP):
                cones[j, i] = cones[j, i] * cones[j, i] * cones[j, i]
        _mix(FROM_CONES, cones, light)
        for i in range(part.shape[0]):
            for j in range(3):
                out[i, j] = _value(light[j, i])
    return result
