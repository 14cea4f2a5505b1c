"""What TensorFlow does to pictures, without TensorFlow: JPEG round trip, Lanczos-3 resize, centre crop.

Policies were trained on pictures that went through these operations, and see a difference. The arithmetic
follows TensorFlow's published algorithms (ScaleAndTranslate, CropAndResize; Apache-2.0): float32 throughout,
rows before columns, sums in the order of the taps.
"""

from __future__ import annotations

import functools
import io

import numba
import numpy as np
import PIL.Image
import simplejpeg
from numpy.typing import NDArray

from vla_bench.types import Image

Float32 = NDArray[np.float32]
F = np.float32


def jpeg_round_trip(image: Image) -> Image:
    """Encode (H, W, 3) at quality 95 with 4:2:0 chroma and decode it, bit for bit as TensorFlow.

    TensorFlow decodes with the fast integer transform, Pillow with the exact one: up to 15 levels apart.
    """
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.ascontiguousarray(image)).save(buffer, "JPEG", quality=95, subsampling=2)
    return simplejpeg.decode_jpeg(buffer.getvalue(), colorspace="RGB", fastdct=True, fastupsample=False)


def lanczos3(image: Image, height_px: int, width_px: int) -> Image:
    """Resize (H, W, 3) with an antialiased Lanczos kernel of radius 3; the same size is left as it is."""
    if image.shape[:2] == (height_px, width_px):
        return image
    return _rounded(lanczos3_float(image, height_px, width_px))


def lanczos3_float(image: Image, height_px: int, width_px: int) -> Float32:
    """Resize (H, W, 3) as `lanczos3`, before rounding: float32 levels, which may lie outside 0..255."""
    rows = _resample_rows(np.ascontiguousarray(image), *_taps(height_px, image.shape[0]))
    return _resample_columns(rows, *_taps(width_px, image.shape[1]))


def crop_centre(image: Image, area: float, size_px: int) -> Image:
    """Cut out the central square share `area` of (H, W, 3) and resize it bilinearly to `size_px` square."""
    return _truncated(crop_centre_float(image, area, size_px))


def crop_centre_float(image: Image | Float32, area: float, size_px: int) -> Float32:
    """Cut out and resize as `crop_centre`, before rounding: levels of 0..255 become float32 in [0, 1]."""
    rows, columns = (_grid(area, size_px, n) for n in image.shape[:2])
    return _bilinear(np.ascontiguousarray(image), *rows, *columns)


def to_levels(unit: Float32) -> Image:
    """float32 of [0, 1] → uint8, cut off as TensorFlow does."""
    return _truncated(unit)


def crop_float(image: Image, area: float, at: tuple[float, float], size_px: int) -> Float32:
    """Cut out as `crop_centre_float`, but anywhere: `at` is the place of the box, 0 … 1 from top and left."""
    places = zip(at, image.shape[:2], strict=True)
    rows, columns = (_grid_at(area, size_px, n, place) for place, n in places)
    return _bilinear(np.ascontiguousarray(image), *rows, *columns)


def look_up(tables: Float32, image: Image) -> Float32:
    """(C, 256) values of the levels and (H, W, 3) → (C, H, W), of red, green and blue in turn."""
    return _look_up(tables, np.ascontiguousarray(image))


@functools.lru_cache(maxsize=64)
def _taps(n_out: int, n_in: int) -> tuple[NDArray[np.int64], Float32]:
    """First input index and weights of every output row; the kernel widens when it shrinks the picture."""
    inverse = F(1) / (F(n_out) / F(n_in))
    stretch = np.maximum(inverse, F(1))
    radius = F(3) * stretch
    starts = np.zeros(n_out, np.int64)
    weights = np.zeros((n_out, min(2 * int(np.ceil(radius)) + 1, n_in)), F)
    for i in range(n_out):
        centre = (F(i) + F(0.5)) * inverse
        first = min(max(int(np.ceil(centre - radius - F(0.5))), 0), n_in - 1)
        last = min(max(int(np.floor(centre + radius - F(0.5))), 0), n_in - 1)
        taps = _kernel((np.arange(first, last + 1).astype(F) + F(0.5) - centre) * (F(1) / stretch))
        total = functools.reduce(np.add, taps, F(0))
        starts[i] = first
        weights[i, : len(taps)] = taps * (F(1) / total)
    return starts, weights


def _kernel(x: Float32) -> Float32:
    """Lanczos window of radius 3; sine of a float32 argument, correctly rounded to float32."""
    x, pi = np.abs(x), F(3.14159265359)
    with np.errstate(divide="ignore", invalid="ignore"):
        window = F(3) * _sin(pi * x) * _sin(pi * x / F(3)) / (pi * pi * x * x)
    return np.where(x > F(3), F(0), np.where(x <= F(1e-3), F(1), window)).astype(F)


def _sin(x: Float32) -> Float32:
    return np.sin(x.astype(np.float64)).astype(F)


@functools.lru_cache(maxsize=64)
def _grid(area: float, n_out: int, n_in: int) -> tuple[NDArray[np.int64], NDArray[np.int64], Float32]:
    """`_grid_at` of a centred crop."""
    return _grid_at(area, n_out, n_in, 0.5)


def _grid_at(
    area: float, n_out: int, n_in: int, place: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], Float32]:
    """Lower and upper input index and the share of the upper one, of every output row of a crop."""
    side = np.sqrt(F(area))
    low = (F(1) - side) * F(place)
    step = ((low + side) - low) * F(n_in - 1) / F(n_out - 1)
    at = low * F(n_in - 1) + np.arange(n_out, dtype=F) * step
    lower = np.floor(at).astype(np.int64)
    return lower, np.ceil(at).astype(np.int64), at - lower.astype(F)


# The kernels read levels and convert them on the way: most of the time goes into touching new memory.


@numba.njit(cache=True, fastmath=False)
def _resample_rows(image, starts, weights):  # noqa: ANN001, ANN202
    n_in, width, channels = image.shape
    flat = image.reshape(n_in, width * channels)
    out = np.zeros((len(starts), width * channels), np.float32)
    for i in range(len(starts)):
        for k in range(min(weights.shape[1], n_in - starts[i])):
            weight, row = weights[i, k], flat[starts[i] + k]
            for j in range(len(row)):
                out[i, j] += weight * np.float32(row[j])
    return out.reshape(len(starts), width, channels)


@numba.njit(cache=True, fastmath=False)
def _resample_columns(image, starts, weights):  # noqa: ANN001, ANN202
    height, n_in, _ = image.shape
    out = np.empty((height, len(starts), 3), np.float32)
    for y in range(height):
        for i in range(len(starts)):
            red = green = blue = np.float32(0)
            for k in range(min(weights.shape[1], n_in - starts[i])):
                weight, pixel = weights[i, k], starts[i] + k
                red += weight * image[y, pixel, 0]
                green += weight * image[y, pixel, 1]
                blue += weight * image[y, pixel, 2]
            out[y, i, 0], out[y, i, 1], out[y, i, 2] = red, green, blue
    return out


@numba.njit(cache=True, fastmath=False)
def _bilinear(image, top, bottom, down, left, right, along):  # noqa: ANN001, ANN202
    unit = np.float32(1.0 / 255.0)
    out = np.empty((len(top), len(left), 3), np.float32)
    for i in range(len(top)):
        above, below = image[top[i]], image[bottom[i]]
        for j in range(len(left)):
            for c in range(3):
                upper, lower = np.float32(above[left[j], c]) * unit, np.float32(below[left[j], c]) * unit
                upper += (np.float32(above[right[j], c]) * unit - upper) * along[j]
                lower += (np.float32(below[right[j], c]) * unit - lower) * along[j]
                out[i, j, c] = upper + (lower - upper) * down[i]
    return out


@numba.njit(cache=True, fastmath=False)
def _rounded(levels):  # noqa: ANN001, ANN202
    out = np.empty(levels.shape, np.uint8)
    for i in range(levels.size):
        out.flat[i] = np.uint8(min(max(np.rint(levels.flat[i]), np.float32(0)), np.float32(255)))
    return out


@numba.njit(cache=True, fastmath=False)
def _truncated(unit):  # noqa: ANN001, ANN202
    """Scale by 255.5 and cut off, as TensorFlow does instead of rounding."""
    out = np.empty(unit.shape, np.uint8)
    for i in range(unit.size):
        inside = min(max(unit.flat[i], np.float32(0)), np.float32(1))
        out.flat[i] = np.uint8(min(inside * np.float32(255.5), np.float32(255)))
    return out


@numba.njit(cache=True, fastmath=False)
def _look_up(tables, image):  # noqa: ANN001, ANN202
    height, width, _ = image.shape
    out = np.empty((len(tables), height, width), np.float32)
    for c in range(len(tables)):
        for y in range(height):
            for x in range(width):
                out[c, y, x] = tables[c, image[y, x, c % 3]]
    return out
