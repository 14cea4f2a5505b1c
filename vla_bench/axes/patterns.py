"""Colours and patterns that are drawn: 256 × 256 pictures that repeat without a seam."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
from scipy import ndimage

from vla_bench.types import Array, Image

SIZE_PX = 256
PATTERNS = ("checker", "stripes", "speckle", "grain")


def draw_colour(generator: np.random.Generator, drawn: dict[str, Any] | None = None) -> Array:
    """Draw a colour that is neither grey, black nor white: (3,) RGB in [0, 1]."""
    hue, saturation, value = generator.uniform((0, 0.45, 0.45), (1, 0.9, 0.95))
    colour = np.array(colorsys.hsv_to_rgb(hue, saturation, value))
    if drawn is not None:
        drawn["colour"] = [float(c) for c in colour]
    return colour


def draw_pattern(generator: np.random.Generator, drawn: dict[str, Any]) -> Image:
    """Draw a pattern of two colours; what it is goes into `drawn`."""
    colour = draw_colour(generator, drawn)
    other = np.clip(colour * generator.uniform(0.45, 0.75), 0, 1)
    kind = str(generator.choice(PATTERNS))
    cells = int(generator.integers(4, 11))
    drawn.update(pattern=kind, cells=cells)
    weight = _weights(kind, cells, generator)[..., None]
    return np.round(255 * (weight * colour + (1 - weight) * other)).astype(np.uint8)


def plain(colour: Array) -> Image:
    """One colour."""
    return np.full((1, 1, 3), np.round(np.asarray(colour) * 255), dtype=np.uint8)


def _weights(kind: str, cells: int, generator: np.random.Generator) -> Array:
    """Share of the first colour at each pixel, (256, 256) in [0, 1]."""
    rows, columns = np.mgrid[:SIZE_PX, :SIZE_PX] / SIZE_PX
    if kind == "checker":
        return (np.floor(2 * cells * rows) + np.floor(2 * cells * columns)) % 2
    if kind == "stripes":
        return np.floor(2 * cells * columns) % 2
    width = (1.5, 1.5) if kind == "speckle" else (0.5, SIZE_PX / (2 * cells))
    smooth = ndimage.gaussian_filter(generator.standard_normal((SIZE_PX, SIZE_PX)), width, mode="wrap")
    return np.clip(0.5 + 0.35 * smooth / smooth.std(), 0, 1)
