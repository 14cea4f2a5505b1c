"""Pictures changed at random, as OpenVLA's training did: a crop of 0.9 of the area, then colours.

Brightness is shifted by up to 0.2, contrast and saturation are scaled by 0.8 to 1.2, the hue is turned by up
to 0.05 of the circle, in this order; values are cut to [0, 1] after each, and become levels once, at the end.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from vla_bench.policy import images
from vla_bench.types import Image

BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.2, 0.2, 0.2, 0.05


def augmented(image: Image, area: float, draws: np.random.Generator) -> Image:
    """(H, W, 3) uint8 → (H, H, 3) uint8.

    Args:
        image: Upright or as the model sees it; a square one keeps its size.
        area: Share of the picture that is cut out anywhere; 1 leaves it whole.
        draws: Six numbers are drawn, whatever the area.
    """
    top, left, *rest = draws.uniform(size=6)
    if area < 1:
        unit = images.crop_float(image, area, (top, left), len(image))
    else:
        unit = image.astype(np.float32) / np.float32(255)
    brightness, contrast, saturation, hue = (2 * share - 1 for share in rest)
    _recolour(unit, BRIGHTNESS * brightness, 1 + CONTRAST * contrast, 1 + SATURATION * saturation, HUE * hue)
    return images.to_levels(unit)


@numba.njit(cache=True, nogil=True)
def _recolour(image: Any, brightness: float, contrast: float, saturation: float, hue: float) -> None:
    height, width, _ = image.shape
    for c in range(3):
        total = 0.0
        for y in range(height):
            for x in range(width):
                image[y, x, c] = min(max(image[y, x, c] + brightness, 0.0), 1.0)
                total += image[y, x, c]
        mean = total / (height * width)
        for y in range(height):
            for x in range(width):
                image[y, x, c] = min(max((image[y, x, c] - mean) * contrast + mean, 0.0), 1.0)
    for y in range(height):
        for x in range(width):
            _turn(image[y, x], saturation, hue)


@numba.njit(cache=True, nogil=True)
def _turn(pixel: NDArray[np.float32], saturation: float, hue: float) -> None:
    """Scale the saturation and turn the hue of one (red, green, blue)."""
    red, green, blue = pixel
    high, low = max(red, green, blue), min(red, green, blue)
    spread = high - low
    if spread <= 0.0:
        return
    if high == red:
        angle = (green - blue) / spread / 6.0
    elif high == green:
        angle = (blue - red) / spread / 6.0 + 1.0 / 3.0
    else:
        angle = (red - green) / spread / 6.0 + 2.0 / 3.0
    spread = min(spread / high * saturation, 1.0) * high
    for c, offset in enumerate((5.0, 3.0, 1.0)):
        k = (offset + 6.0 * (angle + hue)) % 6.0
        pixel[c] = high - spread * max(min(k, 4.0 - k, 1.0), 0.0)
